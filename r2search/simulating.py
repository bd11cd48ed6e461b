"""`r2search simulate`: the table of what searches would have found on recorded curves."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Grid

from r2search.config import Misuse, Study, hint
from r2search.report.screen import say
from r2search.space import load_study
from r2search.tuning.curves import Recording, read_curves
from r2search.tuning.simulate import CLOSE, Replayed, Table, replay

SHARES = (0.1, 0.25, 0.5, 1.0)  # of the search, at which it is looked at
WIDTH = 140  # of the table, characters; a terminal breaks its lines, a file does not
INTERVAL = (2.5, 97.5)  # percent

Variants = Sequence[tuple[str, Sequence[Any]]]  # dotted key, and the values to compare


def simulate_studies(
    curves_path: Path,
    space: str,
    given: Mapping[str, Any],
    variants: Variants,
    *,
    workers: int,
    seeds: int,
    console: Console,
    json_path: Path | None = None,
) -> int:
    """Replay `seeds` studies of every combination of the variants, and print the table.

    `given`: dotted key -> value over the space file. Returns the exit code.
    """
    recording = read_curves(curves_path)
    tables = {
        label: Table(_study(space, recording, {**given, **chosen}), recording, workers)
        for label, chosen in _combinations(variants)
    }
    done: dict[str, list[Replayed]] = {}
    with console.status("simulating") as status:
        for label, table in tables.items():
            done[label] = []
            for seed in range(seeds):
                status.update(f"simulating {label}: seed {seed + 1} of {seeds}")
                done[label].append(replay(table, seed))
    first = next(iter(tables.values())).study
    names = ", ".join(sorted({curve.name for curve in recording.curves if curve.baseline}))
    drawn = sum(not curve.baseline for curve in recording.curves)
    say(
        console,
        f"{first.name}: {first.metric.name} of {drawn} recorded configs"
        f"{' on synthetic images' if recording.facts.get('synthetic') else ''}"
        f"{f' and {names}' if names else ''}; {workers} workers, {first.budget.time:g} s, "
        f"{seeds} seeds",
    )
    console.width = max(console.width, WIDTH)
    console.print(_grid(tables, done))
    if json_path:
        facts = _facts(curves_path, recording, tables, done)
        json_path.write_text(json.dumps(facts, indent=2, allow_nan=False), encoding="utf-8")
        say(console, f"written: {json_path}")
    return 0


def _combinations(variants: Variants) -> list[tuple[str, dict[str, Any]]]:
    """A label and the settings of every combination."""
    keys = [key for key, _ in variants]
    found = []
    for values in product(*(values for _, values in variants)):
        chosen = dict(zip(keys, values, strict=True))
        label = ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in chosen.items())
        found.append((label or "as given", chosen))
    return found


def _study(space: str, recording: Recording, given: Mapping[str, Any]) -> Study:
    """The study of a space as it was recorded. Misuse when the curves cannot answer for it."""
    for key, value in given.items():
        recorded = recording.settings.get(key, value)
        if value != recorded and not (key == "budget.max_epochs" and value < recorded):
            raise Misuse(
                f"--set {key}={value}: the curves were recorded with {recorded}; leave it out, "
                "or record others by benchmarks/record_curves.py"
            )
    study = load_study(space, {**recording.settings, **given})
    if study.name != recording.space:
        raise Misuse(f"--space {space}: the curves are of {recording.space}; give that space file")
    known = sorted({name for c in recording.curves for r in c.reports for name in r.metrics})
    if study.metric.name not in known:
        raise Misuse(
            f"metric.name: {study.metric.name!r} was not recorded; {hint(study.metric.name, known)}"
        )
    return study


def _grid(tables: Mapping[str, Table], done: Mapping[str, list[Replayed]]) -> Grid:
    grid = Grid(
        title="medians over seeds",
        caption="Regret: how much worse than the best that was recorded, after a share of the "
        f"time; its 95 % at the end. Target: within {CLOSE:g} of the best; oracle: when it is the "
        "first trial. Best stopped: how often the truly best of the trials that were begun was "
        "stopped early.",
        box=SIMPLE_HEAD,
    )
    grid.add_column("")
    regrets = [f"regret\n{share:.0%}" for share in SHARES]
    measured = ["trials", "epochs", "best", "found", *regrets, "(95 %)"]
    for name in [*measured, "target", "oracle", "best\nstopped"]:
        grid.add_column(name, justify="right", no_wrap=True)
    for label, studies in done.items():
        at_end = [study.regret_at(1.0) for study in studies]
        low, high = np.percentile(at_end, INTERVAL, method="nearest")
        grid.add_row(
            label,
            f"{statistics.median(s.trials for s in studies):g}",
            f"{statistics.median(s.epochs for s in studies):g}",
            f"{studies[0].best:.4f}",
            f"{statistics.median(_found(s) for s in studies):.4f}",
            *(f"{statistics.median(s.regret_at(share) for s in studies):.4f}" for share in SHARES),
            f"{low:.4f}-{high:.4f}",
            _seconds(statistics.median(s.seconds_to_target() for s in studies)),
            _seconds(tables[label].oracle_seconds()),
            f"{statistics.mean(s.stopped_best for s in studies):.0%}",
        )
    return grid


def _found(study: Replayed) -> float:
    value = study.value_at(1.0)
    return math.nan if value is None else value


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if math.isfinite(seconds) else "never"


def _facts(
    curves_path: Path,
    recording: Recording,
    tables: Mapping[str, Table],
    done: Mapping[str, list[Replayed]],
) -> dict[str, Any]:
    table = next(iter(tables.values()))
    return {
        "curves": curves_path.name,
        "space": recording.space,
        "metric": table.study.metric.model_dump(),
        "configs": sum(not curve.baseline for curve in recording.curves),
        "workers": table.workers,
        "time": table.study.budget.time,
        "oracle_seconds": {label: table.oracle_seconds() for label, table in tables.items()},
        "settings": {label: [_plain(s) for s in studies] for label, studies in done.items()},
    }


def _plain(study: Replayed) -> dict[str, Any]:
    """One study as JSON has it: null for what is infinite."""
    target = study.seconds_to_target()
    return {
        "seed": study.seed,
        "best": study.best,
        "found": study.found,
        "regret": {
            f"{share:g}": regret if math.isfinite(regret := study.regret_at(share)) else None
            for share in SHARES
        },
        "seconds_to_target": target if math.isfinite(target) else None,
        "seconds": study.seconds,
        "planned": study.planned,
        "trials": study.trials,
        "epochs": study.epochs,
        "stopped_best": study.stopped_best,
    }
