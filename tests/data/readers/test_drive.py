"""The reader of DRIVE, on tiny copies of its layout."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from r2search.config import DataConfig, Misuse
from r2search.data import load
from r2search.data.readers.drive import drive
from r2search.data.readers.fundus import field_of_view

Make = Callable[..., Path]
Draw = Callable[..., Image.Image]
CONFIG = DataConfig(reader="drive")


@pytest.fixture
def root(tmp_path: Path, makers: dict[str, Make]) -> Path:
    return makers["drive"](tmp_path / "DRIVE")


def problems(root: Path) -> list[str]:
    with pytest.raises(Misuse) as caught:
        drive(root, CONFIG)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_the_folder_is_the_part_and_the_number_the_subject(root: Path) -> None:
    assert [(s.id, s.subject, s.part) for s in drive(root, CONFIG)] == [
        ("21_training", "21", "train"),
        ("22_training", "22", "train"),
        ("23_training", "23", "train"),
        ("24_training", "24", "train"),
        ("01_test", "01", "test"),
        ("02_test", "02", "test"),
    ]


def test_the_official_test_images_stay_the_test_part(root: Path) -> None:
    data = load(DataConfig(reader="drive", root=root))
    assert {s.subject for s in data.test} == {"01", "02"}
    assert {s.subject for s in (*data.train, *data.val)} == {"21", "22", "23", "24"}
    assert data.val


def test_the_second_observer_drew_the_test_images_only(root: Path) -> None:
    *training, first, second = drive(root, CONFIG)
    assert all(sample.second_mask is None for sample in training)
    for number, sample in ((1, first), (2, second)):
        assert sample.second_mask is not None
        # _mask(n) begins at row 5, column 8 + n; the second observer drew that of the next number
        assert divmod(int(sample.mask.argmax()), 24) == (5, 8 + number)
        assert divmod(int(sample.second_mask.argmax()), 24) == (5, 9 + number)


def test_mask_is_the_field_of_view_and_not_the_label(root: Path, mask: Draw) -> None:
    mask(0).save(root / "training" / "mask" / "21_training_mask.gif")
    first, second, *_ = drive(root, CONFIG)
    assert int(first.fov.sum()) == 30  # 10 rows of 3
    assert int(second.fov.sum()) > 200  # the disc
    assert int(second.mask.sum()) == 30


def test_without_the_fields_of_view_they_are_computed(root: Path) -> None:
    shutil.rmtree(root / "training" / "mask")
    first = drive(root, CONFIG)[0]
    assert (first.fov == field_of_view(first.image)).all()


@pytest.mark.parametrize("empty", [False, True], ids=["no folder", "empty folder"])
def test_test_images_whose_masks_are_held_back_are_left_out(root: Path, empty: bool) -> None:
    for folder in ("1st_manual", "2nd_manual"):
        shutil.rmtree(root / "test" / folder)
    if empty:
        (root / "test" / "1st_manual").mkdir()
    samples = drive(root, CONFIG)
    assert [s.subject for s in samples] == ["21", "22", "23", "24"]
    data = load(DataConfig(reader="drive", root=root))  # all parts are drawn from those
    assert [len(part) for part in (data.train, data.val, data.test)] == [2, 1, 1]


def test_the_training_masks_may_not_be_missing(root: Path) -> None:
    shutil.rmtree(root / "training" / "1st_manual")
    found = problems(root)
    assert len(found) == 4
    assert found[0] == (
        "training/images/21_training.tif: its mask 1st_manual/21_manual1.gif is missing; add it"
    )


def test_the_test_folder_alone_without_masks_has_nothing_to_train_on(root: Path) -> None:
    shutil.rmtree(root / "training")
    shutil.rmtree(root / "test" / "1st_manual")
    with pytest.raises(Misuse, match="none of its images has a mask"):
        drive(root, CONFIG)


def test_one_missing_file_of_each_kind_is_named(root: Path) -> None:
    (root / "training" / "images" / "21_training.tif").unlink()
    (root / "training" / "mask" / "22_training_mask.gif").unlink()
    (root / "test" / "1st_manual" / "01_manual1.gif").unlink()
    (root / "test" / "2nd_manual" / "01_manual2.gif").unlink()  # may be missing
    assert problems(root) == [
        "training/images/22_training.tif: its field of view mask/22_training_mask.gif is missing; "
        "add it",
        "training/1st_manual/21_manual1.gif: its image images/21_training.tif is missing; add it",
        "training/mask/21_training_mask.gif: its image images/21_training.tif is missing; add it",
        "test/images/01_test.tif: its mask 1st_manual/01_manual1.gif is missing; add it",
    ]


def test_the_archive_may_lie_one_folder_deeper(root: Path) -> None:
    assert len(drive(root.parent, CONFIG)) == 6


def test_a_mask_that_lies_turned_is_named(root: Path) -> None:
    path = root / "training" / "1st_manual" / "21_manual1.gif"
    with Image.open(path) as picture:
        turned = np.rot90(np.asarray(picture.convert("L")))
    Image.fromarray(turned).save(path)
    (found,) = problems(root)
    assert found.startswith("training/1st_manual/21_manual1.gif: is 20 x 24 pixels")


def test_other_images_in_such_folders_are_not_taken_for_drive(root: Path) -> None:
    for folder in ("training", "test"):
        for path in (root / folder / "images").iterdir():
            path.rename(path.with_name(f"eye{path.name}"))
    with pytest.raises(Misuse, match=r"expected DRIVE \(training/images/21.*found test/, training"):
        drive(root, CONFIG)
