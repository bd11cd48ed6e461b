"""Where a study is shown, live or later: Weights & Biases. The search never waits for it."""

import json
import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from r2search.config import Misuse
from r2search.finish import write_json
from r2search.records import RECORD
from r2search.report.hosted import page_of
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
WORKSPACES = "wandb_workspaces"  # writes reports at W&B


class Untracked:
    """What `showing` yields of a study that is shown nowhere."""

    anywhere = False  # whether W&B shows it, now or when it is synced

    def facts(self, trials: list[str]) -> dict[str, Any]:
        """What summary.json says under `tracking`."""
        return {"mode": "disabled", "not_uploaded": [], "sync": None}

    def leave(self) -> None:
        """The study is over: wait a few seconds for what is not yet uploaded."""


class _Tracked(Untracked):
    """By W&B (its follower is None where it is disabled), and by some of TRACKERS."""

    def __init__(self, wandb: Any, others: dict[str, Any], run_dir: Path) -> None:
        self.anywhere = wandb is not None
        self._wandb = wandb
        self._others = others
        self._sync = f"r2search sync {shlex.quote(str(run_dir))}"

    def facts(self, trials: list[str]) -> dict[str, Any]:
        facts = super().facts(trials)
        if seen := self._wandb:
            online = seen.mode == "online"
            left = [name for name in trials if not (online and name in seen.uploaded)]
            whole = online and seen.whole
            facts = {
                "mode": seen.mode,
                "not_uploaded": left,
                "sync": None if whole else self._sync,
            }
        if self._others:
            facts["trackers"] = {
                name: None if other.whole else f"{self._sync} --tracker {name}"
                for name, other in self._others.items()
            }
        return facts

    def leave(self) -> None:
        from r2search.tuning.trackers.follower import LEAVE_S

        everywhere = [*filter(None, [self._wandb]), *self._others.values()]
        until = time.monotonic() + LEAVE_S
        for follower in everywhere:
            follower.end()
        for follower in everywhere:
            follower.wait(max(0.0, until - time.monotonic()))


@contextmanager
def showing(
    run_dir: Path, asked: Tracking, trackers: Sequence[str], note: Callable[[str], None]
) -> Iterator[Untracked]:
    """Show the study in `run_dir` while it runs; nothing of that is left afterwards.

    W&B's own variable WANDB_MODE says what `auto` is, where it is set. `trackers`: names of
    TRACKERS, `require`d.
    """
    if asked == "auto":
        asked = BY_ENVIRONMENT.get(os.environ.get("WANDB_MODE", ""), asked)
    if asked == "disabled" and not trackers:
        yield Untracked()
        return
    from r2search.tuning.trackers.follower import Follower

    with ExitStack() as stack:
        wandb = None
        if asked != "disabled":
            wandb = stack.enter_context(Follower(run_dir, asked, note))
        others = {
            name: stack.enter_context(Follower(run_dir, name, note))
            for name in dict.fromkeys(trackers)
        }
        yield _Tracked(wandb, others, run_dir)


def require(trackers: Sequence[str]) -> None:
    """Misuse where one of TRACKERS lacks the package that it needs."""
    from r2search.tuning.trackers.loggers import TRACKERS

    for name in trackers:
        tracker = TRACKERS[name]
        _require_module(tracker.module, f"--tracker {name}", tracker.extra)


def _require_module(module: str, what: str, extra: str) -> None:
    if find_spec(module) is None:
        raise Misuse(
            f"{what}: {module} is not installed; pip install -c constraints.txt '.[{extra}]'"
        )


def amend(run_dir: Path, summary: dict[str, Any], facts: dict[str, Any]) -> None:
    """Say in summary.json what has come of the tracking since it was written."""
    summary["tracking"] = facts
    write_json(run_dir / "summary.json", summary)


def sync_study(run: str, console: Console, tracker: str = "", *, report: bool = False) -> int:
    """Upload what W&B lacks of a study, then write its report there; 0 when all is there, else 1.

    `tracker`: one of TRACKERS instead of W&B. `report`: Misuse where no report can be written, else
    none is. Misuse when there is no study in `run`, or its driver still works.
    """
    if is_url(run):
        raise Misuse(f"sync {run}: only a local folder can be uploaded; download it first")
    run_dir = Path(run).resolve()
    for name in (RECORD, "space.yaml", *(["summary.json"] if report else [])):
        if not (run_dir / name).is_file():
            raise Misuse(f"sync {run}: holds no {name}; name the folder of a study")
    if tracker:
        require([tracker])
    if report:
        _require_module(WORKSPACES, "report --wandb", "report")
    from r2search.tuning.trackers.follower import Follower

    def note(text: str) -> None:
        say(console, text)

    with hold(run_dir):
        trials = read_trials(run_dir / RECORD)
        path = run_dir / "summary.json"
        summary = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        can_report = bool(summary.get("objective")) and find_spec(WORKSPACES) is not None
        page = page_of(summary, trials) if can_report and not tracker else None
        with Follower(run_dir, tracker or "sync", note) as follower:
            follower.finish(None, page)
        left = [trial.trial for trial in trials if trial.trial not in follower.uploaded]
        if not follower.whole:
            reason = follower.trouble or "the process that uploads has ended"
            say(console, f"{len(left)} of {len(trials)} trials are not uploaded: {reason}")
            return 1
        if summary:
            amend(run_dir, summary, _synced(summary.get("tracking") or {}, tracker))
        where = f"shown by {tracker}" if tracker else f"at Weights & Biases: {follower.sweep}"
        say(console, f"all {len(trials)} trials are {where}")
        if follower.report:
            say(console, f"their report: {follower.report}")
        elif not tracker and find_spec(WORKSPACES) is None:
            extra = "pip install -c constraints.txt '.[report]'"
            say(console, f"no report is written there: that needs {extra}")
    return 0


def _synced(facts: dict[str, Any], tracker: str) -> dict[str, Any]:
    """What summary.json says under `tracking` when W&B, or a tracker, has all."""
    others = dict(facts.get("trackers") or {}) | ({tracker: None} if tracker else {})
    if not tracker:
        facts = {"mode": "online", "not_uploaded": [], "sync": None}
    return facts | ({"trackers": others} if others else {})
