"""What a study will come to, before it begins: plans of many draws, and arithmetic."""

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from r2search.config import Study, TrialConfig
from r2search.data.samples import rng_for
from r2search.space import draw, suggest_randomly, trial_config
from r2search.tuning.budget import Plan, plan_baseline, search_seconds
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
    # Of the confirmation: what is kept for it, and what all its trainings would take if the
    # finalists were as long as the longest of the draws; both 0 without one
    kept: float = 0.0
    wanted: float = 0.0


def foresee(study: Study, planner: Callable[[TrialConfig], Plan], workers: int) -> Foresight:
    """Expect of every rung that one trial in reduction_factor leaves it, and that draws are
    independent: Optuna learns to propose better ones, seldom much cheaper ones.
    """
    baselines = {name: plan_baseline(study, name, planner)[1] for name in study.baselines}
    drawn = [
        planner(trial_config(study, draw(study, suggest_randomly(rng))))
        for rng in (rng_for(study.search.seed, "preview", number) for number in range(DRAWS))
    ]
    fitting = sorted(
        (plan for plan in drawn if plan.refusal is None), key=lambda plan: plan.epoch_seconds
    )
    refusals = [plan.refusal for plan in drawn if plan.refusal is not None]
    longest = max((plan.epochs for plan in fitting), default=1)
    have = search_seconds(study.search_budget) * workers
    left = have - sum(plan.epochs * plan.epoch_seconds for plan in baselines.values())
    each = _mean_cost(study, fitting, longest)
    trials = min(float(study.budget.trials), max(0.0, left) / each) if each else 0.0
    if study.budget.flops is not None and fitting:
        more = study.budget.flops - sum(p.epochs * p.epoch_flops for p in baselines.values())
        flops = statistics.mean(_mean_epochs_of(study, p, longest) * p.epoch_flops for p in fitting)
        trials = min(trials, max(0.0, more) / flops) if flops else trials
    return Foresight(
        baselines=baselines,
        fitting=tuple(fitting),
        refused=Counter(refusal.cause for refusal in refusals),
        reasons={refusal.cause: refusal.reason for refusal in refusals},
        rungs=tuple((epoch, trials * share) for epoch, share in _shares(study, longest)),
        trials=trials,
        seconds=min(have, have - left + trials * each) / workers,
        kept=_kept(study),
        wanted=_wanted(study, fitting, baselines) / workers,
    )


def _kept(study: Study) -> float:
    return search_seconds(study.budget) - search_seconds(study.search_budget)


def _wanted(study: Study, plans: Sequence[Plan], baselines: Mapping[str, Plan]) -> float:
    """Worker-seconds of all trainings of a confirmation; the first of a baseline is done before."""
    settings = study.confirmation
    if settings is None:
        return 0.0
    longest = max((plan.epochs * plan.epoch_seconds for plan in plans), default=0.0)
    each = settings.seeds * settings.folds
    their = sum(plan.epochs * plan.epoch_seconds for plan in baselines.values())
    return settings.finalists * each * longest + (each - 1) * their


def _shares(study: Study, longest: int, pace: float = 1.0) -> list[tuple[int, float]]:
    """Of all trials the share that comes to each epoch where trials are judged, and to `longest`.

    The median rule is taken to stop half of the trials at once: later it stops few.
    """
    settings = study.early_terminate
    if settings.type == "none":
        return [(longest, 1.0)]
    if settings.type == "median":
        return [(min(settings.grace_period, longest), 1.0), (longest, 0.5)]
    scale = pace if settings.unit == "seconds" else 1.0
    levels = rung_levels(settings.grace_period, settings.reduction_factor, longest, scale)
    ends = (*(level for level in levels if level < longest), longest)
    if settings.type != "hyperband":
        return _bracket(ends, 0, settings.reduction_factor)
    brackets = [_bracket(ends, first, settings.reduction_factor) for first in range(len(ends))]
    weights = [1 / _mean_epochs(bracket, longest) for bracket in brackets]  # they cost the same
    mixed = [
        sum(weight * share for weight, (_, share) in zip(weights, at, strict=True)) / sum(weights)
        for at in zip(*brackets, strict=True)
    ]
    return list(zip(ends, mixed, strict=True))


def _bracket(ends: Sequence[int], first: int, factor: int) -> list[tuple[int, float]]:
    """The shares of trials that are first judged at the rung `first`."""
    return [(end, float(factor) ** -max(0, place - first)) for place, end in enumerate(ends)]


def _mean_epochs(shares: Sequence[tuple[int, float]], most: int) -> float:
    """Epochs of a trial that may train `most`, on average."""
    before, epochs = 0, 0.0
    for end, share in shares:
        reached = min(end, most)
        epochs += share * (reached - before)
        before = reached
    return epochs


def _mean_cost(study: Study, plans: Sequence[Plan], longest: int) -> float:
    """Worker-seconds of a trial, on average; 0 without any."""
    costs = [_mean_epochs_of(study, plan, longest) * plan.epoch_seconds for plan in plans]
    return statistics.mean(costs) if costs else 0.0


def _mean_epochs_of(study: Study, plan: Plan, longest: int) -> float:
    return _mean_epochs(_shares(study, longest, plan.pace), plan.epochs)
