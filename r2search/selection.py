"""One definition of best. Pure."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from r2search.records import TrialOutcome


def eligible(trials: Iterable[TrialOutcome]) -> list[TrialOutcome]:
    """Trials whose best checkpoint may be ranked: at least one report, and no failure."""
    return [trial for trial in trials if trial.eligible]


def ranking(trials: Iterable[TrialOutcome], metric: str, goal: str) -> list[TrialOutcome]:
    """Eligible trials, best first, each by the value of its own best epoch.

    That value belongs to the saved checkpoint: what is ranked is what is exported. Ties go to
    the trial that began first.
    """
    sign = -1.0 if goal == "maximize" else 1.0

    def key(trial: TrialOutcome) -> tuple[float, float, str]:
        best = trial.best(metric, goal)
        assert best is not None
        return sign * best.metrics[metric], trial.started, trial.trial

    return sorted(eligible(trials), key=key)


def incumbent(trials: Iterable[TrialOutcome], metric: str, goal: str) -> TrialOutcome | None:
    """The best trial, baselines included; None while nothing can be ranked."""
    return next(iter(ranking(trials, metric, goal)), None)


def front(
    trials: Iterable[TrialOutcome], metric: str, goal: str, costs: Sequence[str]
) -> list[TrialOutcome]:
    """The eligible trials that no other one dominates, by the metric and the costs of their plans.

    The best by the metric comes first.
    """
    ranked = ranking(trials, metric, goal)
    sign = 1.0 if goal == "maximize" else -1.0
    points = []
    for trial in ranked:
        best = trial.best(metric, goal)
        assert best is not None
        points.append((sign * best.metrics[metric], *(-trial.cost[name] for name in costs)))
    return [t for t, rank in zip(ranked, pareto_ranks(points), strict=True) if rank == 0]


def pareto_ranks(points: ArrayLike) -> NDArray[np.intp]:
    """(N, D) -> (N,): 0 for points that none dominates, 1 for those that only these do, and so on.

    Larger is better. A point dominates another when it is nowhere worse and somewhere better.
    Non-dominated sorting (Deb et al. 2002, doi:10.1109/4235.996017).
    """
    values = np.asarray(points, float)
    if not len(values):
        return np.zeros(0, np.intp)
    worse = (values[:, None] <= values[None]).all(2) & (values[:, None] < values[None]).any(2)
    ranks, left, rank = np.zeros(len(values), np.intp), np.ones(len(values), bool), 0
    while left.any():
        best = left & ~(worse & left[None]).any(1)
        ranks[best] = rank
        left &= ~best
        rank += 1
    return ranks
