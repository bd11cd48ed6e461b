"""The process that shows a study somewhere: it follows the record in the run folder.

`python -m r2search.tuning.trackers.follow RUN_DIR ASKED`, ASKED being a mode of Weights & Biases,
`sync`, or one of TRACKERS. A line on standard input says that nothing more will be written, and, as
a JSON object, what a report says (`wandb_report.Page`; {}: no report); its end without one, that
the driver is gone. Standard output has one JSON object a line, see `follower`. So whatever wandb
does, blocks or leaves behind, the search has no part in it, and the same process uploads an old
study.
"""

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from r2search.records import RECORD, TrialOutcome
from r2search.scratch import own_scratch
from r2search.space import load_study
from r2search.tuning.events import apply
from r2search.tuning.trackers.account import Asked, open_session
from r2search.tuning.trackers.loggers import TRACKERS, LoggerMirror
from r2search.tuning.trackers.views import group_of
from r2search.tuning.trackers.wandb import Mirror

EVERY_S = 0.5  # between looks at the record
NICENESS = 5  # training goes before
PAUSES_S = (2.0, 10.0, 30.0)  # after errors in a row; then always the last
MOST_SAID = 300  # characters of an error
LAST_TRIES = 3  # in a row that may fail when nothing more will be written

MODES: dict[str, Asked] = {name: name for name in get_args(Asked)}

Tell = Callable[..., None]


class Record:
    """What has been written of a record so far."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size = 0  # bytes read
        self.first: dict[str, Any] | None = None  # the event that begins the study
        self.finished = False  # nothing has happened since the study was over
        self._trials: dict[str, TrialOutcome] = {}

    @property
    def trials(self) -> list[TrialOutcome]:
        return list(self._trials.values())

    def read(self) -> None:
        """Take up the whole lines that have come since."""
        with self._path.open("rb") as file:
            file.seek(self.size)
            lines = file.read().splitlines(keepends=True)
        for line in lines:
            if not line.endswith(b"\n"):
                return
            event = json.loads(line)
            self.size += len(line)
            self.first = self.first or event
            self.finished = event["event"] == "finish"
            apply(self._trials, event)


class Driver:
    """The driver at the other end of standard input: this process does not outlive it."""

    def __init__(self) -> None:
        self.page: dict[str, Any] = {}  # what a report is to say, when it is over
        self._over = threading.Event()
        threading.Thread(target=self._listen, name="driver", daemon=True).start()

    def over(self, wait_s: float = 0.0) -> bool:
        """Whether nothing more will be written."""
        return self._over.wait(wait_s)

    def _listen(self) -> None:
        if line := sys.stdin.readline():
            self.page = json.loads(line)
            self._over.set()
            sys.stdin.readline()
        os._exit(1)


def follow(run_dir: Path, asked: str, driver: Driver, tell: Tell) -> None:
    """Bring W&B, or one of TRACKERS, to the state of the record again and again, until the driver
    says it is over.
    """
    with own_scratch("tracking") as scratch:
        session = None
        if asked not in TRACKERS:
            session, why = open_session(MODES[asked], run_dir, scratch)
            tell(mode="online" if session.online else "offline", why=why)
            if asked == "sync" and not session.online:
                return
        record = Record(run_dir / RECORD)
        study = load_study(run_dir / "space.yaml")
        record.read()
        while record.first is None:
            if driver.over(EVERY_S):
                return
            record.read()
        group = group_of(record.first)
        mirror = (
            Mirror(session, study, group, run_dir)
            if session
            else LoggerMirror(TRACKERS[asked], run_dir, group)
        )
        _Shower(mirror, record, tell).show(driver)


class _Shower:
    """Brings a mirror to the state of a record, over and over, and says how it went."""

    def __init__(self, mirror: Mirror | LoggerMirror, record: Record, tell: Tell) -> None:
        self._mirror = mirror
        self._record = record
        self._tell = tell
        self._looked = False  # the mirror knows what W&B has

    def show(self, driver: Driver) -> None:
        """Until the driver says that it is over and all is there, or three tries have failed."""
        failures = 0
        while True:
            pause = PAUSES_S[min(failures, len(PAUSES_S)) - 1] if failures else EVERY_S
            last = driver.over(pause)
            try:
                self._bring_all()
                if last and driver.page and isinstance(self._mirror, Mirror):
                    self._tell(report=self._mirror.report(driver.page))
                failures = 0
                if last:
                    self._mirror.close()
                    self._tell(whole=True)
                    return
            except Exception as error:
                failures += 1
                self._tell(trouble=self._explain(error))
                self._looked = False
                self._mirror.forget()
                if last and failures >= LAST_TRIES:
                    return
            finally:
                left = set(self._mirror.missing(self._record.trials))
                names = [trial.trial for trial in self._record.trials]
                self._tell(uploaded=[name for name in names if name not in left])

    def _bring_all(self) -> None:
        if not self._looked:
            self._mirror.look()
            self._looked = True
            self._tell(sweep=self._mirror.sweep_path)
        self._record.read()
        for trial in self._record.trials:
            self._mirror.bring(trial)
        if self._record.finished:
            self._mirror.bring_summary(self._record.trials, self._record.size)

    def _explain(self, error: Exception) -> str:
        """In one line, without a server's address or a key."""
        said = " ".join(str(error).split())[:MOST_SAID] or type(error).__name__
        return self._mirror.explain(said)


def main() -> None:
    os.nice(NICENESS)
    # What wandb and others print is not for the driver.
    own = os.fdopen(os.dup(1), "w")
    sys.stdout = open(os.devnull, "w")
    os.dup2(sys.stdout.fileno(), 1)
    told: dict[str, Any] = {}

    def tell(**facts: Any) -> None:
        if facts.items() <= told.items():
            return  # no news
        told.update(facts)
        print(json.dumps(facts), file=own, flush=True)

    follow(Path(sys.argv[1]), sys.argv[2], Driver(), tell)


if __name__ == "__main__":
    main()
