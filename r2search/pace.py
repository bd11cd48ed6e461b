"""How far a list of files is, and the time that is left."""

import time
from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from r2search.report.screen import say
from r2search.report.wording import duration

QUIET_S = 30.0  # seconds between two lines where there is no terminal


class Pace:
    """Shows a bar on a terminal, else a line now and then. A context manager.

    Work is counted in a unit of the caller's, such as the bytes of the files: large ones take
    longer.
    """

    def __init__(
        self,
        console: Console,
        files: int,
        work: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console, self._files, self._clock = console, files, clock
        self._work, self._begun, self._finished = max(work, 1.0), 0.0, 0
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
        )
        live = console.is_terminal and not console.is_dumb_terminal
        self._bar = Progress(*columns, console=console, transient=True, disable=not live)
        self._task = self._bar.add_task(self._text, total=self._work)
        self._start = self._told = clock()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def reach(self, share: float, work: float) -> None:
        """This share, 0..1, of the file at hand is done, which has so much work in all."""
        self._show(self._begun + min(share, 1.0) * work)

    def finish(self, work: float) -> None:
        """The file at hand is done, or given up."""
        self._begun += work
        self._finished += 1
        self._show(self._begun)

    @property
    def _text(self) -> str:
        return f"{self._finished} of {self._files} images"

    def _show(self, done: float) -> None:
        self._bar.update(self._task, completed=done, description=self._text)
        now = self._clock()
        if self._bar.disable and done and now - self._told >= QUIET_S:
            self._told = now
            left = (now - self._start) * (self._work - done) / done
            say(self._console, f"{self._text}, {done / self._work:.0%}, {duration(left)} left")
