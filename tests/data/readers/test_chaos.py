"""The reader of CHAOS, on tiny volumes and on a real one."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from ct_files import make_chaos, write_dicom
from numpy.typing import NDArray
from PIL import Image

from r2search.config import DataConfig, Misuse
from r2search.data import load
from r2search.data.readers.chaos import chaos, read_series, window
from r2search.data.readers.entries import BadData
from r2search.data.readers.images import list_images, read_mask
from r2search.data.readers.volumes import Volume, to_grey
from r2search.data.samples import Sample
from r2search.train.metrics import score, summarize

Make = Callable[..., Path]
CONFIG = DataConfig(reader="chaos", channels="grey")
REAL = Path(__file__).parents[3] / "../shared/data/chaos_ct"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the CT of CHAOS is not here")


def problems(root: Path, **changes: Any) -> list[str]:
    with pytest.raises(BadData) as caught:
        chaos(root, CONFIG.model_copy(update=changes))
    return caught.value.problems


def slice_of(root: Path, number: int, subject: str = "1") -> Path:
    return root / "CT" / subject / "DICOM_anon" / f"i{number:04},0000b.dcm"


def mask_of(root: Path, number: int, subject: str = "1") -> Path:
    return root / "CT" / subject / "Ground" / f"liver_GT_{number:03}.png"


def set_tags(path: Path, **tags: Any) -> None:
    slice_ = pydicom.dcmread(path)
    for name, value in tags.items():
        setattr(slice_, name, value)
    slice_.save_as(path)


def test_each_slice_is_a_sample_of_its_subject(tmp_path: Path) -> None:
    samples = chaos(make_chaos(tmp_path), CONFIG)
    assert [s.subject for s in samples] == [name for name in ("1", "14", "5") for _ in range(3)]
    assert [s.id for s in samples[:4]] == ["1_0000", "1_0001", "1_0002", "14_0000"]
    assert {s.image.shape for s in samples} == {(20, 24, 1)}
    assert {s.spacing for s in samples} == {(0.7, 0.8)}


def test_slices_and_masks_go_together_in_the_order_of_their_names(tmp_path: Path) -> None:
    for number, sample in enumerate(chaos(make_chaos(tmp_path), CONFIG)[:3]):
        stored = pydicom.dcmread(slice_of(tmp_path, number)).pixel_array
        np.testing.assert_array_equal(sample.image, to_grey(stored - 1000, (-160, 240)))
        with Image.open(mask_of(tmp_path, number)) as mask:
            np.testing.assert_array_equal(sample.mask, np.asarray(mask))


@pytest.mark.parametrize(
    "place", ["Train_Sets/CT", "Train_Sets", "Train_Sets/CT/1", ""], ids=["CT", "set", "one", "up"]
)
def test_any_folder_above_a_volume_is_accepted(tmp_path: Path, place: str) -> None:
    make_chaos(tmp_path / "Train_Sets")
    (tmp_path / "Train_Sets/MR/1/T2SPIR/DICOM_anon").mkdir(parents=True)
    subjects = {s.subject for s in chaos(tmp_path / place, CONFIG)}
    assert subjects == ({"1"} if place.endswith("1") else {"1", "5", "14"})


def test_another_layout_is_told_what_was_expected_and_found(
    tmp_path: Path, make_folder: Make
) -> None:
    with pytest.raises(Misuse, match=r"expected the CT of CHAOS .*found images/, masks/"):
        chaos(make_folder(tmp_path), CONFIG)


def test_the_window_of_the_config_is_shown(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"window": (120.0, 180.0)})
    sample = chaos(make_chaos(tmp_path), config)[0]
    stored = pydicom.dcmread(slice_of(tmp_path, 0)).pixel_array
    np.testing.assert_array_equal(sample.image, to_grey(stored - 1000, (120, 180)))
    assert (window(tmp_path, config), window(tmp_path, CONFIG)) == ((120, 180), (-160, 240))


def test_a_mask_may_be_empty_and_hidden_files_are_left_out(tmp_path: Path) -> None:
    make_chaos(tmp_path)
    Image.new("1", (24, 20)).save(mask_of(tmp_path, 1))
    slice_of(tmp_path, 0).with_name("._i0000,0000b.dcm").write_bytes(b"Mac OS X")
    mask_of(tmp_path, 0).with_name("._liver_GT_000.png").write_bytes(b"Mac OS X")
    assert [bool(s.mask.any()) for s in chaos(tmp_path, CONFIG)[:3]] == [True, False, True]


@pytest.mark.parametrize("step", [2.0, -2.0])
def test_slices_lie_as_far_apart_as_their_positions_say(tmp_path: Path, step: float) -> None:
    make_chaos(tmp_path)
    for n in range(3):
        set_tags(slice_of(tmp_path, n), ImagePositionPatient=[0, 0, 50 + step * n])
    volume, mask = read_series(tmp_path, CONFIG, tmp_path / "CT/1")
    assert volume.spacing == (2.0, 0.7, 0.8)
    assert volume.values.shape == mask.shape == (3, 20, 24)


def test_large_slices_are_reduced(tmp_path: Path) -> None:
    root = make_chaos(tmp_path, ("1",))
    for n in range(3):
        write_dicom(slice_of(root, n), np.full((100, 120), 50 * n), 2.0 * n)
        Image.new("1", (120, 100), 1).save(mask_of(root, n))
    sample = chaos(root, CONFIG.model_copy(update={"max_side": 64}))[0]
    assert sample.image.shape[:2] == sample.mask.shape == (53, 64)
    assert sample.spacing == pytest.approx((0.7 * 100 / 53, 0.8 * 120 / 64))


def test_images_are_grey_whatever_is_asked_for(tmp_path: Path) -> None:
    samples = chaos(make_chaos(tmp_path), DataConfig(reader="chaos", channels="rgb"))
    assert {s.image.shape[2] for s in samples} == {1}


# Bad input


@pytest.mark.parametrize(
    ("lost", "found"),
    [
        ((slice_of,), "2 slices in DICOM_anon and 3 masks in Ground"),
        ((mask_of,), "3 slices in DICOM_anon and 2 masks in Ground"),
    ],
)
def test_a_slice_without_its_mask_and_the_reverse_are_problems(
    tmp_path: Path, lost: tuple[Callable[..., Path]], found: str
) -> None:
    lost[0](make_chaos(tmp_path), 1).unlink()
    assert problems(tmp_path) == [
        f"CT/1: has {found}; add what is missing: two or more slices, and a mask for each"
    ]


def test_a_volume_without_masks_is_a_problem(tmp_path: Path) -> None:
    shutil.rmtree(make_chaos(tmp_path) / "CT/5/Ground")
    (problem,) = problems(tmp_path)
    assert problem.startswith("CT/5: has 3 slices in DICOM_anon and 0 masks in Ground")


@pytest.mark.parametrize(("position", "gap", "usual"), [(8.0, 4, 2), (4.0, 0, 2)])
def test_missing_and_double_slices_are_seen_by_their_positions(
    tmp_path: Path, position: float, gap: int, usual: int
) -> None:
    make_chaos(tmp_path)
    for n, z in ((3, position), (4, position + 2)):
        shutil.copy(slice_of(tmp_path, 2), slice_of(tmp_path, n))
        shutil.copy(mask_of(tmp_path, 2), mask_of(tmp_path, n))
        set_tags(slice_of(tmp_path, n), ImagePositionPatient=[0, 0, z])
    assert problems(tmp_path) == [
        f"CT/1/DICOM_anon/i0003,0000b.dcm: lies {gap} mm from i0002,0000b.dcm, and slices "
        f"elsewhere are {usual} mm apart; add the missing slices, or remove a double one"
    ]


def test_all_that_is_wrong_is_told_together_and_the_rest_is_kept(tmp_path: Path) -> None:
    make_chaos(tmp_path, ("1", "2", "3", "4"))
    path = slice_of(tmp_path, 0)
    path.write_bytes(path.read_bytes()[:-100])
    Image.new("1", (24, 21)).save(mask_of(tmp_path, 1))
    Image.fromarray(np.arange(480, dtype=np.uint8).reshape(20, 24)).save(mask_of(tmp_path, 2))
    set_tags(slice_of(tmp_path, 1, "2"), PixelSpacing=[0.7, 0.9])
    shutil.copytree(tmp_path / "CT/3", tmp_path / "CT/5")
    with pytest.raises(BadData) as caught:
        chaos(tmp_path, CONFIG)
    damaged, size, grey, series, double = caught.value.problems
    assert damaged.startswith("CT/1/DICOM_anon/i0000,0000b.dcm: cannot be read as DICOM")
    assert size.startswith("CT/1/Ground/liver_GT_001.png: is 24 x 21 pixels, its slice i0001,0")
    assert grey.startswith("CT/1/Ground/liver_GT_002.png: is not binary")
    assert series.startswith("CT/2/DICOM_anon: the slices differ in size, PixelSpacing or orien")
    assert double == "CT/5: is the same volume as CT/3; remove one"
    assert {s.subject for s in caught.value.samples} == {"3", "4", "5"}


@pytest.mark.parametrize("tag", ["PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"])
def test_a_slice_that_does_not_say_where_it_lies_is_refused(tmp_path: Path, tag: str) -> None:
    make_chaos(tmp_path)
    write_dicom(slice_of(tmp_path, 1), np.zeros((20, 24), np.int16), 2.0, **{tag: None})
    (problem,) = problems(tmp_path)
    assert problem.startswith("CT/1/DICOM_anon/i0001,0000b.dcm: does not say where it lies; export")


def test_mr_is_refused(tmp_path: Path) -> None:
    set_tags(slice_of(make_chaos(tmp_path), 1), Modality="MR")
    assert problems(tmp_path) == [
        "CT/1/DICOM_anon/i0001,0000b.dcm: is MR; point --data to the CT of CHAOS"
    ]


# The real volume


@pytest.fixture(scope="module")
def real() -> tuple[Volume, NDArray[np.uint8]]:
    return read_series(REAL, CONFIG, REAL / "CT/3")


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return chaos(REAL, CONFIG)


@needs_real
def test_the_real_liver_is_the_known_one(real: tuple[Volume, NDArray[np.uint8]]) -> None:
    # shared/data/README.md: 71 of 78 slices, 1,342,595 voxels, 6.57 %, mean HU 141
    volume, mask = real
    assert volume.values.shape == mask.shape == (78, 512, 512)
    assert int(mask.any(axis=(1, 2)).sum()) == 71
    assert int(mask.sum()) == 1_342_595
    assert round(float(mask.mean()), 4) == 0.0657
    assert round(float(volume.values[mask > 0].mean())) == 141
    assert (volume.values.min(), volume.values.max()) == (-1000, 1434)
    assert volume.spacing == (2.0, 0.7265625, 0.7265625)


@needs_real
def test_the_real_slices_are_samples_of_one_subject(samples: list[Sample]) -> None:
    assert len(samples) == 78
    assert {s.subject for s in samples} == {"3"}
    assert {s.image.shape for s in samples} == {(512, 512, 1)}
    assert {s.spacing for s in samples} == {(0.7265625, 0.7265625)}
    assert sum(int(s.mask.sum()) for s in samples) == 1_342_595


@needs_real
def test_the_sample_submission_scores_what_its_authors_say(samples: list[Sample]) -> None:
    # shared/data/README.md: DICE 0.97843, IoU 0.95778, RAVD 0.6645 %
    paths = list_images(REAL / "sample_submission")
    guesses = [read_mask(path, (63,), may_be_empty=True) for path in paths]
    truth = [sample.mask for sample in samples]
    metrics = summarize(
        score(guess[None].astype(np.float32), sample.mask, sample.fov, 0.5)
        for guess, sample in zip(guesses, samples, strict=True)
    )
    assert round(metrics["dice_pooled"], 5) == 0.97843
    assert round(metrics["iou"], 5) == 0.95778
    found, liver = (sum(int(mask.sum()) for mask in masks) for masks in (guesses, truth))
    assert round(100 * abs(found - liver) / liver, 4) == 0.6645


@needs_real
def test_the_real_volume_is_split_within_its_subject() -> None:
    data = load(DataConfig(reader="chaos", root=REAL, channels="grey", split="within_subject"))
    assert [len(part) for part in (data.train, data.val, data.test)] == [46, 16, 16]
    assert (data.split, data.channels) == ("within_subject", 1)
