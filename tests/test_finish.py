"""What follows the training: sample pictures, and a bundle that is the network scored."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from r2search.bundle import load_bundle
from r2search.cli import main
from r2search.config import DataConfig
from r2search.data import load
from r2search.data.samples import Sample
from r2search.deciding import decide
from r2search.finish import sample_sheet
from r2search.report.pictures import CLASSES, ERRORS
from r2search.scoring import restore
from r2search.space import load_study
from r2search.testing import open_test
from r2search.train.evaluation import evaluate
from r2search.tuning.events import Ledger, read_trials
from r2search.weights import WEIGHTS

ORGANS = Path(__file__).parents[1] / "../shared/data/totalsegmentator_sample"

# The smallest training of resized images, standardised by the data set, of mask values 7 and 130.
SETTINGS = {
    "data.labels": [7, 130],
    "data.resize": 32,
    "data.aspect": "stretch",
    "data.standardize": "dataset",
    "data.patch_size": 32,
    "model.depth": 1,
    "model.base_filters": 2,
    "train.batch_size": 2,
    "train.class_weights": [1.0, 2.0, 3.0],
    "train.epoch_pixels": 8192,
    "inference.tile": 32,
    "inference.overlap": 8,
    "budget.max_epochs": 2,
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory, write_folder: Callable[..., Path]) -> Path:
    """Five tiny images whose masks have an upper part of 7 and a lower one of 130."""
    root = write_folder(tmp_path_factory.mktemp("finish") / "data")
    for path in (root / "masks").iterdir():
        with Image.open(path) as picture:
            mask = np.array(picture)
        mask[mask > 0] = 7
        mask[20:][mask[20:] > 0] = 130
        Image.fromarray(mask).save(path)
    return root


@pytest.fixture(scope="module")
def run_dir(data_dir: Path) -> Path:
    """The run folder of a training of several classes."""
    out = data_dir.with_name("run")
    sets = [f"--set={key}={value}" for key, value in SETTINGS.items()]
    arguments = ["train", "--space", "general.yaml", f"--data={data_dir}", f"--out={out}", *sets]
    assert main(arguments) == 0
    return out


def sample(mask: NDArray[np.uint8]) -> Sample:
    return Sample(
        image=np.zeros((*mask.shape, 3), np.uint8),
        mask=mask,
        fov=np.ones(mask.shape, np.bool_),
        subject="s",
        id="s",
    )


def colours(png: bytes) -> set[Any]:
    with Image.open(io.BytesIO(png)) as page:
        return {colour for _, colour in page.getcolors(1_000_000) or []}


def test_a_sheet_shows_classes_and_errors_with_their_legend() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 20:40], mask[:, 40:60] = 1, 2
    one = colours(sample_sheet(sample((mask == 1).astype(np.uint8)), mask * 0, ["class 1"]))
    assert CLASSES[0] in one  # the outline in the mask
    assert not {CLASSES[1], ERRORS["wrong class"]} & one
    two = colours(sample_sheet(sample(mask), mask[::-1, ::-1], ["class 1", "class 2"]))
    assert {CLASSES[0], CLASSES[1], *ERRORS.values()} <= two


def test_a_training_of_several_classes_ends_well(run_dir: Path) -> None:
    summary = json.loads((run_dir / "summary.json").read_text())
    assert summary["status"] == "completed"
    assert summary["incumbent"]["config"]["model"]["classes"] == 3
    assert {"val/dice_mean", "val/dice_mean_class1", "val/dice_mean_class2"} <= set(
        summary["incumbent"]["metrics"]
    )
    assert {"dice_mean", "dice_mean_class2"} <= set(summary["test"]["incumbent"])
    assert "incumbent, class 2 (mask value 130)" in (run_dir / "report.html").read_text()
    assert "class 1 (mask value 7); class 2" in (run_dir / "bundle" / "card.md").read_text()


def test_the_typical_the_best_and_the_worst_image_lie_beside_the_scores_of_all(
    run_dir: Path,
) -> None:
    images = json.loads((run_dir / "summary.json").read_text())["images"]
    values = [row["value"] for row in images["scores"]]
    assert values == sorted(values, reverse=True)
    files = [row["file"] for row in images["shown"]]
    assert sorted(files) == sorted(f"pictures/{p.name}" for p in (run_dir / "pictures").iterdir())
    assert files[0] == "pictures/median.png"
    page = (run_dir / "report.html").read_text()
    assert page.count('class="wide"><img') == len(files)
    assert all(row["caption"] in page for row in images["shown"])


def test_the_bundle_is_bit_for_bit_the_network_that_was_tested(
    run_dir: Path, data_dir: Path
) -> None:
    bundle = load_bundle(run_dir / "bundle")
    assert len(bundle.manifest.mean) == len(bundle.manifest.std) == 3
    samples = load(DataConfig(reader="folder", root=data_dir, labels=(7, 130)))
    (trial,) = read_trials(run_dir / "trials.jsonl")
    predictor = restore(run_dir, trial, samples)
    for one in (*samples.val, *samples.test):
        found = bundle.predict(one.image)
        np.testing.assert_array_equal(found.probability, predictor.probability(one.image))
        assert found.probability.shape == (2, *one.mask.shape)
    metrics, _ = evaluate(bundle.predictor, samples.val)
    assert bundle.manifest.metrics.items() >= {f"val/{k}": v for k, v in metrics.items()}.items()


# A real volume of several organs. Its labels were made by a model: nothing is scored on them here.


@pytest.mark.skipif(not ORGANS.is_dir(), reason=f"the sample of organs is not in {ORGANS}")
def test_organs_of_a_real_volume_are_trained_and_predicted_by_their_labels(tmp_path: Path) -> None:
    root, out = tmp_path / "Task99_Organs", tmp_path / "run"
    for folder, name in (("imagesTr", "example_ct_sm"), ("labelsTr", "example_seg")):
        (root / folder).mkdir(parents=True)
        shutil.copy(ORGANS / f"{name}.nii.gz", root / folder / "organs_1.nii.gz")
    (root / "dataset.json").write_text('{"modality": {"0": "CT"}}')
    spleen, liver = 1, 5
    changes = {
        "data.labels": [spleen, liver],
        "data.split": "within_subject",
        "data.channels": "grey",
        "data.resize": 64,
        "data.patch_size": 64,
        "model.base_filters": 4,
        "train.lr": 0.02,
        "train.epoch_pixels": 80_000,
        "inference.tile": 64,
    }
    sets = [f"--set={key}={value}" for key, value in (SETTINGS | changes).items()]
    arguments = ["train", "--space", "general.yaml", "--reader=msd", f"--data={root}"]
    assert main([*arguments, f"--out={out}", *sets]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["data"]["split"] == "within_subject"
    assert {"val/dice_mean_class1", "val/dice_mean_class2"} <= set(summary["incumbent"]["metrics"])
    volume = root / "imagesTr" / "organs_1.nii.gz"
    assert main(["predict", str(out / "bundle"), str(volume), "-o", str(tmp_path / "out")]) == 0
    mask, scan = (
        np.asarray(nibabel.Nifti1Image.from_filename(path).dataobj)
        for path in (tmp_path / "out" / "organs_1_mask.nii.gz", volume)
    )
    assert mask.shape == scan.shape
    assert {0} < set(np.unique(mask)) <= {0, spleen, liver}


def test_the_test_split_is_not_opened_again_for_weights_that_were_scored(
    run_dir: Path, data_dir: Path, tmp_path: Path
) -> None:
    shutil.copytree(run_dir, tmp_path / "run")
    study = load_study(str(tmp_path / "run" / "space.yaml"))
    samples = load(DataConfig(reader="folder", root=data_dir, labels=(7, 130)))
    ledger = Ledger(tmp_path / "run" / "trials.jsonl")
    decision = decide(study, samples, tmp_path / "run", ledger)
    assert decision is not None
    stored = json.loads((run_dir / "summary.json").read_text())["test"]
    (tmp_path / "run/checkpoints/t0001" / WEIGHTS).unlink()  # nothing to score with
    assert open_test(study, samples, tmp_path / "run", ledger, decision) == stored
    assert stored["opened"] == 1
