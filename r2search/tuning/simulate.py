"""Studies replayed on recorded curves: what a search would have found, in seconds.

The searcher proposes from a whole space, and a finite number of its configs was recorded. A
proposal is first planned as in a real study (by the rate and the limit of the recording), and
refused if its epochs would take too long. Then the nearest recorded config that the study has not
had yet takes its place, and the searcher is told of that one as if it had proposed it. Baselines
are recorded under their names.

A trial of fewer epochs than were recorded (a dear config, or one begun late) sees the beginning of
its curve, although its own learning rate would have fallen by then: it is worth a little less than
in a real study. An epoch takes what the cost model gives it at the rate of the recording (`clock`):
a table is recorded over many hours, on more than one machine, and other work beside it must not
show.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from r2search.config import Misuse, Study, TrialConfig
from r2search.models.cost import epoch_seconds
from r2search.records import EpochReport, TrialOutcome
from r2search.selection import eligible
from r2search.space import as_drawn, trial_config
from r2search.tuning.budget import (
    Plan,
    affordable_epochs,
    epoch_limit,
    pace,
    search_seconds,
    too_slow,
    training_flops,
)
from r2search.tuning.curves import Curve, Failure, Recording
from r2search.tuning.events import Ledger
from r2search.tuning.places import Places
from r2search.tuning.scheduler import build_scheduler
from r2search.tuning.searcher import StudySearcher
from r2search.tuning.virtual import SWITCH_S, Clock, VirtualSearch

CLOSE = 0.005  # to the best value of the table: the target is reached


@dataclass(frozen=True, slots=True)
class Replayed:
    """One simulated study."""

    seed: int
    found: tuple[tuple[float, float], ...]  # (seconds, best value so far), whenever it rose
    best: float  # of all that was recorded and could have been run
    seconds: float  # that the search took
    planned: float  # that it could have taken
    trials: int
    epochs: int  # reported, of all trials
    stopped_best: bool  # of the trials begun the truly best was stopped before its end

    def value_at(self, share: float) -> float | None:
        """The best value after a share of the planned seconds; None before the first."""
        values = [value for t, value in self.found if t <= share * self.planned]
        return values[-1] if values else None

    def regret_at(self, share: float) -> float:
        """How much worse than the best that is; infinite before the first report."""
        value = self.value_at(share)
        return math.inf if value is None else abs(self.best - value)

    def seconds_to_target(self) -> float:
        """When a value within CLOSE of the best was found; infinite if never."""
        return next((t for t, value in self.found if abs(self.best - value) <= CLOSE), math.inf)


class Table:
    """A study, and the recorded configs that it can run."""

    def __init__(self, study: Study, recording: Recording, workers: int) -> None:
        """Misuse when the recording has nothing of this space."""
        self._recording = recording
        self.workers = workers
        limit = epoch_limit(study.search_budget, workers)
        self._limit = min(recording.epoch_limit, limit)  # of what is only predicted
        known = {c.name: c for c in recording.curves if c.baseline}
        self._baselines = {name: known[name] for name in study.baselines if name in known}
        self._curves: dict[str, Curve] = {}
        drawn = []
        for curve in recording.curves:
            overrides = None if curve.baseline else as_drawn(study, curve.overrides)
            if overrides is not None and _epoch_seconds(curve) <= limit:
                drawn.append(overrides)
                self._curves[_key(overrides)] = curve
        if not drawn:
            raise Misuse(
                f"--space {study.name}: none of the recorded configs ({recording.space}) is of "
                "this space and fits the budget; give the space that was recorded, or more --time"
            )
        self.study = _limited(study, set(self._baselines), len(drawn))
        self._places = Places(study.parameters, drawn)
        named = [(name, self.study.baselines[name].overrides) for name in self._baselines]
        self._plans = {
            (config := trial_config(study, overrides)): self._plan(config, curve)
            for overrides, curve in [
                *((overrides, self._curves[_key(overrides)]) for overrides in drawn),
                *((overrides, self._baselines[name]) for name, overrides in named),
            ]
        }

    def best(self) -> float:
        """The best value that any study could find."""
        curves = [*self._curves.values(), *self._baselines.values()]
        return max(map(self.value, curves), key=self.worth)

    def worst(self) -> Curve:
        """The config with the worst best value."""
        return min(self._curves.values(), key=lambda curve: self.worth(self.value(curve)))

    def value(self, curve: Curve) -> float:
        """The best of a curve, as far as the study may train."""
        reports = curve.reports[: self.study.budget.max_epochs]
        values = [report.metrics[self.study.metric.name] for report in reports]
        return max(values, key=self.worth, default=-self.worth(math.inf))

    def oracle_seconds(self) -> float:
        """The least time to come within CLOSE of the best: by one trial, begun at once."""
        target, name = self.worth(self.best()) - CLOSE, self.study.metric.name
        found = []
        for curve in [*self._curves.values(), *self._baselines.values()]:
            now = SWITCH_S
            for report in curve.reports[: self.study.budget.max_epochs]:
                now += report.seconds["clock"]
                if self.worth(report.metrics[name]) >= target:
                    found.append(now)
                    break
        return min(found)

    def worth(self, value: float) -> float:
        """Larger is better."""
        return value if self.study.metric.goal == "maximize" else -value

    def planner(self, config: TrialConfig) -> Plan:
        """As recorded; of any other config as it was predicted for the recording."""
        if config in self._plans:
            return self._plans[config]
        recording = self._recording
        seconds = epoch_seconds(config, recording.validation_pixels, recording.rate)
        return replace(self._planned(seconds), refusal=too_slow(seconds, self._limit))

    def _plan(self, config: TrialConfig, curve: Curve) -> Plan:
        plan = self._planned(_epoch_seconds(curve), curve.parameters, curve.flops)
        plan = replace(plan, epoch_flops=training_flops(config, curve.flops))
        return plan if curve.failure else replace(plan, epochs=min(plan.epochs, len(curve.reports)))

    def _planned(self, seconds: float, parameters: int = 0, flops: float = 0.0) -> Plan:
        epochs = affordable_epochs(self.study.search_budget, self.workers, seconds)
        speed = pace(self.study.search_budget, self.workers, seconds)
        return Plan(epochs, seconds, parameters, flops, memory=0, micro_batch=1, pace=speed)

    def taker(self) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
        """For one study: gives the nearest config that it did not have yet."""
        return self._places.taker()

    def curve(self, name: str, overrides: Mapping[str, Any]) -> Curve:
        """The curve of a trial."""
        return self._baselines.get(name) or self._curves[_key(overrides)]

    def train(self, proposal: Mapping[str, Any], epoch: int) -> EpochReport | Failure:
        """An epoch as recorded."""
        curve = self.curve(proposal["name"], proposal["overrides"])
        came: EpochReport | Failure | None = curve.failure
        if epoch <= len(curve.reports):
            came = curve.reports[epoch - 1]
        assert came, f"{curve.name} has no epoch {epoch}"
        return replace(came, seconds=_by_clock(came.seconds))


def _limited(study: Study, baselines: set[str], most: int) -> Study:
    """Of a study what was recorded: these baselines, and so many trials."""
    budget = study.budget.model_copy(update={"trials": min(study.budget.trials, most)})
    kept = {name: value for name, value in study.baselines.items() if name in baselines}
    return study.model_copy(update={"budget": budget, "baselines": kept})


def _key(overrides: Mapping[str, Any]) -> str:
    return json.dumps(overrides, sort_keys=True)


def _epoch_seconds(curve: Curve) -> float:
    came = curve.reports[0] if curve.reports else curve.failure
    assert came, f"{curve.name} has no epoch"
    return came.seconds["clock"]


def _by_clock(seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds of training and of validation that pass in a simulation."""
    took = seconds["train"] + seconds["validate"]
    share = seconds["clock"] / took if took else 1.0
    return {name: seconds[name] * share for name in ("train", "validate")}


# Who proposes, and who stops, in a study of a table that is written down in a ledger
Method = Callable[[Table, Study, Ledger], tuple[Searcher, TrialScheduler]]


def as_set(table: Table, study: Study, ledger: Ledger) -> tuple[Searcher, TrialScheduler]:
    """What the study's own settings name."""
    searcher = StudySearcher(
        study,
        table.planner,
        ledger,
        left=lambda: ledger.left(study.search_budget),
        instead=table.taker(),
    )
    return searcher, build_scheduler(study)


def replay(table: Table, seed: int, method: Method = as_set) -> Replayed:
    """The study of a table with this seed."""
    search = table.study.search.model_copy(update={"seed": seed})
    study, clock = table.study.model_copy(update={"search": search}), Clock()
    ledger = Ledger(None, clock)
    searcher, scheduler = method(table, study, ledger)
    VirtualSearch(study, searcher, scheduler, table.train, ledger, clock, table.workers).run()
    return _replayed(table, ledger, seed)


def _replayed(table: Table, ledger: Ledger, seed: int) -> Replayed:
    trials = list(ledger.trials.values())

    def promise(trial: TrialOutcome) -> float:
        curve = table.curve(trial.trial, trial.overrides)
        return -math.inf if curve.failure else table.worth(table.value(curve))

    return Replayed(
        seed=seed,
        found=tuple(_rises(table, trials)),
        best=table.best(),
        seconds=ledger.elapsed(),
        planned=search_seconds(table.study.search_budget),
        trials=len(trials),
        epochs=sum(len(trial.reports) for trial in trials),
        stopped_best=max(trials, key=promise).outcome == "stopped",
    )


def _rises(table: Table, trials: list[TrialOutcome]) -> Iterator[tuple[float, float]]:
    """Whenever the best value so far rose, and to what; a trial that failed does not count."""
    reports = (
        (t, report.metrics[table.study.metric.name])
        for trial in eligible(trials)
        for t, report in zip(trial.report_times, trial.reports, strict=True)
    )
    best = -math.inf
    for t, value in sorted(reports, key=lambda report: (report[0], table.worth(report[1]))):
        if table.worth(value) > best:
            best = table.worth(value)
            yield t, value
