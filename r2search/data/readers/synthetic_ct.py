"""Procedural abdominal CT slices: something to train on where there is no data.

They are drawn, not measured: a score on them says that the software works, nothing about organs.
The same numbers, and so the same pictures, are drawn every time. Lengths, directions and grey
values are those of `abdomen.py`.
"""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from r2search.config import DataConfig, Misuse
from r2search.data.readers.abdomen import Patient, draw_patient
from r2search.data.readers.drawing import Floats, as_read, clouds, ellipse, pixel_grid
from r2search.data.readers.volumes import SOFT_TISSUE, Window, to_grey
from r2search.data.samples import Sample, rng_for

SEED = 20260104  # of the whole data set
VOLUMES = 6
SLICES = 14
APART = 7.5  # mm from slice to slice
SHAPE = (128, 128)
ORGANS = {1: "spleen", 2: "liver", 3: "kidneys"}
SPLEEN, LIVER, KIDNEYS = ORGANS

AIR, LUNG, FAT, MUSCLE = -1000.0, -860.0, -100.0, 58.0  # HU

Bools = NDArray[np.bool_]


def synthetic_ct(root: Path | None, config: DataConfig) -> list[Sample]:
    """Draw 14 axial slices of each of 6 volumes, ids `01_01`, ...; `root` is not read.

    Grey, 128 x 128 pixels, `config.window` (by default -160 to 240 HU) as 0 to 255; all slices of
    a volume are one subject. The mask is the spleen, which some slices do not reach; with
    `config.labels` the organs of these numbers (1 spleen, 2 liver, 3 kidneys) in that order.
    Spleen, liver, kidneys, stomach and muscle overlap in HU: only place and shape tell them apart.
    """
    shown = config.labels or (SPLEEN,)
    unknown = sorted(set(shown) - set(ORGANS))
    if unknown:
        known = ", ".join(f"{number} {name}" for number, name in ORGANS.items())
        raise Misuse(f"data.labels: synthetic_ct draws no organ {unknown[0]}; choose from {known}")
    window = config.window or SOFT_TISSUE
    samples = []
    for volume in range(1, VOLUMES + 1):
        patient = draw_patient(rng_for(SEED, "patient", volume), SHAPE)
        for number in range(1, SLICES + 1):
            sample = _slice(patient, f"{volume:02d}", number, shown, window)
            samples.append(as_read(sample, config))
    return samples


def _slice(
    patient: Patient, subject: str, number: int, shown: tuple[int, ...], window: Window
) -> Sample:
    z = patient.top + APART * (number - 1)
    scan = Scan(patient, z, rng_for(SEED, "slice", subject, number))
    scan.draw()
    mask = np.zeros(SHAPE, np.uint8)
    for index, organ in enumerate(shown, start=1):
        mask[scan.organ == organ] = index
    return Sample(
        image=to_grey(scan.measured(), window),
        mask=mask,
        fov=np.ones(SHAPE, np.bool_),
        subject=subject,
        id=f"{subject}_{number:02d}",
        spacing=(patient.spacing, patient.spacing),
    )


class Scan:
    """One slice being drawn: its HU, and which organ each pixel is of (0: none)."""

    def __init__(self, patient: Patient, z: float, rng: np.random.Generator) -> None:
        self.patient, self.z, self._rng = patient, z, rng
        rows, columns = pixel_grid(SHAPE)
        y, x = (rows - 64) * patient.spacing, (columns - 63.5) * patient.spacing
        self._straight = y, x
        self.grid = (
            y + 3.5 * patient.wave("down", z) + 1.6 * patient.wave("finely down", z),
            x + 3.5 * patient.wave("across", z) + 1.6 * patient.wave("finely across", z),
        )
        self.hu = np.full(SHAPE, AIR)
        self.organ = np.zeros(SHAPE, np.uint8)

    def far(self, name: str) -> Floats:
        return self.patient.anatomy[name].far(self.grid, self.z)

    def paint(self, inside: Bools, hu: float | Floats, organ: int = 0) -> None:
        self.hu = np.where(inside, hu, self.hu)
        self.organ[inside] = organ

    def draw(self) -> None:
        """From the outside in; what comes later covers what was there."""
        self._wall()
        self._lungs()
        self._bowel()
        self._stomach()
        self._organs()
        self._spine()
        self._ribs()

    def measured(self) -> Floats:
        """HU as a scanner gives them: blurred, with grain as large as the blur."""
        grain = ndimage.gaussian_filter(self._rng.normal(0, 1, SHAPE), 0.6)
        grain *= self.patient.noise / grain.std()
        return np.asarray(ndimage.gaussian_filter(self.hu, 0.55) + grain)

    def _wall(self) -> None:
        """The couch, skin, fat, and the muscles around the cavity and of the back."""
        cavity, fat = self.patient.anatomy["cavity"].axes, self.patient.fat
        flat, across = self._straight
        couch = flat - (cavity[0] + 1.1 * fat + 34) + across**2 / 1500
        self.paint((couch > 0) & (couch < 34), -940)
        shell = np.clip(2 - np.minimum(np.abs(couch - 2), np.abs(couch - 34)) / 2.5, 0, 1)
        self.hu = np.maximum(self.hu, AIR + 1060 * shell)
        skin = ellipse(self.grid, (0, 0), (cavity[0] + fat + 22, cavity[1] + fat + 12))
        self.paint(skin < 1, FAT)
        self.paint((skin < 1) & (skin > 0.98), 0)
        belly = ellipse(self.grid, (-7, 0), (cavity[0] + 12, cavity[1] + 10)) < 1
        back = np.minimum(
            *(ellipse(self.grid, (80, side), (25, 34), side / 200) for side in (-34, 34))
        )
        streaks = 26 * np.clip(self.patient.wave("branch", self.z) - 0.8, 0, 3)
        self.paint(belly | (back < 1), MUSCLE - streaks)
        self.cavity = self.far("cavity") < 1
        self.paint(self.cavity, FAT - 5)

    def _lungs(self) -> None:
        """Above the diaphragm: lungs, and the heart between them."""
        under = ("right dome", "left dome", "middle dome", "mediastinum")
        below = np.min([self.far(name) for name in under], axis=0)
        lung = self.cavity & (below > 1)
        vessels = np.clip(self.patient.wave("branch", self.z) - 1.6, 0, 1) * 900
        self.paint(lung & (below > 1.05), LUNG + vessels)
        self.paint(lung & (below <= 1.05), MUSCLE)
        heart = self.far("heart")
        self.paint(heart < 1.12, FAT)
        self.paint(heart < 1, self.patient.hu["blood"] + 15 * self.patient.wave("marble", self.z))
        self._room = self.cavity & (below < 1)  # for what lies in the belly

    def _bowel(self) -> None:
        """Loops with fluid or gas, colon with stool, and the vessels that feed them."""
        hu, stool = self.patient.hu, 260 * clouds(self._rng, 26, shape=SHAPE) - 120
        for ball in self.patient.vessels:
            self.paint(self._room & (ball.far(self.grid, self.z) < 1), hu["blood"])
        for number, ball in enumerate(self.patient.bowel):
            far = ball.far(self.grid, self.z)
            self.paint(self._room & (far < 1), hu["wall"])
            gas = (number % 4 == 0) & (self.grid[0] < ball.centre[0])
            self.paint(self._room & (far < 0.72), np.where(gas, AIR, hu["meal"]))
        for name in ("splenic flexure", "hepatic flexure", "transverse colon"):
            far = self.far(name)
            self.paint(self._room & (far < 1), hu["wall"])
            self.paint(self._room & (far < 0.86), np.clip(stool, AIR, 70))

    def _stomach(self) -> None:
        hu, far = self.patient.hu, self.far("stomach")
        level = self.patient.anatomy["stomach"].centre[0] - 18
        meal = hu["meal"] + 12 * clouds(self._rng, 14, shape=SHAPE)
        self.paint(self._room & (far < 1), hu["wall"])
        self.paint(self._room & (far < 0.87), np.where(self.grid[0] < level, AIR, meal))

    def _organs(self) -> None:
        hu = self.patient.hu
        self.paint(self._room & (self.far("pancreas") < 1), hu["spleen"] - 12)
        for side in ("left", "right"):
            self.paint(self._room & (self.far(f"{side} psoas") < 1), MUSCLE)
        liver = np.minimum(self.far("liver"), self.far("left lobe"))
        branches = np.abs(self.patient.wave("branch", self.z)) < 0.16
        branches &= (liver < 0.8) & (self.patient.wave("marble", self.z) > -0.3)
        self.paint(self._room & (liver < 1), np.where(branches, hu["blood"], hu["liver"]), LIVER)
        self.paint(self._room & (self.far("gallbladder") < 1), 8)
        spleen = self._room & (self.far("spleen") < 1) & (self.far("hollow") > 1)
        self.paint(spleen, hu["spleen"], SPLEEN)
        for side in ("left", "right"):
            far = self.far(f"{side} kidney")
            self.paint(self.cavity & (far < 1.15), FAT)
            uptake = np.where(far < 0.68, 0.75, 1.0)  # the marrow takes up less
            self.paint(self.cavity & (far < 1), uptake * hu["kidneys"], KIDNEYS)
            self.paint(self.cavity & (self.far(f"{side} hilum") < 1), FAT)
        for name in ("aorta", "cava"):
            self.paint(self.far(name) < 1, hu["blood"])

    def _spine(self) -> None:
        """A vertebra, or the disc between two, with its arch; three centimetres each."""
        phase = math.cos(2 * math.pi * self.z / 30)
        body = ellipse(self.grid, (53, 0), (18, 23))
        self.paint(body < 1.08, MUSCLE)
        self.paint(body < 1, 95 if phase < -0.7 else 480)
        self.paint(body < 0.86, 90 if phase < -0.7 else 190)
        arch = ellipse(self.grid, (78, 0), (14, 17)) < 1
        arch |= ellipse(self.grid, (96, 0), (15, 4)) < 1
        if phase > -0.2:
            for side in (-1, 1):
                arch |= ellipse(self.grid, (80, 28 * side), (5, 20), -0.35 * side) < 1
        self.paint(arch, 420)
        self.paint(ellipse(self.grid, (77, 0), (8, 10)) < 1, 25)

    def _ribs(self) -> None:
        """Each comes further to the front from slice to slice, as ribs run downwards."""
        (y, x, _), (down, across, _) = self.patient.anatomy["cavity"][:2]
        step = math.radians(24)
        first = (self.z / 24) % 1
        last = math.radians(140 - 0.6 * max(0.0, self.z - 30))  # 0 is at the back
        for number in range(1, 8):
            angle = step * (number + first)
            if angle > last:
                break
            for side in (-1, 1):
                sine, cosine = side * math.sin(angle), math.cos(angle)
                centre = y + 1.065 * down * cosine, x + 1.055 * across * sine
                turn = math.atan2(down * cosine, across * sine) + math.pi / 2
                far = ellipse(self.grid, centre, (9, 4.2), -turn)
                self.paint(far < 1, 520)
                self.paint(far < 0.5, 230)
