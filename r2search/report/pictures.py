"""Pictures of predictions: outlined on the image, coded by error, side by side."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

PREDICTION: Colour = (0, 229, 255)  # cyan: seen on red fundus, skin and grey alike
# White, orange and blue differ in lightness too, so every kind of colour vision tells them apart.
ERRORS: dict[str, Colour] = {
    "found": (244, 244, 240),
    "false alarm": (255, 153, 0),
    "missed": (64, 140, 255),
}
_INK, _QUIET = (28, 36, 48), (91, 103, 118)
_GAP, _LINE = 10, 22  # pixels between cells, and of one line of text


def overlay(image: NDArray[np.uint8], prediction: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Fill the predicted foreground translucently and outline it, on a copy of the image.

    `image` (H, W, C) in 0..255 with any C (fewer than three channels: the first one as grey),
    `prediction` (H, W); the result is RGB, (H, W, 3).
    """
    base = _rgb(image)
    _same_size(base, prediction)
    inside = prediction
    for _ in range(max(1, round(max(prediction.shape) / 1000))):  # seen at any image size
        inside = _eroded(inside)
    filled = _blend(base, prediction, PREDICTION, 0.45)
    return _blend(filled, prediction & ~inside, PREDICTION, 1.0)


def errors(
    image: NDArray[np.uint8],
    prediction: NDArray[np.bool_],
    mask: NDArray[np.bool_],
    fov: NDArray[np.bool_],
) -> NDArray[np.uint8]:
    """Colour what was found, falsely found and missed (ERRORS) over the darkened grey image.

    All arrays (H, W), the image (H, W, C). Outside `fov`, where nothing is scored, the picture is
    darker still and without colour. The result is RGB, (H, W, 3).
    """
    base = _rgb(image)
    mask = mask.astype(np.bool_)  # class indices are welcome
    for other in (prediction, mask, fov):
        _same_size(base, other)
    grey = np.asarray(Image.fromarray(base).convert("L"), dtype=np.float32)
    shade = np.where(fov, 0.45, 0.18) * grey
    picture = np.repeat(shade.astype(np.uint8)[..., None], 3, axis=2)
    kinds = (prediction & mask, prediction & ~mask, ~prediction & mask)
    for where, colour in zip(kinds, ERRORS.values(), strict=True):
        picture = _blend(picture, where & fov, colour, 0.85)
    return picture


def sheet(
    rows: Sequence[Sequence[NDArray[np.uint8] | NDArray[np.bool_]]],
    titles: Sequence[str],
    *,
    captions: Sequence[str] = (),
    legend: Mapping[str, Colour] = ERRORS,
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
    size = (
        _GAP + len(titles) * (width + _GAP),
        _GAP + _LINE + sum(heights) + below * len(rows) + (_LINE if legend else 0),
    )
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    for column, title in enumerate(titles):
        _write(draw, (_GAP + column * (width + _GAP), _GAP), title, width, _INK)
    top = _GAP + _LINE
    for index, row in enumerate(cells):
        for column, cell in enumerate(row):
            page.paste(cell, (_GAP + column * (width + _GAP), top))
        top += heights[index]
        if captions:
            _write(draw, (_GAP, top + 4), captions[index], size[0] - 2 * _GAP, _QUIET)
        top += below
    _draw_legend(draw, top, legend)
    return page


def _draw_legend(draw: ImageDraw.ImageDraw, top: int, legend: Mapping[str, Colour]) -> None:
    left = _GAP
    for name, colour in legend.items():
        draw.rectangle((left, top, left + 12, top + 12), fill=colour, outline=_QUIET)
        draw.text((left + 18, top + 6), name, fill=_QUIET, font=_font(), anchor="lm")
        left += 18 + int(draw.textlength(name, font=_font())) + 2 * _GAP


def _write(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, width: int, ink: Colour
) -> None:
    """Draw one line of text, shortened to `width` pixels."""
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


def _blend(
    base: NDArray[np.uint8], where: NDArray[np.bool_], colour: Colour, strength: float
) -> NDArray[np.uint8]:
    """A copy of (H, W, 3) with `colour` laid over the pixels `where`; strength 1 hides them."""
    result = base.copy()
    mixed = (1 - strength) * result[where] + strength * np.array(colour)
    result[where] = np.rint(mixed).astype(np.uint8)
    return result


def _eroded(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels whose four neighbours are all in `region`; the picture's edge counts as inside."""
    padded = np.pad(region, 1, mode="edge")
    up, down = padded[:-2, 1:-1], padded[2:, 1:-1]
    left, right = padded[1:-1, :-2], padded[1:-1, 2:]
    inside: NDArray[np.bool_] = region & up & down & left & right
    return inside


def _same_size(image: NDArray[np.uint8], other: NDArray[np.bool_]) -> None:
    if other.shape != image.shape[:2]:
        raise ValueError(f"the image is {image.shape[:2]}, what belongs to it {other.shape}")
