"""Which of a finite number of configs is nearest to a proposal. Pure."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2search.config import Parameter


class Places:
    """Where configs lie in a space, every parameter from 0 to 1.

    Ranges by their (logarithmic) distance from the lower end, values that are numbers by their
    rank, other values equal or not, at a distance of 1; so is a parameter that applies to one of
    two configs only. Distances add up as squares.
    """

    def __init__(self, parameters: Sequence[Parameter], configs: list[dict[str, Any]]) -> None:
        self._parameters = parameters
        self._configs = configs
        self._named = np.array([_is_named(p) for p in parameters])
        self._places = np.array([self._place(config) for config in configs])

    def taker(self) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
        """A function that gives the nearest config which it did not give before."""
        taken = np.zeros(len(self._configs), bool)

        def take(config: Mapping[str, Any]) -> dict[str, Any]:
            distances = np.where(taken, np.inf, self._distances(config))
            index = int(distances.argmin())
            assert not taken[index], "every config was taken"
            taken[index] = True
            return self._configs[index]

        return take

    def _distances(self, config: Mapping[str, Any]) -> NDArray[np.float64]:
        place = self._place(config)
        apart = np.abs(self._places - place)
        apart = np.where(self._named, apart > 0, apart)
        absent = np.isnan(self._places), np.isnan(place)
        apart = np.where(absent[0] | absent[1], absent[0] != absent[1], apart)
        distances: NDArray[np.float64] = (apart.astype(float) ** 2).sum(axis=1)
        return distances

    def _place(self, config: Mapping[str, Any]) -> NDArray[np.float64]:
        return np.array([_coordinate(p, config.get(p.key)) for p in self._parameters])


def _is_named(p: Parameter) -> bool:
    """Whether its values have no order."""
    return p.kind == "choice" and not all(type(value) in (int, float) for value in p.values)


def _coordinate(p: Parameter, value: Any) -> float:
    if value is None:
        return math.nan
    if p.kind == "choice":
        ranked = p.values if _is_named(p) else sorted(p.values)
        return ranked.index(value) / max(1, len(ranked) - 1)
    low, high = (math.log(p.low), math.log(p.high)) if p.log else (p.low, p.high)
    at = math.log(value) if p.log else value
    return (at - low) / (high - low) if high > low else 0.0
