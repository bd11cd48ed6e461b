"""Configs that fill a space evenly: a scrambled Sobol sequence."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.stats.qmc import Sobol

from r2search.config import Study
from r2search.space import draw, suggest_randomly

MOST = 2**14  # points; by then a space is used up
BLOCK = 128  # a power of two keeps the sequence balanced


class Point:
    """A random generator whose next draw is known: it lies at this share of what is possible."""

    def __init__(self, share: float) -> None:
        self._share = share

    def choice(self, count: int, p: Any = None) -> int:
        edges = np.cumsum(np.full(count, 1 / count) if p is None else p)
        return min(int(np.searchsorted(edges, self._share, side="right")), count - 1)

    def integers(self, low: int, high: int, endpoint: bool) -> int:
        return low + int(self._share * (high - low + endpoint))

    def uniform(self, low: float, high: float) -> float:
        return low + self._share * (high - low)


def design(study: Study, seed: int) -> Iterator[dict[str, Any]]:
    """Draws all over a space, one after another; more of them extend the same sequence.

    Every parameter has a dimension of its own, used where the parameter applies. Both ends of
    ranges are included, and choices are weighed by their probabilities, as in a random draw.
    """
    sequence = Sobol(len(study.parameters), rng=np.random.default_rng(seed))
    for _ in range(MOST // BLOCK):
        for point in sequence.random(BLOCK):
            shares = {p.key: float(x) for p, x in zip(study.parameters, point, strict=True)}
            yield draw(study, lambda p, at=shares: suggest_randomly(Point(at[p.key]))(p))
