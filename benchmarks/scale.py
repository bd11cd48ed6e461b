"""What deciding costs when there are many trials: a study through the real Ray, without training.

    python benchmarks/scale.py --trials 2000 --json scale.json
    python benchmarks/scale.py --simulate 10000 --json simulated.json

Everything is a real study's (engine, searcher, scheduler, callback, record, checkpoints of a small
network) but the Trainer, which gives made-up values at once: learning curves that depend on depth,
rate and dropout, with noise. The space is retina.yaml's.

Two figures a trial, in milliseconds, by a hundred trials each: `deciding`, the time inside our
searcher, scheduler and callback (the record and the settling of checkpoints are in the last), and
`all`, the clock's, with Ray and the workers. `growth` is the deciding of the last hundred over that
of the second hundred. `--simulate` runs the same searcher and scheduler on a virtual clock instead,
without Ray, a record on disk or checkpoints.
"""

import argparse
import functools
import json
import math
import resource
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from rich.console import Console
from rich.table import Table

from r2search.config import Study, TrialConfig
from r2search.data import load
from r2search.data.samples import rng_for
from r2search.environment import machine, revision, versions
from r2search.finish import write_json
from r2search.models.cost import Rate
from r2search.records import CHECKPOINTS, EpochReport
from r2search.space import load_study
from r2search.train.trainer import TrainingState
from r2search.tuning import engine
from r2search.tuning.callback import StudyCallback
from r2search.tuning.engine import ray_session, search
from r2search.tuning.events import Ledger
from r2search.tuning.proposals import Proposals
from r2search.tuning.resources import Workers
from r2search.tuning.scheduler import build_scheduler
from r2search.tuning.searcher import StudySearcher
from r2search.tuning.slots import Slots
from r2search.tuning.trainable import NetworkTrainable, Shared
from r2search.tuning.virtual import Clock, VirtualSearch

GROUP = 100  # trials
WATCHED = {
    StudySearcher: ("suggest", "on_trial_result", "on_trial_complete"),
    StudyCallback: (
        "on_trial_start",
        "on_trial_result",
        "on_trial_complete",
        "on_trial_error",
        "on_step_end",
    ),
}
SECONDS = {"train": 1.0, "validate": 0.1}


def made_up(config: TrialConfig, epoch: int) -> EpochReport:
    """A point of a learning curve that saturates."""
    depth, lr = config.model.depth, config.train.lr
    reached = 0.6 + 0.05 * depth - 0.1 * abs(math.log10(lr) + 2) - 0.2 * config.model.dropout
    noise = rng_for(0, json.dumps(config.model_dump(mode="json")), epoch).normal(0, 0.01)
    value = reached * (1 - math.exp(-epoch / depth)) + noise
    metrics = {"val/dice_mean": float(value)}
    return EpochReport(epoch=epoch, metrics=metrics, pixels=100, seconds=SECONDS)


class MadeUp:
    """As much of a Trainer as a trainable asks for."""

    first_mask = None  # nothing is predicted

    def __init__(self, config: TrialConfig) -> None:
        self._config, self._epoch = config, 0
        self.notes: list[str] = []

    def run_epoch(self, tick: Callable[[], None]) -> EpochReport:
        self._epoch += 1
        return made_up(self._config, self._epoch)

    def weights(self) -> dict[str, torch.Tensor]:
        return {"weight": torch.full((1000,), float(self._epoch))}

    def state(self) -> TrainingState:
        return TrainingState({"weight": torch.zeros(1000)}, {"epoch": self._epoch})

    def restore(self, state: TrainingState) -> None:
        self._epoch = state.values["epoch"]


class Untrained(NetworkTrainable):
    """The trainable without training."""

    def _build(self) -> Any:
        return MadeUp(TrialConfig.model_validate(self._config["config"]))


def sharing(shared: Shared) -> type[Untrained]:
    return type("NetworkTrainable", (Untrained,), {"shared": shared})


class Stopwatch:
    """Adds up the time inside methods, by how many trials were begun before."""

    def __init__(self) -> None:
        self.begun = 0
        self.spent: defaultdict[int, float] = defaultdict(float)  # seconds, by group
        self.reached: dict[int, float] = {}  # the clock, when a group began
        self._inside = False

    def watch(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return method(*args, **kwargs)
            self._inside, began = True, time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                self._inside = False
                self.spent[self.begun // GROUP] += time.perf_counter() - began

        return timed

    def count(self, propose: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(propose)
        def counted(*args: Any) -> Any:
            self.reached.setdefault(self.begun // GROUP, time.perf_counter())
            found = propose(*args)
            self.begun += found is not None
            return found

        return counted


def study_of(trials: int, early_terminate: str) -> Study:
    study = load_study(
        "retina.yaml",
        {
            "budget.trials": trials,
            "budget.time": 1e6,
            "data.reader": "synthetic_retina",
            "early_terminate.type": early_terminate,
        },
    )
    return study.model_copy(update={"baselines": {}, "starts": {}})


SLOTS = Slots(Workers(count=2, threads=1, gpus=0.0), Rate(1e15, 1e15))


def through_ray(study: Study) -> None:
    """The study, by two workers of a Ray of its own."""
    samples = load(study.fixed.data, seed=0)
    with TemporaryDirectory() as folder, ray_session(samples) as ref:
        (Path(folder) / CHECKPOINTS).mkdir()
        with closing(Ledger(Path(folder) / "trials.jsonl")) as ledger:
            never = bool  # that is False: the search is not to stop
            search(study, samples, ref, SLOTS, Path(folder), ledger, lambda: None, never)
            failed = [trial.reason for trial in ledger.trials.values() if trial.failed]
            if failed:
                raise SystemExit(f"{len(failed)} trials failed: {failed[0]}")


def simulated(study: Study) -> None:
    """The study on a virtual clock."""
    samples = load(study.fixed.data, seed=0)
    ledger = Ledger(None, clock := Clock())
    searcher = StudySearcher(study, engine.planner_for(study, samples, SLOTS), ledger)

    def train(proposal: dict[str, Any], epoch: int) -> EpochReport:
        return made_up(TrialConfig.model_validate(proposal["config"]), epoch)

    VirtualSearch(study, searcher, build_scheduler(study), train, ledger, clock, workers=2).run()


def main() -> None:
    options = parse()
    study = study_of(options.simulate or options.trials, options.early_terminate)
    stopwatch = Stopwatch()
    with ExitStack() as stack:
        counted = stopwatch.count(Proposals.propose)
        stack.enter_context(patch.object(Proposals, "propose", counted))
        stack.enter_context(patch.object(engine, "sharing", sharing))
        for owner, names in WATCHED.items():
            for name in names:
                watched = stopwatch.watch(getattr(owner, name))
                stack.enter_context(patch.object(owner, name, watched))
        began = time.perf_counter()
        simulated(study) if options.simulate else through_ray(study)
        ended = time.perf_counter()
    groups = sorted(stopwatch.reached)[: stopwatch.begun // GROUP]
    ends = {group: stopwatch.reached.get(group + 1, ended) for group in groups}
    deciding = [1000 * stopwatch.spent[group] / GROUP for group in groups]
    clock = [1000 * (ends[group] - stopwatch.reached[group]) / GROUP for group in groups]
    growth = deciding[-1] / deciding[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    grid = Table("trials", "deciding, ms", "all, ms")
    for group in groups:
        first, last = group * GROUP + 1, (group + 1) * GROUP
        grid.add_row(f"{first}-{last}", f"{deciding[group]:.1f}", f"{clock[group]:.1f}")
    console = Console()
    console.print(grid)
    console.print(
        f"deciding {statistics.mean(deciding):.1f} ms a trial, growth {growth:.2f}; "
        f"the driver held {peak / 1e9:.2f} GB at most; {ended - began:.0f} s in all"
    )
    facts = {
        "trials": stopwatch.begun,
        "simulated": bool(options.simulate),
        "early_terminate": options.early_terminate,
        "deciding_ms": deciding,
        "all_ms": clock,
        "mean_deciding_ms": statistics.mean(deciding),
        "growth": growth,
        "driver_bytes": peak,
        "seconds": ended - began,
        "versions": versions(),
        "revision": revision(),
        "machine": machine(),
    }
    if options.json:
        write_json(options.json, facts)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=2000, help="through Ray")
    parser.add_argument("--simulate", type=int, help="so many trials on a virtual clock instead")
    parser.add_argument("--early-terminate", default="asha", help="type of the space file")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
