"""A page that sets studies side by side, from what their run folders hold."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import plotly.graph_objects as go

from r2search.records import TrialOutcome
from r2search.report.figures import (
    AMBER,
    BLUE,
    DASHES,
    GREEN,
    INK,
    ORANGE,
    PINK,
    PURPLE,
    Places,
    best_so_far,
    blank,
    flops,
    minutes,
)
from r2search.report.markup import Cell, Html, Number, drawing, section, table, tag
from r2search.report.page import write_page
from r2search.report.wording import (
    Summary,
    count,
    duration,
    number,
    objective,
    part,
    percent,
    score_of,
)

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, AMBER, PINK, INK)


class Compared(NamedTuple):
    """One study: what to call it, what its summary.json holds, its trials."""

    label: str
    summary: Summary
    trials: Sequence[TrialOutcome]


def write_comparison(path: Path, studies: Sequence[Compared]) -> None:
    """Write one self-contained HTML file, whole or not at all; at least one study."""
    names = list(dict.fromkeys(objective(study.summary)[0] for study in studies))
    figures = [drawing("time", "The best so far over wall-clock time", over_time(studies))]
    if any(flops(study.trials) for study in studies):
        spent = over_flops(studies)
        figures.append(drawing("flops", "The best so far over training FLOPs", spent))
    write_page(
        path,
        title=f"{len(studies)} studies side by side",
        question=f"Which of them found the best {' or '.join(names)}, and how soon?",
        warnings=differences(studies),
        notes=[],
        body=(
            section("What they found", _table(studies)),
            section("How soon", *figures),
            section("How they searched", _settings(studies)),
        ),
    )


def differences(studies: Sequence[Compared]) -> list[str]:
    """Why the values of these studies do not compare; empty when they do."""
    found = []
    if len({objective(study.summary)[:2] for study in studies}) > 1:
        found.append("Their objectives differ: the values do not compare.")
    if len({part(study.summary, "data").get("fingerprint") for study in studies}) > 1:
        found.append("Their images or splits differ: the values do not compare.")
    if any(part(study.summary, "data").get("synthetic") for study in studies):
        found.append("Synthetic data: these numbers say nothing about real images.")
    return found


def over_time(studies: Sequence[Compared]) -> go.Figure:
    places = [minutes(study.trials) for study in studies]
    return _best_so_far(studies, places, "minutes since the study began")


def over_flops(studies: Sequence[Compared]) -> go.Figure:
    places = [flops(study.trials) for study in studies]
    return _best_so_far(studies, places, "training FLOPs of all trials so far")


def _best_so_far(studies: Sequence[Compared], places: Sequence[Places], unit: str) -> go.Figure:
    """A stair a study; one whose places are not known is left out."""
    figure = blank(unit, "best so far")
    for index, (study, place) in enumerate(zip(studies, places, strict=True)):
        name, goal, _ = objective(study.summary)
        where, values = best_so_far(study.trials, name, goal, place) if place else ([], [])
        if not where:
            continue
        around = index // len(COLOURS)
        figure.add_scatter(
            x=[*where, max(place.values())],
            y=[*values, values[-1]],
            mode="lines",
            name=escape(study.label),
            line={
                "color": COLOURS[index % len(COLOURS)],
                "width": 2.5,
                "shape": "hv",
                "dash": DASHES[(around - 1) % len(DASHES)] if around else "solid",
            },
            hovertemplate=f"{escape(study.label)} %{{y:.3f}}<extra></extra>",
        )
    figure.update_layout(showlegend=True)
    return figure


def _table(studies: Sequence[Compared]) -> Html:
    heads = "study,objective,incumbent,best,best baseline,test,trials,wall clock,FLOPs,goodput"
    return table(heads.split(","), [_found(study) for study in studies], sortable=True)


def _found(study: Compared) -> list[Cell]:
    name, goal, _ = objective(study.summary)
    best, time = part(study.summary, "incumbent"), part(study.summary, "time")
    rows = [row["value"] for row in part(study.summary, "baselines").values() if row]
    baseline = (max if goal == "maximize" else min)(rows, default=None)
    tested = score_of(part(study.summary, "test", "incumbent").get(name.removeprefix("val/")))
    total = part(study.summary, "trials").get("total")
    spent = time.get("train_flops")
    return [
        study.label,
        name,
        str(best.get("trial") or "none"),
        Number(number(best.get("value")), best.get("value")),
        Number(number(baseline), baseline),
        Number(number(tested), tested),
        Number(count(total), total),
        Number(duration(time.get("wall_s")), time.get("wall_s")),
        Number(f"{spent:.2g}" if spent else "n/a", spent or None),
        Number(percent(time.get("goodput")), time.get("goodput")),
    ]


def _settings(studies: Sequence[Compared]) -> Html:
    heads = "study,status,searcher,scheduler,seed,workers,processor,images,space,revision"
    rows: list[list[Cell]] = []
    for study in studies:
        search, machine = part(study.summary, "search"), part(study.summary, "hardware")
        told = (
            study.summary.get("status"),
            search.get("searcher"),
            search.get("scheduler"),
            search.get("seed"),
            machine.get("workers"),
            machine.get("processor"),
            (part(study.summary, "data").get("fingerprint") or "")[:12],
            (part(study.summary, "space").get("sha256") or "")[:12],
            (part(study.summary, "revision").get("commit") or "")[:12],
        )
        rows.append([study.label, *("n/a" if one in (None, "") else str(one) for one in told)])
    about = "Images and space are told by the beginnings of their checksums."
    return tag("div", table(heads.split(","), rows), tag("p", about, class_="quiet"))
