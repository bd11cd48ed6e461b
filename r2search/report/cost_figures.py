"""The plotly figures of what quality costs, of each image, and of where the time went."""

import math
import statistics
from collections.abc import Mapping, Sequence
from html import escape

import plotly.graph_objects as go

from r2search.records import TrialOutcome
from r2search.report.figures import (
    AMBER,
    BLUE,
    GREEN,
    GREY,
    HALO,
    INK,
    ORANGE,
    OUTCOMES,
    PINK,
    blank,
    outcome_of,
)
from r2search.report.wording import Summary, count, duration, objective, percent
from r2search.selection import eligible

# What a trial costs, by name: on an axis.
COSTS = {
    "parameters": "parameters",
    "epoch_flops": "training FLOPs of an epoch",
    "epoch_s": "seconds of an epoch",
}
# Of the workers' time, what `time` of a summary has: in words, and as a colour.
SPENT = {
    "steps_s": ("training steps", BLUE),
    "feed_s": ("waiting for patches", AMBER),
    "validate_s": ("validation", GREEN),
    "checkpoint_s": ("checkpoints", PINK),
    "setup_s": ("from one trial to the next", ORANGE),
    "idle_s": ("idle, or in an epoch that was not ended", GREY),
}


def cost_of(trial: TrialOutcome, key: str) -> float:
    """One of COSTS of a trial; 0 where it is not known."""
    if key != "epoch_s":
        return float(trial.cost.get(key, 0.0))
    took = [report.seconds["train"] + report.seconds["validate"] for report in trial.reports]
    return statistics.median(took) if took else 0.0


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which (cost, worth) no other beats: none is as good for less. By rising cost."""
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    kept: list[int] = []
    for index in order:
        if not kept or points[index][1] > points[kept[-1]][1]:
            kept.append(index)
    return kept


def cost_against(summary: Summary, trials: Sequence[TrialOutcome], key: str) -> go.Figure | None:
    """The best value of every trial over one of COSTS, and the Pareto front.

    None where less than two trials are known to cost anything.
    """
    name, goal, _ = objective(summary)
    sign = 1 if goal == "maximize" else -1
    found = [(trial, trial.best(name, goal), cost_of(trial, key)) for trial in eligible(trials)]
    points = [(trial, best.metrics[name], cost) for trial, best, cost in found if best and cost]
    if len(points) < 2:
        return None
    figure = blank(COSTS[key], name, height=320)
    edge = [points[i] for i in front([(cost, sign * value) for _, value, cost in points])]
    figure.add_scatter(
        x=[cost for _, _, cost in edge],
        y=[value for _, value, _ in edge],
        mode="lines+markers",
        name="Pareto front",
        line={"color": INK, "width": 1.5, "shape": "hv"},
        marker={"color": "rgba(0,0,0,0)", "size": 14, "line": {"color": INK, "width": 1.5}},
        hoverinfo="skip",
    )
    for outcome, colour in OUTCOMES.items():
        shown = [point for point in points if outcome_of(point[0]) == outcome]
        shown.sort(key=lambda point: point[0].baseline)
        if shown:
            figure.add_scatter(
                x=[cost for _, _, cost in shown],
                y=[value for _, value, _ in shown],
                text=[escape(trial.trial) for trial, _, _ in shown],
                mode="markers",
                name=outcome,
                marker={
                    "color": colour,
                    "size": 8,
                    "symbol": ["diamond" if t.baseline else "circle" for t, _, _ in shown],
                    "line": {"color": HALO, "width": 0.5},
                },
                hovertemplate=f"%{{text}}: %{{y:.3f}} at %{{x:.3s}}<extra>{outcome}</extra>",
            )
    decades = math.log10(max(cost for *_, cost in points) / min(cost for *_, cost in points))
    figure.update_xaxes(type="log", tickformat="~s", dtick=1 if decades > 1.5 else "D2")
    return figure


def of_each_image(scores: Sequence[Mapping[str, object]], metric: str) -> go.Figure:
    """The scores {id, value} of images as dots, in the order given."""
    figure = blank("validation images, best first", metric, height=300)
    figure.add_scatter(
        x=list(range(1, len(scores) + 1)),
        y=[row["value"] for row in scores],
        text=[escape(str(row["id"])) for row in scores],
        mode="markers",
        marker={"color": BLUE, "size": 9, "line": {"color": HALO, "width": 1}},
        hovertemplate="%{text}: %{y:.3f}<extra></extra>",
        showlegend=False,
    )
    few = len(scores) <= 12
    ids = [escape(str(row["id"])) for row in scores]
    shown = {"tickvals": list(range(1, len(ids) + 1)), "ticktext": ids} if few else {}
    figure.update_xaxes(rangemode="normal", range=[0.5, len(scores) + 0.5], **shown)
    return figure


def spent(time: Mapping[str, float]) -> go.Figure:
    """One bar of all workers' time, in the parts of SPENT."""
    figure = blank("share of the workers' time", "", height=190)
    whole = time["worker_s"]
    for key, (words, colour) in SPENT.items():
        figure.add_bar(
            x=[time[key] / whole],
            y=["workers"],
            orientation="h",
            name=f"{words} {percent(time[key] / whole)}",
            marker={"color": colour},
            hovertemplate=f"{words}: {duration(time[key])}<extra></extra>",
        )
    figure.update_layout(barmode="stack", legend={"traceorder": "normal"})
    figure.update_xaxes(tickformat=".0%", range=[0, 1])
    figure.update_yaxes(visible=False)
    return figure


def reliability(bins: Sequence[Mapping[str, float]]) -> go.Figure:
    """How often pixels are foreground against the probability that was said of them.

    `bins` have {pixels, predicted, observed}. On the diagonal a network is well calibrated.
    """
    figure = blank("probability that the network says", "share that is foreground", height=360)
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        line={"color": GREY, "width": 1, "dash": "dot"},
        name="well calibrated",
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=[each["predicted"] for each in bins],
        y=[each["observed"] for each in bins],
        text=[count(each["pixels"]) for each in bins],
        mode="lines+markers",
        line={"color": BLUE, "width": 2},
        marker={"color": BLUE, "size": 8},
        name="incumbent",
        hovertemplate="%{x:.2f} said, %{y:.2f} found (%{text} pixels)<extra></extra>",
    )
    figure.update_xaxes(range=[-0.02, 1.02], rangemode="normal")
    figure.update_yaxes(range=[-0.02, 1.02])
    return figure
