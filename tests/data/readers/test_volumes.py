"""Volumes and slices: grey levels, orientation, damaged files, and samples of slices."""

from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel
import numpy as np
import pytest
from ct_files import write_dicom, write_nifti
from hypothesis import given
from hypothesis import strategies as st
from nibabel.affines import from_matvec
from nibabel.eulerangles import euler2mat
from nibabel.orientations import apply_orientation, inv_ornt_aff
from numpy.typing import NDArray
from PIL import Image

from r2search.config import DataConfig, Misuse
from r2search.data.readers.volumes import (
    DICOM,
    NIFTI,
    SOFT_TISSUE,
    Volume,
    contrast,
    list_volumes,
    read_dicom,
    read_nifti,
    read_picture,
    samples_of,
    to_grey,
    write_nifti_mask,
)

Array = NDArray[np.int16]
GREY = DataConfig(channels="grey")

# Every value another: 4 slices of 5 rows and 6 columns, upright, the first at the feet.
SLICES: Array = np.arange(120, dtype=np.int16).reshape(4, 5, 6) - 60
SPACING = (2.5, 0.7, 0.8)  # mm between slices, down and across
# Axes of the array as stored: (which axis of the body, flipped or not) for each.
ORIENTATIONS = [
    np.column_stack([axes, signs])
    for axes in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]


def stored(slices: Array, orientation: NDArray[np.int64]) -> tuple[Array, NDArray[np.float64]]:
    """A volume as a scanner of this orientation stores it, and its affine."""
    left_back_head = slices.transpose(2, 1, 0)
    affine = np.diag([-SPACING[2], -SPACING[1], SPACING[0], 1.0])  # to the right, front and head
    affine[:3, 3] = (31, -12, 400)
    turned = apply_orientation(left_back_head, orientation)
    return turned, affine @ inv_ornt_aff(orientation, left_back_head.shape)


def save(path: Path, values: NDArray[np.generic], affine: NDArray[np.float64]) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


# Grey levels


def test_a_window_is_shown_from_black_to_white() -> None:
    values = np.array([[-1000, -160, 40, 240, 3000]], np.int16)
    assert to_grey(values, SOFT_TISSUE)[0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_what_is_no_number_is_black_and_what_is_infinite_is_an_extreme() -> None:
    values = np.array([[np.nan, -np.inf, np.inf]], np.float32)
    assert to_grey(values, (0, 1))[0, :, 0].tolist() == [0, 0, 255]


@given(
    st.lists(st.integers(-1024, 3071), min_size=2, max_size=9),
    st.tuples(st.integers(-1500, 500), st.integers(1, 3000)),
)
def test_grey_levels_rise_with_the_values_and_fit_a_byte(
    numbers: list[int], place: tuple[int, int]
) -> None:
    low, width = place
    grey = to_grey(np.sort(np.array([numbers], np.int16)), (low, low + width))
    assert grey.dtype == np.uint8
    assert (np.diff(grey[0, :, 0].astype(int)) >= 0).all()


def test_contrast_leaves_the_extremes_out() -> None:
    values = np.append(np.arange(1001.0), [np.nan, np.inf])
    assert contrast(values[None]) == (5.0, 995.0)


@pytest.mark.parametrize("value", [7.0, np.nan])
def test_a_volume_without_contrast_is_shown_black(value: float) -> None:
    volume = Volume(np.full((1, 2, 2), value), SPACING)
    assert next(volume.pictures(None)).max() == 0


# NIfTI


def test_slices_stand_upright_and_begin_at_the_feet(tmp_path: Path) -> None:
    values = np.zeros((6, 5, 4), np.int16)  # axes to the right, the front and the head
    values[5, 2, 1], values[3, 4, 1], values[3, 2, 3] = 1, 2, 3  # far right, far front, head
    volume, _ = read_nifti(save(tmp_path / "a.nii.gz", values, np.diag([0.8, 0.7, 2.5, 1])))
    places = [np.argwhere(volume.values == n)[0].tolist() for n in (1, 2, 3)]
    assert places == [[1, 2, 0], [1, 0, 2], [3, 2, 2]]  # slice, row, column
    assert volume.spacing == pytest.approx(SPACING)


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=lambda o: str(o.ravel()))
def test_any_orientation_gives_the_same_slices_and_gets_its_mask_back(
    tmp_path: Path, orientation: NDArray[np.int64]
) -> None:
    values, affine = stored(SLICES, orientation)
    volume, header = read_nifti(save(tmp_path / "a.nii", values, affine))
    np.testing.assert_array_equal(volume.values, SLICES)
    assert volume.spacing == pytest.approx(SPACING)
    write_nifti_mask(tmp_path / "mask.nii.gz", (SLICES > 7).astype(np.uint8), header)
    mask = nibabel.load(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(np.asarray(mask.dataobj), values > 7)
    np.testing.assert_allclose(mask.affine, affine, atol=1e-4)
    assert mask.get_data_dtype() == np.uint8


@given(st.sampled_from(ORIENTATIONS), st.tuples(*[st.floats(-0.3, 0.3)] * 3))
def test_a_tilted_volume_is_read_along_its_nearest_axes(
    orientation: NDArray[np.int64], angles: tuple[float, float, float]
) -> None:
    values, affine = stored(SLICES, orientation)
    tilt = from_matvec(euler2mat(*angles))
    with TemporaryDirectory() as folder:
        volume, _ = read_nifti(save(Path(folder) / "a.nii", values, tilt @ affine))
    np.testing.assert_array_equal(volume.values, SLICES)
    assert volume.spacing == pytest.approx(SPACING, rel=1e-5)


def test_of_a_4d_file_the_first_volume_is_read(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", np.stack([SLICES, SLICES + 500], axis=3))
    volume, header = read_nifti(path)
    np.testing.assert_array_equal(volume.values, SLICES)
    write_nifti_mask(tmp_path / "mask.nii.gz", (SLICES > 7).astype(np.uint8), header)
    assert nibabel.load(tmp_path / "mask.nii.gz").shape == (6, 5, 4)


def test_scaled_values_are_read_as_what_they_mean(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.array([[[0.25, 100.5]]]), np.eye(4))
    image.header.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "a.nii.gz")
    volume, _ = read_nifti(tmp_path / "a.nii.gz")
    assert volume.values.dtype == np.float32
    assert volume.values.ravel().tolist() == pytest.approx([0.25, 100.5], abs=0.01)


def test_the_second_version_of_the_format_is_read(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti2Image(SLICES, np.eye(4)), tmp_path / "a.nii")
    assert read_nifti(tmp_path / "a.nii")[0].values.size == SLICES.size


def cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


def flip_checksum(content: bytes) -> bytes:
    return content[:-8] + bytes([content[-8] ^ 1]) + content[-7:]


@pytest.mark.parametrize("suffix", NIFTI)
@pytest.mark.parametrize(
    "damage", [cut, lambda _: b"", lambda _: b"<html>404</html>" * 40, lambda c: c[:40]]
)
def test_a_damaged_nifti_file_is_named(
    tmp_path: Path, suffix: str, damage: Callable[[bytes], bytes]
) -> None:
    path = write_nifti(tmp_path / f"a{suffix}", SLICES)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        Misuse, match=r"a\.nii.*: cannot be read as NIfTI \(.+\); copy or down"
    ) as e:
        read_nifti(path)
    assert len(str(e.value).splitlines()) == 1


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5, 6, 2)])
def test_a_wrong_checksum_is_seen(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", np.ones(shape, np.int16))
    path.write_bytes(flip_checksum(path.read_bytes()))
    with pytest.raises(Misuse, match=r"cannot be read as NIfTI \(CRC check failed"):
        read_nifti(path)


@pytest.mark.parametrize(
    "values",
    [np.ones((4, 5), np.int16), np.ones((4, 5, 6), np.complex64)],
    ids=["flat", "complex"],
)
def test_what_is_no_volume_of_numbers_is_refused(
    tmp_path: Path, values: NDArray[np.generic]
) -> None:
    path = save(tmp_path / "a.nii.gz", values, np.eye(4))
    with pytest.raises(Misuse, match=r"a.nii.gz: expected a volume of numbers, found \w+ of shape"):
        read_nifti(path)


def test_an_affine_without_a_place_is_refused(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", SLICES)
    content = path.read_bytes()
    path.write_bytes(content[:312] + bytes(16) + content[328:])  # the affine's third row
    with pytest.raises(Misuse, match=r"a.nii: its affine gives no place in the body"):
        read_nifti(path)


# DICOM


def test_stored_values_become_hounsfield_units(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", SLICES[0], RescaleSlope=2, RescaleIntercept=-24)
    tags, values = read_dicom(path)
    assert (values.dtype, tags.Modality) == (np.float32, "CT")
    np.testing.assert_array_equal(values, (SLICES[0] + 1000.0) * 2 - 24)


@pytest.mark.parametrize(
    "damage", [cut, lambda c: c[:-100], lambda _: b"", lambda _: b"<html>404</html>" * 40]
)
def test_a_damaged_dicom_file_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.zeros((20, 20), np.int16))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(Misuse, match=r"a.dcm: cannot be read as DICOM \(.+\); copy or") as caught:
        read_dicom(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("values", "tags"),
    [
        (SLICES, {"Rows": 5, "Columns": 6, "NumberOfFrames": 4}),
        (SLICES[0], {"PhotometricInterpretation": "MONOCHROME1"}),
    ],
    ids=["several", "inverted"],
)
def test_what_is_no_grey_slice_is_refused(
    tmp_path: Path, values: Array, tags: dict[str, object]
) -> None:
    path = write_dicom(tmp_path / "a.dcm", values, **tags)
    with pytest.raises(Misuse, match=r"a.dcm: expected one grey slice .*, found MONOCHROME\d of"):
        read_dicom(path)


def test_ct_without_a_scale_is_refused(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", SLICES[0], RescaleIntercept=None)
    with pytest.raises(Misuse, match=r"a.dcm: has no RescaleSlope and RescaleIntercept"):
        read_dicom(path)


# Pictures


@pytest.mark.parametrize("window", [None, (0.0, 100.0)])
def test_ct_is_shown_by_the_window_or_as_soft_tissue(
    tmp_path: Path, window: tuple[float, float] | None
) -> None:
    path = write_dicom(tmp_path / "a.dcm", SLICES[1])
    image = read_picture(path, DataConfig(channels="grey", window=window))
    np.testing.assert_array_equal(image, to_grey(SLICES[1], window or (-160, 240)))
    assert image.shape == (5, 6, 1)


def test_what_is_no_ct_is_shown_by_its_contrast(tmp_path: Path) -> None:
    tags = {"Modality": "MR", "RescaleSlope": None, "RescaleIntercept": None}
    path = write_dicom(tmp_path / "a.dcm", SLICES[1], **tags)
    image = read_picture(path, DataConfig(channels="grey", window=(-160, 240)))
    np.testing.assert_array_equal(image, to_grey(SLICES[1], contrast(SLICES[1])))


def test_other_files_are_read_as_images(tmp_path: Path) -> None:
    Image.fromarray(np.full((5, 6, 3), 9, np.uint8)).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png", DataConfig()).shape == (5, 6, 3)


def test_a_slice_is_no_picture_for_a_network_of_colours(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", SLICES[0])
    with pytest.raises(Misuse, match=r"a.dcm: is grey, and the network was trained on colours"):
        read_picture(path, DataConfig())


def test_a_volume_is_no_picture(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", SLICES)
    with pytest.raises(Misuse, match=r"a.nii.gz: is a volume, not a picture; predict it by"):
        read_picture(path, GREY)


def test_files_are_listed_by_kind_without_the_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.nii.gz", "a.NII", "._b.nii.gz", "c.dcm", "d.gz", "e.nii.txt"):
        (tmp_path / name).touch()
    (tmp_path / "f.dcm").mkdir()
    names = [[path.name for path in list_volumes(tmp_path, kind)] for kind in (NIFTI, DICOM)]
    assert names == [["a.NII", "b.nii.gz"], ["c.dcm"]]


# Samples


def test_a_slice_is_a_sample_and_may_be_without_foreground() -> None:
    mask = (SLICES > 20).astype(np.uint8)  # in the last two slices
    samples = samples_of("p", Volume(SLICES, SPACING), mask, (-60, 59), None)
    assert [(s.subject, s.id) for s in samples] == [("p", f"p_000{n}") for n in range(4)]
    for number, sample in enumerate(samples):
        np.testing.assert_array_equal(sample.image, to_grey(SLICES[number], (-60, 59)))
        np.testing.assert_array_equal(sample.mask, mask[number])
        assert sample.fov.all()
        assert sample.fov.shape == (5, 6)
        assert sample.spacing == (0.7, 0.8)
        assert sample.image.flags.c_contiguous
        assert sample.mask.flags.c_contiguous
    assert [int(sample.mask.sum()) > 0 for sample in samples] == [False, False, True, True]


def test_pixels_that_are_reduced_are_larger() -> None:
    volume = Volume(np.zeros((1, 40, 80), np.int16), SPACING)
    (sample,) = samples_of("p", volume, np.ones((1, 40, 80), np.uint8), SOFT_TISSUE, 64)
    assert sample.image.shape == (32, 64, 1)
    assert sample.mask.shape == sample.fov.shape == (32, 64)
    assert sample.spacing == pytest.approx((0.7 * 40 / 32, 0.8 * 80 / 64))
