"""Which trials train longer; baselines always train to their end.

`asha` is ours: trials wait at rungs (rungs.py), and the searcher proposes those that go on. The
others are Ray's schedulers, which stop a trial or let it run.
"""

import math
from collections.abc import Callable
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from r2search.config import Study
from r2search.tuning.rungs import Rungs, rung_levels


class SparingAsha(AsyncHyperBandScheduler):
    """Ray's ASHA over the search's own trials, each by its best epoch so far.

    A trial is exported by its best epoch, so a dip just at a rung must not end it. A baseline is
    neither stopped nor ranked.
    """

    def __init__(self, *, metric: str, mode: str, **settings: Any) -> None:
        super().__init__(metric=metric, mode=mode, **settings)
        self._keep = max if mode == "max" else min
        self._best: dict[str, float] = {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if trial.config["baseline"]:
            return str(TrialScheduler.CONTINUE)
        return str(
            super().on_trial_result(tune_controller, trial, self._best_so_far(trial, result))
        )

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if not trial.config["baseline"]:
            super().on_trial_complete(tune_controller, trial, self._best_so_far(trial, result))

    def _best_so_far(self, trial: Any, result: dict[str, Any]) -> dict[str, Any]:
        value = result.get(self.metric)
        if value is None:
            return result
        best = self._keep(value, self._best.get(trial.trial_id, value))
        self._best[trial.trial_id] = best
        return {**result, self.metric: best}


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
    "ray_asha": _ray_asha,
    "none": _fifo,
}


def build_rungs(study: Study) -> Rungs:
    """The rungs at which the trials of a study wait; none unless `early_terminate.type` is asha."""
    settings = study.early_terminate
    levels = rung_levels(settings.grace_period, settings.reduction_factor, study.budget.max_epochs)
    return Rungs(levels if settings.type == "asha" else (), settings.reduction_factor)


def stopping_epochs(study: Study) -> frozenset[int]:
    """The epochs after which Ray's scheduler may stop a trial before its end."""
    scheduler = build_scheduler(study)
    brackets = scheduler._brackets if isinstance(scheduler, SparingAsha) else []
    return frozenset(math.ceil(level) for bracket in brackets for level, _ in bracket._rungs)


def build_scheduler(study: Study) -> TrialScheduler:
    """The scheduler that `early_terminate.type` names."""
    return SCHEDULERS[study.early_terminate.type](study)
