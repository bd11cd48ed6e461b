"""TIFF files read by rows give the pixels that they give when they are read at once."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from r2search.config import Misuse
from r2search.data.readers import large
from r2search.data.readers.images import read_image
from r2search.data.readers.large import LargeTiff, open_large

SHAPE = (301, 205)
STORED: dict[str, dict[str, Any]] = {
    "one strip": {},
    "strips": {"rowsperstrip": 37},
    "packed strips": {"rowsperstrip": 10, "compression": "zlib", "predictor": True},
    "tiles": {"tile": (64, 48)},
    "packed tiles": {"tile": (64, 64), "compression": "lzw"},
    "large offsets": {"tile": (32, 32), "compression": "zstd", "bigtiff": True},
    "JPEG tiles": {"tile": (64, 64), "compression": "jpeg"},
    "JPEG of less colour": {
        "tile": (64, 64),
        "compression": "jpeg",
        "photometric": "ycbcr",
        "subsampling": (2, 2),
    },
}


def picture(channels: int = 3) -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).integers(0, 256, (*SHAPE, channels), np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 3)).reshape(*SHAPE, channels)


def save(path: Path, pixels: NDArray[Any] | None = None, **how: Any) -> Path:
    tifffile.imwrite(path, picture() if pixels is None else pixels, **{"photometric": "rgb"} | how)
    return path


@pytest.mark.parametrize("how", STORED)
def test_rows_are_those_of_the_whole_picture(tmp_path: Path, how: str) -> None:
    path = save(tmp_path / "a.tif", **STORED[how])
    whole = read_image(path, "rgb")
    with LargeTiff(path, "rgb") as rows:
        assert rows.shape == whole.shape
        for first, last in ((0, 301), (0, 1), (63, 65), (100, 250), (300, 301), (290, 400)):
            np.testing.assert_array_equal(rows[first:last], whole[first:last])


@given(st.integers(0, 300), st.integers(1, 301), st.integers(1, 5), st.integers(1, 5))
def test_any_rows_of_any_tiles_are_right(first: int, count: int, high: int, wide: int) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        path = save(Path(folder) / "a.tif", picture()[:, :90], tile=(16 * high, 16 * wide))
        with LargeTiff(path, "rgb") as rows:
            found = rows[first : first + count]
    np.testing.assert_array_equal(found, picture()[first : first + count, :90])


def test_grey_files_have_one_channel(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", picture(1)[..., 0], photometric="minisblack", tile=(64, 64))
    with LargeTiff(path, "grey") as rows:
        np.testing.assert_array_equal(rows[10:20], picture(1)[10:20])
    with pytest.raises(Misuse, match=r"a.tif: is grey where RGB is expected, and it is too large"):
        LargeTiff(path, "rgb")


def test_of_a_pyramid_the_picture_at_full_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(picture(), photometric="rgb", tile=(64, 64), subifds=0)
        tiff.write(picture()[::2, ::2], photometric="rgb", tile=(64, 64), subfiletype=1)
    with LargeTiff(path, "rgb") as rows:
        np.testing.assert_array_equal(rows[5:105], picture()[5:105])


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "deep": ({"pixels": picture().astype(np.uint16)}, "has another depth than 8 bits"),
    "several": ({"pixels": np.stack([picture()] * 2)}, "holds several pictures"),
    "planes": (
        {"pixels": np.moveaxis(picture(), 2, 0), "planarconfig": 2, "tile": (64, 64)},
        "is not stored in tiles or low strips",
    ),
    "transparent": (
        {"pixels": picture(4), "extrasamples": ["unassalpha"]},
        "is RGB of 4 values a pixel",
    ),
    "turned": ({"extratags": [(274, 3, 1, 6, True)]}, "is RGB of 3 values a pixel, turned"),
    "inverted": (
        {"pixels": picture(1)[..., 0], "photometric": "miniswhite"},
        "is MINISWHITE of 1 values a pixel",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_by_rows_is_refused_with_the_reason(tmp_path: Path, kind: str) -> None:
    how, reason = REFUSED[kind]
    path = save(tmp_path / "a.tif", **how)
    with pytest.raises(Misuse, match=rf"a.tif: {reason}, and it is too large .*; save it as a"):
        LargeTiff(path, "rgb")


def test_one_high_strip_that_is_packed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large, "TALLEST", 200)
    path = save(tmp_path / "a.tif", compression="zlib", rowsperstrip=301)
    with pytest.raises(Misuse, match="is not stored in tiles or low strips"):
        LargeTiff(path, "rgb")


def test_damage_is_named_when_it_is_met(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", tile=(64, 64), compression="zlib")
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        place = file.pages.first.aspage().dataoffsets[-1]
    data[place : place + 40] = b"\0" * 40
    path.write_bytes(data)
    with LargeTiff(path, "rgb") as rows:
        np.testing.assert_array_equal(rows[0:50], picture()[0:50])
        with pytest.raises(Misuse, match=r"a.tif: cannot be read as TIFF \(.*\); copy or save it"):
            rows[290:301]


def test_only_a_tiff_of_many_pixels_is_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.tif")
    assert open_large(path, "rgb") is None
    monkeypatch.setattr(large, "LARGE", 301 * 205 - 1)
    opened = open_large(path, "rgb")
    assert opened is not None
    with opened:
        assert opened.shape == (301, 205, 3)
    monkeypatch.setattr(large, "LARGE", 301 * 205)
    assert open_large(path, "rgb") is None
    (tmp_path / "b.tif").write_bytes(b"II*\0 no TIFF")
    assert open_large(tmp_path / "b.tif", "rgb") is None  # who reads it says what is wrong


def test_a_tile_that_was_left_out_is_black(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", tile=(64, 64), compression="zlib")
    with tifffile.TiffFile(path, mode="r+b") as file:
        tags = file.pages.first.aspage().tags
        counts = list(tags["TileByteCounts"].value)
        tags["TileByteCounts"].overwrite([0, *counts[1:]])
    with LargeTiff(path, "rgb") as rows:
        found = rows[0:70]
    expected = picture()[:70].copy()
    expected[:64, :64] = 0
    np.testing.assert_array_equal(found, expected)
