"""Procedural micrographs of cell nuclei: something to train on where there is no data.

They are drawn, not measured: a score on them says that the software works, nothing about cells.
The same numbers, and so the same pictures, are drawn every time.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from r2search.config import DataConfig
from r2search.data.readers.drawing import (
    Floats,
    Grid,
    Shape,
    as_read,
    blob,
    clouds,
    ellipse,
    pixel_grid,
    soft,
)
from r2search.data.samples import Sample, rng_for

SEED = 20260103  # of the whole data set
PICTURES = 36
STAINED = 4  # one picture in so many
SHAPES = ((176, 176), (160, 208), (208, 208), (192, 256))

# Absorption in red, green and blue light.
HAEMATOXYLIN = np.array([0.95, 1.55, 0.42])  # dyes nuclei
EOSIN = np.array([0.10, 0.62, 0.26])  # dyes all else


class Nucleus(NamedTuple):
    """One nucleus, in pixels and radians; `level` is how much dye it took, about 1."""

    y: float
    x: float
    height: float  # half of it, before it is turned
    width: float
    turn: float
    level: float

    @property
    def size(self) -> float:
        return math.sqrt(self.height * self.width)


def synthetic_nuclei(root: Path | None, config: DataConfig) -> list[Sample]:
    """Draw 36 micrographs, ids `01`, `02`, ..., each a subject of its own; `root` is not read.

    Three of four show fluorescent nuclei, bright on dark and grey; the others stained tissue, dark
    on bright. They are RGB, or their luma where `config` reads grey, of four sizes from 176 x 176
    to 192 x 256 pixels. Nuclei touch and overlap; the mask is all of them. Exposure, dim nuclei
    beside bright ones, haze and debris keep a grey threshold from finding them.
    """
    return [as_read(_micrograph(number), config) for number in range(1, PICTURES + 1)]


def _micrograph(number: int) -> Sample:
    name = f"{number:02d}"
    rng = rng_for(SEED, "nuclei", name)
    shape = SHAPES[rng.integers(len(SHAPES))]
    nuclei = _culture(rng, shape)
    grid = _wavy(rng, shape)
    distances = [ellipse(grid, n[:2], n[2:4], n.turn) for n in nuclei]
    draw = _stained if number % STAINED == 0 else _fluorescent
    image = draw(rng_for(SEED, "light", name), nuclei, distances, grid)
    return Sample(
        image=np.clip(255 * image, 0, 255).astype(np.uint8),
        mask=(np.min(distances, axis=0) < 1).astype(np.uint8),
        fov=np.ones(shape, np.bool_),
        subject=name,
        id=name,
    )


def _wavy(rng: np.random.Generator, shape: Shape) -> Grid:
    """Coordinates that are off by about a pixel, so that no nucleus is a true ellipse."""
    rows, columns = pixel_grid(shape)
    return (
        rows + 0.8 * clouds(rng, 16, shape=shape) + 1.2 * clouds(rng, 7, shape=shape),
        columns + 0.8 * clouds(rng, 16, shape=shape) + 1.2 * clouds(rng, 7, shape=shape),
    )


def _culture(rng: np.random.Generator, shape: Shape) -> list[Nucleus]:
    """Nuclei of one kind of cell until they cover a drawn share; many lie beside another one."""
    typical, oval = rng.uniform(5.5, 12), rng.uniform(0.03, 0.20)
    covered, wanted = 0.0, rng.uniform(0.05, 0.30) * shape[0] * shape[1]
    together, uneven = rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.6)
    nuclei: list[Nucleus] = []
    for _ in range(2000):
        size = typical * math.exp(rng.normal(0, 0.22))
        stretch = math.exp(abs(rng.normal(0, oval)))
        y, x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        if nuclei and rng.random() < together:
            other, angle = nuclei[rng.integers(len(nuclei))], rng.uniform(0, 2 * math.pi)
            apart = (other.size + size) * rng.uniform(0.75, 1.15)
            y, x = other.y + apart * math.sin(angle), other.x + apart * math.cos(angle)
        level = math.exp(rng.normal(0, uneven))
        new = Nucleus(y, x, size * stretch, size / stretch, rng.uniform(0, math.pi), level)
        if all(math.dist(new[:2], n[:2]) > 0.72 * (new.size + n.size) for n in nuclei):
            nuclei.append(new)
            inside = -size / 2 < y < shape[0] + size / 2 and -size / 2 < x < shape[1] + size / 2
            covered += math.pi * size**2 * inside
        if covered > wanted:
            break
    return nuclei


def _fluorescent(
    rng: np.random.Generator, nuclei: list[Nucleus], distances: list[Floats], grid: Grid
) -> Floats:
    """Nuclei that glow on dark, unevenly lit, with haze of others above and below the focus."""
    shape = distances[0].shape
    chromatin = 1 + 0.22 * clouds(rng, 40, shape=shape) + 0.15 * clouds(rng, 80, shape=shape)
    glow, blur = np.zeros(shape), rng.uniform(0.6, 1.5)
    for nucleus, far in zip(nuclei, distances, strict=True):
        dome = 0.75 + 0.25 * np.clip(1 - far**2, 0, 1)
        glow += nucleus.level * dome * soft((1 - far) * nucleus.size / blur)
    glow *= np.clip(chromatin, 0.3, 2)
    haze = np.zeros(shape)
    for _ in range(rng.poisson(7)):
        centre = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        size = nuclei[rng.integers(len(nuclei))].size
        haze += rng.uniform(0.15, 0.7) * blob(centre, size * rng.uniform(0.9, 2.2), shape=shape)
    haze += rng.uniform(0.02, 0.35) * soft(1.2 * clouds(rng, 3, shape=shape))
    for _ in range(rng.poisson(6)):  # debris
        centre = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        haze += rng.uniform(0.5, 2.5) * blob(centre, rng.uniform(0.7, 1.3), shape=shape)
    lamp = 1 - rng.uniform(0, 0.6) * ellipse(grid, (shape[0] / 2, shape[1] / 2), shape) ** 2 * 2
    light = (glow + haze) * np.clip(lamp, 0.2, 1) + rng.uniform(0.02, 0.12)
    light = ndimage.gaussian_filter(light, blur / 2)
    photons = rng.uniform(25, 250)
    light = rng.poisson(photons * light) / photons + rng.normal(0, 0.015, shape)
    exposure = math.exp(rng.uniform(math.log(0.10), math.log(0.62)))
    return np.repeat((exposure * light)[..., None], 3, axis=2)


def _stained(
    rng: np.random.Generator, nuclei: list[Nucleus], distances: list[Floats], grid: Grid
) -> Floats:
    """Violet nuclei in pink tissue with fibres, vacuoles and gaps, as through a bright field."""
    shape = distances[0].shape
    fibres = _fibres(rng, max(shape))[: shape[0], : shape[1]]
    tissue = soft(2.5 * clouds(rng, 4, shape=shape) + rng.uniform(0, 2.5))
    tissue *= np.clip(0.6 + 0.22 * fibres + 0.2 * clouds(rng, 20, shape=shape), 0.05, 2)
    cytoplasm, violet = np.zeros(shape), np.zeros(shape)
    chromatin = clouds(rng, 45, shape=shape) + 0.6 * clouds(rng, 80, shape=shape)
    for nucleus, far in zip(nuclei, distances, strict=True):
        cytoplasm = np.maximum(cytoplasm, 0.5 * soft((1.7 - far) * 5))
        open_ = rng.random() < 0.4  # a pale nucleus with a dark rim and clumps
        dye = (0.5 + 0.4 * far**3 if open_ else 0.95) + (0.3 if open_ else 0.14) * chromatin
        dye = np.clip(dye, 0.1, 2) * min(nucleus.level, 1.5)
        violet = np.maximum(violet, dye * soft((1 - far) * nucleus.size / 0.9))
    for _ in range(rng.poisson(5)):  # vacuoles
        centre = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        tissue *= 1 - 0.9 * soft((1 - ellipse(grid, centre, (rng.uniform(3, 9),) * 2)) * 6)
    violet += rng.uniform(0.0, 0.25) * tissue + 0.02
    strength, pink = rng.uniform(0.6, 1.3), rng.uniform(0.3, 1.1)
    absorbed = (strength * violet)[..., None] * HAEMATOXYLIN
    absorbed += (pink * (tissue + cytoplasm))[..., None] * EOSIN
    lamp = rng.uniform(0.86, 1.0) * (1 + 0.03 * clouds(rng, 2, shape=shape))
    image = lamp[..., None] * np.exp(-absorbed) * (1 + rng.normal(0, 0.02, 3))
    image = ndimage.gaussian_filter(image, (0.7, 0.7, 0))
    return np.asarray(image + rng.normal(0, 0.012, image.shape))


def _fibres(rng: np.random.Generator, side: int) -> Floats:
    """Wavy streaks that run down or across a square, mean 0 and deviation about 1."""
    straight = ndimage.gaussian_filter(rng.normal(0, 1, (side, side)), (1.0, 6.0))
    rows, columns = np.indices((side, side))
    shift = np.round(7 * clouds(rng, 3, shape=(side, side))).astype(int)
    streaks: Floats = straight[(rows + shift) % side, columns] / straight.std()
    return streaks.T if rng.random() < 0.5 else streaks
