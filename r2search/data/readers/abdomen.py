"""The anatomy behind the procedural CT slices: a body of ellipsoids, another one by each seed.

Lengths are millimetres: y to the patient's back, x to the patient's left (which is on the right
of the picture, as radiologists look at it), z to the feet. Grey values are Hounsfield units (HU).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from r2search.data.readers.drawing import Floats, Grid, Shape, clouds, ellipse

LONG = 1e4  # mm: goes through all slices


class Ball(NamedTuple):
    """An ellipsoid; `turn` is about its own z axis, `lean` how far x moves per mm of z."""

    centre: tuple[float, float, float]  # y, x, z
    axes: tuple[float, float, float]  # halves
    turn: float = 0.0
    lean: float = 0.0

    def far(self, grid: Grid, z: float) -> Floats:
        """0 in the centre, 1 on the surface, in the slice at `z`."""
        dz = z - self.centre[2]
        centre = self.centre[0], self.centre[1] + self.lean * dz
        across = ellipse(grid, centre, self.axes[:2], self.turn)
        far: Floats = np.hypot(across, dz / self.axes[2])
        return far


ANATOMY = {
    "cavity": Ball((-10, 0, 0), (86, 138, LONG)),
    "right dome": Ball((4, -74, 112), (98, 86, 112)),  # what lies below the diaphragm
    "left dome": Ball((2, 70, 114), (98, 84, 108)),
    "middle dome": Ball((-40, 0, 118), (90, 70, 102)),
    "mediastinum": Ball((24, 4, 0), (44, 30, LONG)),
    "heart": Ball((-38, 16, -14), (42, 60, 36), 0.3),
    "liver": Ball((-14, -72, 50), (76, 70, 76), 0.15, -0.25),
    "left lobe": Ball((-50, -2, 36), (30, 72, 40), -0.15),
    "spleen": Ball((30, 96, 48), (56, 30, 46), 0.5),
    "hollow": Ball((4, 66, 48), (46, 27, 80), 0.4),  # where the stomach dents the spleen
    "stomach": Ball((-30, 52, 40), (42, 34, 54), 0.3, -0.25),
    "left kidney": Ball((42, 62, 104), (30, 23, 46), -0.35, -0.08),
    "left hilum": Ball((31, 45, 104), (11, 15, 20), -0.35, -0.08),
    "right kidney": Ball((44, -62, 112), (30, 23, 46), 0.35, 0.08),
    "right hilum": Ball((33, -45, 112), (11, 15, 20), 0.35, 0.08),
    "gallbladder": Ball((-40, -48, 88), (20, 12, 22), 0.5),
    "pancreas": Ball((-4, 16, 82), (10, 46, 18), -0.25),
    "aorta": Ball((24, 9, 0), (11, 11, LONG)),
    "cava": Ball((18, -22, 0), (11, 14, LONG)),
    "splenic flexure": Ball((-28, 104, 88), (26, 20, 34), 0.3),
    "hepatic flexure": Ball((-44, -84, 130), (24, 24, 34)),
    "transverse colon": Ball((-74, 14, 108), (14, 80, 26)),
    "right psoas": Ball((50, -34, 140), (17, 13, 62)),
    "left psoas": Ball((50, 34, 140), (17, 13, 62)),
}


# Smooth fields that bend and marble what is drawn: about so many blobs across the picture.
WAVES = {"down": 4, "across": 4, "finely down": 9, "finely across": 9, "marble": 10, "branch": 10}


@dataclass(frozen=True, kw_only=True, slots=True)
class Patient:
    """What the slices of a volume share."""

    anatomy: dict[str, Ball]
    hu: dict[str, float]
    bowel: list[Ball]
    vessels: list[Ball]  # of the mesentery
    fat: float  # mm below the skin
    top: float  # z of the first slice
    noise: float  # HU
    spacing: float  # mm from pixel to pixel
    waves: dict[str, tuple[Floats, Floats]]

    def wave(self, name: str, z: float) -> Floats:
        """A field of WAVES, mean 0 and deviation about 1, that changes slowly along z."""
        here, there = self.waves[name]
        return math.cos(z / 45) * here + math.sin(z / 45) * there


def draw_patient(rng: np.random.Generator, shape: Shape) -> Patient:
    """One body, everything a little elsewhere and of another size, that fits into `shape`."""
    anatomy = {name: _varied(rng, name, ball) for name, ball in ANATOMY.items()}
    fat = rng.uniform(7, 28)
    width = 2 * (anatomy["cavity"].axes[1] + fat + 12) + rng.uniform(12, 40)
    return Patient(
        anatomy=anatomy,
        hu=_values(rng),
        bowel=[_loop(rng) for _ in range(rng.integers(12, 20))],
        vessels=[_vessel(rng) for _ in range(26)],
        fat=fat,
        top=rng.uniform(-2, 8),
        noise=rng.uniform(9, 20),
        spacing=round(width / shape[1], 3),
        waves={
            name: (clouds(rng, cells, shape=shape), clouds(rng, cells, shape=shape))
            for name, cells in WAVES.items()
        },
    )


def _varied(rng: np.random.Generator, name: str, ball: Ball) -> Ball:
    fixed = name in ("cavity", "mediastinum")
    shift, stretch = rng.normal(0, (3, 3, 6)), np.exp(rng.normal(0, 0.04 if fixed else 0.10, 3))
    (y, x, z), (height, width, length) = ball.centre, ball.axes
    return ball._replace(
        centre=ball.centre if fixed else (y + shift[0], x + shift[1], z + shift[2]),
        axes=(height * stretch[0], width * stretch[1], length * stretch[2]),
    )


def _values(rng: np.random.Generator) -> dict[str, float]:
    """HU of what takes up contrast medium: a little after it was given, or at the best time."""
    phase = rng.uniform(0.1, 1)
    return {
        "liver": 56 + 52 * phase + rng.normal(0, 6),
        "spleen": 50 + 66 * phase + rng.normal(0, 5),
        "kidneys": 34 + 130 * phase + rng.normal(0, 6),
        "blood": 42 + 105 * phase,
        "wall": 45 + 40 * phase,  # of stomach and bowel
        "meal": rng.choice((15.0, 30.0, 190.0), p=(0.5, 0.3, 0.2)),
    }


def _loop(rng: np.random.Generator) -> Ball:
    centre = rng.uniform(-78, 16), rng.uniform(-62, 92), rng.uniform(72, 150)
    size = rng.uniform(9, 15)
    return Ball(centre, (size, size * rng.uniform(1, 2.2), 22), rng.uniform(0, 3))


def _vessel(rng: np.random.Generator) -> Ball:
    centre = rng.uniform(-60, 20), rng.uniform(-40, 80), rng.uniform(50, 140)
    return Ball(centre, (2.8, 2.8, 40), lean=rng.normal(0, 0.4))
