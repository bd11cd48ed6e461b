"""Tiny data sets on disk, in the layouts that the readers read."""

import gzip
import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ct_files import make_chaos, make_msd
from numpy.typing import NDArray
from PIL import Image

Make = Callable[..., Path]


def _inside(height: int, width: int) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[:height, :width]
    disc: NDArray[np.bool_] = (rows - height / 2) ** 2 + (columns - width / 2) ** 2 < (
        0.45 * height
    ) ** 2
    return disc


def _picture(number: int, height: int = 20, width: int = 24) -> Image.Image:
    """A bright disc on black, as a fundus photograph; another one for another number."""
    noise = np.random.default_rng(number).integers(120, 200, (height, width, 3))
    return Image.fromarray(np.where(_inside(height, width)[..., None], noise, 0).astype(np.uint8))


def _mask(number: int, height: int = 20, width: int = 24) -> Image.Image:
    """A vertical stroke, three pixels wide, in the middle rows."""
    pixels = np.zeros((height, width), np.uint8)
    pixels[height // 4 : -height // 4, 8 + number % 8 : 11 + number % 8] = 255
    return Image.fromarray(pixels)


def _disc() -> Image.Image:
    """The field of view of `_picture`."""
    return Image.fromarray(_inside(20, 24).astype(np.uint8) * 255)


def _save(picture: Image.Image, path: Path, **options: Any) -> None:
    """Write a picture, and the folders that it needs; `.gz` packs it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        buffer = io.BytesIO()
        picture.save(buffer, format="PPM")
        path.write_bytes(gzip.compress(buffer.getvalue()))
    else:
        picture.save(path, **options)


def _folder(root: Path, names: tuple[str, ...] = ("a", "b", "c", "d")) -> Path:
    for number, name in enumerate(names):
        _save(_picture(number), root / "images" / f"{name}.png")
        _save(_mask(number), root / "masks" / f"{name}.png")
    return root


def _chase(root: Path, children: int = 3) -> Path:
    """Both eyes of each child, drawn by two observers."""
    for child in range(1, children + 1):
        for number, eye in enumerate("LR"):
            stem = f"Image_{child:02}{eye}"
            _save(_picture(2 * child + number), root / f"{stem}.jpg")
            _save(_mask(child).convert("1"), root / f"{stem}_1stHO.png")
            _save(_mask(child + 1).convert("1"), root / f"{stem}_2ndHO.png")
    return root


def _drive(root: Path) -> Path:
    """Training images 21 to 24 and test images 01 and 02."""
    for part, numbers in (("training", (21, 22, 23, 24)), ("test", (1, 2))):
        folder = root / part
        for n in numbers:
            stem = f"{n:02}_{part}"
            _save(_picture(n), folder / "images" / f"{stem}.tif", compression="tiff_lzw")
            _save(_mask(n), folder / "1st_manual" / f"{n:02}_manual1.gif")
            _save(_disc(), folder / "mask" / f"{stem}_mask.gif")
            if part == "test":
                _save(_mask(n + 1), folder / "2nd_manual" / f"{n:02}_manual2.gif")
    return root


def _stare(root: Path, packed: bool = True, folders: bool = True) -> Path:
    """Images 1, 2, 3 and 44, drawn by two observers."""
    for n in (1, 2, 3, 44):
        for folder, observer, picture in (
            ("stare-images", "", _picture(n)),
            ("labels-ah", ".ah", _mask(n)),
            ("labels-vk", ".vk", _mask(n + 1)),
        ):
            name = f"im{n:04}{observer}.ppm{'.gz' if packed else ''}"
            _save(picture, root / (folder if folders else "") / name)
    return root


def _hrf(root: Path) -> Path:
    """Images 01 and 02 of each of the three groups; one of these has its suffix in capitals."""
    names = [f"{n:02}_{kind}" for n in (1, 2) for kind in ("dr", "g", "h")]
    for number, name in enumerate(names):
        suffix = "JPG" if name.endswith("dr") else "jpg"
        _save(_picture(number), root / "images" / f"{name}.{suffix}", quality=95, subsampling=0)
        _save(_mask(number), root / "manual1" / f"{name}.tif")
        _save(_disc().convert("RGB"), root / "mask" / f"{name}_mask.tif")
    return root


ISIC = {  # year: images, masks, the end of a mask's name, parts
    "2016": ("ISBI2016_ISIC_Part1_{}_Data", "ISBI2016_ISIC_Part1_{}_GroundTruth", "Segmentation"),
    "2017": ("ISIC-2017_{}_Data", "ISIC-2017_{}_Part1_GroundTruth", "segmentation"),
    "2018": ("ISIC2018_Task1-2_{}_Input", "ISIC2018_Task1_{}_GroundTruth", "segmentation"),
}


def _isic(root: Path, year: str = "2017", parts: tuple[str, ...] | None = None) -> Path:
    """Four training images, and one of each other part of that year."""
    images, masks, end = ISIC[year]
    test = "Test_v2" if year == "2017" else "Test"
    numbers = {"Training": (0, 1, 2, 3), "Validation": (4,), test: (5,)}
    for part in parts or [part for part in numbers if (year, part) != ("2016", "Validation")]:
        folder = root / images.format(part)
        for n in numbers[part]:
            stem = f"ISIC_{n:07}"
            _save(_picture(n), folder / f"{stem}.jpg")
            _save(_picture(n), folder / f"{stem}_superpixels.png")
            _save(_mask(n), root / masks.format(part) / f"{stem}_{end}.png")
        (folder / f"{folder.name}_metadata.csv").write_text("image_id,age_approximate,sex\n")
    return root


def _dsb2018(root: Path) -> Path:
    """Four images, each of two nuclei: a row of pixels above the stroke of `_mask`, and that."""
    for n in range(4):
        name = hashlib.sha256(bytes([n])).hexdigest()
        folder = root / "stage1_train" / name
        _save(_picture(n).convert("RGBA"), folder / "images" / f"{name}.png")
        row = np.zeros((20, 24), np.uint8)
        row[2, 4:9] = 255
        for nucleus in (_mask(n), Image.fromarray(row)):
            mask_name = hashlib.sha256(nucleus.tobytes() + bytes([n])).hexdigest()
            _save(nucleus, folder / "masks" / f"{mask_name}.png")
    return root


@pytest.fixture(scope="session")
def picture() -> Callable[..., Image.Image]:
    return _picture


@pytest.fixture(scope="session")
def mask() -> Callable[..., Image.Image]:
    return _mask


@pytest.fixture(scope="session")
def makers() -> dict[str, Make]:
    """`makers[reader](root)` writes a tiny data set as that reader reads it, and gives its root."""
    return {
        "chaos": make_chaos,
        "chase_db1": _chase,
        "drive": _drive,
        "dsb2018": _dsb2018,
        "folder": _folder,
        "hrf": _hrf,
        "isic": _isic,
        "msd": make_msd,
        "stare": _stare,
    }


@pytest.fixture(scope="session")
def make_folder(makers: dict[str, Make]) -> Make:
    """`make_folder(root, names)` writes images/NAME.png and masks/NAME.png."""
    return makers["folder"]


@pytest.fixture(scope="session")
def make_chase(makers: dict[str, Make]) -> Make:
    """`make_chase(root, children)` writes both eyes of each child, drawn by two observers."""
    return makers["chase_db1"]
