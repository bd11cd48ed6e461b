"""The plotly figures of report.html, from trials alone."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from r2search.records import TrialOutcome
from r2search.report.wording import Summary, number, objective, part
from r2search.selection import eligible

# One hue a meaning, in figures and tables alike (Okabe and Ito's palette for all colour vision).
BLUE, GREY, ORANGE, GREEN, INK = "#0072b2", "#a9b4c0", "#d55e00", "#009e73", "#1c2430"
OUTCOMES = {
    "completed": BLUE,
    "stopped": GREY,
    "failed": ORANGE,
    "infeasible": "#e69f00",
    "interrupted": "#7c6f9f",
    "running": "#7c6f9f",
}
_DASHES = ("dash", "dashdot", "longdash", "longdashdot")


def outcome_of(trial: TrialOutcome) -> str:
    return trial.outcome or "running"


def objective_over_time(summary: Summary, trials: Sequence[TrialOutcome]) -> go.Figure:
    """Each trial at the time of its best epoch, the best value so far, and the yardsticks."""
    name, goal, observer = objective(summary)
    figure = _figure("minutes since the study began", name)
    for outcome, colour in OUTCOMES.items():
        shown = [t for t in trials if outcome_of(t) == outcome and t.reports]
        shown.sort(key=lambda trial: trial.baseline)  # the legend shows the first one's symbol
        if shown:
            figure.add_trace(_dots(shown, outcome, colour, name, goal))
    times, values = _best_so_far(trials, name, goal)
    if not times:
        return figure
    end = max(time for trial in trials for time in trial.report_times) / 60
    figure.add_scatter(
        x=[*times, end],
        y=[*values, values[-1]],
        mode="lines",
        name="best so far",
        line={"color": BLUE, "width": 2.5, "shape": "hv"},
        hovertemplate="best so far %{y:.3f}<extra></extra>",
    )
    for index, (label, baseline) in enumerate(part(summary, "baselines").items()):
        if baseline:
            dash = _DASHES[index % len(_DASHES)]
            figure.add_trace(_level(f"baseline {label}", baseline["value"], end, INK, dash))
    if observer is not None:
        figure.add_trace(_level("second observer", observer, end, GREEN, "dot"))
    return figure


def learning_curves(summary: Summary, trials: Sequence[TrialOutcome]) -> go.Figure:
    """The objective over epochs: all trials thin by outcome, baselines dashed, incumbent bold."""
    name, _, _ = objective(summary)
    best = part(summary, "incumbent").get("trial")
    figure = _figure("epoch", name)
    others = [t for t in trials if not t.baseline and t.trial != best and t.reports]
    for outcome in ("stopped", "failed", "infeasible", "interrupted", "running", "completed"):
        shown = [t for t in others if outcome_of(t) == outcome]
        if shown:
            style = {"color": OUTCOMES[outcome], "width": 1.2}
            trace = _curves(shown, outcome, name, style)
            trace.opacity = 0.5 if outcome == "stopped" else 0.75
            figure.add_trace(trace)
    for index, trial in enumerate(t for t in trials if t.baseline and t.reports):
        style = {"color": INK, "width": 1.8, "dash": _DASHES[index % len(_DASHES)]}
        figure.add_trace(_curves([trial], f"baseline {trial.trial}", name, style))
    for trial in trials:
        if trial.trial == best:
            style = {"color": BLUE, "width": 3.5}
            figure.add_trace(_curves([trial], f"incumbent {best}", name, style))
    return figure


def shares_of(shares: Mapping[str, float]) -> go.Figure:
    """Shares of one as bars, the largest above."""
    figure = _figure("share", "")
    rising = sorted(shares, key=lambda name: shares[name])
    figure.add_bar(
        x=[shares[name] for name in rising],
        y=[escape(name) for name in rising],
        orientation="h",
        marker={"color": BLUE},
        hovertemplate="%{y}: %{x:.2f}<extra></extra>",
    )
    figure.update_layout(height=90 + 26 * len(shares), yaxis={"rangemode": "normal"})
    return figure


def _dots(
    trials: Sequence[TrialOutcome], outcome: str, colour: str, name: str, goal: str
) -> go.Scatter:
    reports = [trial.best(name, goal) for trial in trials]
    pairs = [(t, r) for t, r in zip(trials, reports, strict=True) if r]
    return go.Scatter(
        x=[trial.report_times[trial.reports.index(report)] / 60 for trial, report in pairs],
        y=[report.metrics[name] for _, report in pairs],
        text=[f"{escape(trial.trial)}, epoch {report.epoch}" for trial, report in pairs],
        mode="markers",
        name=outcome,
        marker={
            "color": colour,
            "size": 9,
            "symbol": ["diamond" if trial.baseline else "circle" for trial, _ in pairs],
            "line": {"color": "white", "width": 1},
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


def _best_so_far(
    trials: Sequence[TrialOutcome], name: str, goal: str
) -> tuple[list[float], list[float]]:
    """Minutes and values at which the best value of all trials that can be ranked improved."""
    sign = 1 if goal == "maximize" else -1
    points = sorted(
        (time, report.metrics[name])
        for trial in eligible(trials)
        for time, report in zip(trial.report_times, trial.reports, strict=True)
    )
    times: list[float] = []
    values: list[float] = []
    for time, value in points:
        if not values or sign * value > sign * values[-1]:
            times.append(time / 60)
            values.append(value)
    return times, values


def _figure(x: str, y: str) -> go.Figure:
    axis = {"gridcolor": "#e6eaef", "zeroline": False, "linecolor": "#c3ccd6", "automargin": True}
    title = {"standoff": 12, "font": {"size": 13}}
    figure = go.Figure()
    figure.update_layout(
        template="none",
        height=380,
        margin={"l": 50, "r": 10, "t": 10, "b": 40},
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hovermode="closest",
        xaxis={"title": {"text": x, **title}, "rangemode": "tozero", **axis},
        yaxis={"title": {"text": escape(y), **title}, **axis},
    )
    return figure
