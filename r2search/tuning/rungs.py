"""Successive halving by promotion: who waits at a rung, and who goes on. Pure decisions.

ASHA (Li et al. 2020, arXiv:1810.05934): a trial waits at a rung until it is among the best
1/reduction_factor of those that came there, and a free worker takes one that may go on before it
begins a new trial. Whoever comes first has no pass, and nobody is judged by too few. All follows
from the reports in their order, so that a table made again from trials.jsonl decides alike.

Hyperband (Li et al. 2018, arXiv:1603.06560) is several such tables side by side: the trials of
bracket 1 wait first at the second rung, and so on, those of the last one nowhere. PASHA (Bohdal et
al. 2023, arXiv:2207.06940) lets trials leave a rung only while longer training still changes their
order.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from r2search.config import Study
from r2search.selection import pareto_ranks

SWAPS = 2  # of a pair's order, from which on its difference is noise
NOISE_PERCENTILE = 90  # of these differences is taken for the noise, as PASHA does


def rung_levels(
    grace_period: int, reduction_factor: int, max_epochs: int, scale: float = 1.0
) -> tuple[int, ...]:
    """The epochs at which a trial waits: grace_period times powers of reduction_factor.

    `scale`: how many of this trial's epochs make one of the study's.
    """
    levels, level = [], grace_period
    while level < max_epochs:
        levels.append(max(1, math.ceil(level * scale)))
        level *= reduction_factor
    return tuple(levels)


def describe_search(study: Study) -> dict[str, Any]:
    """What summary.json holds under `search`; `rungs` are epochs."""
    settings = study.early_terminate
    level = settings.grace_period, settings.reduction_factor, study.budget.max_epochs
    counted = settings.type not in ("median", "none") and settings.unit == "epochs"
    return {
        "searcher": study.search.searcher,
        "seed": study.search.seed,
        "scheduler": settings.type,
        "rungs": list(rung_levels(*level)) if counted else [],
    }


@dataclass(frozen=True, slots=True)
class Place:
    """Where a trial waits."""

    bracket: int = 0  # also the number of its first rung
    levels: tuple[int, ...] = ()  # epochs, of one rung after the other

    def rungs_at(self, epoch: int) -> Iterator[int]:
        """The numbers of the rungs that the trial reaches with this epoch."""
        for number, level in enumerate(self.levels, start=self.bracket):
            if level == epoch:
                yield number


NOWHERE = Place()


@dataclass(slots=True)
class _Standing:
    """One trial, and what it has reached."""

    place: Place
    gains: tuple[float, ...] = ()  # besides the value, known from the start: larger is better
    epoch: float = 1.0  # what one costs
    values: dict[int, float] = field(default_factory=dict)  # by epoch
    best: float = -math.inf


class Rungs:
    """Where every trial of a study stands. Values are signed: larger is better.

    A trial is ranked by its best epoch so far: that is the one it would be exported by. Of equals
    the one that came first is better. A value that is not finite is the worst. Where trials have
    `gains` besides, those that none at their rung dominates come first (by Pareto ranks,
    as in the multi-objective ASHA of Schmucker et al. 2021), of one rank the best value.
    """

    def __init__(
        self, reduction_factor: int, *, brackets: int = 1, progressive: bool = False
    ) -> None:
        """`progressive`: as PASHA has it, where trials of one bracket may leave the first rung
        alone until their order at the second one says that this was too soon.
        """
        self._factor = reduction_factor
        self._brackets = brackets
        self._ceiling = 1 if progressive else math.inf  # the rung that nobody leaves
        self._trials: dict[str, _Standing] = {}
        # (bracket, number) -> trials that came there, with their values
        self._rungs: defaultdict[tuple[int, int], dict[str, float]] = defaultdict(dict)
        self._waiting: dict[str, tuple[int, int]] = {}
        self._best: str | None = None  # of all trials; of equals the one that came there first
        self._trained = [0.0] * brackets  # in epochs, or in what they cost

    def next_place(self, levels: Sequence[int]) -> Place:
        """For a new trial that may wait at `levels`: the bracket in which least was trained.

        So all brackets get as many epochs, or the same time if that is what epochs cost.
        """
        bracket = self._trained.index(min(self._trained))
        return Place(bracket, tuple(levels[bracket:]))

    def begin(
        self, trial: str, place: Place, gains: tuple[float, ...] = (), *, epoch: float = 1.0
    ) -> None:
        """A trial begins, in its place; `epoch`: what one costs.

        All trials of a table have as many gains.
        """
        self._trials[trial] = _Standing(place, gains, epoch)

    def until(self, trial: str, epoch: int, planned: int) -> int:
        """Where a trial of `planned` epochs waits next after `epoch`; `planned` if nowhere."""
        levels = self._trials[trial].place.levels
        return next((level for level in levels if epoch < level < planned), planned)

    def report(self, trial: str, epoch: int, value: float) -> None:
        """Note an epoch; a trial that comes to a rung waits there until `promote`."""
        value = value if math.isfinite(value) else -math.inf
        standing = self._trials[trial]
        if epoch in standing.values:
            return
        standing.values[epoch] = value
        standing.best = max(value, standing.best)
        if standing.best > (self._trials[self._best].best if self._best else -math.inf):
            self._best = trial
        bracket = standing.place.bracket
        self._trained[bracket] += standing.epoch
        for number in standing.place.rungs_at(epoch):
            rung = (bracket, number)
            self._rungs[rung][trial] = standing.best
            self._waiting[trial] = rung
            if number == self._ceiling and self._is_unsettled(number):
                self._ceiling += 1

    def has(self, trial: str) -> bool:
        """Whether the trial waits."""
        return trial in self._waiting

    def end(self, trial: str) -> None:
        """The trial is over: it waits no more. What it reached still counts."""
        self._waiting.pop(trial, None)

    def promotable(self, last: bool = False) -> str | None:
        """The trial that a free worker should take on: the best of all, or else of the highest
        rung, its best.

        One in reduction_factor may leave a rung. `last`: no new trial will come; the share is
        rounded up, so that one goes on to the end, and no rung is the highest.
        """
        leader = self._leader()
        if leader is not None:
            return leader
        for rung in sorted(self._rungs, key=lambda rung: (-rung[1], rung[0])):
            if rung[1] >= self._ceiling and not last:
                continue
            values = self._rungs[rung]
            count = len(values) / self._factor
            leaders = self._ranked(values)
            for trial in leaders[: math.ceil(count) if last else math.floor(count)]:
                if self._waiting.get(trial) == rung:
                    return trial
        return None

    def _leader(self) -> str | None:
        """The best of all trials, if it waits: longer training has brought nobody farther, so it
        need not wait for others of its own length (docs/adr/0012).
        """
        if self._best is None or self._best not in self._waiting:
            return None
        bracket, number = self._waiting[self._best]
        judged = len(self._rungs[bracket, bracket]) >= self._factor
        return self._best if judged and number < self._ceiling else None

    def _ranked(self, values: dict[str, float]) -> list[str]:
        """The trials of a rung, the best first."""
        ranked = sorted(values, key=values.__getitem__, reverse=True)  # of equals the first stays
        gains = [self._trials[trial].gains for trial in ranked]
        if not any(gains):
            return ranked
        points = [(values[trial], *more) for trial, more in zip(ranked, gains, strict=True)]
        return [ranked[index] for index in np.argsort(pareto_ranks(points), kind="stable")]

    def waiting(self) -> list[str]:
        """All that wait, the best first."""
        return sorted(self._waiting, key=lambda trial: -self._trials[trial].best)

    def promote(self, trial: str) -> int:
        """The trial goes on; gives the epoch at which it waited."""
        bracket, number = self._waiting.pop(trial)
        return self._trials[trial].place.levels[number - bracket]

    def _is_unsettled(self, number: int) -> bool:
        """Whether the trials of a rung stood in another order at the one below, noise apart."""
        now, before = self._rungs[0, number], self._rungs[0, number - 1]
        moved = [
            abs(now[one] - now[other])
            for one, other in combinations(now, 2)
            if (now[one] - now[other]) * (before[one] - before[other]) < 0
        ]
        return bool(moved) and max(moved) > self._noise(now)

    def _noise(self, names: Iterable[str]) -> float:
        """By how much trials differ whose order changes to and fro from epoch to epoch."""
        found = []
        for one, other in combinations(names, 2):
            first, second = self._trials[one].values, self._trials[other].values
            common = sorted(first.keys() & second.keys())
            differences = [first[epoch] - second[epoch] for epoch in common]
            signs = [difference > 0 for difference in differences if difference]
            if sum(a != b for a, b in pairwise(signs)) >= SWAPS:
                found.append(abs(differences[-1]))
        return float(np.percentile(found, NOISE_PERCENTILE)) if found else 0.0
