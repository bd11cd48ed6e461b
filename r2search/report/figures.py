"""The plotly figures of the search: objective over time and FLOPs, learning curves."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from r2search.records import EpochReport, TrialOutcome
from r2search.report.wording import Summary, number, objective, part
from r2search.selection import eligible

# One hue a meaning, in figures and tables alike (Okabe and Ito's palette for all colour vision).
BLUE, GREY, ORANGE, GREEN, INK = "#0072b2", "#a9b4c0", "#d55e00", "#009e73", "#1c2430"
AMBER, PURPLE, PINK = "#e69f00", "#7c6f9f", "#cc79a7"
PANEL, GRID, AXIS, HALO = "#ffffff", "#e6eaef", "#c3ccd6", "#fffffe"
# Of every colour that a dark page cannot show as it is, what takes its place there.
DARK = {
    BLUE: "#56b4e9",
    GREY: "#6d7a89",
    ORANGE: "#f0803c",
    GREEN: "#2fc79a",
    INK: "#e2e7ee",
    PURPLE: "#a99bd0",
    PANEL: "#171d26",
    GRID: "#2a333f",
    AXIS: "#4a5666",
    HALO: "#171d27",
    # a scale from poor to good
    "#d3dce6": "#4f5f72",
    "#5fa8d8": "#3f86b8",
    "#003a5e": "#c4e7ff",
}
SCALE = ((0.0, "#d3dce6"), (0.5, "#5fa8d8"), (1.0, "#003a5e"))
OUTCOMES = {
    "completed": BLUE,
    "stopped": GREY,
    "failed": ORANGE,
    "infeasible": AMBER,
    "interrupted": PURPLE,
    "running": PURPLE,
}
DASHES = ("dash", "dashdot", "longdash", "longdashdot")

# Of a trial and its epoch, when it was reported: in minutes, or in FLOPs of all trials so far.
Places = Mapping[tuple[str, int], float]


def outcome_of(trial: TrialOutcome) -> str:
    return trial.outcome or "running"


def minutes(trials: Sequence[TrialOutcome]) -> Places:
    """Minutes since the study began, of every report."""
    return {(name, report.epoch): t / 60 for t, name, report, _ in _told(trials)}


def flops(trials: Sequence[TrialOutcome]) -> Places:
    """Training FLOPs of all trials so far, of every report; empty where they are not known."""
    places, sofar = {}, 0.0
    for _, name, report, each in _told(trials):
        sofar += each
        places[name, report.epoch] = sofar
    return places if sofar else {}


def _told(trials: Sequence[TrialOutcome]) -> list[tuple[float, str, EpochReport, float]]:
    """Every report in order of time: seconds, trial, the report, its FLOPs."""
    told = [
        (t, trial.trial, report, trial.cost.get("epoch_flops", 0.0))
        for trial in trials
        for t, report in zip(trial.report_times, trial.reports, strict=True)
    ]
    return sorted(told, key=lambda item: (item[0], item[1]))


def objective_over(
    summary: Summary, trials: Sequence[TrialOutcome], places: Places, unit: str
) -> go.Figure:
    """Each trial where its best epoch was, the best value so far, and the yardsticks."""
    name, goal, observer = objective(summary)
    figure = blank(unit, name)
    for outcome, colour in OUTCOMES.items():
        shown = [t for t in trials if outcome_of(t) == outcome and t.reports]
        shown.sort(key=lambda trial: trial.baseline)  # the legend shows the first one's symbol
        if shown:
            figure.add_trace(_dots(shown, outcome, colour, name, goal, places))
    where, values = best_so_far(trials, name, goal, places)
    if not where:
        return figure
    end = max(places.values())
    figure.add_scatter(
        x=[*where, end],
        y=[*values, values[-1]],
        mode="lines",
        name="best so far",
        line={"color": BLUE, "width": 2.5, "shape": "hv"},
        hovertemplate="best so far %{y:.3f}<extra></extra>",
    )
    for index, (label, baseline) in enumerate(part(summary, "baselines").items()):
        if baseline:
            dash = DASHES[index % len(DASHES)]
            figure.add_trace(_level(f"baseline {label}", baseline["value"], end, INK, dash))
    if observer is not None:
        figure.add_trace(_level("second observer", observer, end, GREEN, "dot"))
    return figure


def learning_curves(summary: Summary, trials: Sequence[TrialOutcome]) -> go.Figure:
    """The objective over epochs: all trials thin by outcome, baselines dashed, incumbent bold.

    A cross is where a trial was stopped; a dotted line, a rung.
    """
    name, _, _ = objective(summary)
    best = part(summary, "incumbent").get("trial")
    figure = blank("epoch", name)
    others = [t for t in trials if not t.baseline and t.trial != best and t.reports]
    for outcome in ("stopped", "failed", "infeasible", "interrupted", "running", "completed"):
        shown = [t for t in others if outcome_of(t) == outcome]
        if shown:
            style = {"color": OUTCOMES[outcome], "width": 1.2}
            trace = _curves(shown, outcome, name, style)
            trace.opacity = 0.5 if outcome == "stopped" else 0.75
            figure.add_trace(trace)
    stopped = [t for t in trials if outcome_of(t) == "stopped" and t.reports]
    if stopped:
        figure.add_trace(_ends(stopped, name))
    for index, trial in enumerate(t for t in trials if t.baseline and t.reports):
        style = {"color": INK, "width": 1.8, "dash": DASHES[index % len(DASHES)]}
        figure.add_trace(_curves([trial], f"baseline {trial.trial}", name, style))
    for trial in trials:
        if trial.trial == best:
            style = {"color": BLUE, "width": 3.5}
            figure.add_trace(_curves([trial], f"incumbent {best}", name, style))
    for epoch in part(summary, "search").get("rungs") or ():
        figure.add_vline(x=epoch, line={"color": GREY, "width": 1.5, "dash": "dot"}, layer="below")
    return figure


def best_so_far(
    trials: Sequence[TrialOutcome], name: str, goal: str, places: Places
) -> tuple[list[float], list[float]]:
    """Places and values at which the best value of all trials that can be ranked improved."""
    sign = 1 if goal == "maximize" else -1
    points = sorted(
        (places[trial.trial, report.epoch], report.metrics[name])
        for trial in eligible(trials)
        for report in trial.reports
    )
    where: list[float] = []
    values: list[float] = []
    for place, value in points:
        if not values or sign * value > sign * values[-1]:
            where.append(place)
            values.append(value)
    return where, values


def blank(x: str, y: str, height: int = 380) -> go.Figure:
    """A figure without traces, with the names of its axes, in the page's style."""
    axis = {"gridcolor": GRID, "zeroline": False, "linecolor": AXIS, "automargin": True}
    title = {"standoff": 12, "font": {"size": 13}}
    figure = go.Figure()
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 50, "r": 10, "t": 10, "b": 40},
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
        paper_bgcolor=PANEL,
        plot_bgcolor=PANEL,
        hoverlabel={"bgcolor": PANEL, "font": {"color": INK}},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hovermode="closest",
        xaxis={"title": {"text": x, **title}, "rangemode": "tozero", **axis},
        yaxis={"title": {"text": escape(y), **title}, **axis},
    )
    return figure


def _dots(
    trials: Sequence[TrialOutcome], outcome: str, colour: str, name: str, goal: str, places: Places
) -> go.Scatter:
    reports = [trial.best(name, goal) for trial in trials]
    pairs = [(t, r) for t, r in zip(trials, reports, strict=True) if r]
    return go.Scatter(
        x=[places[trial.trial, report.epoch] for trial, report in pairs],
        y=[report.metrics[name] for _, report in pairs],
        text=[f"{escape(trial.trial)}, epoch {report.epoch}" for trial, report in pairs],
        mode="markers",
        name=outcome,
        marker={
            "color": colour,
            "size": 9,
            "symbol": ["diamond" if trial.baseline else "circle" for trial, _ in pairs],
            "line": {"color": HALO, "width": 1},
        },
        hovertemplate=f"%{{text}}: %{{y:.3f}}<extra>{outcome}</extra>",
    )


def _curves(
    trials: Sequence[TrialOutcome], label: str, name: str, line: dict[str, Any]
) -> go.Scatter:
    """The curves of several trials as one trace; a None between two breaks the line."""
    x: list[int | None] = []
    y: list[float | None] = []
    text: list[str] = []
    for trial in trials:
        x += [*(report.epoch for report in trial.reports), None]
        y += [*(round(report.metrics[name], 5) for report in trial.reports), None]
        text += [escape(trial.trial)] * (len(trial.reports) + 1)
    longest = max(len(trial.reports) for trial in trials)
    return go.Scatter(
        x=x,
        y=y,
        text=text,
        mode="lines" if longest > 1 else "markers",
        name=escape(label),
        line=line,
        marker={"color": line["color"]},
        hovertemplate="%{text}, epoch %{x}: %{y:.3f}<extra></extra>",
    )


def _ends(trials: Sequence[TrialOutcome], name: str) -> go.Scatter:
    """A cross where each of these trials ended."""
    last = [trial.reports[-1] for trial in trials]
    return go.Scatter(
        x=[report.epoch for report in last],
        y=[round(report.metrics[name], 5) for report in last],
        text=[escape(trial.trial) for trial in trials],
        mode="markers",
        name="stopped here",
        marker={"color": INK, "size": 6, "symbol": "x-thin", "line": {"color": INK, "width": 1}},
        hovertemplate="%{text} stopped after epoch %{x}: %{y:.3f}<extra></extra>",
    )


def _level(label: str, value: float, end: float, colour: str, dash: str) -> go.Scatter:
    """A horizontal line from the beginning to `end`."""
    return go.Scatter(
        x=[0, end],
        y=[value, value],
        mode="lines",
        name=f"{escape(label)} {number(value)}",
        line={"color": colour, "width": 1.6, "dash": dash},
        hovertemplate=f"{escape(label)} {number(value)}<extra></extra>",
    )
