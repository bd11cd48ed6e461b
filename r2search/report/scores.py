"""The tables of scores in report.html."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from r2search.report.markup import Cell, Html, Number, join, section, table, tag
from r2search.report.wording import (
    Summary,
    between,
    by_class,
    class_names,
    count,
    number,
    objective,
    openings,
    part,
    score_of,
    scores_on_test,
    share,
)

VIEWS = {
    "": "{opened}{own}; with 95 % intervals over images like these and seeds",
    "whole": "over whole images, inside the field of view and outside it{own}",
    "searched": "at the threshold of the search",
}


def scores(summary: Summary) -> Html:
    """All metrics on the validation and on the test split, and what the baselines had."""
    name, _, observer = objective(summary)
    named = {"incumbent": part(summary, "incumbent")}
    named |= {f"baseline {key}": row for key, row in part(summary, "baselines").items()}
    rows = [(label, _validation(row)) for label, row in named.items() if row]
    if observer is not None:
        rows.append(("second observer", {name.removeprefix("val/"): observer}))
    labels = part(summary, "incumbent", "config", "data").get("labels") or ()
    names = class_names(labels, classes=max((len(by_class(row)) for _, row in rows), default=1))
    hint = "A row without a class is the mean over the classes." if len(names) > 1 else ""
    own = ", each network at its own threshold" if part(summary, "confirmed", "thresholds") else ""
    heading = f"Validation split, by which networks are chosen{own}"
    parts = [tag("h3", heading), _metrics(rows, names)]
    for view, title in VIEWS.items():
        if scores_on_test(summary, view):
            parts += [
                tag("h3", f"Test split, {title.format(opened=openings(summary), own=own)}"),
                _metrics(scores_on_test(summary, view), names),
            ]
    about = tag("p", hint, class_="quiet") if hint else Html()
    return section("Scores", about, *parts, _baselines(summary)) if rows else Html()


def _validation(row: Summary) -> dict[str, float]:
    metrics = row.get("metrics") or {}
    return {k.removeprefix("val/"): v for k, v in metrics.items() if k.startswith("val/")}


def _metrics(scored: Sequence[tuple[str, Mapping[str, Any]]], names: Sequence[str]) -> Html:
    """A row a network, below it one a class where there are several; `names` are the classes'."""
    rows = [
        (f"{label}, {names[index - 1]}" if index else label, row)
        for label, metrics in scored
        for index, row in by_class(metrics).items()
    ]
    heads = list(dict.fromkeys(name for _, row in rows for name in row))
    cells: list[list[Cell]] = [
        [label, *(Number(between(row[n]) if n in row else "", score_of(row.get(n))) for n in heads)]
        for label, row in rows
    ]
    return table(["", *heads], cells)


def _baselines(summary: Summary) -> Html:
    """How long each baseline was trained, in the study's measure and in its publication's."""
    baselines = part(summary, "baselines")
    if not baselines:
        return Html()
    name, _, _ = objective(summary)
    measures: dict[str, tuple[str, Callable[[float | None], str]]] = {
        name: ("value", number),
        "epochs": ("epochs", count),
        "of the longest schedule": ("share_of_schedule", share),
        "of the published training": ("share_of_published", share),
        "parameters": ("parameters", count),
    }
    told = {f"baseline {label}": row or {} for label, row in baselines.items()}  # None: no result
    cells: list[list[Cell]] = [
        [label, *(Number(say(row.get(key)), row.get(key)) for key, say in measures.values())]
        for label, row in told.items()
    ]
    return join([tag("h3", "Baselines, and their training"), table(["", *measures], cells)])
