"""The part of report.html that tells how the incumbent was confirmed."""

from collections.abc import Mapping
from html import escape
from typing import Any

import plotly.graph_objects as go

from r2search.report.figures import BLUE, GREY, INK, ORANGE, blank
from r2search.report.markup import Cell, Html, Number, drawing, section, table, tag
from r2search.report.wording import Summary, between, confirmation, number, objective, part

ROW = 46  # pixels a network


def confirmed(summary: Summary) -> Html:
    """The trainings of every network, how they compare, and the threshold; nothing without any."""
    found = part(summary, "confirmed")
    if not found:
        return Html()
    told = tag("p", " ".join(confirmation(summary)))
    networks = found.get("networks")
    if not networks:
        return section("Confirmation", told)
    name, _, _ = objective(summary)
    dots = drawing(
        "confirmation",
        f"{name} of every training, and its mean",
        trainings_of(found, name),
        f"A ring is a training {_varied(found)}; a dot their mean, with the 95 % interval over "
        "images like these and seeds; a cross the value in the search, by which finalists were "
        f"chosen{_at(found)}. Networks are compared on the same images, which these intervals do "
        "not show.",
    )
    parts = [told, dots, _table(found)]
    if found.get("threshold"):
        curve = found["threshold"]
        searched = found["searched"].get("threshold", 0.5)  # untold until format 4
        parts.append(
            drawing(
                "threshold",
                "Dice on the validation images over the threshold",
                over_threshold(curve, searched),
                f"Mean over images and trainings of {found['chosen']}. The bundle predicts with "
                f"{curve['chosen']:g}, the line; its scores are at it, too. The dots are the "
                "threshold of the search.",
            )
        )
    return section("Confirmation", *parts)


def _at(found: Mapping[str, Any]) -> str:
    """What sets the search's values apart, where networks have thresholds of their own."""
    if not found.get("thresholds"):
        return ""
    return f", at the threshold {found['searched']['threshold']:g} for all"


def _varied(found: Mapping[str, Any]) -> str:
    folds = found.get("folds", 1)
    if folds == 1:
        return "with its own seed"
    return (
        f"with its own seed, on one of {folds} folds of the subjects, which differ in their images"
    )


def trainings_of(found: Mapping[str, Any], name: str) -> go.Figure:
    """Networks from best to worst, top to bottom."""
    networks = found["networks"]
    figure = blank(name, "", height=130 + ROW * len(networks))
    rows = [(label, t) for label, row in networks.items() for t in row["trainings"]]
    figure.add_scatter(
        x=[training["value"] for _, training in rows],
        y=[_label(label, networks) for label, _ in rows],
        text=[_origin(training, found.get("folds", 1)) for _, training in rows],
        mode="markers",
        name="one training",
        marker={"color": INK, "size": 10, "symbol": "circle-open", "line": {"width": 1.5}},
        hovertemplate="%{y}, %{text}: %{x:.4f}<extra></extra>",
    )
    figure.add_scatter(
        x=[row["searched"] for row in networks.values()],
        y=[_label(label, networks) for label in networks],
        mode="markers",
        name="in the search",
        marker={
            "color": ORANGE,
            "size": 8,
            "symbol": "x-thin",
            "line": {"width": 2, "color": ORANGE},
        },
        hovertemplate="%{y} in the search: %{x:.4f}<extra></extra>",
    )
    for label, row in networks.items():
        colour = BLUE if label == found["chosen"] else GREY
        sure = row["low"] is not None
        figure.add_scatter(
            x=[row["mean"]],
            y=[_label(label, networks)],
            mode="markers",
            showlegend=False,
            marker={"color": colour, "size": 11},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [row["high"] - row["mean"]] if sure else [0],
                "arrayminus": [row["mean"] - row["low"]] if sure else [0],
                "color": colour,
                "thickness": 2.5,
            },
            hovertemplate=f"{escape(label)}: {between(row)}<extra></extra>",
        )
    figure.update_xaxes(rangemode="normal")
    figure.update_yaxes(autorange="reversed", type="category")
    return figure


def over_threshold(curve: Mapping[str, Any], searched: float) -> go.Figure:
    figure = blank("threshold", "dice", height=270)
    figure.add_scatter(
        x=curve["at"],
        y=curve["dice"],
        mode="lines",
        line={"color": BLUE, "width": 2.5},
        showlegend=False,
        hovertemplate="%{x}: %{y:.4f}<extra></extra>",
    )
    for level, dash in ((curve["chosen"], "solid"), (searched, "dot")):
        figure.add_vline(x=level, line={"color": INK, "width": 1.5, "dash": dash})
    return figure


def _origin(training: Mapping[str, Any], folds: int) -> str:
    fold = f", fold {training['fold'] + 1} of {folds}" if folds > 1 else ""
    return f"seed {training['seed']}{fold}"


def _label(name: str, networks: Mapping[str, Any]) -> str:
    return escape(f"baseline {name}" if networks[name]["baseline"] else name)


def _table(found: Mapping[str, Any]) -> Html:
    heads = ["", "mean", "interval", "trainings", "in the search", "GFLOP a patch"]
    heads += ["behind the leader", "p", ""]
    rows: list[list[Cell]] = []
    for label, row in found["networks"].items():
        behind, flops = row["behind"] or {}, row["flops"]
        interval = "" if row["low"] is None else f"{number(row['low'])} to {number(row['high'])}"
        state = "tied" if behind.get("tied") else ""
        if label == found["chosen"]:
            state = "taken"
        rows.append(
            [
                label,
                Number(number(row["mean"]), row["mean"]),
                interval,
                Number(str(len(row["trainings"])), len(row["trainings"])),
                Number(number(row["searched"]), row["searched"]),
                Number(f"{flops / 1e9:.2f}" if flops else "n/a", flops),
                Number(number(behind["behind"]) if behind else "leads", behind.get("behind")),
                Number(_probability(behind.get("p")), behind.get("p")),
                state,
            ]
        )
    about = "p is of the comparison with the leader, corrected for their number (Holm)."
    marked = [found["chosen"]]
    return tag("div", table(heads, rows, marked=marked), tag("p", about, class_="quiet"))


def _probability(p: float | None) -> str:
    """None is of the leader, which is compared with nothing."""
    if p is None:
        return ""
    return f"{p:.3f}" if p >= 0.0005 else "< 0.001"
