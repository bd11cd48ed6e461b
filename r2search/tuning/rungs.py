"""Successive halving by promotion: who waits at a rung, and who goes on. Pure decisions.

ASHA (Li et al. 2020, arXiv:1810.05934): a trial waits at a rung until it is among the best
1/reduction_factor of those that came there, and a free worker takes one that may go on before it
begins a new trial. Whoever comes first has no pass, and nobody is judged by too few. All follows
from the reports in their order, so that a table made again from trials.jsonl decides alike.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field


def rung_levels(grace_period: int, reduction_factor: int, max_epochs: int) -> tuple[int, ...]:
    """The epochs at which trials wait: grace_period times powers of reduction_factor."""
    levels, level = [], grace_period
    while level < max_epochs:
        levels.append(level)
        level *= reduction_factor
    return tuple(levels)


@dataclass(slots=True)
class _Rung:
    level: int
    values: dict[str, float] = field(default_factory=dict)  # of all that came, larger is better


class Rungs:
    """Where every trial of a study stands. Values are signed: larger is better.

    A trial is ranked by its best epoch so far: that is the one it would be exported by. Of equals
    the one that came first is better. A value that is not finite is the worst.
    """

    def __init__(self, levels: Iterable[int], reduction_factor: int) -> None:
        self._rungs = [_Rung(level) for level in levels]
        self._factor = reduction_factor
        self._best: dict[str, float] = {}
        self._waiting: dict[str, _Rung] = {}

    def until(self, epoch: int, planned: int) -> int:
        """Where a trial of `planned` epochs waits next after `epoch`; `planned` if nowhere."""
        levels = (rung.level for rung in self._rungs)
        return next((level for level in levels if epoch < level < planned), planned)

    def report(self, trial: str, epoch: int, value: float) -> None:
        """Note an epoch; a trial that comes to a rung waits there until `promote`."""
        value = value if math.isfinite(value) else -math.inf
        self._best[trial] = max(value, self._best.get(trial, -math.inf))
        for rung in self._rungs:
            if rung.level == epoch and trial not in rung.values:
                rung.values[trial] = self._best[trial]
                self._waiting[trial] = rung

    def has(self, trial: str) -> bool:
        """Whether the trial waits."""
        return trial in self._waiting

    def end(self, trial: str) -> None:
        """The trial is over: it waits no more. What it reached still counts."""
        self._waiting.pop(trial, None)

    def promotable(self, last: bool = False) -> str | None:
        """The trial that a free worker should take on: of the highest rung, its best.

        One in reduction_factor may leave a rung. `last`: no new trial will come; the share is
        rounded up, so that one goes on to the end.
        """
        for rung in reversed(self._rungs):
            count = len(rung.values) / self._factor
            leaders = sorted(rung.values, key=lambda trial: -rung.values[trial])
            for trial in leaders[: math.ceil(count) if last else math.floor(count)]:
                if self._waiting.get(trial) is rung:
                    return trial
        return None

    def waiting(self) -> list[str]:
        """All that wait, the best first."""
        return sorted(self._waiting, key=lambda trial: -self._best[trial])

    def promote(self, trial: str) -> int:
        """The trial goes on; gives the epoch at which it waited."""
        return self._waiting.pop(trial).level
