"""How sure a score is, and which of several networks is to be taken. Pure.

A score has two sources of chance: which images it is of, and which seed the network was trained
with. Both are counted. An interval is Student's t over images and seeds (two crossed random
factors), its degrees of freedom by Satterthwaite's formula: a bootstrap over four images covers far
too little (benchmarks/confirmation.py). Images count as independent, although the two eyes of one
person are alike.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

LEVEL = 0.95  # of an interval
ALPHA = 1 - LEVEL  # of all comparisons of a study together
# In the unit of the objective. Who is behind by more is not tied, however few the images are.
MARGIN = 0.005


class Interval(NamedTuple):
    """A mean, and where that of other images like these and other seeds lies, in 95 of 100 cases.

    None where one image, and one seed, tell nothing of that.
    """

    mean: float
    low: float | None
    high: float | None


def interval(scores: ArrayLike) -> Interval:
    """Of one network: (S, I), the score of every training on every image.

    Of a score that is no mean over images, its jackknife pseudo-values. With one training it is of
    the images alone.
    """
    values = np.asarray(scores, float)
    mean = float(values.mean())
    half = _half_width(_parts(values))
    return Interval(mean, None, None) if half is None else Interval(mean, mean - half, mean + half)


class _Part(NamedTuple):
    """The variance of a mean as far as one source explains it, and its degrees of freedom."""

    variance: float
    degrees: int


def _parts(values: NDArray[np.float64]) -> list[_Part]:
    """Of the images, then of the seeds; what there is one of has none."""
    return [_part(values.mean(axis)) for axis in (0, 1) if values.shape[1 - axis] > 1]


def _part(means: NDArray[np.float64]) -> _Part:
    return _Part(float(means.var(ddof=1)) / len(means), len(means) - 1)


def _degrees(parts: Sequence[_Part]) -> float:
    """Satterthwaite 1946, doi:10.2307/3002019."""
    variance = sum(part.variance for part in parts)
    return variance**2 / sum(part.variance**2 / part.degrees for part in parts)


def _half_width(parts: Sequence[_Part]) -> float | None:
    if not parts:
        return None
    variance = sum(part.variance for part in parts)
    if variance == 0:
        return 0.0
    return float(stdtrit(_degrees(parts), (1 + LEVEL) / 2) * np.sqrt(variance))


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far one network is behind the leader, on the same images."""

    name: str
    behind: float  # positive: the leader is better
    low: float | None
    high: float | None
    wilcoxon: float | None  # p of the signed-rank test over images; None where it could never tell
    p: float | None  # of the whole comparison, corrected; None where nothing tells
    tied: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of several networks is taken, and why."""

    chosen: str
    leader: str  # the best mean
    others: tuple[Comparison, ...]  # with the leader, the best first
    few_images: bool  # for the signed-rank test ever to tell two networks apart


def choose(
    scores: Mapping[str, ArrayLike],
    costs: Mapping[str, float],
    goal: str,
    finalists: Collection[str],
) -> Choice:
    """The best mean leads; of the finalists tied with it, the cheapest is taken.

    `scores`: (S, I) of each network, of the same images. A network is tied with the leader when it
    is behind by less than MARGIN, and no test tells the two apart: neither the t test over images
    and seeds nor, where there are images enough, Wilcoxon's signed-rank test of the means over
    seeds; Holm's correction for all that are compared. A baseline (none of `finalists`) is taken
    only when it leads.
    """
    sign = 1.0 if goal == "maximize" else -1.0
    values = {name: sign * np.asarray(each, float) for name, each in scores.items()}
    ranked = sorted(values, key=lambda name: (-values[name].mean(), costs[name], name))
    leader, rest = ranked[0], ranked[1:]
    images = values[leader].shape[1]
    few = 2.0 ** (1 - images) * max(1, len(rest)) > ALPHA
    tests = [_paired(values[leader], values[name]) for name in rest]
    ranks = [None if few else _wilcoxon(values[leader], values[name]) for name in rest]
    single = [_larger(test.p, rank) for test, rank in zip(tests, ranks, strict=True)]
    corrected = holm([1.0 if p is None else p for p in single])
    others = tuple(
        Comparison(
            name=name,
            behind=test.behind,
            low=test.low,
            high=test.high,
            wilcoxon=rank,
            p=None if own is None else p,
            tied=p >= ALPHA and test.behind < MARGIN,
        )
        for name, test, rank, own, p in zip(rest, tests, ranks, single, corrected, strict=True)
    )
    tied = [one.name for one in others if one.tied and one.name in finalists]
    candidates = [leader, *tied] if leader in finalists else [leader]
    chosen = min(candidates, key=lambda name: costs[name])
    return Choice(chosen, leader, others, few)


class _Paired(NamedTuple):
    behind: float
    low: float | None
    high: float | None
    p: float | None


def _paired(leader: NDArray[np.float64], other: NDArray[np.float64]) -> _Paired:
    """The difference over the same images; the trainings of either are others."""
    difference = leader.mean(0) - other.mean(0)
    behind = float(difference.mean())
    parts = [_part(difference)] if len(difference) > 1 else []
    parts += [_part(each.mean(1)) for each in (leader, other) if len(each) > 1]
    half = _half_width(parts)
    if half is None:
        return _Paired(behind, None, None, None)
    error = np.sqrt(sum(part.variance for part in parts))
    p = 2 * float(stdtr(_degrees(parts), -abs(behind) / error)) if error else float(behind == 0)
    return _Paired(behind, behind - half, behind + half, p)


def _wilcoxon(leader: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """p of the signed-rank test of the images, each by its mean over seeds."""
    from scipy.stats import wilcoxon  # a second to import, once, at the end of a study

    difference = leader.mean(0) - other.mean(0)
    return float(wilcoxon(difference).pvalue) if difference.any() else 1.0


def _larger(p: float | None, q: float | None) -> float | None:
    known = [each for each in (p, q) if each is not None]
    return max(known, default=None)


def holm(ps: Sequence[float]) -> list[float]:
    """p values corrected for their number (Holm 1979), in the order given."""
    order = sorted(range(len(ps)), key=lambda index: ps[index])
    corrected, floor = [0.0] * len(ps), 0.0
    for rank, index in enumerate(order):
        floor = max(floor, min(1.0, ps[index] * (len(ps) - rank)))
        corrected[index] = floor
    return corrected


def middle(values: Mapping[str, float]) -> str:
    """The name whose value is the median; of an even number, the worse of the two in the middle.

    Larger is better. What is exported and reported is neither the luckiest training nor the worst.
    """
    ranked = sorted(values, key=lambda name: (values[name], name))
    return ranked[(len(ranked) - 1) // 2]
