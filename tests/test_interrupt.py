"""Ctrl-C and SIGTERM, sent to ourselves."""

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from r2search.interrupt import Interrupt

SIGNALS = [signal.SIGINT, signal.SIGTERM]
TOLD_TWICE = """
import atexit, os, sys, time
from r2search.interrupt import Interrupt
atexit.register(print, "cleaned up")
first, second = map(int, sys.argv[1:])
try:
    with Interrupt():
        os.kill(os.getpid(), first)
        print("first", flush=True)
        os.kill(os.getpid(), second)
        time.sleep(600)
finally:
    print("cleaned up")
"""
RAY_STARTS = """
import ray
from r2search.interrupt import Interrupt
with Interrupt() as interrupt:
    ray.init(address="local", include_dashboard=False, logging_level="ERROR")
    interrupt.arm()
print("too late")
"""


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_noted_and_ends_nothing(number: int) -> None:
    with Interrupt() as interrupt:
        assert interrupt.signal is None
        send(number)
        assert interrupt.signal == number


def leave(second: int, stdout: int) -> int:
    """The exit code of a process that is told twice to stop, while it would wait for long."""
    script = [sys.executable, "-c", TOLD_TWICE, str(signal.SIGINT), str(second)]
    return subprocess.run(script, stdout=stdout, timeout=60, check=False).returncode


@pytest.mark.parametrize("number", SIGNALS)
def test_the_second_signal_ends_the_process_at_once_with_its_code(
    number: int, tmp_path: Path
) -> None:
    with (tmp_path / "said").open("wb") as said:
        assert leave(number, said.fileno()) == 128 + number
    assert (tmp_path / "said").read_text() == "first\n"  # nothing is cleaned up, nor waited for


def test_a_terminal_gets_its_cursor_back() -> None:
    ours, theirs = pty.openpty()
    assert leave(signal.SIGINT, theirs) == 128 + signal.SIGINT
    os.close(theirs)
    assert os.read(ours, 1000).split() == [b"first", b"\x1b[?25h"]
    os.close(ours)


def is_of_ray(process: psutil.Process) -> bool:
    try:
        return "gcs_server" in " ".join(process.cmdline())
    except psutil.Error:  # it has ended
        return False


def test_a_sigterm_that_ray_takes_while_it_starts_ends_with_the_code_of_a_signal(
    tmp_path: Path,
) -> None:
    with (tmp_path / "log").open("w") as log:
        driver = subprocess.Popen(
            [sys.executable, "-c", RAY_STARTS], stdout=log, stderr=log, start_new_session=True
        )
    until = time.monotonic() + 60
    while not any(map(is_of_ray, psutil.Process(driver.pid).children())):
        assert driver.poll() is None, (tmp_path / "log").read_text()
        assert time.monotonic() < until
        time.sleep(0.02)
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(timeout=60) == 128 + signal.SIGTERM, (tmp_path / "log").read_text()


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
