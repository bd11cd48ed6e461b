"""The part of report.html that asks whether early stopping was right."""

from collections.abc import Mapping
from typing import Any

from r2search.report.markup import Cell, Html, Number, section, table, tag
from r2search.report.wording import Summary, number, part, percent


def audit(summary: Summary) -> Html:
    """What `audit` of the summary holds; nothing where it holds nothing."""
    found = part(summary, "audit")
    inside = [*_stopping(found), *_half(found), *_order(found)]
    return section("Was the search right?", *inside) if inside else Html()


def _stopping(found: Mapping[str, Any]) -> list[Html]:
    stopping = found.get("stopping")
    if not stopping or not stopping["stopped"]:
        return []
    return [
        tag(
            "p",
            f"{stopping['stopped']} trials were stopped early. If they had gained what the "
            f"{stopping['finished']} that were trained to their end still gained from the same "
            f"epoch on, one of them would have beaten the incumbent with a chance of "
            f"{percent(stopping['chance'])}, by {number(stopping['regret'])} on average. An "
            "estimate: those that went on were chosen for being good.",
        )
    ]


def _half(found: Mapping[str, Any]) -> list[Html]:
    half = found.get("half")
    if not half:
        return []
    lacks = f"{number(half['loss'])} less than in the end" if half["loss"] else "as in the end"
    return [
        tag("p", f"After half of the time, {half['trial']} had {number(half['value'])}: {lacks}.")
    ]


def _order(found: Mapping[str, Any]) -> list[Html]:
    by_time = found.get("unit") == "seconds"
    rows: list[list[Cell]] = [
        [
            f"rung {rung}" if by_time else f"epoch {row['from']}",
            "the end"
            if row["to"] is None
            else f"rung {rung + 1}"
            if by_time
            else f"epoch {row['to']}",
            Number(str(row["trials"]), row["trials"]),
            Number(number(row["tau"]), row["tau"]),
        ]
        for rung, row in enumerate(found.get("order") or (), start=1)
        if row["tau"] is not None
    ]
    if not rows:
        return []
    hint = (
        "How well the order of the trials at a rung foretold their order later: 1 is the same "
        "order, 0 is chance. Only trials that came so far can be asked."
    )
    heads = ["order at", "and at", "trials", "Kendall's tau"]
    return [tag("h3", "Order at the rungs"), tag("p", hint, class_="quiet"), table(heads, rows)]
