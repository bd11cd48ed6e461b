"""Tiny data sets on disk, in the layouts that the readers read."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Make = Callable[..., Path]


def _picture(number: int, height: int = 20, width: int = 24) -> Image.Image:
    """A bright disc on black, as a fundus photograph; another one for another number."""
    rows, columns = np.mgrid[:height, :width]
    inside = (rows - height / 2) ** 2 + (columns - width / 2) ** 2 < (0.45 * height) ** 2
    noise = np.random.default_rng(number).integers(120, 200, (height, width, 3))
    return Image.fromarray(np.where(inside[..., None], noise, 0).astype(np.uint8))


def _mask(number: int, height: int = 20, width: int = 24) -> Image.Image:
    """A vertical stroke, three pixels wide, in the middle rows."""
    pixels = np.zeros((height, width), np.uint8)
    pixels[height // 4 : -height // 4, 8 + number % 8 : 11 + number % 8] = 255
    return Image.fromarray(pixels)


@pytest.fixture(scope="session")
def picture() -> Callable[..., Image.Image]:
    return _picture


@pytest.fixture(scope="session")
def mask() -> Callable[..., Image.Image]:
    return _mask


@pytest.fixture(scope="session")
def make_folder() -> Make:
    """`make_folder(root, names)` writes images/NAME.png and masks/NAME.png."""

    def make(root: Path, names: tuple[str, ...] = ("a", "b", "c", "d")) -> Path:
        for number, name in enumerate(names):
            for kind, draw in (("images", _picture), ("masks", _mask)):
                path = root / kind / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                draw(number).save(path)
        return root

    return make


@pytest.fixture(scope="session")
def make_chase() -> Make:
    """`make_chase(root, children)` writes both eyes of each child, drawn by two observers."""

    def make(root: Path, children: int = 3) -> Path:
        root.mkdir(parents=True, exist_ok=True)
        for child in range(1, children + 1):
            for number, eye in enumerate("LR"):
                stem = root / f"Image_{child:02}{eye}"
                _picture(2 * child + number).save(f"{stem}.jpg")
                _mask(child).convert("1").save(f"{stem}_1stHO.png")
                _mask(child + 1).convert("1").save(f"{stem}_2ndHO.png")
        return root

    return make
