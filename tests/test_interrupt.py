"""Ctrl-C and SIGTERM, sent to ourselves."""

import os
import signal
import threading

import pytest

from r2search.interrupt import Interrupt

SIGNALS = [signal.SIGINT, signal.SIGTERM]


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_noted_and_ends_nothing(number: int) -> None:
    with Interrupt() as interrupt:
        assert interrupt.signal is None
        send(number)
        assert interrupt.signal == number


@pytest.mark.parametrize("number", SIGNALS)
def test_the_second_signal_ends_the_process_with_its_code(number: int) -> None:
    interrupt = Interrupt()
    with pytest.raises(SystemExit) as end:
        _send_in(interrupt, signal.SIGINT, number)
    assert end.value.code == 128 + number
    assert interrupt.signal == signal.SIGINT  # the first one that came


def _send_in(interrupt: Interrupt, first: int, second: int, code: int | None = None) -> None:
    """Both signals; what waits for the second one, as Ray does, may end with another `code`."""
    with interrupt:
        send(first)
        try:
            send(second)
        except SystemExit:
            if code is None:
                raise
            raise SystemExit(code) from None


def test_the_code_is_that_of_the_signal_whatever_ray_makes_of_it() -> None:
    with pytest.raises(SystemExit) as end:
        _send_in(Interrupt(), signal.SIGTERM, signal.SIGTERM, code=1)
    assert end.value.code == 128 + signal.SIGTERM


def test_signals_mean_afterwards_what_they_meant_before() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with Interrupt():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    # The handlers only: a shell that starts the tests in the background has SIGINT ignored.
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_signals_are_given_back_when_the_study_raises() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(RuntimeError), Interrupt():
        raise RuntimeError
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_signals_that_another_took_are_taken_again() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interrupt() as interrupt:
        signal.signal(signal.SIGTERM, lambda number, frame: None)  # as Ray does when it starts
        interrupt.arm()
        send(signal.SIGTERM)
        assert interrupt.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_study_in_another_thread_runs_without_signals() -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with Interrupt() as interrupt:
                interrupt.arm()
                assert interrupt.signal is None
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []
