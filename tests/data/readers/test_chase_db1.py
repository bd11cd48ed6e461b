"""The reader of CHASE_DB1, on tiny copies of its layout and on the real images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from r2search.config import DataConfig, Misuse
from r2search.data import load
from r2search.data.readers.chase_db1 import chase_db1, usual_parts
from r2search.data.readers.fundus import field_of_view
from r2search.data.readers.images import read_mask
from r2search.data.samples import Sample

Make = Callable[..., Path]
Draw = Callable[..., Image.Image]
CONFIG = DataConfig(reader="chase_db1")
REAL = Path(__file__).parents[3] / "../shared/data/chase_db1"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the CHASE_DB1 images are not here")


def problems(root: Path) -> list[str]:
    with pytest.raises(Misuse) as caught:
        chase_db1(root, CONFIG)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_both_eyes_of_a_child_are_one_subject(tmp_path: Path, make_chase: Make) -> None:
    samples = chase_db1(make_chase(tmp_path, 2), CONFIG)
    assert [(s.id, s.subject) for s in samples] == [
        ("Image_01L", "01"),
        ("Image_01R", "01"),
        ("Image_02L", "02"),
        ("Image_02R", "02"),
    ]


def test_the_first_observer_is_the_mask_and_the_second_is_kept(
    tmp_path: Path, make_chase: Make
) -> None:
    sample = chase_db1(make_chase(tmp_path, 1), CONFIG)[0]
    # _mask(n) begins at row 5, column 8 + n; the first observer drew _mask(1), the second _mask(2)
    assert sample.second_mask is not None
    assert divmod(int(sample.mask.argmax()), 24) == (5, 9)
    assert divmod(int(sample.second_mask.argmax()), 24) == (5, 10)


def test_a_second_observer_may_be_missing(tmp_path: Path, make_chase: Make) -> None:
    (make_chase(tmp_path, 1) / "Image_01L_2ndHO.png").unlink()
    assert [s.second_mask is None for s in chase_db1(tmp_path, CONFIG)] == [True, False]


def test_a_given_fov_mask_goes_before_the_computed_one(
    tmp_path: Path, make_chase: Make, mask: Draw
) -> None:
    fov_dir = make_chase(tmp_path, 1) / "extra_fov_masks"
    fov_dir.mkdir()
    mask(0).save(fov_dir / "Image_01L.gif")
    given, computed = chase_db1(tmp_path, CONFIG)
    assert given.fov.sum() == 30  # 10 rows of 3
    assert (computed.fov == field_of_view(computed.image)).all()


def test_the_archive_may_lie_one_folder_deeper(tmp_path: Path, make_chase: Make) -> None:
    make_chase(tmp_path / "CHASEDB1", 1)
    assert len(chase_db1(tmp_path, CONFIG)) == 2


def test_a_missing_mask_and_a_missing_image_are_told_together(
    tmp_path: Path, make_chase: Make
) -> None:
    make_chase(tmp_path, 2)
    (tmp_path / "Image_01R_1stHO.png").unlink()
    (tmp_path / "Image_02L.jpg").unlink()
    assert problems(tmp_path) == [
        "Image_01R.jpg: its mask Image_01R_1stHO.png is missing; add it",
        "Image_02L_1stHO.png: its image Image_02L.jpg is missing; add it",
        "Image_02L_2ndHO.png: its image Image_02L.jpg is missing; add it",
    ]


def test_two_files_for_one_image_are_a_problem(
    tmp_path: Path, make_chase: Make, picture: Draw
) -> None:
    picture(0).save(make_chase(tmp_path, 1) / "Image_01L.png")
    assert problems(tmp_path) == [
        "Image_01L.png: stands beside Image_01L.jpg for one image; remove one"
    ]


def test_a_second_observer_of_another_size_is_a_problem(
    tmp_path: Path, make_chase: Make, mask: Draw
) -> None:
    mask(0, height=10).save(make_chase(tmp_path, 1) / "Image_01L_2ndHO.png")
    assert len(problems(tmp_path)) == 1
    assert problems(tmp_path)[0].startswith("Image_01L_2ndHO.png: is 24 x 10 pixels")


def test_another_layout_is_told_what_was_expected_and_found(
    tmp_path: Path, make_folder: Make
) -> None:
    with pytest.raises(Misuse, match=r"expected CHASE_DB1 \(Image_01L.jpg.*found images/, masks/"):
        chase_db1(make_folder(tmp_path), CONFIG)


def children(numbers: range) -> set[str]:
    return {f"{number:02}" for number in numbers}


@pytest.mark.parametrize(("count", "val", "test"), [(14, 9, 11), (10, 7, 9)])
def test_all_children_and_the_first_ten_are_in_the_usual_parts(
    count: int, val: int, test: int
) -> None:
    parts = usual_parts(children(range(1, count + 1)))
    assert {child for child in parts if parts[child] == "train"} == children(range(1, val))
    assert {child for child in parts if parts[child] == "val"} == children(range(val, test))
    assert {child for child in parts if parts[child] == "test"} == children(range(test, count + 1))


@pytest.mark.parametrize("numbers", [range(1, 10), range(2, 12)], ids=["nine", "02 to 11"])
def test_other_children_have_no_usual_parts(numbers: range) -> None:
    assert usual_parts(children(numbers)) == {}


def test_the_parts_are_told_by_the_samples(tmp_path: Path, make_chase: Make) -> None:
    samples = chase_db1(make_chase(tmp_path, 10), CONFIG)
    assert [s.part for s in samples] == ["train"] * 12 + ["val"] * 4 + ["test"] * 4


def test_other_children_are_split_at_random_by_subject(tmp_path: Path, make_chase: Make) -> None:
    make_chase(tmp_path, 5)
    splits = {
        tuple(s.subject for s in load(DataConfig(reader="chase_db1", root=tmp_path), seed=n).test)
        for n in range(6)
    }
    assert len(splits) > 1
    assert all(len(subjects) == 2 and len(set(subjects)) == 1 for subjects in splits)


@pytest.fixture(scope="module")
def real() -> list[Sample]:
    return chase_db1(REAL, CONFIG)


@needs_real
def test_the_real_images_are_twenty_of_ten_children(real: list[Sample]) -> None:
    assert len(real) == 20
    assert {s.image.shape for s in real} == {(960, 999, 3)}
    assert len({s.subject for s in real}) == 10


@needs_real
def test_the_real_split_is_six_two_and_two_children() -> None:
    data = load(DataConfig(reader="chase_db1", root=REAL))
    subjects = [sorted({s.subject for s in part}) for part in (data.train, data.val, data.test)]
    assert subjects == [["01", "02", "03", "04", "05", "06"], ["07", "08"], ["09", "10"]]
    assert (data.notes, data.synthetic) == ((), False)


@needs_real
def test_the_real_vessels_cover_the_published_share(real: list[Sample]) -> None:
    # shared/data/README.md: mean 7.19 % (5.06 to 8.52 %) of all pixels
    share = [float(s.mask.mean()) for s in real]
    assert round(float(np.mean(share)), 4) == 0.0719
    assert (round(min(share), 4), round(max(share), 4)) == (0.0506, 0.0852)


@needs_real
@pytest.mark.parametrize(
    ("inside", "known"),
    [
        (False, {"f1": 0.7672, "sensitivity": 0.7335, "specificity": 0.9862, "accuracy": 0.9680}),
        (True, {"f1": 0.7685, "accuracy": 0.9538}),
    ],
    ids=["whole image", "inside the given fov"],
)
def test_the_second_observer_scores_what_is_known(
    real: list[Sample], inside: bool, known: dict[str, float]
) -> None:
    # shared/data/README.md: one count over all pixels
    place = [s.fov if inside else np.ones_like(s.fov) for s in real]
    truth = np.concatenate([s.mask[p] for s, p in zip(real, place, strict=True)]) == 1
    guess = np.concatenate([second(s)[p] for s, p in zip(real, place, strict=True)]) == 1
    both = np.count_nonzero(truth & guess)
    found = {
        "f1": 2 * both / (truth.sum() + guess.sum()),
        "sensitivity": both / truth.sum(),
        "specificity": np.count_nonzero(~truth & ~guess) / (~truth).sum(),
        "accuracy": (truth == guess).mean(),
    }
    assert {name: round(float(found[name]), 4) for name in known} == known


def second(sample: Sample) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    assert sample.second_mask is not None
    return sample.second_mask


@needs_real
@pytest.mark.parametrize("exposure", [1.0, 0.5])
def test_the_computed_field_of_view_agrees_with_the_given_one(
    real: list[Sample], exposure: float
) -> None:
    for sample in real:
        given = read_mask(REAL / "extra_fov_masks" / f"{sample.id}.gif")
        computed = field_of_view((sample.image * exposure).astype(np.uint8))
        dice = 2 * (given & computed).sum() / (given.sum() + computed.sum())
        assert dice >= 0.99, sample.id
