"""Predicting NIfTI volumes and DICOM slices."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from ct_files import GRID, draw_volume, write_dicom, write_nifti
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from r2search.bundle import Bundle, load_bundle
from r2search.config import DataConfig, Misuse, ModelConfig
from r2search.data.readers.volumes import contrast, to_grey
from r2search.inputs import find_images
from r2search.outputs import RECORD
from r2search.predicting import predict_files

Make = Callable[..., Path]
WINDOW = (100.0, 200.0)
HU, _ = draw_volume(0)
KINDS = ("mask", "probability", "overlay")


@pytest.fixture
def make_ct_bundle(tmp_path: Path, make_bundle: Make, facts: Callable[..., Any]) -> Make:
    """`make_ct_bundle(classes, **data)` exports a network of grey slices."""

    def make(classes: int = 1, **data: Any) -> Path:
        read = {"reader": "msd", "channels": "grey", "window": WINDOW} | data
        model = ModelConfig(block="conv", depth=1, base_filters=2, in_channels=1, classes=classes)
        config = facts()["config"].model_copy(update={"data": DataConfig(**read), "model": model})
        return make_bundle(tmp_path / "run", seed=6, config=config)

    return make


def masks_of(bundle: Bundle, window: tuple[float, float]) -> NDArray[np.uint8]:
    """What a network says of each slice of HU; with all of its classes, or a test sees nothing."""
    masks = np.stack([bundle.predict(to_grey(values, window)).mask for values in HU])
    assert len(np.unique(masks)) == max(2, bundle.manifest.config.model.classes)
    return masks


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_volume_gets_one_mask_in_its_own_grid(
    tmp_path: Path, make_ct_bundle: Make, console: Console
) -> None:
    path, out = write_nifti(tmp_path / "in/scan.nii.gz", HU), tmp_path / "out"
    assert predict_files(make_ct_bundle(), [path], out, None, console) == 0
    assert {path.name for path in out.iterdir()} == {"scan_mask.nii.gz", RECORD}
    mask, scan = nibabel.load(out / "scan_mask.nii.gz"), nibabel.load(path)
    assert mask.get_data_dtype() == np.uint8
    assert mask.shape == scan.shape
    np.testing.assert_array_equal(mask.affine, scan.affine)
    slices = np.swapaxes(np.asarray(mask.dataobj), 0, 2)
    np.testing.assert_array_equal(slices, masks_of(load_bundle(tmp_path / "run/bundle"), WINDOW))


def test_a_volume_stored_the_other_way_round_gets_the_same_mask(
    tmp_path: Path, make_ct_bundle: Make, console: Console
) -> None:
    turned = GRID.copy()
    turned[:, 0] *= -1  # the first axis to the right
    turned[0, 3] = -0.8 * (HU.shape[2] - 1)
    paths = [
        write_nifti(tmp_path / "in/a.nii", HU),
        write_nifti(tmp_path / "in/b.nii", HU[:, :, ::-1], turned),
    ]
    predict_files(make_ct_bundle(), paths, tmp_path / "out", None, console)
    a, b = (nibabel.load(tmp_path / f"out/{name}_mask.nii.gz") for name in "ab")
    np.testing.assert_allclose(b.affine, turned, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(b.dataobj)[::-1], np.asarray(a.dataobj))


@pytest.mark.parametrize(("classes", "labels"), [(1, (5,)), (3, (5, 2))])
def test_the_mask_has_the_labels_that_were_trained_on(
    tmp_path: Path, make_ct_bundle: Make, console: Console, classes: int, labels: tuple[int, ...]
) -> None:
    path = write_nifti(tmp_path / "in/scan.nii.gz", HU)
    bundle_dir = make_ct_bundle(classes, labels=labels)
    predict_files(bundle_dir, [path], tmp_path / "out", None, console)
    mask = np.asarray(nibabel.load(tmp_path / "out/scan_mask.nii.gz").dataobj)
    expected = np.array((0, *labels))[masks_of(load_bundle(bundle_dir), WINDOW)]
    np.testing.assert_array_equal(np.swapaxes(mask, 0, 2), expected)


def test_a_threshold_and_a_volume_without_a_window_are_heeded(
    tmp_path: Path, make_ct_bundle: Make, console: Console
) -> None:
    path = write_nifti(tmp_path / "in/scan.nii.gz", HU)
    bundle = load_bundle(make_ct_bundle(window=None))
    pictures = [to_grey(values, contrast(HU)) for values in HU]
    probability = np.stack([bundle.predict(picture).probability[0] for picture in pictures])
    threshold = float(np.quantile(probability, 0.7))
    predict_files(tmp_path / "run/bundle", [path], tmp_path / "out", threshold, console)
    mask = np.asarray(nibabel.load(tmp_path / "out/scan_mask.nii.gz").dataobj)
    np.testing.assert_array_equal(np.swapaxes(mask, 0, 2), probability >= threshold)


def test_a_dicom_slice_is_predicted_as_an_image(
    tmp_path: Path, make_ct_bundle: Make, console: Console
) -> None:
    path, out = write_dicom(tmp_path / "in/scan.dcm", HU[1]), tmp_path / "out"
    bundle = load_bundle(make_ct_bundle())
    assert predict_files(tmp_path / "run/bundle", [path], out, None, console) == 0
    assert {path.name for path in out.iterdir()} == {
        RECORD,
        *(f"scan_{kind}.png" for kind in KINDS),
    }
    expected = bundle.predict(to_grey(HU[1], WINDOW))
    with Image.open(out / "scan_mask.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask), expected.mask * 255)
    np.testing.assert_array_equal(bundle.predict(path).probability, expected.probability)


def test_a_folder_may_hold_images_slices_and_volumes(tmp_path: Path) -> None:
    write_dicom(tmp_path / "b.dcm", HU[1])
    write_nifti(tmp_path / "a.nii.gz", HU)
    write_nifti(tmp_path / "._a.nii.gz", HU)
    Image.new("L", (24, 20)).save(tmp_path / "c.png")
    assert find_images([tmp_path]) == {
        name: tmp_path / f"{name}{suffix}"
        for name, suffix in (("a", ".nii.gz"), ("b", ".dcm"), ("c", ".png"))
    }


def test_two_volumes_of_one_name_are_refused(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii.gz", HU)
    write_nifti(tmp_path / "a.nii", HU)
    with pytest.raises(Misuse, match=r"a.nii.gz: would overwrite the results of .*a.nii;"):
        find_images([tmp_path])


def test_a_bad_volume_is_named_and_leaves_nothing(
    tmp_path: Path, make_ct_bundle: Make, console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_nifti(tmp_path / "in/a.nii.gz", HU)
    path.write_bytes(path.read_bytes()[:-50])
    write_dicom(tmp_path / "in/b.dcm", HU[1]).write_bytes(b"no DICOM")
    write_nifti(tmp_path / "in/c.nii.gz", HU)
    assert predict_files(make_ct_bundle(), [path.parent], tmp_path / "out", None, console) == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"c_mask.nii.gz", RECORD}
    assert "1 of 3 images predicted" in text_of(console)
    lines = capsys.readouterr().err.splitlines()
    assert sorted(line.split(":")[1].rpartition("/")[2] for line in lines) == ["a.nii.gz", "b.dcm"]


def test_a_network_of_colours_refuses_slices_and_volumes(
    tmp_path: Path, make_bundle: Make, console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [write_nifti(tmp_path / "a.nii", HU), write_dicom(tmp_path / "b.dcm", HU[1])]
    assert predict_files(make_bundle(tmp_path / "run"), paths, tmp_path / "out", None, console) == 1
    assert capsys.readouterr().err.count("is grey, and the network was trained on colours") == 2
    assert not list((tmp_path / "out").iterdir())


def test_a_volume_is_not_one_image(tmp_path: Path, make_ct_bundle: Make) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", HU)
    with pytest.raises(Misuse, match=r"a.nii.gz: is a volume, not a picture; predict it by"):
        load_bundle(make_ct_bundle()).predict(path)
