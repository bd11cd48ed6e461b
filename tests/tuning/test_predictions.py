"""What trials predict of one image, in files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from r2search.data.samples import Sample, SampleSet
from r2search.tuning import predictions
from r2search.tuning.predictions import (
    EDGE,
    PREDICTIONS,
    begin_predictions,
    keep_prediction,
    read_prediction,
    read_reference,
)


def test_a_prediction_is_read_as_it_was_kept(noise: SampleSet, tmp_path: Path) -> None:
    begin_predictions(tmp_path, noise.val[0], ["vessel"])
    mask = 1 - noise.val[0].mask
    keep_prediction(tmp_path, "t0001", 3, mask)
    found = read_prediction(tmp_path, "t0001", 3)
    assert found is not None
    assert (found == mask).all()
    reference = read_reference(tmp_path)
    assert reference is not None
    assert (reference.id, reference.names) == (noise.val[0].id, ["vessel"])
    assert (reference.image == noise.val[0].image).all()
    assert (reference.mask == noise.val[0].mask).all()
    assert read_prediction(tmp_path, "t0001", 4) is None


def test_large_images_are_reduced_and_grey_ones_stay_grey(tmp_path: Path) -> None:
    height, width = 3 * EDGE, 2 * EDGE
    mask = np.zeros((height, width), np.uint8)
    mask[: height // 2] = 2
    image = np.full((height, width, 1), 7, np.uint8)
    sample = Sample(image=image, mask=mask, fov=mask < 3, subject="a", id="a")
    begin_predictions(tmp_path, sample, ["liver", "spleen"])
    found = read_reference(tmp_path)
    assert found is not None
    assert found.image.shape == (EDGE, round(2 * EDGE / 3), 1)
    assert (found.image == 7).all()
    assert set(np.unique(found.mask)) == {0, 2}
    assert found.names == ["liver", "spleen"]


def test_without_the_folder_nothing_is_kept_and_in_a_full_one_nothing_more(
    noise: SampleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_prediction(tmp_path, "t0001", 1, noise.val[0].mask)
    assert list(tmp_path.iterdir()) == []
    begin_predictions(tmp_path, noise.val[0], ["vessel"])
    monkeypatch.setattr(predictions, "MOST", 2)
    for epoch in (1, 2, 3):
        keep_prediction(tmp_path, "t0001", epoch, noise.val[0].mask)
    names = {path.name for path in (tmp_path / PREDICTIONS).iterdir()}
    assert names == {"image.npz", "t0001-0001.png", "t0001-0002.png"}


def test_a_damaged_file_is_taken_for_none(tmp_path: Path) -> None:
    assert read_reference(tmp_path) is None
    folder = tmp_path / PREDICTIONS
    folder.mkdir()
    for name in ("image.npz", "t0001-0001.png"):
        (folder / name).write_bytes(b"cut off")
    assert read_reference(tmp_path) is None
    assert read_prediction(tmp_path, "t0001", 1) is None
    Image.new("L", (4, 4)).save(folder / "t0001-0001.png")
    assert read_prediction(tmp_path, "t0001", 1) is not None
