"""ASHA stops trials; baselines are never stopped."""

from collections.abc import Callable
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from r2search.config import Study


class SparingAsha(AsyncHyperBandScheduler):
    """Ray's ASHA over the search's own trials: a baseline is neither stopped nor ranked."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if trial.config["baseline"]:
            return str(TrialScheduler.CONTINUE)
        return str(super().on_trial_result(tune_controller, trial, result))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if not trial.config["baseline"]:
            super().on_trial_complete(tune_controller, trial, result)


def _asha(study: Study) -> TrialScheduler:
    return SparingAsha(
        time_attr="epoch",
        metric=study.metric.name,
        mode="max" if study.metric.goal == "maximize" else "min",
        grace_period=min(study.early_terminate.grace_period, study.budget.max_epochs),
        reduction_factor=study.early_terminate.reduction_factor,
        max_t=study.budget.max_epochs,
        brackets=1,  # more would be drawn from NumPy's global generator
    )


SCHEDULERS: dict[str, Callable[[Study], TrialScheduler]] = {
    "asha": _asha,
    "none": lambda study: FIFOScheduler(),  # type: ignore[no-untyped-call]
}


def build_scheduler(study: Study) -> TrialScheduler:
    """The scheduler that `early_terminate.type` names."""
    return SCHEDULERS[study.early_terminate.type](study)
