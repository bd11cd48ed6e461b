"""The reader of the Medical Segmentation Decathlon, on tiny tasks and on a real volume."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from ct_files import make_msd, write_nifti
from numpy.typing import NDArray

from r2search.config import DataConfig, Misuse
from r2search.data import load
from r2search.data.readers.entries import BadData
from r2search.data.readers.msd import msd, window
from r2search.data.readers.volumes import contrast, to_grey
from r2search.data.samples import Sample

Make = Callable[..., Path]
CONFIG = DataConfig(reader="msd", channels="grey")
REAL = Path(__file__).parents[3] / "../shared/data/totalsegmentator_sample"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the sample of CT is not here")


def config(**changes: Any) -> DataConfig:
    return CONFIG.model_copy(update=changes)


def problems(root: Path) -> list[str]:
    with pytest.raises(BadData) as caught:
        msd(root, CONFIG)
    return caught.value.problems


def change_task(root: Path, **changes: Any) -> None:
    path = root / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def slices_of(path: Path) -> NDArray[Any]:
    """The array of a file that `write_nifti` wrote, as slices (S, H, W)."""
    return np.swapaxes(np.asarray(nibabel.load(path).dataobj), 0, 2)


def relabel(path: Path, value: float, dtype: str = "uint8") -> None:
    """Give the upper half of a label file another value."""
    label = slices_of(path).astype(dtype)
    label[:, :10][label[:, :10] > 0] = value
    write_nifti(path, label)


def test_each_slice_of_a_volume_is_a_sample_of_that_subject(tmp_path: Path) -> None:
    samples = msd(make_msd(tmp_path), CONFIG)
    names = ["spleen_10", "spleen_19", "spleen_2"]
    assert [s.subject for s in samples] == [name for name in names for _ in range(3)]
    assert [s.id for s in samples[:3]] == ["spleen_10_0000", "spleen_10_0001", "spleen_10_0002"]
    assert {s.image.shape for s in samples} == {(20, 24, 1)}
    assert [s.spacing for s in samples] == [pytest.approx((0.7, 0.8))] * 9


def test_slices_and_masks_are_those_of_the_files(tmp_path: Path) -> None:
    make_msd(tmp_path, ("a",))
    image, label = (slices_of(tmp_path / kind / "a.nii.gz") for kind in ("imagesTr", "labelsTr"))
    for number, sample in enumerate(msd(tmp_path, CONFIG)):
        np.testing.assert_array_equal(sample.image, to_grey(image[number], (-160, 240)))
        np.testing.assert_array_equal(sample.mask, label[number])


def test_all_labels_are_the_foreground_unless_some_are_named(tmp_path: Path) -> None:
    relabel(make_msd(tmp_path, ("a",)) / "labelsTr/a.nii.gz", 5)
    one, five = (slices_of(tmp_path / "labelsTr/a.nii.gz") == value for value in (1, 5))
    expected = {
        (): one | five,
        (5,): five,
        (1,): one,
        (1, 5): one + 2 * five,
        (5, 1): five + 2 * one,
    }
    for labels, mask in expected.items():
        samples = msd(tmp_path, config(labels=labels))
        np.testing.assert_array_equal([s.mask for s in samples], mask, err_msg=str(labels))


def test_a_label_that_no_volume_has_is_named_with_those_of_the_task(tmp_path: Path) -> None:
    expected = r"no voxel of 9 slices has the label 7; dataset.json names 0 background, 1 spleen"
    with pytest.raises(Misuse, match=expected):
        msd(make_msd(tmp_path), config(labels=(1, 7)))


def test_labels_may_be_stored_as_whole_floats(tmp_path: Path) -> None:
    path = make_msd(tmp_path, ("a",)) / "labelsTr/a.nii.gz"
    before = [s.mask for s in msd(tmp_path, CONFIG)]
    write_nifti(path, slices_of(path).astype(np.float64))
    np.testing.assert_array_equal([s.mask for s in msd(tmp_path, CONFIG)], before)


def test_ct_is_shown_by_the_window_of_the_config(tmp_path: Path) -> None:
    make_msd(tmp_path, ("a",))
    image = slices_of(tmp_path / "imagesTr/a.nii.gz")
    sample = msd(tmp_path, config(window=(100.0, 180.0)))[2]
    np.testing.assert_array_equal(sample.image, to_grey(image[2], (100, 180)))
    assert window(tmp_path, config(window=(100.0, 180.0))) == (100, 180)
    assert window(tmp_path, CONFIG) == (-160, 240)


def test_what_is_no_ct_is_shown_by_the_contrast_of_the_volume(tmp_path: Path) -> None:
    change_task(make_msd(tmp_path, ("a",)), modality={"0": "MRI", "1": "CT"})
    image = slices_of(tmp_path / "imagesTr/a.nii.gz")
    sample = msd(tmp_path, config(window=(100.0, 180.0)))[2]
    np.testing.assert_array_equal(sample.image, to_grey(image[2], contrast(image)))
    assert window(tmp_path, config(window=(100.0, 180.0))) is None


def test_of_several_modalities_the_first_is_read(tmp_path: Path) -> None:
    before = msd(make_msd(tmp_path, ("a",)), CONFIG)
    path = tmp_path / "imagesTr/a.nii.gz"
    write_nifti(path, np.stack([slices_of(path), np.zeros_like(slices_of(path))], axis=3))
    for old, new in zip(before, msd(tmp_path, CONFIG), strict=True):
        np.testing.assert_array_equal(old.image, new.image)


def test_hidden_files_and_images_without_labels_are_left_out(tmp_path: Path) -> None:
    make_msd(tmp_path, ("a", "b"))
    (tmp_path / "imagesTr/._a.nii.gz").write_bytes(b"Mac OS X")
    (tmp_path / "labelsTr/._a.nii.gz").write_bytes(b"Mac OS X")
    (tmp_path / "imagesTs").mkdir()
    (tmp_path / "imagesTs/c.nii.gz").write_bytes(b"a test image")
    assert {s.subject for s in msd(tmp_path, CONFIG)} == {"a", "b"}


def test_the_archive_may_lie_one_folder_deeper(tmp_path: Path) -> None:
    make_msd(tmp_path / "Task09_Spleen")
    assert len(msd(tmp_path, CONFIG)) == 9
    assert window(tmp_path, CONFIG) == (-160, 240)


def test_another_layout_is_told_what_was_expected_and_found(
    tmp_path: Path, make_folder: Make
) -> None:
    with pytest.raises(Misuse, match=r"expected a task of the Medical .*found images/, masks/"):
        msd(make_folder(tmp_path), CONFIG)


@pytest.mark.parametrize("side", [None, 64])
def test_large_slices_are_reduced_and_their_pixels_grow(tmp_path: Path, side: int | None) -> None:
    make_msd(tmp_path, ("a",))
    for kind in ("imagesTr", "labelsTr"):
        path = tmp_path / kind / "a.nii.gz"
        write_nifti(path, slices_of(path).repeat(5, axis=1).repeat(5, axis=2))
    sample = msd(tmp_path, config(max_side=side))[0]
    width, height = (64, 53) if side else (120, 100)
    assert sample.image.shape[:2] == sample.mask.shape == (height, width)
    assert sample.spacing == pytest.approx((0.7 * 100 / height, 0.8 * 120 / width))
    assert sample.mask.mean() == pytest.approx(30 / 480, rel=0.1)


def test_images_are_grey_whatever_is_asked_for(tmp_path: Path) -> None:
    samples = msd(make_msd(tmp_path), DataConfig(reader="msd", channels="rgb"))
    assert {s.image.shape[2] for s in samples} == {1}


def test_one_volume_can_be_split_within_its_subject(tmp_path: Path) -> None:
    root = make_msd(tmp_path, ("a",))
    with pytest.raises(Misuse, match="all 3 images are of one subject"):
        load(config(root=root))
    data = load(config(root=root, split="within_subject"))
    assert [len(part) for part in (data.train, data.val, data.test)] == [1, 1, 1]
    assert "images of one subject may be on both sides" in data.notes[0]


# Bad input


def test_all_that_is_wrong_is_told_together_and_the_rest_is_kept(tmp_path: Path) -> None:
    make_msd(tmp_path, tuple("abcdefg"))
    images, labels = tmp_path / "imagesTr", tmp_path / "labelsTr"
    (images / "a.nii.gz").unlink()
    (labels / "b.nii.gz").unlink()
    (images / "c.nii.gz").write_bytes((images / "c.nii.gz").read_bytes()[:-200])
    write_nifti(labels / "d.nii.gz", slices_of(labels / "d.nii.gz")[:, :, 1:])
    relabel(labels / "e.nii.gz", 0.5, "float32")
    shutil.copy(images / "f.nii.gz", images / "h.nii.gz")
    shutil.copy(labels / "f.nii.gz", labels / "h.nii.gz")
    with pytest.raises(BadData) as caught:
        msd(tmp_path, CONFIG)
    missing = "is missing; add it, or take {} out of the task"
    assert caught.value.problems == [
        f"imagesTr/a.nii.gz: {missing.format('a')}",
        f"labelsTr/b.nii.gz: {missing.format('b')}",
        "imagesTr/c.nii.gz: cannot be read as NIfTI (Compressed file ended before the "
        "end-of-stream marker was reached); copy or download it again",
        "labelsTr/d.nii.gz: is 23 x 20 x 3 voxels, its image 24 x 20 x 3; save both in one grid",
        "labelsTr/e.nii.gz: has values that are no whole numbers; save the labels, not an image",
        "imagesTr/h.nii.gz: is the same volume as imagesTr/f.nii.gz; remove one",
    ]
    assert {s.subject for s in caught.value.samples} == {"f", "g", "h"}


@pytest.mark.parametrize(
    ("shift", "apart"), [(0.01, None), (-0.4, 0.5), (1.6, 2.0)], ids=["rounding", "half", "two"]
)
def test_a_label_that_lies_elsewhere_is_refused(
    tmp_path: Path, shift: float, apart: float | None
) -> None:
    path = make_msd(tmp_path) / "labelsTr/spleen_2.nii.gz"
    affine = nibabel.load(path).affine
    affine[0, 3] += shift * 1.01  # mm; a voxel is 0.8 mm wide
    write_nifti(path, slices_of(path), affine)
    if apart is None:
        assert len(msd(tmp_path, CONFIG)) == 9
        return
    assert problems(tmp_path) == [
        f"labelsTr/spleen_2.nii.gz: lies up to {apart} voxels away from its image, by their "
        "affines; save both in one grid"
    ]


def test_a_label_turned_against_its_image_is_refused(tmp_path: Path) -> None:
    path = make_msd(tmp_path) / "labelsTr/spleen_2.nii.gz"
    write_nifti(path, slices_of(path)[::-1], nibabel.load(path).affine * [1, 1, -1, 1])
    (problem,) = problems(tmp_path)
    assert problem.startswith("labelsTr/spleen_2.nii.gz: lies up to 4.0 voxels away")


def test_a_label_of_several_volumes_is_refused(tmp_path: Path) -> None:
    path = make_msd(tmp_path) / "labelsTr/spleen_2.nii.gz"
    write_nifti(path, np.stack([slices_of(path)] * 2, axis=3))
    (problem,) = problems(tmp_path)
    assert problem.startswith("labelsTr/spleen_2.nii.gz: is 24 x 20 x 3 x 2 voxels, its image 24")


def test_a_volume_packed_and_unpacked_is_a_problem(tmp_path: Path) -> None:
    path = make_msd(tmp_path) / "imagesTr/spleen_2.nii.gz"
    write_nifti(path.with_suffix(""), slices_of(path))
    (problem,) = problems(tmp_path)
    assert "imagesTr/spleen_2.nii.gz: has the name of spleen_2.nii; remove one" in problem


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"dataset.json: file: Invalid JSON"),
        ('{"name": "Spleen"}', r"dataset.json: modality: Field required; download the task again"),
        ('{"modality": {"1": "CT"}}', r"dataset.json: modality: names none; write {\"0\": \"CT\"}"),
    ],
)
def test_a_dataset_json_that_says_too_little_is_refused(
    tmp_path: Path, content: str, message: str
) -> None:
    (make_msd(tmp_path) / "dataset.json").write_text(content)
    with pytest.raises(Misuse, match=message):
        msd(tmp_path, CONFIG)


# A real volume, with labels that a model made: nothing is scored on them


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample laid out as a task."""
    root = tmp_path_factory.mktemp("Task99_Organs")
    for folder, name in (("imagesTr", "example_ct_sm"), ("labelsTr", "example_seg")):
        (root / folder).mkdir()
        shutil.copy(REAL / f"{name}.nii.gz", root / folder / "organs_1.nii.gz")
    (root / "dataset.json").write_text('{"modality": {"0": "CT"}}')
    return root


def voxels(samples: list[Sample], index: int) -> int:
    return sum(int((s.mask == index).sum()) for s in samples)


@needs_real
def test_the_real_volume_has_the_known_spleen_and_liver(task: Path) -> None:
    # shared/data/README.md: 1 = spleen, 9,452 voxels in 30 slices; 5 = liver, 38,634 voxels
    samples = msd(task, config(labels=(1, 5)))
    assert [voxels(samples, index) for index in (1, 2)] == [9452, 38634]
    assert sum(bool((s.mask == 1).any()) for s in samples) == len(samples) == 30
    assert {s.image.shape for s in samples} == {(101, 122, 1)}
    assert {s.spacing for s in samples} == {(3.0, 3.0)}


@needs_real
def test_the_real_volume_stands_upright(task: Path) -> None:
    samples = msd(task, config(labels=(1, 5)))
    spleen, liver = (np.mean([s.mask == index for s in samples], axis=(0, 1)) for index in (1, 2))
    columns = np.arange(122)
    assert np.average(columns, weights=liver) < np.average(columns, weights=spleen)
    bone = np.mean([s.image[:, 50:72, 0] == 255 for s in samples], axis=(0, 2))
    assert bone[50:].sum() > 3 * bone[:50].sum()  # the spine is at the back


@needs_real
def test_the_real_volume_has_42_values(task: Path) -> None:
    # shared/data/README.md: 42 values up to 117, with the background
    values = tuple(v for v in range(1, 118) if v in slices_of(REAL / "example_seg.nii.gz"))
    samples = msd(task, config(labels=values))
    assert len(values) == 41
    assert len(np.unique([s.mask for s in samples])) == 42
    assert load(config(root=task, labels=values, split="within_subject")).classes == 42
