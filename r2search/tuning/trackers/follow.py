"""The process that shows a study at Weights & Biases: it follows the record in the run folder.

`python -m r2search.tuning.trackers.follow RUN_DIR ASKED`, ASKED being a mode or `sync`. A line
on standard input says that nothing more will be written; its end without one, that the driver is
gone. Standard output has one JSON object a line, see `follower`. So whatever wandb does, blocks or
leaves behind, the search has no part in it, and the same process uploads an old study.
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
from r2search.tuning.trackers.account import Asked, Server, open_session
from r2search.tuning.trackers.views import group_of
from r2search.tuning.trackers.wandb import Mirror

EVERY_S = 0.5  # between looks at the record
NICENESS = 5  # training goes before
PAUSES_S = (2.0, 10.0, 30.0)  # after errors in a row; then always the last
MOST_SAID = 300  # characters of an error
LAST_TRIES = 3  # in a row that may fail when nothing more will be written

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
        self._over = threading.Event()
        threading.Thread(target=self._listen, name="driver", daemon=True).start()

    def over(self, wait_s: float = 0.0) -> bool:
        """Whether nothing more will be written."""
        return self._over.wait(wait_s)

    def _listen(self) -> None:
        if sys.stdin.readline():
            self._over.set()
            sys.stdin.readline()
        os._exit(1)


def follow(run_dir: Path, asked: Asked, driver: Driver, tell: Tell) -> None:
    """Bring W&B to the state of the record again and again, until the driver says it is over."""
    with own_scratch("wandb") as scratch:
        session, why = open_session(asked, run_dir, scratch)
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
        mirror = Mirror(session, study, group_of(record.first), run_dir)
        _Shower(mirror, record, session.server, tell).show(driver)


class _Shower:
    """Brings a mirror to the state of a record, over and over, and says how it went."""

    def __init__(self, mirror: Mirror, record: Record, server: Server | None, tell: Tell) -> None:
        self._mirror = mirror
        self._record = record
        self._server = server
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
        """In one line, without the server's address or the key."""
        obstacle = self._server.obstacle() if self._server else ""
        if obstacle:
            return f"the server {obstacle}"
        said = " ".join(str(error).split())[:MOST_SAID] or type(error).__name__
        return self._server.hidden(said) if self._server else said


def main() -> None:
    os.nice(NICENESS)
    # What wandb prints is not for the driver.
    own = os.fdopen(os.dup(1), "w")
    sys.stdout = open(os.devnull, "w")
    os.dup2(sys.stdout.fileno(), 1)
    told: dict[str, Any] = {}

    def tell(**facts: Any) -> None:
        if facts.items() <= told.items():
            return  # no news
        told.update(facts)
        print(json.dumps(facts), file=own, flush=True)

    asked = {name: name for name in get_args(Asked)}[sys.argv[2]]
    follow(Path(sys.argv[1]), asked, Driver(), tell)


if __name__ == "__main__":
    main()
