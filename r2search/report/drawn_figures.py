"""The plotly figures of what was drawn: parallel coordinates, slices, importance."""

import math
import statistics
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go

from r2search.records import TrialOutcome
from r2search.report.figures import BLUE, GRID, HALO, INK, OUTCOMES, SCALE, blank, outcome_of
from r2search.report.wording import Summary, drawn, objective, part
from r2search.selection import eligible

SHOWN = 12  # settings at most, those that mattered most
WIDE = 8.0  # largest over smallest value, from which on an axis may be logarithmic
MARKED = 8  # values of a number, up to which each is named at its axis
DIGITS = 6  # significant ones of what is written into the page


def varied(summary: Summary, trials: Sequence[TrialOutcome]) -> list[str]:
    """The settings that differ between the search's own trials, the most important first."""
    values: dict[str, set[str]] = {}
    own = _own(trials)
    for key in dict.fromkeys(key for trial in own for key in trial.overrides):
        values[key] = {drawn(trial.overrides.get(key)) for trial in own}
    shares = part(summary, "audit", "importance").get("shares") or {}
    keys = [key for key, found in values.items() if len(found) > 1]
    return sorted(keys, key=lambda key: -shares.get(key, 0.0))[:SHOWN]


def parallel(summary: Summary, trials: Sequence[TrialOutcome]) -> go.Figure:
    """A line a trial through all that was drawn for it and its best value, which is its colour."""
    name, goal, _ = objective(summary)
    own, values = _valued(trials, name, goal)
    sign = 1 if goal == "maximize" else -1
    ranked = sorted(values, key=lambda value: sign * value)
    axes = [
        _Axis([t.overrides.get(key) for t in own]).dimension(key) for key in varied(summary, trials)
    ]
    figure = blank("", "", height=460)
    figure.add_trace(
        go.Parcoords(
            line={
                "color": values,
                "colorscale": [list(stop) for stop in SCALE],
                "reversescale": goal != "maximize",
                "cmin": min(ranked[len(ranked) // 4], ranked[-1]),  # the poorest are all alike
                "cmax": max(ranked[len(ranked) // 4], ranked[-1]),
            },
            dimensions=[*axes, {"label": escape(name.rpartition("/")[2]), "values": values}],
            customdata=[trial.trial for trial in own],
            labelfont={"size": 11},
            tickfont={"size": 11, "color": INK},
            rangefont={"size": 10},
            unselected={"line": {"color": GRID, "opacity": 0.35}},
        )
    )
    figure.update_layout(margin={"l": 90, "r": 36, "t": 50, "b": 24})
    return figure


def slice_of(summary: Summary, trials: Sequence[TrialOutcome], key: str) -> go.Figure:
    """The best value of every trial over one setting."""
    name, goal, _ = objective(summary)
    own, values = _valued(trials, name, goal)
    pairs = [(t, v) for t, v in zip(own, values, strict=True) if key in t.overrides]
    axis = _Axis([trial.overrides[key] for trial, _ in pairs])
    places = axis.spread()
    figure = blank(escape(key), name, height=270)
    for outcome, colour in OUTCOMES.items():
        shown = [i for i, (trial, _) in enumerate(pairs) if outcome_of(trial) == outcome]
        if shown:
            figure.add_scatter(
                x=[places[i] for i in shown],
                y=[pairs[i][1] for i in shown],
                text=[
                    f"{escape(pairs[i][0].trial)}, {escape(drawn(pairs[i][0].overrides[key]))}"
                    for i in shown
                ],
                mode="markers",
                name=outcome,
                marker={
                    "color": colour,
                    "size": 7,
                    "opacity": 0.8,
                    "line": {"color": HALO, "width": 0.5},
                },
                hovertemplate=f"%{{text}}: %{{y:.3f}}<extra>{outcome}</extra>",
            )
    figure.update_xaxes(**axis.broken_ticks(), rangemode="normal")
    figure.update_layout(showlegend=False)
    return figure


def shares_of(shares: Mapping[str, float]) -> go.Figure:
    """Shares of one as bars, the largest above."""
    figure = blank("share", "", height=90 + 26 * len(shares))
    rising = sorted(shares, key=lambda name: shares[name])
    figure.add_bar(
        x=[shares[name] for name in rising],
        y=[escape(name) for name in rising],
        orientation="h",
        marker={"color": BLUE},
        hovertemplate="%{y}: %{x:.2f}<extra></extra>",
    )
    figure.update_layout(yaxis={"rangemode": "normal"})
    return figure


def _own(trials: Sequence[TrialOutcome]) -> list[TrialOutcome]:
    return [trial for trial in eligible(trials) if not trial.baseline]


def _valued(
    trials: Sequence[TrialOutcome], name: str, goal: str
) -> tuple[list[TrialOutcome], list[float]]:
    """The search's own trials that can be ranked, and the best value of each."""
    found = [(trial, trial.best(name, goal)) for trial in _own(trials)]
    pairs = [(trial, round(best.metrics[name], DIGITS)) for trial, best in found if best]
    return [trial for trial, _ in pairs], [value for _, value in pairs]


class _Axis:
    """Where the values of one setting lie: numbers by size, all else at whole numbers by name.

    None, where a setting was not drawn, has a place of its own below the others.
    """

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = list(values)
        known = [value for value in values if value is not None]
        self._numeric = bool(known) and all(_is_number(value) for value in known)
        self._log = self._numeric and _is_wide(known)
        if self._numeric:
            self._names = {value: self._at(value) for value in sorted(set(known))}
        else:
            names = sorted({drawn(value) for value in known})
            self._names = {name: float(index) for index, name in enumerate(names)}
        low, high = min(self._names.values()), max(self._names.values())
        self._none = low - 0.15 * ((high - low) or 1.0)

    def places(self) -> list[float]:
        return [self._place(value) for value in self._values]

    def spread(self) -> list[float]:
        """The places; those of few values a little apart, so that the trials are seen."""
        places, marks = self.places(), sorted(set(self._names.values()))
        if self._numeric and len(marks) > MARKED:
            return places
        gap = min((b - a for a, b in pairwise(marks)), default=1.0)
        return [place + gap * 0.5 * ((i * 0.618034) % 1 - 0.5) for i, place in enumerate(places)]

    def ticks(self) -> dict[str, Any]:
        """Where ticks are and what they say; nothing where plotly's own do."""
        names = self._marks()
        if None in self._values and names:
            names = {"none": self._none, **names}
        return {"tickvals": list(names.values()), "ticktext": list(names)} if names else {}

    def broken_ticks(self) -> dict[str, Any]:
        """The same for a narrow figure: a long name in several lines, none turned."""
        ticks = self.ticks()
        if not ticks or self._numeric:
            return ticks
        lines = [name.replace("_", "<br>") for name in ticks["ticktext"]]
        return {**ticks, "ticktext": lines, "tickangle": 0, "tickfont": {"size": 10}}

    def dimension(self, key: str) -> dict[str, Any]:
        """The setting as an axis of parallel coordinates."""
        label = escape(key.rpartition(".")[2])
        return {"label": label, "values": self.places(), **self.ticks()}

    def _marks(self) -> dict[str, float]:
        """What stands at the axis, and where; nothing where plotly may choose."""
        if not self._numeric or len(self._names) <= MARKED:
            return {escape(drawn(value)): place for value, place in self._names.items()}
        low, high = min(self._names.values()), max(self._names.values())
        if self._log:
            steps = [1, 2, 5] if high - low < 2 else [1]
            powers = range(math.floor(low), math.ceil(high) + 1)
            found = [step * 10.0**power for power in powers for step in steps]
            return {f"{v:g}": math.log10(v) for v in found if low <= math.log10(v) <= high}
        if None in self._values:
            found = [low + (high - low) * i / 4 for i in range(5)]
            return {f"{value:.3g}": value for value in found}
        return {}

    def _place(self, value: Any) -> float:
        if value is None:
            return self._none
        return round(self._names[value if self._numeric else drawn(value)], DIGITS)

    def _at(self, value: float) -> float:
        return math.log10(value) if self._log else float(value)


def _is_wide(values: Sequence[float]) -> bool:
    """Whether a logarithmic axis shows them better: its middle is nearer to the median."""
    low, high = min(values), max(values)
    if low <= 0 or high / low < WIDE:
        return False
    middle = statistics.median(values)
    linear = abs((middle - low) / (high - low) - 0.5)
    return abs(math.log(middle / low) / math.log(high / low) - 0.5) < linear


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
