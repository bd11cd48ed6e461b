"""The driver's end of a process that shows its study somewhere (`follow`).

Nothing here waits for W&B but `wait`, and that a bounded time.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import psutil

from r2search.tuning.trackers.account import Mode
from r2search.tuning.trackers.loggers import TRACKERS

LEAVE_S = 5.0  # that a study waits at its end for what is not yet uploaded


class Follower:
    """While entered, a process shows the study in `run_dir`; none of it is left afterwards.

    `asked`: how W&B shows it, or which of TRACKERS does. `mode`, `uploaded`, `whole`, `sweep`,
    `report` and `trouble` are what it has told so far.
    """

    def __init__(self, run_dir: Path, asked: str, note: Callable[[str], None]) -> None:
        self.mode: Mode = "offline"
        self.uploaded: set[str] = set()  # trials of which W&B has all
        self.whole = False  # W&B has all that there was when the driver said it was over
        self.sweep = ""  # ENTITY/PROJECT/sweeps/ID
        self.report = ""  # ENTITY/PROJECT/reports/ID
        self.trouble = ""  # the last error, in one line without hosts and keys
        self._note = note
        self._title = TRACKERS[asked].title if asked in TRACKERS else "Weights & Biases"
        self._sync = asked == "sync"
        command = [sys.executable, "-m", "r2search.tuning.trackers.follow", str(run_dir), asked]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the driver to answer
        )
        self._reader = threading.Thread(target=self._read, name="wandb", daemon=True)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process, and what it started, whatever they are doing."""
        try:
            family = [*psutil.Process(self._process.pid).children(recursive=True)]
        except psutil.Error:
            family = []
        self._process.kill()
        for process in family:
            try:
                process.kill()
            except psutil.Error:
                pass  # it has ended
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            _close(pipe)

    def finish(self, wait_s: float | None = LEAVE_S, page: Mapping[str, Any] | None = None) -> None:
        """`end`, then `wait`."""
        self.end(page)
        self.wait(wait_s)

    def end(self, page: Mapping[str, Any] | None = None) -> None:
        """Nothing more will be written. `page`: what W&B's report is to say, None for no report."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(page or {}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            pass  # it has ended

    def wait(self, seconds: float | None) -> None:
        """For what is not yet uploaded, None without an end."""
        self._reader.join(seconds)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._take(json.loads(line))
        if not (self.whole or self.trouble):
            self.trouble = "the process that shows the study has ended"

    def _take(self, told: dict[str, Any]) -> None:
        if "uploaded" in told:
            self.uploaded = set(told["uploaded"])
        if "mode" in told:
            self.mode = told["mode"]
        if told.get("why"):
            self.trouble = told["why"]
            if not self._sync:
                self._note(f"Weights & Biases stays offline: {self.trouble}")
        self.sweep = told.get("sweep", self.sweep)
        self.report = told.get("report", self.report)
        self.whole = told.get("whole", self.whole)
        if "trouble" in told and told["trouble"] != self.trouble:
            self.trouble = told["trouble"]
            self._note(f"{self._title}: {self.trouble}" + "; the search goes on" * (not self._sync))


def _close(pipe: IO[bytes] | None) -> None:
    try:
        if pipe:
            pipe.close()
    except OSError:
        pass  # what was not written has nobody to read it
