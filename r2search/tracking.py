"""Where a study is shown, live or later: Weights & Biases. The search never waits for it."""

import json
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from r2search.config import Misuse
from r2search.finish import write_json
from r2search.records import RECORD
from r2search.report.screen import say
from r2search.rundir import hold
from r2search.storage import is_url
from r2search.tuning.events import read_trials

# auto: online where a login is known, else offline
Tracking = Literal["auto", "online", "offline", "disabled"]
BY_ENVIRONMENT: dict[str, Tracking] = {
    "online": "online",
    "offline": "offline",
    "disabled": "disabled",
}


class Untracked:
    """What `showing` yields of a study that is shown nowhere."""

    def facts(self, trials: list[str]) -> dict[str, Any]:
        """What summary.json says under `tracking`."""
        return {"mode": "disabled", "not_uploaded": [], "sync": None}

    def leave(self) -> None:
        """The study is over: wait a few seconds for what is not yet uploaded."""


class _Tracked(Untracked):
    def __init__(self, follower: Any, run_dir: Path) -> None:
        self._follower = follower
        self._run_dir = run_dir

    def facts(self, trials: list[str]) -> dict[str, Any]:
        seen = self._follower
        online = seen.mode == "online"
        left = [name for name in trials if not (online and name in seen.uploaded)]
        sync = None if online and seen.whole else f"r2search sync {shlex.quote(str(self._run_dir))}"
        return {"mode": seen.mode, "not_uploaded": left, "sync": sync}

    def leave(self) -> None:
        self._follower.finish()


@contextmanager
def showing(run_dir: Path, asked: Tracking, note: Callable[[str], None]) -> Iterator[Untracked]:
    """Show the study in `run_dir` while it runs; nothing of that is left afterwards.

    W&B's own variable WANDB_MODE says what `auto` is, where it is set.
    """
    if asked == "auto":
        asked = BY_ENVIRONMENT.get(os.environ.get("WANDB_MODE", ""), asked)
    if asked == "disabled":
        yield Untracked()
        return
    from r2search.tuning.trackers.follower import Follower

    with Follower(run_dir, asked, note) as follower:
        yield _Tracked(follower, run_dir)


def amend(run_dir: Path, summary: dict[str, Any], facts: dict[str, Any]) -> None:
    """Say in summary.json what has come of the tracking since it was written."""
    summary["tracking"] = facts
    write_json(run_dir / "summary.json", summary)


def sync_study(run: str, console: Console) -> int:
    """Upload what W&B lacks of a study; the exit code: 0 when it has all.

    Misuse when there is no study in `run`, or its driver still works.
    """
    if is_url(run):
        raise Misuse(f"sync {run}: only a local folder can be uploaded; download it first")
    run_dir = Path(run).resolve()
    for name in (RECORD, "space.yaml"):
        if not (run_dir / name).is_file():
            raise Misuse(f"sync {run}: holds no {name}; name the folder of a study")
    from r2search.tuning.trackers.follower import Follower

    def note(text: str) -> None:
        say(console, text)

    with hold(run_dir):
        names = [trial.trial for trial in read_trials(run_dir / RECORD)]
        with Follower(run_dir, "sync", note) as follower:
            follower.finish(None)
        left = [name for name in names if name not in follower.uploaded]
        if not follower.whole:
            reason = follower.trouble or "the process that uploads has ended"
            say(console, f"{len(left)} of {len(names)} trials are not uploaded: {reason}")
            return 1
        path = run_dir / "summary.json"
        if path.is_file():
            facts: dict[str, Any] = {"mode": "online", "not_uploaded": [], "sync": None}
            amend(run_dir, json.loads(path.read_text(encoding="utf-8")), facts)
        say(console, f"all {len(names)} trials are at Weights & Biases: {follower.sweep}")
    return 0
