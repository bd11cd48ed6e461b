"""The reader of HRF, on tiny copies of its layout."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from r2search.config import DataConfig, Misuse
from r2search.data.readers.fundus import field_of_view
from r2search.data.readers.hrf import hrf

Make = Callable[..., Path]
Draw = Callable[..., Image.Image]
CONFIG = DataConfig(reader="hrf")


@pytest.fixture
def root(tmp_path: Path, makers: dict[str, Make]) -> Path:
    return makers["hrf"](tmp_path / "all")


def problems(root: Path) -> list[str]:
    with pytest.raises(Misuse) as caught:
        hrf(root, CONFIG)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_an_image_is_a_subject_whatever_the_case_of_its_suffix(root: Path) -> None:
    assert {path.suffix for path in (root / "images").iterdir()} == {".JPG", ".jpg"}
    names = ["01_dr", "01_g", "01_h", "02_dr", "02_g", "02_h"]
    assert [(s.id, s.subject, s.part) for s in hrf(root, CONFIG)] == [(n, n, None) for n in names]


def test_manual1_is_the_label_and_mask_the_field_of_view(root: Path, mask: Draw) -> None:
    mask(7).convert("RGB").save(root / "mask" / "01_dr_mask.tif")  # RGB, as the archive has them
    first, second, *_ = hrf(root, CONFIG)
    # _mask(n) begins at row 5, column 8 + n
    assert divmod(int(first.mask.argmax()), 24) == (5, 8)
    assert divmod(int(first.fov.argmax()), 24) == (5, 15)
    assert int(second.fov.sum()) > 200  # the disc


def test_without_the_fields_of_view_they_are_computed(root: Path) -> None:
    shutil.rmtree(root / "mask")
    first = hrf(root, CONFIG)[0]
    assert (first.fov == field_of_view(first.image)).all()


def test_one_missing_file_of_each_kind_is_named(root: Path) -> None:
    (root / "images" / "01_dr.JPG").unlink()
    (root / "manual1" / "01_g.tif").unlink()
    (root / "mask" / "01_h_mask.tif").unlink()
    assert problems(root) == [
        "images/01_g.jpg: its mask manual1/01_g.tif is missing; add it",
        "images/01_h.jpg: its field of view mask/01_h_mask.tif is missing; add it",
        "manual1/01_dr.tif: its image images/01_dr.JPG is missing; add it",
        "mask/01_dr_mask.tif: its image images/01_dr.JPG is missing; add it",
    ]


def test_the_archive_may_lie_one_folder_deeper(root: Path) -> None:
    assert len(hrf(root.parent, CONFIG)) == 6


def test_images_without_manual1_are_told_what_was_expected(root: Path) -> None:
    shutil.rmtree(root / "manual1")
    with pytest.raises(Misuse, match=r"expected HRF \(images/01_dr.JPG.*found images/, mask/"):
        hrf(root, CONFIG)
