"""HTML by small functions. A plain string is text and gets escaped; only `Html` is markup."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from plotly.graph_objects import Figure

from r2search.report.figures import OUTCOMES
from r2search.report.wording import drawn


class Html(str):
    """Markup, inserted as it is."""


class Number(NamedTuple):
    """A table cell: what is shown, and by what it is sorted (None goes last)."""

    text: str
    value: float | None


Cell = str | Number

VOID = ("img",)  # elements without an end


def tag(name: str, *inside: str, **attributes: str) -> Html:
    """One element; empty attributes are left out, `class_` is class, `data_v` is data-v."""
    named = {key.strip("_").replace("_", "-"): value for key, value in attributes.items() if value}
    head = "".join([name, *(f' {key}="{escape(value)}"' for key, value in named.items())])
    return Html(f"<{head}>" if name in VOID else f"<{head}>{join(inside)}</{name}>")


def join(parts: Iterable[str], between: str = "") -> Html:
    return Html(between.join(p if isinstance(p, Html) else escape(p) for p in parts))


def section(title: str, *inside: str) -> Html:
    return tag("section", tag("h2", title), *inside)


def drawing(name: str, title: str, figure: Figure, caption: str = "", *, least: int = 0) -> Html:
    """A plotly figure, drawn by the page's script when it comes into view.

    `name` is its own on the page, `title` says what it shows. On a screen narrower than `least`
    pixels it is scrolled sideways.
    """
    size = f"height: {figure.layout.height}px" + (f"; min-width: {least}px" if least else "")
    # JSON has `<` in texts alone; written so, none of them ends the script.
    content = Html(figure.to_json().replace("<", "\\u003c"))
    plot = tag(
        "div",
        tag("div", id=f"figure-{name}", role="img", aria_label=title, style=size),
        tag("script", content, type="application/json"),
        class_="plot wide",
    )
    below = [tag("figcaption", caption)] if caption else []
    return tag("figure", tag("h3", title), plot, *below)


def card(label: str, value: str, under: str = "", *, kind: str = "", mood: str = "") -> Html:
    """A large number in a box: what it is above, a remark below."""
    return tag("li", label, tag("b", value), tag("small", under, class_=mood), class_=kind)


def badge(outcome: str) -> Html:
    """How a trial ended, in its colour."""
    colour = f"border-color: {OUTCOMES[outcome]}"
    return tag("span", outcome, class_="outcome", style=colour)


def facts(title: str, pairs: Mapping[str, Any]) -> Html:
    """A titled list of names and values; nothing when there are none."""
    items = [
        item
        for key, value in pairs.items()
        for item in (tag("dt", key.replace("_", " ")), tag("dd", drawn(value)))
    ]
    return tag("div", tag("h3", title), tag("dl", *items)) if items else Html()


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    sortable: bool = False,
    marked: Collection[str] = (),
) -> Html:
    """A table whose first column heads its rows and marks those named in `marked`.

    A column is set to the right, and sorted by value, when its cells are `Number`s.
    """
    numeric = [bool(rows) and isinstance(cell, Number) for cell in (rows[0] if rows else heads)]
    top = [
        tag("th", tag("button", head) if sortable else head, scope="col", class_="n" if n else "")
        for head, n in zip(heads, numeric, strict=True)
    ]
    body = [
        tag(
            "tr",
            tag("th", str(row[0]), scope="row"),
            *(_cell(cell) for cell in row[1:]),
            class_="incumbent" if row[0] in marked else "",
        )
        for row in rows
    ]
    grid = tag(
        "table",
        tag("thead", tag("tr", *top)),
        tag("tbody", *body),
        class_="sortable" if sortable else "",
    )
    return tag("div", grid, class_="scroll")


def _cell(cell: Cell) -> Html:
    if not isinstance(cell, Number):
        return tag("td", cell)
    # Without a value the attribute must still be there: the text is not what is sorted by.
    value = "" if cell.value is None else repr(float(cell.value))
    return Html(f'<td class="n" data-v="{value}">{escape(cell.text)}</td>')
