"""Procedural dermoscopic photographs: something to train on where there is no data.

They are drawn, not measured: a score on them says that the software works, nothing about skin.
The same numbers, and so the same pictures, are drawn every time.
"""

import math
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from r2search.config import DataConfig
from r2search.data.readers.drawing import (
    Floats,
    Place,
    as_read,
    blob,
    clouds,
    ellipse,
    pixel_grid,
    soft,
    stroke,
    walk,
)
from r2search.data.samples import Sample, rng_for

SEED = 20260102  # of the whole data set
SUBJECTS = 20
SHAPE = (192, 256)
CENTRE = (96.0, 128.0)
GRID = pixel_grid(SHAPE)
FROM_CENTRE = ellipse(GRID, CENTRE, (160.0, 160.0))  # 1 in the corners

# Absorption in red, green and blue light.
MELANIN = np.array([0.42, 0.82, 1.15])
BLOOD = np.array([0.10, 0.62, 0.48])
DEEP = np.array([1.0, 0.92, 0.72])  # melanin far below the surface looks blue-grey

_clouds = partial(clouds, shape=SHAPE)
_blob = partial(blob, shape=SHAPE)
_stroke = partial(stroke, shape=SHAPE)


def synthetic_skin(root: Path | None, config: DataConfig) -> list[Sample]:
    """Draw 40 photographs of 20 subjects, ids `01a`, `01b`, ...; `root` is not read.

    They are RGB, 192 x 256 pixels, or their luma where `config` reads grey. Each shows one lesion,
    from light brown to black, blurred at its border; the mask is its filled outline. Skin tone
    is the subject's. Hairs, freckles, flushed skin, dark corners, rulers, ink and air bubbles keep
    a grey threshold from finding it.
    """
    return [
        as_read(_photograph(subject, which), config)
        for subject in range(1, SUBJECTS + 1)
        for which in "ab"
    ]


def _photograph(subject: int, which: str) -> Sample:
    name = f"{subject:02d}{which}"
    mask = _outline(rng_for(SEED, "outline", name))
    density = _skin(rng_for(SEED, "tone", subject), rng_for(SEED, "skin", name))
    density += _lesion(mask, rng_for(SEED, "lesion", name))
    image = np.exp(-density)
    image = _with_hairs(image, rng_for(SEED, "hairs", name))
    image = _with_things(image, rng_for(SEED, "things", name))
    return Sample(
        image=_camera(image, rng_for(SEED, "camera", name)),
        mask=mask.astype(np.uint8),
        fov=np.ones(SHAPE, np.bool_),
        subject=f"{subject:02d}",
        id=name,
    )


def _outline(rng: np.random.Generator) -> NDArray[np.bool_]:
    """One ragged region without holes, from a thirtieth to over half of the picture."""
    size = rng.uniform(22, 74)
    stretch = rng.uniform(0.72, 1.0)
    centre = CENTRE[0] + rng.normal(0, 12), CENTRE[1] + rng.normal(0, 18)
    far = ellipse(GRID, centre, (size * stretch, size / stretch), rng.uniform(0, math.pi))
    ragged = 0.16 * _clouds(rng, round(420 / size)) + 0.07 * _clouds(rng, round(1100 / size))
    ragged += 0.035 * _clouds(rng, 40)
    inside = far + rng.uniform(0.5, 1.3) * ragged < 1
    regions, _ = ndimage.label(ndimage.binary_opening(inside, iterations=3))
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0  # the skin
    return np.asarray(ndimage.binary_fill_holes(regions == sizes.argmax()), np.bool_)


def _skin(tone: np.random.Generator, rng: np.random.Generator) -> Floats:
    """What the skin absorbs: the subject's tone, flushed and mottled, with freckles and vessels."""
    tan, flush = 0.04 + 1.1 * tone.beta(0.9, 1.9), tone.uniform(0.04, 0.28)
    freckled = tone.uniform(0, 1) ** 2
    melanin = 1 + 0.10 * _clouds(rng, 6) + 0.09 * _clouds(rng, 25) + 0.05 * _clouds(rng, 90)
    melanin *= tan
    spots, uneven = np.zeros(SHAPE), 0.12 * _clouds(rng, 40)
    for _ in range(rng.poisson(3 + 34 * freckled)):
        spot = _blob(_anywhere(rng), rng.uniform(1.5, 9), rng.uniform(0.6, 1.6))
        spot = soft((spot + uneven - 0.5) * 8)
        spots = np.maximum(spots, rng.uniform(0.08, 0.5) * spot)
    blood = flush * np.clip(1 + 0.3 * _clouds(rng, 4) + 0.16 * _clouds(rng, 30), 0.1, 2)
    for _ in range(rng.poisson(1.2)):
        blood += rng.uniform(0.05, 0.35) * _blob(_anywhere(rng), rng.uniform(14, 50))
    vessels = [
        _line(rng, _anywhere(rng), rng.uniform(20, 70), rng.uniform(0.3, 0.7), wavy=0.09)
        for _ in range(rng.poisson(5))
    ]
    if vessels:
        points = np.concatenate(vessels)
        lines = _stroke(points, np.ones(len(points)))
        blood += rng.uniform(0.1, 0.5) * ndimage.gaussian_filter(lines, 0.7)
    absorbed: Floats = (melanin + spots)[..., None] * MELANIN + blood[..., None] * BLOOD
    return absorbed


def _lesion(mask: NDArray[np.bool_], rng: np.random.Generator) -> Floats:
    """What the lesion absorbs besides: brown in several shades, a net, dots, and pale places."""
    depth = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    blur = np.clip(rng.uniform(1.2, 5.0) * np.exp(0.5 * _clouds(rng, 5)), 0.7, 9)
    whole = soft(depth / blur)
    strength = rng.uniform(0.3, 0.7) if rng.random() < 0.6 else rng.uniform(0.7, 1.7)
    variety = rng.uniform(0.15, 0.5)
    shade = 1 + variety * (_clouds(rng, 6) + 0.6 * _clouds(rng, 16)) + 0.1 * _clouds(rng, 60)
    net = np.exp(-((_clouds(rng, int(rng.integers(36, 56))) / 0.4) ** 2)) - 0.45
    shade += rng.uniform(0, 0.6) * net * soft(2 * _clouds(rng, 5))
    regressed = soft(4 * (_clouds(rng, 5) - rng.uniform(-0.3, 1.5))) * soft((depth - 7) / 2)
    melanin = strength * np.clip(shade, 0.25, 2.4) * (1 - 0.92 * regressed)
    dots = np.zeros(SHAPE)
    inside = np.argwhere(depth > 3)
    for y, x in inside[rng.integers(0, len(inside), rng.poisson(9))]:
        dots = np.maximum(dots, rng.uniform(0.2, 0.8) * _blob((y, x), rng.uniform(0.8, 2.2)))
    y, x = inside[rng.integers(len(inside))]
    veil = rng.uniform(0, 0.5) * soft(3 * (_clouds(rng, 9) - 0.6)) * _blob((y, x), 24)
    blood = rng.uniform(0.0, 0.25) * np.clip(1 + 0.6 * _clouds(rng, 8), 0, 3)
    pink = rng.random() < 0.2  # a lesion with little pigment
    melanin *= 0.35 if pink else 1.0
    blood = blood + 0.3 if pink else blood
    layers = (melanin + strength * dots, MELANIN), (veil, DEEP), (blood, BLOOD)
    absorbed = sum((layer[..., None] * colour for layer, colour in layers), np.zeros(3))
    return np.asarray(whole[..., None] * absorbed)


def _anywhere(rng: np.random.Generator) -> Place:
    return rng.uniform(0, SHAPE[0]), rng.uniform(0, SHAPE[1])


def _line(
    rng: np.random.Generator, start: Place, length: float, radius: float, wavy: float
) -> Floats:
    """The points (y, x, radius) of a line that bends one way and trembles by `wavy`."""
    steps = int(2 * length)
    bends = ndimage.gaussian_filter1d(rng.normal(rng.normal(0, 0.006), wavy, steps), 3)
    path = walk(start, rng.uniform(0, 2 * math.pi), bends)
    return np.column_stack([path, np.full(steps, radius)])


def _with_hairs(image: Floats, rng: np.random.Generator) -> Floats:
    """Hairs of one colour, none on every third picture, and stubble on some."""
    number = rng.choice((0, 5, 14, 30), p=(0.34, 0.3, 0.22, 0.14))
    hairs = [
        _line(rng, _anywhere(rng), rng.uniform(50, 260), rng.uniform(0.25, 0.85), wavy=0.03)
        for _ in range(number)
    ]
    if rng.random() < 0.2:
        hairs += [_line(rng, _anywhere(rng), 4, 0.6, wavy=0) for _ in range(60)]
    if not hairs:
        return image
    points = np.concatenate(hairs)
    cover = rng.uniform(0.6, 0.95) * _stroke(points, np.ones(len(points)))[..., None]
    dark, light = np.array([0.13, 0.09, 0.07]), np.array([0.80, 0.68, 0.50])
    colour = light if rng.random() < 0.15 else dark
    return np.asarray(image * (1 - cover) + cover * colour)


def _with_things(image: Floats, rng: np.random.Generator) -> Floats:
    """A ruler, ink of a surgeon's pen, and bubbles in the gel under the glass, each on some."""
    if rng.random() < 0.3:
        cover = 0.8 * _stroke(*_ruler(rng))[..., None]
        image = image * (1 - cover) + cover * 0.12
    if rng.random() < 0.2:
        y, x = rng.choice((22, 170)), rng.uniform(20, 236)
        strokes = [_line(rng, (y + 3 * n, x), 34, 1.1, wavy=0.05) for n in range(4)]
        points = np.concatenate(strokes)
        grain = np.clip(0.6 + 0.5 * _clouds(rng, 90), 0, 1)
        ink = _stroke(points, np.ones(len(points))) * grain
        image = image * np.exp(-ink[..., None] * np.array([1.0, 1.5, 0.45]))
    for _ in range(rng.choice((0, 4, 12), p=(0.5, 0.3, 0.2))):
        centre, size = _anywhere(rng), rng.uniform(2, 9)
        out = np.hypot(GRID[0] - centre[0], GRID[1] - centre[1])
        facing = (CENTRE[0] - GRID[0] + CENTRE[1] - GRID[1]) / 300
        rim = np.exp(-(((out - size) / 0.8) ** 2)) * (0.14 + 0.2 * facing)
        glint = 0.5 * _blob((centre[0] - size / 2, centre[1] - size / 2), 0.8)
        image = image + (rim + glint)[..., None]
    return image


def _ruler(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Points (y, x, radius) and weights of a scale with ticks, along an edge, a little aslant."""
    gap, ticks = rng.uniform(5, 9), 22
    along = np.arange(0, gap * ticks, 0.5)
    lines = [np.column_stack([np.zeros(len(along)), along])]
    for n in range(ticks + 1):
        up = np.arange(0, 9 if n % 5 == 0 else 5, 0.5)
        lines.append(np.column_stack([-up, np.full(len(up), gap * n)]))
    turn = rng.normal(0, 0.12) + rng.choice((0, math.pi / 2))
    y, x = np.concatenate(lines).T
    start = (rng.uniform(160, 184), rng.uniform(5, 60)) if abs(turn) < 0.8 else (8.0, 232.0)
    down = y * math.cos(turn) + x * math.sin(turn)
    across = x * math.cos(turn) - y * math.sin(turn)
    points = np.column_stack([start[0] + down, start[1] + across, np.full(len(y), 0.35)])
    return points, np.full(len(y), 1.0)


def _camera(image: Floats, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Lamp, dark corners, white balance, focus and grain."""
    lamp = rng.uniform(0.72, 1.12) * (1 + 0.09 * _clouds(rng, 2))
    lamp *= 1 - rng.uniform(0.0, 0.55) * FROM_CENTRE**2.5
    if rng.random() < 0.25:  # the tube of the dermoscope is in the picture
        lamp *= 0.06 + 0.94 * soft((rng.uniform(0.74, 0.84) - FROM_CENTRE) * 60)
    image = image * lamp[..., None] * (1 + rng.normal(0, 0.05, 3))
    sharpness = rng.uniform(0.5, 0.9)
    image = ndimage.gaussian_filter(image, (sharpness, sharpness, 0))
    image = image + rng.normal(0, 0.012, image.shape) + rng.normal(0, 0.010, (*SHAPE, 1))
    image = ndimage.gaussian_filter(image, (0.4, 0.4, 0))
    return np.clip(255 * image, 0, 255).astype(np.uint8)
