"""What a study will come to, before it begins: plans of many draws, and arithmetic."""

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from r2search.config import Study, TrialConfig
from r2search.data.samples import rng_for
from r2search.space import draw, suggest_randomly, trial_config
from r2search.tuning.budget import Plan, search_seconds
from r2search.tuning.rungs import rung_levels

DRAWS = 200  # of the space


@dataclass(frozen=True, slots=True)
class Foresight:
    """What is to be expected of a study whose trials are like random draws of its space."""

    baselines: dict[str, Plan]
    fitting: tuple[Plan, ...]  # of the draws, those that would be trained; the fastest first
    refused: Counter[str]  # the others, by cause
    reasons: dict[str, str]  # one example of each cause
    # epoch -> trials expected to come there; the last is the end of the longest training
    rungs: tuple[tuple[int, float], ...]
    trials: float  # expected, beside the baselines
    seconds: float  # of the search; less than its time when the trials run out before


def foresee(study: Study, planner: Callable[[TrialConfig], Plan], workers: int) -> Foresight:
    """Expect of every rung that one trial in reduction_factor leaves it, and that draws are
    independent: Optuna learns to propose better ones, seldom much cheaper ones.
    """
    baselines = {
        name: planner(trial_config(study, baseline.overrides))
        for name, baseline in study.baselines.items()
    }
    drawn = [
        planner(trial_config(study, draw(study, suggest_randomly(rng))))
        for rng in (rng_for(study.search.seed, "preview", number) for number in range(DRAWS))
    ]
    fitting = sorted(
        (plan for plan in drawn if plan.refusal is None), key=lambda plan: plan.epoch_seconds
    )
    refusals = [plan.refusal for plan in drawn if plan.refusal is not None]
    levels = _levels(study, max((plan.epochs for plan in fitting), default=1))
    have = search_seconds(study.budget) * workers
    left = have - sum(plan.epochs * plan.epoch_seconds for plan in baselines.values())
    each = _mean_cost(study, fitting, levels)
    trials = min(float(study.budget.trials), max(0.0, left) / each) if each else 0.0
    return Foresight(
        baselines=baselines,
        fitting=tuple(fitting),
        refused=Counter(refusal.cause for refusal in refusals),
        reasons={refusal.cause: refusal.reason for refusal in refusals},
        rungs=tuple((level, trials * share) for level, share in _shares(study, levels)),
        trials=trials,
        seconds=min(have, have - left + trials * each) / workers,
    )


def _levels(study: Study, longest: int) -> tuple[int, ...]:
    """The epochs at which trials are judged, and the last one of the longest training."""
    settings = study.early_terminate
    if settings.type == "none":
        return (longest,)
    return (*rung_levels(settings.grace_period, settings.reduction_factor, longest), longest)


def _shares(study: Study, levels: Sequence[int]) -> list[tuple[int, float]]:
    """Of all trials, the share that comes to each level: all to the first one."""
    factor = study.early_terminate.reduction_factor
    return [(level, float(factor) ** -place) for place, level in enumerate(levels)]


def _mean_cost(study: Study, plans: Sequence[Plan], levels: Sequence[int]) -> float:
    """Worker-seconds of a trial, on average; 0 without any."""
    if not plans:
        return 0.0
    costs = []
    for plan in plans:
        before, epochs = 0, 0.0
        for level, share in _shares(study, levels):
            reached = min(level, plan.epochs)
            epochs += share * (reached - before)
            before = reached
        costs.append(epochs * plan.epoch_seconds)
    return statistics.mean(costs)
