"""One HTML file that opens offline: its styles, its script and plotly are within it."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from string import Template

from plotly.offline import get_plotlyjs

from r2search.report.figures import DARK
from r2search.report.markup import Html, join, tag


def write_page(
    path: Path,
    *,
    title: str,
    question: str,
    warnings: Sequence[str],
    notes: Sequence[str],
    body: Sequence[Html],
) -> None:
    """Write the page, whole or not at all. Every text is escaped."""
    banners = [tag("p", text, class_="banner") for text in warnings]
    banners += [tag("p", str(note), class_="note") for note in notes]
    page = Template(_part("page.html.tmpl")).substitute(
        title=join([title]),
        question=join([question]),
        banners=join(banners, "\n"),
        body=join(body, "\n"),
        styles=_part("page.css"),
        plotly=get_plotlyjs(),
        dark=json.dumps(DARK),
        script=_part("page.js"),
    )
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(page, encoding="utf-8", errors="replace")
    os.replace(draft, path)


def _part(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
