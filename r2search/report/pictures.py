"""Pictures of predictions: outlined on the image, coded by error, side by side."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Key = tuple[int, str, Colour]  # of a legend: its left edge, name and colour
ClassMask = NDArray[np.uint8] | NDArray[np.bool_]  # (H, W): class indices, or foreground or not

# Foreground classes 1, 2, ... in turn, neighbours unlike in lightness too. The first, cyan, is seen
# on red fundus, skin and grey alike.
CLASSES: tuple[Colour, ...] = (
    (0, 229, 255),
    (255, 214, 0),
    (255, 82, 160),
    (118, 255, 3),
    (64, 120, 255),
    (255, 138, 48),
    (150, 90, 255),
    (240, 240, 240),
)
# They differ in lightness too, so every kind of colour vision tells them apart.
ERRORS: dict[str, Colour] = {
    "found": (244, 244, 240),
    "false alarm": (255, 153, 0),
    "missed": (64, 140, 255),
    "wrong class": (200, 40, 150),
}
_INK, _QUIET = (28, 36, 48), (91, 103, 118)
_GAP, _LINE = 10, 22  # pixels between cells, and of one line of text or of the legend


def legend_of(names: Sequence[str]) -> dict[str, Colour]:
    """What the colours of `overlay` and `errors` mean, by the names of the foreground classes.

    One class needs no name: its colour is the prediction's.
    """
    if len(names) == 1:
        return {kind: colour for kind, colour in ERRORS.items() if kind != "wrong class"}
    colours = {name: CLASSES[index % len(CLASSES)] for index, name in enumerate(names)}
    return colours | ERRORS


def overlay(
    image: NDArray[np.uint8], mask: ClassMask, line: int | None = None
) -> NDArray[np.uint8]:
    """Fill every foreground class of a mask translucently and outline it, on a copy of the image.

    `image` (H, W, C) in 0..255 with any C (fewer than three channels: the first one as grey),
    `mask` (H, W) of class indices, or True for the foreground; the result is RGB, (H, W, 3).
    The outline is `line` pixels wide: of an image of which this is a part, its `line_width`.
    """
    base, mask = _rgb(image), mask.astype(np.uint8)
    _same_size(base, mask)
    edge = outline(mask, line or line_width(mask.shape))
    filled = _blend(base, mask > 0, _colours(mask[mask > 0]), 0.45)
    return _blend(filled, edge, _colours(mask[edge]), 1.0)


def line_width(shape: tuple[int, ...]) -> int:
    """Pixels of an outline that is seen on an image (H, W) of any size."""
    return max(1, round(max(shape) / 1000))


def outline(mask: ClassMask, width: int = 1) -> NDArray[np.bool_]:
    """Foreground (H, W) within `width` pixels of another class, the background included."""
    inside = mask
    for _ in range(width):
        inside = _eroded(inside)
    edge: NDArray[np.bool_] = mask != inside
    return edge


def errors(
    image: NDArray[np.uint8], prediction: ClassMask, mask: ClassMask, fov: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Colour what was found, falsely found, missed and confused (ERRORS) over the dark grey image.

    All arrays (H, W), prediction and mask as `overlay` has them, the image (H, W, C). Outside
    `fov`, where nothing is scored, the picture is darker still and without colour. The result is
    RGB, (H, W, 3).
    """
    base = _rgb(image)
    for other in (prediction, mask, fov):
        _same_size(base, other)
    grey = np.asarray(Image.fromarray(base).convert("L"), dtype=np.float32)
    shade = np.where(fov, 0.45, 0.18) * grey
    picture = np.repeat(shade.astype(np.uint8)[..., None], 3, axis=2)
    seen, there, same = prediction > 0, mask > 0, prediction == mask
    kinds = (seen & there & same, seen & ~there, ~seen & there, seen & there & ~same)
    for where, colour in zip(kinds, ERRORS.values(), strict=True):
        picture = _blend(picture, where & fov, np.array(colour, np.uint8), 0.85)
    return picture


def sheet(
    rows: Sequence[Sequence[NDArray[np.uint8] | NDArray[np.bool_]]],
    titles: Sequence[str],
    *,
    captions: Sequence[str] = (),
    legend: Mapping[str, Colour] | None = None,
    width: int = 320,
) -> Image.Image:
    """Put pictures side by side: a title over each column, a caption under each row, a legend.

    A cell is bool (H, W), drawn black and white, or uint8 (H, W) or (H, W, C), 0..255; it is
    scaled to `width` pixels, and a row is as high as its highest cell.
    """
    if any(len(row) != len(titles) for row in rows) or len(captions) not in (0, len(rows)):
        raise ValueError("a sheet needs one title a column, and one caption a row or none")
    cells = [[_scaled(cell, width) for cell in row] for row in rows]
    heights = [max(cell.height for cell in row) for row in cells]
    below = _GAP + (_LINE if captions else 0)
    page_width = _GAP + len(titles) * (width + _GAP)
    keys = _legend_lines(legend or {}, page_width)
    height = _GAP + _LINE + sum(heights) + below * len(rows) + _LINE * len(keys)
    page = Image.new("RGB", (page_width, height), "white")
    draw = ImageDraw.Draw(page)
    for column, title in enumerate(titles):
        write_line(draw, (_GAP + column * (width + _GAP), _GAP), title, width, _INK)
    top = _GAP + _LINE
    for index, row in enumerate(cells):
        for column, cell in enumerate(row):
            page.paste(cell, (_GAP + column * (width + _GAP), top))
        top += heights[index]
        if captions:
            write_line(draw, (_GAP, top + 4), captions[index], page_width - 2 * _GAP, _QUIET)
        top += below
    for line in keys:
        _draw_keys(draw, top, line)
        top += _LINE
    return page


def _legend_lines(legend: Mapping[str, Colour], width: int) -> list[list[Key]]:
    """The colours of a legend with their names and places, in as many lines as the width asks."""
    lines: list[list[Key]] = []
    left = width  # full: the first key begins a line
    for name, colour in legend.items():
        size = 18 + round(_font().getlength(name)) + 2 * _GAP
        if left + size > width:
            lines.append([])
            left = _GAP
        lines[-1].append((left, name, colour))
        left += size
    return lines


def _draw_keys(draw: ImageDraw.ImageDraw, top: int, keys: Sequence[Key]) -> None:
    for left, name, colour in keys:
        draw.rectangle((left, top, left + 12, top + 12), fill=colour, outline=_QUIET)
        draw.text((left + 18, top + 6), name, fill=_QUIET, font=_font(), anchor="lm")


def write_line(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, width: int, ink: Colour
) -> None:
    """Draw one line of text, its upper left corner at `place` (x, y), cut to `width` pixels."""
    font = _font()
    if draw.textlength(text, font=font) > width:
        while text and draw.textlength(text + "...", font=font) > width:
            text = text[:-1]
        text += "..."
    draw.text(place, text, fill=ink, font=font)


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(14)  # ships with Pillow: the same on every machine


def _scaled(cell: NDArray[np.uint8] | NDArray[np.bool_], width: int) -> Image.Image:
    pixels = np.where(cell, 255, 0).astype(np.uint8) if cell.dtype == np.bool_ else cell
    picture = Image.fromarray(_rgb(pixels.astype(np.uint8, copy=False)))
    height = max(1, round(picture.height * width / picture.width))
    shrinks = width < picture.width
    kind = Image.Resampling.LANCZOS if shrinks else Image.Resampling.NEAREST
    return picture.resize((width, height), kind)


def _rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) or (H, W, C) as (H, W, 3): the first three channels, or the first one as grey."""
    if image.ndim == 2:
        image = image[..., None]
    return image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)


def _colours(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The colours, (N, 3), of foreground classes (N,)."""
    return np.array(CLASSES, np.uint8)[(classes - 1) % len(CLASSES)]


def _blend(
    base: NDArray[np.uint8], where: NDArray[np.bool_], colour: NDArray[np.uint8], strength: float
) -> NDArray[np.uint8]:
    """A copy of (H, W, 3) with `colour` laid over the pixels `where`; strength 1 hides them.

    One colour (3,), or one a pixel (N, 3).
    """
    result = base.copy()
    mixed = (1 - strength) * result[where] + strength * colour
    result[where] = np.rint(mixed).astype(np.uint8)
    return result


def _eroded(mask: ClassMask) -> ClassMask:
    """A mask with 0 where a neighbour is of another class; the picture's edge counts as inside."""
    padded = np.pad(mask, 1, mode="edge")
    up, down = padded[:-2, 1:-1], padded[2:, 1:-1]
    left, right = padded[1:-1, :-2], padded[1:-1, 2:]
    inside = (up == mask) & (down == mask) & (left == mask) & (right == mask)
    eroded: ClassMask = mask * inside
    return eroded


def _same_size(image: NDArray[np.uint8], other: ClassMask) -> None:
    if other.shape != image.shape[:2]:
        raise ValueError(f"the image is {image.shape[:2]}, what belongs to it {other.shape}")
