"""The median rule: who is worse than half of the others is stopped. Pure decisions."""

import math
import statistics


class MedianRule:
    """The rule of Vizier (Golovin et al. 2017). Values are signed: larger is better.

    A trial is stopped after an epoch when the best that it has reached is worse than the median of
    what the others had on average up to the same epoch. A value that is not finite is the worst.
    """

    def __init__(self, grace_period: int, least: int) -> None:
        """`grace_period`: epochs that every trial gets; `least`: others that must have come."""
        self._grace_period = grace_period
        self._least = least
        self._values: dict[str, list[float]] = {}  # by trial, of its epochs

    def report(self, trial: str, epoch: int, value: float) -> bool:
        """Note an epoch of a trial, in their order; whether it is to be stopped.

        An epoch that comes again changes nothing.
        """
        values = self._values.setdefault(trial, [])
        if epoch > len(values):
            values.append(value if math.isfinite(value) else -math.inf)
        others = [
            statistics.fmean(told[:epoch])
            for name, told in self._values.items()
            if name != trial and len(told) >= epoch
        ]
        if epoch < self._grace_period or len(others) < self._least:
            return False
        return max(values[:epoch]) < statistics.median(others)
