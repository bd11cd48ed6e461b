"""Which trials train longer; baselines always train to their end.

With `asha`, `pasha` and `hyperband` trials wait at rungs (rungs.py), and the searcher proposes
those that go on. The others are Ray schedulers, which stop a trial or let it run: `median` is a
rule of ours (median.py), `ray_asha` Ray's own.
"""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from r2search.config import WAITING, Study
from r2search.tuning.budget import Plan
from r2search.tuning.events import Ledger
from r2search.tuning.median import MedianRule
from r2search.tuning.rungs import Rungs, rung_levels


class SparingAsha(AsyncHyperBandScheduler):
    """Ray's ASHA over the search's own trials, each by its best epoch so far.

    A trial is exported by its best epoch, so a dip just at a rung must not end it. A baseline is
    neither stopped nor ranked. Who comes to a rung first passes, there being nobody to lose
    against; so a trial is judged again after every epoch, by those that came to its last rung since
    (docs/adr/0006). Trials are told apart by their names, which a study that is taken up again
    keeps; Ray's ids are new ones then.
    """

    def __init__(self, *, metric: str, mode: str, **settings: Any) -> None:
        super().__init__(metric=metric, mode=mode, **settings)
        self._keep = max if mode == "max" else min
        self._best: dict[str, float] = {}  # by name

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, _by_name(trial))

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_remove(tune_controller, _by_name(trial))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if trial.config["baseline"]:
            return str(TrialScheduler.CONTINUE)
        result, name = self._best_so_far(trial, result), trial.config["name"]
        decision = str(super().on_trial_result(tune_controller, _by_name(trial), result))
        if name in self._best and self._is_behind(name):
            return str(TrialScheduler.STOP)
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if not trial.config["baseline"]:
            result = self._best_so_far(trial, result)
            super().on_trial_complete(tune_controller, _by_name(trial), result)

    def _is_behind(self, name: str) -> bool:
        """With all that it has trained, a trial is no match for the others at its last rung."""
        best = self._best[name] if self._keep is max else -self._best[name]
        for bracket in self._brackets:
            for _, values in bracket._rungs:  # the highest first
                if name in values:
                    others = {key: value for key, value in values.items() if key != name}
                    cutoff = bracket.cutoff(others)
                    return cutoff is not None and best < float(cutoff)  # type: ignore[arg-type]
        return False

    def _best_so_far(self, trial: Any, result: dict[str, Any]) -> dict[str, Any]:
        value, name = result.get(self.metric), trial.config["name"]
        if value is None:
            return result
        best = self._best[name] = self._keep(value, self._best.get(name, value))
        return {**result, self.metric: best}


def _by_name(trial: Any) -> Any:
    """All that Ray's scheduler looks at."""
    return SimpleNamespace(trial_id=trial.config["name"])


class MedianScheduler(FIFOScheduler):
    """The median rule over the search's own trials; a baseline is neither stopped nor counted."""

    def __init__(self, study: Study) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        settings = study.early_terminate
        self._rule = MedianRule(settings.grace_period, settings.reduction_factor)
        self._goal = study.metric
        self._sign = 1 if study.metric.goal == "maximize" else -1

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if self._is_worse(trial, result):
            return str(TrialScheduler.STOP)
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self._is_worse(trial, result)  # the last epoch counts for the others

    def _is_worse(self, trial: Any, result: dict[str, Any]) -> bool:
        value = result.get(self._goal.name)
        if trial.config["baseline"] or value is None:
            return False
        return self._rule.report(trial.config["name"], result["epoch"], self._sign * value)


def _ray_asha(study: Study) -> TrialScheduler:
    return SparingAsha(
        time_attr="epoch",
        metric=study.metric.name,
        mode="max" if study.metric.goal == "maximize" else "min",
        grace_period=min(study.early_terminate.grace_period, study.budget.max_epochs),
        reduction_factor=study.early_terminate.reduction_factor,
        max_t=study.budget.max_epochs,
        brackets=1,  # more would be drawn from NumPy's global generator
    )


def _fifo(study: Study) -> TrialScheduler:
    return FIFOScheduler()  # type: ignore[no-untyped-call]


SCHEDULERS: dict[str, Callable[[Study], TrialScheduler]] = {
    "asha": _fifo,
    "pasha": _fifo,
    "hyperband": _fifo,
    "median": MedianScheduler,
    "ray_asha": _ray_asha,
    "none": _fifo,
}


def build_rungs(study: Study) -> Rungs:
    """The rungs at which the trials of a study wait."""
    settings = study.early_terminate
    return Rungs(
        settings.reduction_factor,
        brackets=len(_levels(study)) + 1 if settings.type == "hyperband" else 1,
        progressive=settings.type == "pasha",
    )


def waiting_epochs(study: Study, plan: Plan) -> tuple[int, ...]:
    """The epochs after which a trial of the first bracket waits, beside those past its end."""
    settings = study.early_terminate
    if settings.type not in WAITING:
        return ()
    return _levels(study, plan.pace if settings.unit == "seconds" else 1.0)


def _levels(study: Study, scale: float = 1.0) -> tuple[int, ...]:
    settings, longest = study.early_terminate, study.budget.max_epochs
    return rung_levels(settings.grace_period, settings.reduction_factor, longest, scale)


def stopping_epochs(study: Study) -> frozenset[int]:
    """The epochs after which Ray's ASHA may stop a trial before its end."""
    scheduler = build_scheduler(study)
    brackets = scheduler._brackets if isinstance(scheduler, SparingAsha) else []
    return frozenset(math.ceil(level) for bracket in brackets for level, _ in bracket._rungs)


def build_scheduler(study: Study) -> TrialScheduler:
    """The scheduler that `early_terminate.type` names."""
    return SCHEDULERS[study.early_terminate.type](study)


def take_up(study: Study, scheduler: TrialScheduler, ledger: Ledger) -> None:
    """Tell a scheduler of the trials of a record; end those that were to stop when it broke off."""
    told = []
    for trial in ledger.trials.values():
        past: Any = SimpleNamespace(config={"name": trial.trial, "baseline": trial.baseline})
        past.trial_id = trial.trial
        scheduler.on_trial_add(None, past)  # type: ignore[arg-type]
        for t, report in zip(trial.report_times, trial.reports, strict=True):
            told.append((t, past, {"epoch": report.epoch, **report.metrics}))
    stopped = []
    for _, past, result in sorted(told, key=lambda item: item[0]):
        if scheduler.on_trial_result(None, past, result) == TrialScheduler.STOP:  # type: ignore[arg-type]
            stopped.append(past.config["name"])
    for name in stopped:
        trial = ledger.trials[name]
        if len(trial.reports) < trial.planned_epochs:
            ledger.end(name, "stopped", f"by {study.early_terminate.type}")
