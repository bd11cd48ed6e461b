"""How soon do searches find the best config? r2search against its peers, on recorded curves.

    python benchmarks/search_efficiency.py --json search_efficiency.json

Every search runs on both tables of benchmarks/curves (record_curves.py made them), with 4 and with
16 workers and --seeds seeds, on a virtual clock. All of them may spend the same worker-seconds:
--share of what it takes to train the whole table. peers.py says how the peers run; of r2search's
own default each part is switched off in turn, with the first number of workers alone. The starts of
a space file are left out.

Regret: how much worse the best value found is than the best of the table, after 25, 50 and 100 % of
the time; median over seeds, and the 95 % interval of that median (bootstrap). Target: the first
time at which the best value found is within 0.005 of the best of the table; its median counts
studies that never came there as the worst. Oracle: the time of a single trial that comes there.

`time_to_target_ratio` of the JSON is, for every peer, its median time to target over that of
r2search, with the first number of workers: the smaller of both tables' ratios. Where a peer did not
come to the target in half of its studies, the whole time stands for it, and the peer is listed
under `ratio_at_least`: the true ratio is larger. Where r2search itself did not, its space is listed
under `not_reached`: ratios say nothing then.

Syne Tune brings hundreds of megabytes and is no dependency of r2search, not even of its tests:
    pip install -c constraints.txt syne-tune==0.16.0 huggingface_hub s3fs fastparquet
(the last three it does not name itself), best in an environment of its own; or
`--leave-out syne_tune`.

A study's result is kept beside the JSON (FILE.parts), so that the command may be stopped and
continued; remove that folder after a change of the searches.
"""

import argparse
import json
import math
import os
import statistics
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from peers import PEERS
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table as Grid

from r2search.config import Baseline, Study
from r2search.environment import machine, revision, versions
from r2search.finish import write_json
from r2search.space import load_study
from r2search.tuning import deadline
from r2search.tuning.budget import FINISH_SHARE
from r2search.tuning.curves import Curve, read_curves
from r2search.tuning.events import Ledger
from r2search.tuning.simulate import Method, Table, as_set, replay

OURS = "r2search"
CURVES = {"retina": "retina-chase_db1.parquet", "nuclei": "nuclei-dsb2018.parquet"}
SHARES = (0.25, 0.5, 1.0)  # of the time, at which regret is looked at
RESAMPLES = 2000


@dataclass(frozen=True)
class Search:
    """One row of the table."""

    method: Method = as_set
    given: dict[str, Any] = field(default_factory=dict)  # dotted key -> value over the space file
    last_call: bool = True


def _without_baselines(
    table: Table, study: Study, ledger: Ledger
) -> tuple[Searcher, TrialScheduler]:
    return as_set(table, study.model_copy(update={"baselines": {}}), ledger)


def _with_a_bad_prior(
    table: Table, study: Study, ledger: Ledger
) -> tuple[Searcher, TrialScheduler]:
    """Its only baseline is the worst config of the table."""
    bad = Baseline(overrides=dict(table.worst().overrides))
    return as_set(table, study.model_copy(update={"baselines": {"bad": bad}}), ledger)


SEARCHES = {
    OURS: Search(),
    **{name: Search(method) for name, method in PEERS.items()},
    f"{OURS}, draws at random": Search(given={"search.searcher": "random"}),
    f"{OURS}, no baselines": Search(_without_baselines),
    f"{OURS}, no last call": Search(last_call=False),
    f"{OURS}, prior": Search(given={"search.prior": 0.5}),
    f"{OURS}, bad prior": Search(_with_a_bad_prior, given={"search.prior": 0.5}),
    **{
        f"{OURS}, {rule}": Search(given={"early_terminate.type": rule})
        for rule in ("none", "asha", "ray_asha", "pasha", "hyperband", "median")
    },
}


@dataclass(frozen=True)
class Job:
    """One simulated study."""

    space: str
    search: str
    workers: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.space}, {self.search}, {self.workers} workers, seed {self.seed}.json"


@lru_cache
def table_of(curves: Path, space: str, settings: str, workers: int, share: float) -> Table:
    """The table as a search with these settings (JSON) finds it, with its share of the time."""
    recording = read_curves(curves / CURVES[space])
    seconds = share * sum(map(_seconds, recording.curves)) / workers
    budget = {"budget.time": seconds / (1 - FINISH_SHARE), "budget.trials": len(recording.curves)}
    study = load_study(f"{space}.yaml", recording.settings | budget | json.loads(settings))
    # Its starts were found on the images of a table: on recorded curves they would know the answer.
    return Table(study.model_copy(update={"starts": {}}), recording, workers)


def _seconds(curve: Curve) -> float:
    return sum(report.seconds["clock"] for report in curve.reports)


def run(job: Job, curves: Path, share: float) -> dict[str, Any]:
    """Simulate one study."""
    search = SEARCHES[job.search]
    table = table_of(curves, job.space, json.dumps(search.given), job.workers, share)
    with patch.object(deadline, "LAST_CALL", deadline.LAST_CALL if search.last_call else 0.0):
        done = replay(table, job.seed, search.method)
    target = done.seconds_to_target()
    return {
        "regret": {f"{share:g}": done.regret_at(share) for share in SHARES},
        "target": target if math.isfinite(target) else None,
        "found": done.found,
        "best": done.best,
        "planned": done.planned,
        "oracle": table.oracle_seconds(),
        "trials": done.trials,
        "epochs": done.epochs,
        "stopped_best": done.stopped_best,
    }


def run_all(jobs: list[Job], parts: Path, options: argparse.Namespace) -> None:
    """Simulate what is not there yet."""
    left = [job for job in jobs if not (parts / job.name).exists()]
    context = get_context("spawn")
    with (
        ProcessPoolExecutor(options.processes, mp_context=context) as pool,
        Progress(console=Console(stderr=True)) as progress,
    ):
        bar = progress.add_task("simulating", total=len(left))
        futures = {pool.submit(run, job, options.curves, options.share): job for job in left}
        for future in as_completed(futures):
            write_json(parts / futures[future].name, future.result())
            progress.advance(bar)


@dataclass(frozen=True)
class Row:
    """One search on one table with so many workers: its studies, by seed."""

    studies: list[dict[str, Any]]

    def regret(self, share: float) -> tuple[float, float, float]:
        """Median, and the 95 % interval of it."""
        return median([study["regret"][f"{share:g}"] for study in self.studies])

    def target(self) -> tuple[float, float, float]:
        """Seconds; infinite when half of the studies never came there."""
        return median([math.inf if s["target"] is None else s["target"] for s in self.studies])

    def at_least(self) -> float:
        """The median time to target, or all of the time when it was not enough."""
        return min(self.target()[0], float(self.studies[0]["planned"]))


def median(values: list[float]) -> tuple[float, float, float]:
    """The median of values and its 95 % interval, by bootstrap. Values may be infinite."""
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    # Of an even number the lower one of the middle: between a number and infinity there is none.
    medians = np.quantile(np.array(values)[drawn], 0.5, axis=1, method="lower")
    low, high = np.quantile(medians, [0.025, 0.975], method="nearest")
    return float(np.quantile(values, 0.5, method="lower")), float(low), float(high)


def grid_of(title: str, rows: dict[str, Row]) -> Grid:
    """The table of one space and number of workers."""
    grid = Grid(title=title, box=SIMPLE_HEAD)
    grid.add_column("")
    for name in [*(f"regret at {share:.0%}" for share in SHARES), "target, s", "of ours"]:
        grid.add_column(name, justify="right", no_wrap=True)
    for name in ("trials", "epochs", "best stopped"):
        grid.add_column(name, justify="right")
    ours = rows[OURS].at_least()
    for name, row in rows.items():
        middle, low, high = row.target()
        more = ">" if math.isinf(middle) else ""
        grid.add_row(
            name,
            *("{:.4f} ({:.4f}-{:.4f})".format(*row.regret(share)) for share in SHARES),
            f"{_whole(middle)} ({_whole(low)}-{_whole(high)})",
            f"{more}{row.at_least() / ours:.2f}",
            f"{statistics.median(study['trials'] for study in row.studies):g}",
            f"{statistics.median(study['epochs'] for study in row.studies):g}",
            f"{statistics.mean(study['stopped_best'] for study in row.studies):.0%}",
        )
    return grid


def _whole(seconds: float) -> str:
    return f"{seconds:.0f}" if math.isfinite(seconds) else "never"


def main() -> None:
    options = parse()
    first = options.workers[0]
    kept = [name for name in SEARCHES if name not in options.leave_out]
    if "syne_tune" in kept and find_spec("syne_tune") is None:
        raise SystemExit("syne_tune is not installed: see --help, or --leave-out syne_tune")
    parts = options.json.with_name(f"{options.json.name}.parts")
    parts.mkdir(parents=True, exist_ok=True)
    wanted = [
        (space, name, workers)
        for space in options.spaces
        for workers in options.workers
        for name in kept
        if workers == first or name == OURS or name in PEERS
    ]
    jobs = [Job(*key, seed) for seed in range(options.seeds) for key in wanted]
    run_all(jobs, parts, options)
    rows: dict[tuple[str, int], dict[str, Row]] = defaultdict(dict)
    for space, name, workers in wanted:
        studies = [Job(space, name, workers, seed).name for seed in range(options.seeds)]
        found = [json.loads((parts / study).read_text(encoding="utf-8")) for study in studies]
        rows[space, workers][name] = Row(found)
    console = Console(width=160)
    for (space, workers), searches in rows.items():
        some = searches[OURS].studies[0]
        console.print(
            grid_of(
                f"{space}, {workers} workers, {some['planned']:.0f} s, {options.seeds} seeds; "
                f"oracle {some['oracle']:.0f} s, best {some['best']:.4f}",
                searches,
            )
        )
    peers = [name for name in kept if name in PEERS]
    ratios, at_least = ratios_of([rows[space, first] for space in options.spaces], peers)
    not_reached = [s for s in options.spaces if math.isinf(rows[s, first][OURS].target()[0])]
    console.print("time to target over ours: " + json.dumps(ratios) + f"; at least: {at_least}")
    if not_reached:
        console.print(f"ours did not come to the target: {', '.join(not_reached)}")
    facts = {
        "time_to_target_ratio": ratios,
        "ratio_at_least": at_least,
        "not_reached": not_reached,
        "seeds": options.seeds,
        "share": options.share,
        "versions": versions(),
        "revision": revision(),
        "machine": machine(),
        "tables": [
            {
                "space": space,
                "workers": workers,
                "seconds": searches[OURS].studies[0]["planned"],
                "oracle_seconds": searches[OURS].studies[0]["oracle"],
                "searches": {name: _facts(row) for name, row in searches.items()},
            }
            for (space, workers), searches in rows.items()
        ],
    }
    write_json(options.json, facts)
    print(f"written: {options.json}")


def ratios_of(tables: list[dict[str, Row]], peers: list[str]) -> tuple[dict[str, float], list[str]]:
    """For every peer the smallest ratio of all tables; and whose are only bounds."""
    ratios, at_least = {}, []
    for name in peers:
        found = [(rows[name].at_least() / rows[OURS].at_least(), rows) for rows in tables]
        ratios[name], rows = min(found, key=lambda item: item[0])
        if math.isinf(rows[name].target()[0]):
            at_least.append(name)
    return ratios, at_least


def _facts(row: Row) -> dict[str, Any]:
    """Of JSON: null for what is infinite."""

    def plain(values: Sequence[float]) -> list[float | None]:
        return [value if math.isfinite(value) else None for value in values]

    return {
        "regret": {f"{share:g}": plain(row.regret(share)) for share in SHARES},
        "seconds_to_target": plain(row.target()),
        "reached": statistics.mean(study["target"] is not None for study in row.studies),
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, required=True, help="file to write and continue")
    here = Path(__file__).parent
    parser.add_argument("--curves", type=Path, default=here / "curves", help="folder of tables")
    parser.add_argument("--spaces", nargs="+", choices=[*CURVES], default=[*CURVES])
    parser.add_argument("--workers", nargs="+", type=int, default=[4, 16])
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--share", type=float, default=0.5, help="of the table's worker-seconds")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--leave-out", nargs="+", choices=[*SEARCHES], default=[])
    return parser.parse_args()


if __name__ == "__main__":
    main()
