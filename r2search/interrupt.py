"""Ctrl-C and SIGTERM: the first asks the study to end well, the second ends it at once."""

import signal
import threading
from types import FrameType
from typing import Self


class Interrupt:
    """While entered, `signal` holds the first signal that came, or None.

    In any thread but the main one, which alone can take signals, none ever comes.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._code: int | None = None  # with which the second one ends the process

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

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._code is not None:
            raise SystemExit(self._code) from None  # Ray, if it was waited for, raises another

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            self._code = 128 + number
            raise SystemExit(self._code)
        self.signal = number
