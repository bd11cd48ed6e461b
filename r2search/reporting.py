"""report.html again from a run folder, or several studies in one page."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from r2search.config import Misuse
from r2search.finish import pictures_of
from r2search.records import RECORD, TrialOutcome
from r2search.report.comparison import Compared, write_comparison
from r2search.report.html import write_report
from r2search.report.screen import say
from r2search.tuning.events import read_trials


def report_runs(runs: Sequence[Path], out: Path | None, console: Console) -> int:
    """Write the report of one run anew, or a comparison of several; returns the exit code.

    `out`: the file, by default report.html of the one run, else comparison.html here. Nothing else
    is changed. Misuse for a folder that holds no study that has ended, or a damaged one.
    """
    studies = [(run, *read_run(run)) for run in dict.fromkeys(runs)]
    if len(studies) == 1:
        run, summary, trials = studies[0]
        path = out or run / "report.html"
        _require_folder(path)
        write_report(path, summary, trials, pictures_of(run, summary))
    else:
        path = out or Path("comparison.html")
        _require_folder(path)
        labels = labels_of([run for run, _, _ in studies])
        found = zip(labels, studies, strict=True)
        write_comparison(
            path, [Compared(label, summary, trials) for label, (_, summary, trials) in found]
        )
    say(console, f"Report: {path}")
    return 0


def read_run(run: Path) -> tuple[dict[str, Any], list[TrialOutcome]]:
    """The summary and the trials of a study that has ended."""
    for name in ("summary.json", RECORD):
        if not (run / name).is_file():
            raise Misuse(
                f"{run}: holds no {name}; name the folder of a study that has ended "
                f"(one that was cut off goes on by r2search tune --resume {run})"
            )
    try:
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
        trials = read_trials(run / RECORD)
        summary["objective"]["name"]  # else it is another program's
    except (ValueError, KeyError, TypeError) as error:
        raise Misuse(
            f"{run}: summary.json or {RECORD} is damaged ({error}); fetch it again"
        ) from None
    return summary, trials


def labels_of(runs: Sequence[Path]) -> list[str]:
    """The names of the folders, with those above as far as that tells them apart."""
    parts = [run.resolve().parts for run in runs]
    for depth in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(part[-depth:]) for part in parts]
        if len(set(labels)) == len(labels):
            break
    return labels


def _require_folder(path: Path) -> None:
    if path.is_dir() or not path.parent.is_dir():
        raise Misuse(f"--out {path}: not a file in a folder that exists; name one, as compare.html")
