"""Procedural fundus photographs: something to train on where there is no data.

They are drawn, not measured: a score on them says that the software works, nothing about eyes.
The same numbers, and so the same pictures, are drawn every time.
"""

import math
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from r2search.config import DataConfig
from r2search.data.readers.drawing import Floats, Place, as_read, blob, clouds, stroke
from r2search.data.samples import Sample, rng_for

SEED = 20260101  # of the whole data set
SUBJECTS = 8
SHAPE = (384, 400)
CENTRE = (192.0, 200.0)
RADIUS = 184.0  # of the circular field of view, pixels

# Absorption by blood, in red, green and blue light: vessels show best in green.
BLOOD = np.array([0.30, 0.78, 0.55])

_clouds = partial(clouds, shape=SHAPE)
_blob = partial(blob, shape=SHAPE)
_stroke = partial(stroke, shape=SHAPE)


def synthetic_retina(root: Path | None, config: DataConfig) -> list[Sample]:
    """Draw 16 photographs of 8 subjects, ids `01L`, `01R`, ...; `root` is not read.

    They are RGB, or their luma where `config.channels` is `grey`. Vessels cover 6 to 13 % of the
    field of view and narrow to one pixel. Dark spots, pigment, choroidal streaks and uneven light
    keep a grey threshold from finding them. `second_mask` is a second observer's, who draws
    thinner and leaves faint vessels out.
    """
    return [
        as_read(_photograph(subject, eye), config)
        for subject in range(1, SUBJECTS + 1)
        for eye in "LR"
    ]


def _photograph(subject: int, eye: str) -> Sample:
    name = f"{subject:02d}{eye}"
    rows, columns = np.indices(SHAPE)
    from_centre = np.hypot(rows - CENTRE[0], columns - CENTRE[1])
    fov = from_centre <= RADIUS

    rng = rng_for(SEED, "anatomy", name)
    temporal = -1 if eye == "R" else 1  # direction from the disc to the fovea in x
    disc = (CENTRE[0] + rng.uniform(-12, 12), CENTRE[1] - temporal * rng.uniform(85, 105))
    fovea = (disc[0] + rng.uniform(5, 18), disc[1] + temporal * rng.uniform(100, 115))
    points = _vessel_tree(rng, disc, fovea, temporal)

    image = _background(rng_for(SEED, "colour", subject), rng_for(SEED, "light", name))
    image *= _fundus(rng, disc, fovea)
    image = _with_lesions(image, rng_for(SEED, "lesions", name))
    image = _with_disc(image, rng, disc)
    image *= np.exp(-BLOOD * _absorption(points)[..., None])
    image = _camera(image, rng_for(SEED, "camera", name), from_centre)
    pixels = np.where(fov[..., None], image, image // 64).astype(np.uint8)
    return Sample(
        image=pixels,
        mask=_drawn(points, fov),
        fov=fov,
        subject=f"{subject:02d}",
        id=name,
        second_mask=_drawn(_as_seen_by_second(points, rng_for(SEED, "second", name)), fov),
    )


def _vessel_tree(rng: np.random.Generator, disc: Place, fovea: Place, temporal: int) -> Floats:
    """Arteries and veins from the disc: two arcades that bend round the fovea, and nasal ones.

    One row a point, half a pixel apart: y, x, radius, darkness, number of the branch. A fork
    keeps the sum of the cubed radii (Murray, PNAS 1926).
    """
    rows: list[tuple[float, ...]] = []
    todo = []  # y, x, heading (0 is temporal), radius, darkness, whether it bends as an arcade
    for side in (-1, 1):
        for angle, size in ((66, 1.0), (118, 0.75), (20, 0.36), (158, 0.42)):
            for radius, darkness, turn in ((2.7, 1.0, 6), (2.1, 0.72, -6)):
                heading = side * np.deg2rad(angle + turn + rng.normal(0, 5))
                todo.append((*disc, heading, radius * size, darkness, angle == 66))
    branch = 0
    while todo:
        y, x, heading, radius, darkness, arcade = todo.pop()
        branch += 1
        goal, bend, next_fork = heading, 0.0, rng.exponential(30) + 26
        while radius > 0.42:
            rows.append((y, x, radius, darkness, branch))
            y += 0.5 * math.sin(heading)
            x += 0.5 * math.cos(heading) * temporal
            if math.dist((y, x), CENTRE) > RADIUS + 4 or math.dist((y, x), fovea) < 22:
                break
            progress = temporal * (x - disc[1]) / 140 if arcade else 0.0
            bend = 0.97 * bend + rng.normal(0, 0.0045)
            heading += 0.022 * (goal * min(1.0, max(-0.2, 1 - progress)) - heading) + bend
            radius -= 0.0018
            next_fork -= 0.5
            if next_fork < 0 and radius > 0.7:
                share = rng.uniform(0.12, 0.5)  # of the flow, to the child
                turn = rng.choice((-1, 1)) * rng.uniform(0.5, 1.0)
                todo.append((y, x, heading + turn, radius * share ** (1 / 3), darkness, False))
                radius *= (1 - share) ** (1 / 3)
                heading -= turn * share * 0.5
                next_fork = rng.exponential(30) + 14
    return np.array(rows)


def _drawn(points: Floats, fov: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The mask of an observer who draws no line thinner than a pixel."""
    wide = points.copy()
    wide[:, 2] = np.maximum(wide[:, 2], 0.6)
    return ((_stroke(wide, np.ones(len(wide))) >= 0.5) & fov).astype(np.uint8)


def _as_seen_by_second(points: Floats, rng: np.random.Generator) -> Floats:
    """Thinner, off by part of a pixel, and without many of the thin branches."""
    branch = points[:, 4].astype(int)
    widest = np.zeros(branch.max() + 1)
    np.maximum.at(widest, branch, points[:, 2])
    missed = rng.random(len(widest)) < np.clip(1.0 - 0.85 * widest, 0, 0.75)
    shift = rng.normal(0, 0.35, (len(widest), 2))
    seen = points.copy()
    seen[:, :2] += shift[branch]
    seen[:, 2] *= 0.88
    return np.delete(seen, missed[branch], axis=0)


def _absorption(points: Floats) -> Floats:
    """How much blood the light crosses: less in thin vessels and on an artery's bright midline."""
    radius, darkness = points[:, 2], points[:, 3]
    dark = _stroke(points, darkness * np.clip(0.15 + 0.36 * radius, 0, 0.85))
    midline = points[(darkness < 0.9) & (radius > 1.5)]
    midline[:, 2] *= 0.25
    return dark - 0.22 * _stroke(midline, np.ones(len(midline)))


def _somewhere(rng: np.random.Generator, reach: float) -> Place:
    """A place in the square of half-edge `reach` radii about the centre."""
    dy, dx = RADIUS * rng.uniform(-reach, reach, 2)
    return CENTRE[0] + dy, CENTRE[1] + dx


def _background(subject: np.random.Generator, light: np.random.Generator) -> Floats:
    """The colour of the fundus, which two eyes share, under the lamp, which they do not."""
    pigment = subject.uniform(0, 1)
    colour = np.array([0.92 - 0.2 * pigment, 0.50 - 0.18 * pigment, 0.26 - 0.14 * pigment])
    lamp = light.uniform(0.8, 1.12) * (1 + 0.1 * _clouds(light, 2) + 0.06 * _clouds(light, 5))
    angle, reach = light.uniform(0, 2 * math.pi), 0.95 * RADIUS
    shadow = _blob((CENTRE[0] + reach * math.sin(angle), CENTRE[1] + reach * math.cos(angle)), 85)
    lamp *= (0.66 + 0.4 * _blob(CENTRE, 0.75 * RADIUS)) * (1 - 0.45 * shadow)
    return colour * lamp[..., None]


def _fundus(rng: np.random.Generator, disc: Place, fovea: Place) -> Floats:
    """What the retina and the choroid behind it let through: streaks, mottling, dark fovea."""
    rows = []
    for _ in range(70):
        y, x = _somewhere(rng, 1.0)
        heading = np.arctan2(y - disc[0], x - disc[1]) + rng.normal(0, 0.5)
        heading += np.cumsum(rng.normal(0, 0.03, int(rng.uniform(50, 180))))
        ys, xs = y + np.cumsum(0.7 * np.sin(heading)), x + np.cumsum(0.7 * np.cos(heading))
        rows.append(np.column_stack([ys, xs, np.full(len(ys), rng.uniform(1.2, 3.2))]))
    points = np.concatenate(rows)
    streaks = ndimage.gaussian_filter(_stroke(points, np.ones(len(points))), 1.6)
    streaks *= rng.uniform(0.35, 0.8) * np.clip(0.8 + 0.5 * _clouds(rng, 4), 0.1, 1.5)
    mottling = 0.035 * _clouds(rng, 22) + 0.03 * _clouds(rng, 60)
    spot = _blob(fovea, 22)
    shade = 0.22 * streaks + 0.35 * spot - mottling
    return np.exp(-np.array([0.5, 1.0, 0.9]) * shade[..., None])


def _with_disc(image: Floats, rng: np.random.Generator, disc: Place) -> Floats:
    """The optic disc, pale with a paler cup, in a ring of pigment."""
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    size, oval = rng.uniform(20, 24), rng.uniform(1.05, 1.2)
    distance = np.hypot((rows - disc[0]) / oval, columns - disc[1])
    distance += 0.8 * _clouds(rng, 14)
    ring = np.exp(-(((distance - size - 4) / 5) ** 2))[..., None]
    whole = 1 / (1 + np.exp((distance - size) / 1.3))[..., None]
    cup = _blob((disc[0] + rng.normal(0, 2), disc[1] + rng.normal(0, 2)), 0.42 * size, oval)
    pale = float(image.mean()) * np.array([2.5, 1.95, 1.05]) * (1 + 0.35 * cup[..., None])
    return image * (1 - 0.12 * ring) * (1 - 0.88 * whole) + 0.88 * whole * pale


def _with_lesions(image: Floats, rng: np.random.Generator) -> Floats:
    """Bleedings and pigment, dark as vessels are, and bright exudates and cotton wool spots."""
    ragged = _clouds(rng, 40)
    bleeding = np.zeros(SHAPE)
    for _ in range(rng.integers(14, 26)):
        size = rng.choice((1.2, 2.0, 4.0, 7.0), p=(0.45, 0.3, 0.15, 0.1)) * rng.uniform(0.8, 1.2)
        spot = _blob(_somewhere(rng, 0.85), size, rng.uniform(0.5, 2.0)) + 0.1 * ragged
        bleeding = np.maximum(bleeding, rng.uniform(0.4, 0.9) / (1 + np.exp(-(spot - 0.5) * 14)))
    image = image * np.exp(-BLOOD * bleeding[..., None])
    for _ in range(rng.integers(3, 7)):
        spot = _blob(_somewhere(rng, 0.8), rng.uniform(6, 20), rng.uniform(0.6, 1.6))
        spot = rng.uniform(0.15, 0.4) * np.clip(spot * (1 + 0.3 * ragged), 0, 1)
        image = image * (1 - spot[..., None])
    bright = np.zeros(SHAPE)
    y, x = _somewhere(rng, 0.6)
    for _ in range(rng.integers(6, 22)):
        spot = _blob((y + rng.normal(0, 18), x + rng.normal(0, 18)), rng.uniform(0.8, 2.4))
        bright = np.maximum(bright, rng.uniform(0.4, 0.9) * (spot > 0.45))
    for _ in range(rng.integers(0, 4)):
        bright = np.maximum(bright, 0.6 * _blob(_somewhere(rng, 0.7), rng.uniform(5, 10)))
    glow: Floats = image.mean() * np.array([0.7, 0.8, 0.45])
    return image + bright[..., None] * glow


def _camera(image: Floats, rng: np.random.Generator, from_centre: Floats) -> Floats:
    """Focus, glare, grain and the colour resolution of a compressed file; 0..255."""
    sharpness = rng.uniform(0.55, 0.9)
    image = ndimage.gaussian_filter(image, (sharpness, sharpness, 0))
    image = image + rng.normal(0, 0.019, image.shape) + rng.normal(0, 0.014, (*SHAPE, 1))
    image = ndimage.gaussian_filter(image, (0.45, 0.45, 0))
    grey = image.mean(axis=2, keepdims=True)
    image = grey + ndimage.uniform_filter(image - grey, (3, 3, 1))
    edge = np.clip((RADIUS - from_centre) / 4, 0.35, 1)[..., None]
    return np.clip(255 * image * edge, 0, 255)
