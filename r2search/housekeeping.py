"""The run folders on a disk: how their studies ended, what they hold, and what of it may go."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.prompt import Confirm
from rich.table import Table

from r2search.config import Misuse
from r2search.records import CHECKPOINTS, RECORD, RESUMED
from r2search.report.screen import say
from r2search.report.wording import number
from r2search.rundir import hold

WORKING, CUT_OFF = "working", "cut off"  # beside what a summary says


@dataclass(frozen=True, slots=True)
class Run:
    """One run folder."""

    path: Path
    state: str  # of summary.json, WORKING or CUT_OFF
    began: datetime | None
    objective: str
    value: float | None  # of the incumbent
    size: int  # bytes
    checkpoints: int  # bytes of it

    @property
    def cleanable(self) -> bool:
        """Whether its study is over, and something is kept that only going on with it needs."""
        return self.state == "completed" and self.checkpoints > 0


def show_runs(folder: Path, console: Console, *, clean: bool = False, yes: bool = False) -> int:
    """List the run folders in `folder`, newest first; the exit code.

    `clean`: of completed studies remove the checkpoints, which only going on with them needs, and
    ask before, unless `yes`. Bundles, records and reports stay. Misuse when there is no run folder.
    """
    runs = sorted(find_runs(folder), key=lambda run: run.began or datetime.min, reverse=True)
    if not runs:
        raise Misuse(f"{folder}: holds no run folder; name the folder that holds them, as runs")
    console.print(_grid(folder, runs))
    over = [run for run in runs if run.cleanable]
    freed = sum(run.checkpoints for run in over)
    if not clean:
        if over:
            say(console, f"{size(freed)} can be freed: r2search runs {folder} --clean")
        return 0
    if not over:
        say(console, "there is nothing to clean")
        return 0
    what = f"the checkpoints of {len(over)} completed studies, {size(freed)}"
    if not yes and not Confirm.ask(
        f"Remove {what}? They cannot be extended any more.", console=console, default=False
    ):
        return 0
    for run in over:
        with hold(run.path):
            shutil.rmtree(run.path / CHECKPOINTS)
    say(console, f"removed {what}")
    return 0


def find_runs(folder: Path) -> Iterator[Run]:
    """The run folders that lie in `folder`, and `folder` itself if it is one."""
    if not folder.is_dir():
        raise Misuse(f"{folder}: no such folder; name the folder that holds run folders, as runs")
    for path in (folder, *sorted(folder.iterdir())):
        if (path / RECORD).is_file():
            yield _look(path)


def _look(path: Path) -> Run:
    summary = _read_json((path / "summary.json").read_text) if _has_summary(path) else {}
    with (path / RECORD).open(encoding="utf-8", errors="replace") as record:
        first = _read_json(record.readline)
    began, status = first.get("unix_time"), summary.get("status")
    best, objective = summary.get("incumbent") or {}, summary.get("objective") or {}
    return Run(
        path=path,
        state=WORKING if _is_held(path) else status if status not in (None, RESUMED) else CUT_OFF,
        began=datetime.fromtimestamp(began) if began else None,
        objective=objective.get("name") or "",
        value=best.get("value"),
        size=_bytes(path),
        checkpoints=_bytes(path / CHECKPOINTS),
    )


def _has_summary(path: Path) -> bool:
    return (path / "summary.json").is_file()


def _read_json(read: Any) -> dict[str, Any]:
    """An object; an empty one when it is damaged or none."""
    try:
        found = json.loads(read())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_held(path: Path) -> bool:
    """Whether a driver works in a run folder. One that nobody locked is left without a lock."""
    if not (path / ".lock").exists():
        return False
    try:
        hold(path).release()
    except Misuse:
        return True
    return False


def _bytes(path: Path) -> int:
    return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _grid(folder: Path, runs: list[Run]) -> Table:
    grid = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("run", "began", "state", "best", "objective"):
        grid.add_column(name, overflow="fold")
    for name in ("size", "checkpoints"):
        grid.add_column(name, justify="right")
    for run in runs:
        grid.add_row(
            str(run.path) if run.path == folder else run.path.name,
            f"{run.began:%Y-%m-%d %H:%M}" if run.began else "",
            run.state,
            number(run.value) if run.value is not None else "",
            run.objective,
            size(run.size),
            size(run.checkpoints) if run.checkpoints else "",
        )
    return grid
