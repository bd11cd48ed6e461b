"""The reader of ISIC 2016 to 2018, on tiny copies of their layouts and on the real images."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from r2search.config import DataConfig, Misuse
from r2search.data import load
from r2search.data.readers.isic import isic

Make = Callable[..., Path]
Draw = Callable[..., Image.Image]
CONFIG = DataConfig(reader="isic")
REAL = Path(__file__).parents[3] / "../shared/data"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the ISIC images are not here")
TRAINING = [(f"ISIC_{n:07}", "train") for n in range(4)]


@pytest.fixture
def root(tmp_path: Path, makers: dict[str, Make]) -> Path:
    return makers["isic"](tmp_path)


def problems(root: Path) -> list[str]:
    with pytest.raises(Misuse) as caught:
        isic(root, CONFIG)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


@pytest.mark.parametrize(
    ("year", "rest"),
    [
        ("2016", [("ISIC_0000005", "test")]),
        ("2017", [("ISIC_0000004", "val"), ("ISIC_0000005", "test")]),
        ("2018", [("ISIC_0000004", "val"), ("ISIC_0000005", "test")]),
    ],
)
def test_each_year_is_read_in_its_official_parts(
    tmp_path: Path, makers: dict[str, Make], year: str, rest: list[tuple[str, str]]
) -> None:
    samples = isic(makers["isic"](tmp_path, year), CONFIG)
    assert [(s.id, s.part) for s in samples] == TRAINING + rest
    assert [s.subject for s in samples] == [s.id for s in samples]
    for sample in samples:
        # _mask(n) begins at row 5, column 8 + n
        assert divmod(int(sample.mask.argmax()), 24) == (5, 8 + int(sample.id[-1]))
        assert sample.fov.all()


def test_superpixels_and_tables_are_passed_over(root: Path) -> None:
    inside = {path.name for path in (root / "ISIC-2017_Training_Data").iterdir()}
    assert {"ISIC_0000000_superpixels.png", "ISIC-2017_Training_Data_metadata.csv"} < inside
    assert len(isic(root, CONFIG)) == 6


def test_the_official_parts_are_kept_by_the_split(root: Path) -> None:
    data = load(DataConfig(reader="isic", root=root))
    assert [len(part) for part in (data.train, data.val, data.test)] == [4, 1, 1]
    assert [s.id for s in data.test] == ["ISIC_0000005"]


@pytest.mark.parametrize("part", ["Validation", "Test_v2"])
@pytest.mark.parametrize("empty", [False, True], ids=["no folder", "empty folder"])
def test_a_part_whose_masks_are_held_back_is_left_out(root: Path, part: str, empty: bool) -> None:
    masks_dir = root / f"ISIC-2017_{part}_Part1_GroundTruth"
    shutil.rmtree(masks_dir)
    if empty:
        masks_dir.mkdir()
    left = {"Validation": "test", "Test_v2": "val"}[part]
    assert {s.part for s in isic(root, CONFIG)} == {"train", left}


def test_the_training_masks_may_not_be_missing(root: Path) -> None:
    shutil.rmtree(root / "ISIC-2017_Training_Part1_GroundTruth")
    found = problems(root)
    assert len(found) == 4
    assert found[0] == (
        "ISIC-2017_Training_Data/ISIC_0000000.jpg: its mask "
        "ISIC-2017_Training_Part1_GroundTruth/ISIC_0000000_segmentation.png is missing; add it"
    )


def test_a_missing_mask_and_a_missing_image_are_named(root: Path) -> None:
    (root / "ISIC-2017_Training_Part1_GroundTruth" / "ISIC_0000001_segmentation.png").unlink()
    (root / "ISIC-2017_Training_Data" / "ISIC_0000002.jpg").unlink()
    assert [problem.split(":")[0] for problem in problems(root)] == [
        "ISIC-2017_Training_Data/ISIC_0000001.jpg",
        "ISIC-2017_Training_Part1_GroundTruth/ISIC_0000002_segmentation.png",
    ]


def test_a_part_that_was_not_unpacked_is_no_part(tmp_path: Path, makers: dict[str, Make]) -> None:
    samples = isic(makers["isic"](tmp_path, "2018", ("Training",)), CONFIG)
    assert [(s.id, s.part) for s in samples] == TRAINING


def test_folders_in_folders_of_their_name_are_found(root: Path) -> None:
    for folder in list(root.iterdir()):
        folder.rename(root / "away")
        folder.mkdir()
        (root / "away").rename(folder / folder.name)
    assert len(isic(root, CONFIG)) == 6


def test_several_years_in_one_folder_are_refused(root: Path, makers: dict[str, Make]) -> None:
    makers["isic"](root, "2018")
    with pytest.raises(Misuse, match=f"{root}: holds ISIC of 2017 and 2018.*own and point --data"):
        isic(root, CONFIG)


def test_of_several_years_in_folders_one_is_to_be_chosen(
    tmp_path: Path, makers: dict[str, Make]
) -> None:
    for year in ("2016", "2018"):
        makers["isic"](tmp_path / year, year)
    with pytest.raises(Misuse, match=r"holds several data sets \(2016, 2018\); point --data to"):
        isic(tmp_path, CONFIG)
    assert len(isic(tmp_path / "2016", CONFIG)) == 5


def test_a_grey_mask_is_named(root: Path, mask: Draw) -> None:
    soft = np.asarray(mask(0)) // 2
    soft[0, 0] = 255
    path = root / "ISIC-2017_Training_Part1_GroundTruth" / "ISIC_0000000_segmentation.png"
    Image.fromarray(soft).save(path)
    (found,) = problems(root)
    assert "ISIC_0000000_segmentation.png: is not binary: 6.25% of" in found  # 30 of 480 pixels


@pytest.mark.parametrize("same", [True, False], ids=["same picture", "another picture"])
def test_an_image_in_two_parts_is_named_in_both(root: Path, same: bool) -> None:
    for kind, ending in (("Data", ".jpg"), ("Part1_GroundTruth", "_segmentation.png")):
        training, validation = (root / f"ISIC-2017_{p}_{kind}" for p in ("Training", "Validation"))
        if same:
            shutil.copy(training / f"ISIC_0000001{ending}", validation)
        else:
            (validation / f"ISIC_0000004{ending}").rename(validation / f"ISIC_0000001{ending}")
    assert problems(root) == [
        "ISIC-2017_Validation_Data/ISIC_0000001.jpg: is in val, and in train as "
        "ISIC-2017_Training_Data/ISIC_0000001.jpg; remove one"
    ]


@needs_real
def test_the_real_images_of_2017_have_the_known_sizes_and_lesions() -> None:
    samples = isic(REAL / "isic2017", CONFIG.model_copy(update={"max_side": 512}))
    assert (len(samples), {s.part for s in samples}) == (16, {"val"})
    assert {max(s.mask.shape) for s in samples} == {512}
    # shared/data/README.md: mean 16.0 % (2.2 to 92.2 %) at full size
    share = [float(s.mask.mean()) for s in samples]
    assert np.mean(share) == pytest.approx(0.160, abs=0.002)
    assert (min(share), max(share)) == pytest.approx((0.022, 0.922), abs=0.002)


@needs_real
def test_the_real_crops_of_2018_have_the_known_size_and_lesions() -> None:
    data = load(DataConfig(reader="isic", root=REAL / "isic2018_crop512"))
    samples = [*data.train, *data.val, *data.test]
    assert [len(part) for part in (data.train, data.val, data.test)] == [240, 80, 80]
    assert {s.image.shape for s in samples} == {(512, 512, 3)}
    assert {s.part for s in samples} == {"train"}
    # shared/data/README.md: mean 28.9 % (0.5 to 99.96 %)
    share = [float(s.mask.mean()) for s in samples]
    assert round(float(np.mean(share)), 3) == 0.289
    assert (round(min(share), 3), round(max(share), 4)) == (0.005, 0.9996)
