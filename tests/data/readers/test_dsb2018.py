"""The reader of the Data Science Bowl 2018, on tiny copies of its layout and on real images."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from r2search.config import DataConfig, Misuse
from r2search.data.readers.dsb2018 import dsb2018
from r2search.data.samples import Sample

Make = Callable[..., Path]
Draw = Callable[..., Image.Image]
CONFIG = DataConfig(reader="dsb2018")
REAL = Path(__file__).parents[3] / "../shared/data/dsb2018"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the nuclei are not here")


@pytest.fixture
def root(tmp_path: Path, makers: dict[str, Make]) -> Path:
    return makers["dsb2018"](tmp_path)


@pytest.fixture
def first(root: Path) -> Path:
    """The folder of the first image."""
    return min((root / "stage1_train").iterdir())


def problems(root: Path) -> list[str]:
    with pytest.raises(Misuse) as caught:
        dsb2018(root, CONFIG)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_the_nuclei_of_an_image_are_one_mask(root: Path) -> None:
    names = sorted(path.name for path in (root / "stage1_train").iterdir())
    samples = dsb2018(root, CONFIG)
    assert [(s.id, s.subject, s.part) for s in samples] == [(n, n, None) for n in names]
    for sample in samples:
        assert sample.mask[2, 4:9].all()  # one nucleus
        assert int(sample.mask[5:15].sum()) == 30  # the other, 10 rows of 3
        assert int(sample.mask.sum()) == 35
        assert sample.fov.all()


def test_the_alpha_channel_is_left_out(root: Path, first: Path) -> None:
    with Image.open(next((first / "images").iterdir())) as picture:
        assert picture.mode == "RGBA"
        pixels = np.asarray(picture)[..., :3]
    assert (dsb2018(root, CONFIG)[0].image == pixels).all()


def test_the_folder_of_the_images_may_be_given_itself(root: Path) -> None:
    assert len(dsb2018(root / "stage1_train", CONFIG)) == 4


def test_the_test_images_beside_have_no_masks_and_are_left_out(root: Path, first: Path) -> None:
    other = root / "stage1_test" / first.name / "images"
    shutil.copytree(first / "images", other)
    assert len(dsb2018(root, CONFIG)) == 4


def test_what_an_archive_leaves_beside_is_passed_over(root: Path) -> None:
    (root / "stage1_train" / "__MACOSX").mkdir()
    (root / "stage1_train" / ".hidden").mkdir()
    (root / "stage1_train" / "stage1_train_labels.csv").write_text("ImageId,EncodedPixels\n")
    assert len(dsb2018(root / "stage1_train", CONFIG)) == 4


def test_a_folder_without_image_is_named(root: Path, first: Path) -> None:
    shutil.rmtree(first / "images")
    assert problems(root) == [
        f"{first.name}: has no image in images/; it needs one, {first.name}.png"
    ]


def test_a_folder_with_two_images_is_named(root: Path, first: Path, picture: Draw) -> None:
    picture(9).save(first / "images" / "other.png")
    assert problems(root) == [
        f"{first.name}: has 2 images in images/; it needs one, {first.name}.png"
    ]


@pytest.mark.parametrize("empty", [False, True], ids=["no folder", "empty folder"])
def test_an_image_without_masks_is_named(root: Path, first: Path, empty: bool) -> None:
    shutil.rmtree(first / "masks")
    if empty:
        (first / "masks").mkdir()
    assert problems(root) == [f"{first.name}: has no masks in masks/; add one a nucleus"]


def test_a_mask_of_another_size_is_named(root: Path, first: Path, mask: Draw) -> None:
    mask(0, width=30).save(first / "masks" / "wide.png")
    (found,) = problems(root)
    assert found.startswith(f"{first.name}/masks/wide.png: is 30 x 20 pixels, its image")


def test_a_grey_nucleus_is_named_with_the_share_of_such_pixels(root: Path, first: Path) -> None:
    soft = np.zeros((20, 24), np.uint8)
    soft[0, :12], soft[1] = 128, 255  # 12 of 480 pixels: 2.5 %
    Image.fromarray(soft).save(first / "masks" / "soft.png")
    (found,) = problems(root)
    assert found.startswith(f"{first.name}/masks/soft.png: is not binary: 2.50% of its pixels")


def test_the_problems_of_several_images_are_told_together(root: Path) -> None:
    for folder in (root / "stage1_train").iterdir():
        (next((folder / "masks").iterdir())).write_bytes(b"")
    assert len(problems(root)) == 4


def test_an_image_folder_itself_is_told_what_was_expected(first: Path) -> None:
    with pytest.raises(Misuse, match=r"expected Data Science Bowl 2018 .*found images/, masks/"):
        dsb2018(first, CONFIG)


@pytest.fixture(scope="module")
def real() -> list[Sample]:
    return dsb2018(REAL, CONFIG)


@needs_real
def test_the_real_images_have_the_known_sizes_and_nuclei(real: list[Sample]) -> None:
    # shared/data/README.md: sizes (W x H) and counts; nuclei cover 14.5 % (0.15 to 59.2 %)
    assert len(real) == 180
    assert Counter(f"{s.image.shape[1]}x{s.image.shape[0]}" for s in real) == {
        "256x256": 88,
        "320x256": 31,
        "360x360": 24,
        "696x520": 24,
        "640x512": 4,
        "1024x1024": 4,
        "1272x603": 2,
        "347x260": 2,
        "1388x1040": 1,
    }
    share = [float(s.mask.mean()) for s in real]
    assert round(float(np.mean(share)), 3) == 0.145
    assert (round(min(share), 4), round(max(share), 3)) == (0.0015, 0.592)


@needs_real
def test_the_real_nuclei_do_not_overlap_so_that_their_areas_add_up(real: list[Sample]) -> None:
    num_masks = 0
    for sample in real[:20]:
        area = 0
        for path in (REAL / "stage1_train" / sample.id / "masks").iterdir():
            num_masks += 1
            with Image.open(path) as picture:
                area += int((np.asarray(picture) > 0).sum())
        assert int(sample.mask.sum()) == area
    assert num_masks > 100
