"""Ctrl-C and SIGTERM: the first asks the study to end well, the second ends it at once."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import NoReturn, Self

STDOUT = 1
SHOW_CURSOR = b"\x1b[?25h\n"


class Interrupt:
    """While entered, `signal` holds the first signal that came, or None.

    In any thread but the main one, which alone can take signals, none ever comes.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    def __enter__(self) -> Self:
        in_main = threading.current_thread() is threading.main_thread()
        taken = (signal.SIGINT, signal.SIGTERM) if in_main else ()
        self._before = {number: signal.getsignal(number) for number in taken}
        self.arm()
        return self

    def arm(self) -> None:
        """Take the signals (again): Ray, which starts later, takes them too."""
        for number in self._before:
            signal.signal(number, self._handle)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if isinstance(error, SystemExit) and error.code == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM) from None  # Ray's, which came while it started

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            _leave(128 + number)
        self.signal = number


def _leave(code: int) -> NoReturn:
    """End the process without another word, as a kill does: what is recorded is synced already.

    What we have started ends by itself: the kernel ends Ray with us, its workers see that, and the
    others read the end of a pipe. Waiting for them, as an ordinary exit does, takes seconds.
    """
    try:
        if os.isatty(STDOUT):
            os.write(STDOUT, SHOW_CURSOR)  # the live panel hides it
    finally:
        os._exit(code)
