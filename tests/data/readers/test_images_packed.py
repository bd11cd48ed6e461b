"""Image files that gzip has packed, sound and not."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from r2search.config import Misuse
from r2search.data.readers.images import read_image, read_mask

COLOURS = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
STROKE = np.zeros((20, 24), np.uint8)
STROKE[5:15, 8:11] = 1


def save(path: Path, pixels: NDArray[np.uint8]) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def pack(path: Path) -> Path:
    """The same file, packed by gzip, in its place."""
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return packed


@pytest.mark.parametrize("suffix", ["ppm", "png", "tif"])
def test_a_packed_file_is_read_as_the_file_in_it(tmp_path: Path, suffix: str) -> None:
    path = pack(save(tmp_path / f"a.{suffix}", COLOURS))
    assert (read_image(path, "rgb") == COLOURS).all()
    assert (read_mask(pack(save(tmp_path / f"b.{suffix}", STROKE))) == STROKE).all()
    assert len(list(tmp_path.iterdir())) == 2  # it was unpacked in memory


def test_a_packed_tiff_that_pillow_cannot_read_is_read_by_tifffile(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, COLOURS, photometric="rgb", compression="lerc")
    assert (read_image(pack(path), "rgb") == COLOURS).all()


@pytest.mark.parametrize("kept", [0, 5, 100, -4])
def test_a_truncated_packed_file_is_named(tmp_path: Path, kept: int) -> None:
    path = pack(save(tmp_path / "a.ppm", COLOURS))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(Misuse, match=r"a.ppm.gz: cannot be read as an image \(.+\); copy"):
        read_image(path, "rgb")


def test_a_file_that_is_not_packed_as_its_name_says_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.ppm", COLOURS).rename(tmp_path / "a.ppm.gz")
    with pytest.raises(Misuse, match=r"a.ppm.gz: cannot be .*Not a gzipped file"):
        read_image(path, "rgb")


def test_damaged_packed_bytes_are_named(tmp_path: Path) -> None:
    path = pack(save(tmp_path / "a.ppm", COLOURS))
    content = bytearray(path.read_bytes())
    content[40:60] = bytes(20)
    path.write_bytes(bytes(content))
    with pytest.raises(Misuse, match=r"a.ppm.gz: cannot be read as an image"):
        read_image(path, "rgb")
