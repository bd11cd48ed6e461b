"""Predicting files and evaluating a bundle: what is written, and what a mistake costs."""

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file, save_file

from r2search.bundle import load_bundle
from r2search.config import DataConfig, Misuse, TrialConfig
from r2search.data import load
from r2search.data.readers.images import read_mask
from r2search.models.unet import build_model
from r2search.outputs import RECORD
from r2search.predicting import evaluate_bundle, predict_files
from r2search.report.pictures import overlay
from r2search.report.wording import SYNTHETIC
from r2search.train.evaluation import evaluate
from r2search.train.hardware import apply
from r2search.train.image_metrics import ImageScorer
from r2search.weights import WEIGHTS

Make = Callable[..., Path]

KINDS = ("mask", "probability", "overlay")


@pytest.fixture
def bundle_dir(tmp_path: Path, make_bundle: Make) -> Path:
    return make_bundle(tmp_path / "run")


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def pixels(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as picture:
        return np.asarray(picture)


def results(out: Path) -> set[str]:
    return {path.name for path in out.iterdir()} - {RECORD}


# Predicting


@pytest.mark.parametrize("shape", [(37, 53), (20, 24), (70, 65)])  # tiles are of 32 pixels
def test_mask_probability_and_overlay_are_written_at_the_size_of_the_image(
    tmp_path: Path, bundle_dir: Path, write_image: Make, console: Console, shape: tuple[int, int]
) -> None:
    path, out = write_image(tmp_path / "in" / "eye.png", *shape), tmp_path / "new" / "out"
    assert predict_files(bundle_dir, [path], out, None, console) == 0
    assert results(out) == {f"eye_{kind}.png" for kind in KINDS}
    prediction = load_bundle(bundle_dir).predict(path)
    mask, probability, picture = (pixels(out / f"eye_{kind}.png") for kind in KINDS)
    assert (mask.dtype, probability.dtype) == (np.uint8, np.uint16)
    np.testing.assert_array_equal(mask, prediction.mask * 255)
    np.testing.assert_array_equal(probability, np.round(prediction.probability[0] * 65535))
    np.testing.assert_array_equal(picture, overlay(pixels(path), prediction.mask))
    assert mask.shape == probability.shape == picture.shape[:2] == shape


def test_a_threshold_of_ones_own_changes_the_mask_alone(
    tmp_path: Path, bundle_dir: Path, write_image: Make, console: Console
) -> None:
    path = write_image(tmp_path / "in" / "eye.png")
    (probability,) = load_bundle(bundle_dir).predict(path).probability
    threshold = float(np.quantile(probability, 0.05))
    assert threshold < 0.5  # the bundle's own
    predict_files(bundle_dir, [path], tmp_path / "out", threshold, console)
    mask = pixels(tmp_path / "out" / "eye_mask.png")
    np.testing.assert_array_equal(mask > 0, probability >= threshold)
    written = pixels(tmp_path / "out" / "eye_probability.png")
    np.testing.assert_array_equal(written, np.round(probability * 65535))


@pytest.fixture
def several_dir(tmp_path: Path, make_bundle: Make, several: TrialConfig) -> Path:
    """A bundle of two foreground classes, of mask values 7 and 130."""
    return make_bundle(tmp_path / "several", seed=1, config=several)


def test_of_several_classes_the_mask_has_the_values_of_the_masks_trained_on(
    tmp_path: Path, several_dir: Path, write_image: Make, console: Console
) -> None:
    path, out = write_image(tmp_path / "in" / "eye.png"), tmp_path / "out"
    assert predict_files(several_dir, [path], out, None, console) == 0
    prediction = load_bundle(several_dir).predict(path)
    # Read as ground truth is read, they are the classes predicted.
    read = read_mask(out / "eye_mask.png", (7, 130))
    np.testing.assert_array_equal(read, prediction.mask)
    assert set(np.unique(pixels(out / "eye_mask.png"))) == {0, 7, 130}
    for index, probability in enumerate(prediction.probability, start=1):
        written = pixels(out / f"eye_probability_class{index}.png")
        np.testing.assert_array_equal(written, np.round(probability * 65535))
    picture = pixels(out / "eye_overlay.png")
    np.testing.assert_array_equal(picture, overlay(pixels(path), prediction.mask))
    kinds = ("mask", "probability_class1", "probability_class2", "overlay")
    assert results(out) == {f"eye_{kind}.png" for kind in kinds}


def test_a_threshold_is_refused_where_it_decides_nothing(
    tmp_path: Path, several_dir: Path, write_image: Make, console: Console
) -> None:
    path = write_image(tmp_path / "in" / "eye.png")
    with pytest.raises(Misuse, match=r"--threshold 0.4: this network tells 3 classes apart"):
        predict_files(several_dir, [path], tmp_path / "out", 0.4, console)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.5, 50.0, float("nan")])
def test_a_threshold_that_is_no_probability_is_refused(
    tmp_path: Path, bundle_dir: Path, console: Console, threshold: float
) -> None:
    with pytest.raises(Misuse, match=r"--threshold .*: must lie between 0 and 1"):
        predict_files(bundle_dir, [tmp_path], tmp_path / "out", threshold, console)


def test_all_images_of_a_folder_are_predicted_and_other_files_passed_over(
    tmp_path: Path, bundle_dir: Path, write_image: Make, console: Console
) -> None:
    folder = write_image(tmp_path / "in" / "a.png").parent
    out = tmp_path / "out [red]"  # brackets mean something to the console
    write_image(folder / "b.JPG", seed=1)
    (folder / "notes.txt").write_text("no image")
    other = write_image(tmp_path / "c.bmp", seed=2)
    assert predict_files(bundle_dir, [folder, other], out, None, console) == 0
    masks = sorted(path.name for path in out.glob("*_mask.png"))
    assert masks == ["a_mask.png", "b_mask.png", "c_mask.png"]
    assert f"3 of 3 images predicted, in {out}\n" in text_of(console)


def test_a_bad_file_is_named_and_costs_only_itself(
    tmp_path: Path,
    bundle_dir: Path,
    write_image: Make,
    console: Console,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = write_image(tmp_path / "in" / "a.png").parent
    (folder / "broken.png").write_bytes(b"not a PNG")
    Image.new("RGBA", (40, 40)).save(folder / "clear.png")
    write_image(folder / "z.png", seed=1)
    assert predict_files(bundle_dir, [folder], tmp_path / "out", None, console) == 1
    masks = sorted(path.name for path in (tmp_path / "out").glob("*_mask.png"))
    assert masks == ["a_mask.png", "z_mask.png"]
    assert "2 of 4 images predicted" in text_of(console)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"r2search: {folder / 'broken.png'}: cannot be read as an image")
    assert second.startswith(f"r2search: {folder / 'clear.png'}: has transparent pixels")


def test_what_a_network_of_synthetic_images_is_good_for_is_said(
    tmp_path: Path, make_bundle: Make, write_image: Make, console: Console
) -> None:
    path = write_image(tmp_path / "a.png")
    bundle_dir = make_bundle(tmp_path / "run", synthetic=True)
    predict_files(bundle_dir, [path], tmp_path / "out", None, console)
    assert "This network was trained on synthetic data" in text_of(console)


def test_results_do_not_go_where_the_images_are(
    tmp_path: Path, bundle_dir: Path, write_image: Make, console: Console
) -> None:
    path = write_image(tmp_path / "in" / "eye.png")
    drawn = write_image(tmp_path / "in" / "eye_mask.png", seed=1).read_bytes()
    with pytest.raises(Misuse, match=r"-o .*in: holds images to predict"):
        predict_files(bundle_dir, [path], tmp_path / "in", None, console)
    assert (tmp_path / "in" / "eye_mask.png").read_bytes() == drawn


def test_a_place_for_results_that_is_a_file_is_refused(
    tmp_path: Path, bundle_dir: Path, write_image: Make, console: Console
) -> None:
    path = write_image(tmp_path / "in" / "eye.png")
    (tmp_path / "out").touch()
    with pytest.raises(Misuse, match=r"-o .*out: cannot be made .File exists.; name another"):
        predict_files(bundle_dir, [path], tmp_path / "out", None, console)


# Evaluating


@pytest.fixture
def data_dir(tmp_path: Path, write_folder: Make) -> Path:
    return write_folder(tmp_path / "data")


@pytest.fixture
def score(
    tmp_path: Path, data_dir: Path, console: Console
) -> Callable[..., tuple[dict[str, float], list[dict[str, str]]]]:
    """`score(bundle, split)`: the metrics that evaluating prints, and the lines of its CSV."""

    def run(bundle: Path, split: str = "val") -> tuple[dict[str, float], list[dict[str, str]]]:
        path = tmp_path / "new" / "scores.csv"
        assert evaluate_bundle(bundle, str(data_dir), None, split, path, console) == 0
        printed = re.findall(r"(\w+) +│ +([0-9.]+)", text_of(console))
        with path.open(newline="") as file:
            return {name: float(value) for name, value in printed}, list(csv.DictReader(file))

    return run


def test_evaluation_gives_the_metrics_of_training(
    bundle_dir: Path, data_dir: Path, score: Callable[..., Any]
) -> None:
    printed, lines = score(bundle_dir)
    bundle = load_bundle(bundle_dir)
    samples = load(DataConfig(reader="folder", root=data_dir))
    apply(bundle.predictor.hardware)
    scorer = ImageScorer(samples.val, 0.5)
    metrics, per_image = evaluate(bundle.predictor, samples.val, scorer)
    assert printed == pytest.approx(metrics, abs=1e-8)
    assert [line.pop("id") for line in lines] == [name for name, _ in per_image]
    for line, (_, scores) in zip(lines, per_image, strict=True):
        assert {name: float(value) for name, value in line.items()} == scores


def test_the_metrics_of_several_classes_stand_side_by_side(
    tmp_path: Path, several_dir: Path, data_dir: Path, console: Console
) -> None:
    for path in (data_dir / "masks").iterdir():
        mask = pixels(path)
        values = np.where(mask > 0, np.where(np.arange(48) < 15, 7, 130), 0).astype(np.uint8)
        Image.fromarray(values).save(path)
    arguments = (str(data_dir), None, "val", tmp_path / "s.csv", console)
    assert evaluate_bundle(several_dir, *arguments) == 0
    samples = load(DataConfig(reader="folder", root=data_dir, labels=(7, 130)))
    bundle = load_bundle(several_dir)
    apply(bundle.predictor.hardware)
    metrics, _ = evaluate(bundle.predictor, samples.val, ImageScorer(samples.val, 0.5))
    line = re.search(r"│ auc_roc +│ ([0-9.]+) +│ ([0-9.]+) +│ ([0-9.]+) +│", text_of(console))
    assert line
    names = ("auc_roc", "auc_roc_class1", "auc_roc_class2")
    assert [float(value) for value in line.groups()] == pytest.approx(
        [metrics[n] for n in names], abs=1e-8
    )
    with (tmp_path / "s.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row.pop("id") == samples.val[0].id
    assert {name: float(value) for name, value in row.items()} == pytest.approx(metrics)


@pytest.mark.parametrize(("split", "images"), [("train", 3), ("val", 1), ("test", 1), ("all", 5)])
def test_the_csv_has_a_line_for_every_image_of_the_split(
    bundle_dir: Path, score: Callable[..., Any], split: str, images: int
) -> None:
    # Five subjects: a fifth of them, one, for validation, one for test, and three are left.
    _, lines = score(bundle_dir, split)
    assert len({line["id"] for line in lines}) == len(lines) == images


def test_the_split_is_that_of_the_study_s_own_seed(
    tmp_path: Path, make_bundle: Make, facts: Callable[..., Any], data_dir: Path, console: Console
) -> None:
    found = set()
    for seed in range(4):
        config = facts()["config"].model_copy(update={"seed": seed})
        bundle_dir, path = make_bundle(tmp_path / str(seed), config=config), tmp_path / "s.csv"
        evaluate_bundle(bundle_dir, str(data_dir), None, "val", path, console)
        (sample,) = load(DataConfig(reader="folder", root=data_dir), seed=seed).val
        assert path.read_text().splitlines()[1].startswith(f"{sample.id},")
        found.add(sample.id)
    assert len(found) > 1


def test_other_weights_get_another_score(bundle_dir: Path, score: Callable[..., Any]) -> None:
    before, _ = score(bundle_dir)
    config = load_bundle(bundle_dir).manifest.config
    save_file(build_model(config.model, seed=1).state_dict(), bundle_dir / WEIGHTS)
    after, _ = score(bundle_dir)
    assert before["auc_roc"] != after["auc_roc"]


def test_weights_that_yield_no_numbers_are_named(
    bundle_dir: Path, score: Callable[..., Any]
) -> None:
    path = bundle_dir / WEIGHTS
    nothing = {
        key: value * float("nan") if value.is_floating_point() else value.clone()
        for key, value in load_file(path).items()
    }
    save_file(nothing, path)
    with pytest.raises(Misuse, match="bundle: the network's output is not finite"):
        score(bundle_dir)


def test_an_empty_split_is_refused(
    tmp_path: Path, bundle_dir: Path, write_folder: Make, console: Console
) -> None:
    root = str(write_folder(tmp_path / "two", ("a", "b")))  # one to train on, one to validate on
    with pytest.raises(Misuse, match="--split test: no image in it; choose another split"):
        evaluate_bundle(bundle_dir, root, None, "test", tmp_path / "s.csv", console)


def test_images_that_the_study_did_not_see_are_told_apart(
    tmp_path: Path, make_bundle: Make, data_dir: Path, console: Console
) -> None:
    seen = load(DataConfig(reader="folder", root=data_dir)).fingerprint
    bundle_dir = make_bundle(tmp_path / "same", data={"fingerprint": seen})
    arguments = (str(data_dir), None, "val", tmp_path / "s.csv", console)
    evaluate_bundle(bundle_dir, *arguments)
    assert "not the images of the study" not in text_of(console)
    (data_dir / "images" / "e.png").unlink()
    (data_dir / "masks" / "e.png").unlink()
    evaluate_bundle(bundle_dir, *arguments)
    assert "These are not the images of the study, or not all of them" in text_of(console)


def test_synthetic_images_never_stand_in_for_those_of_the_study(
    tmp_path: Path, make_bundle: Make, facts: Callable[..., Any], console: Console
) -> None:
    data = DataConfig(reader="chase_db1", root=tmp_path / "gone", otherwise="synthetic_retina")
    bundle_dir = make_bundle(tmp_path, config=facts()["config"].model_copy(update={"data": data}))
    with pytest.raises(Misuse, match="gone: there is no such folder"):
        evaluate_bundle(bundle_dir, None, None, "val", tmp_path / "s.csv", console)


def test_a_score_on_synthetic_images_says_so(
    tmp_path: Path, bundle_dir: Path, console: Console
) -> None:
    path = tmp_path / "s.csv"
    evaluate_bundle(bundle_dir, None, "synthetic_retina", "val", path, console)
    assert SYNTHETIC in text_of(console)


def test_a_place_for_the_csv_that_is_a_folder_is_refused(
    tmp_path: Path, bundle_dir: Path, data_dir: Path, console: Console
) -> None:
    with pytest.raises(Misuse, match=r"-o .*: cannot be written .Is a directory.; name another"):
        evaluate_bundle(bundle_dir, str(data_dir), None, "val", tmp_path, console)
