"""The part of report.html that shows the incumbent image by image."""

import base64
from collections.abc import Sequence

from r2search.report.cost_figures import of_each_image, reliability
from r2search.report.markup import Html, drawing, section, tag
from r2search.report.wording import Summary, part

PICTURE_BYTES = 8 << 20  # base64 of all pictures together; with plotly the file stays below 15 MB


def images(summary: Summary, pictures: Sequence[tuple[str, bytes]]) -> Html:
    """The score of every validation image, and pictures of some; nothing without either.

    `pictures`: captions with PNG files, shown until PICTURE_BYTES are used.
    """
    found = part(summary, "images")
    inside = [_pictures(pictures)] if pictures else []
    if found.get("scores"):
        metric = found["metric"]
        title = f"{metric} of the incumbent on every validation image"
        figure = of_each_image(found["scores"], metric)
        inside.insert(0, drawing("images", title, figure))
    if found.get("calibration"):
        title = "Whether what it says of foreground is found, on the validation images"
        inside.append(drawing("calibration", title, reliability(found["calibration"])))
    return section("Image by image", *inside) if inside else Html()


def _pictures(pictures: Sequence[tuple[str, bytes]]) -> Html:
    figures, used = [], 0
    for caption, png in pictures:
        data = base64.b64encode(png).decode("ascii")
        used += len(data)
        if used > PICTURE_BYTES:
            break
        image = tag("img", alt=caption, src=f"data:image/png;base64,{data}")
        figures.append(tag("figure", tag("h3", caption), tag("div", image, class_="wide")))
    hidden = len(pictures) - len(figures)
    if hidden:
        figures.append(tag("p", f"{hidden} more left out: the file would be too large."))
    return tag("div", *figures)
