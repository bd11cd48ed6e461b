"""What is made of a study after its end: several networks averaged, and a final one."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from r2search import ensembling
from r2search.bundle import load_bundle
from r2search.cli import main
from r2search.config import Misuse, TrialConfig
from r2search.models.unet import build_model
from r2search.reopening import reopen
from r2search.train.evaluation import evaluate
from r2search.train.hardware import apply
from r2search.train.image_metrics import ImageScorer
from r2search.train.trainer import Trainer
from r2search.tuning.events import ConfirmLedger, Ledger, read_trials
from r2search.weights import WEIGHTS, read_weights, save_weights

SMALL = {
    "data.patch_size": 16,
    "data.standardize": "dataset",
    "model.depth": 1,
    "model.base_filters": 2,
    "train.epoch_pixels": 4096,
    "budget.max_epochs": 3,
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory, write_folder: Callable[..., Path]) -> Path:
    return write_folder(tmp_path_factory.mktemp("reopening") / "data")


@pytest.fixture(scope="module")
def trained(data_dir: Path) -> Path:
    """The run folder of a training of one config on five images."""
    out = data_dir.with_name("run")
    sets = [f"--set={key}={value}" for key, value in SMALL.items()]
    arguments = ["train", "--space", "general.yaml", f"--data={data_dir}", f"--out={out}", *sets]
    assert main(arguments) == 0
    return out


@pytest.fixture
def run_dir(trained: Path, tmp_path: Path) -> Path:
    """A copy, with a second, untrained and larger network in the record: a worse trial."""
    run_dir = tmp_path / "run"
    shutil.copytree(trained, run_dir)
    (first,) = read_trials(run_dir / "trials.jsonl")
    tree = TrialConfig.model_validate(first.config).model_dump(mode="json")
    tree["model"]["base_filters"] = 4
    config = TrialConfig.model_validate(tree)
    ledger = Ledger(run_dir / "trials.jsonl")
    ledger.start(
        trial="t0002",
        baseline=False,
        overrides={},
        config=config.model_dump(mode="json"),
        cost=first.cost,
        planned_epochs=3,
    )
    report = first.reports[0]
    worse = report.metrics | {"val/dice_mean": 0.0}
    ledger.report("t0002", replace(report, metrics=worse), "worker")
    ledger.end("t0002", "completed")
    ledger.close()
    folder = run_dir / "checkpoints" / "t0002"
    folder.mkdir()
    save_weights(folder / WEIGHTS, build_model(config.model, seed=1).state_dict(), {"epoch": "1"})
    return run_dir


def summary_of(run_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run_dir / "summary.json").read_text())
    return found


def test_the_best_networks_of_a_study_become_one_bundle_with_its_score_and_cost(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = summary_of(run_dir)
    assert main(["export", str(run_dir), "--ensemble", "3"]) == 0
    bundle, said = load_bundle(run_dir / "bundle-ensemble"), summary_of(run_dir)["ensemble"]
    assert [member.trial for member in bundle.manifest.members] == said["members"]
    assert said["members"] == ["t0001", "t0002"]
    samples = reopen(run_dir).samples
    metrics, _ = evaluate(bundle.predictor, samples.val, ImageScorer(samples.val, 0.5))
    assert said["metrics"] == pytest.approx({f"val/{k}": v for k, v in metrics.items()})
    assert bundle.manifest.metrics == said["metrics"]
    cost = said["cost"]
    alone = before["incumbent"]["parameters"]
    parameters = [sum(p.numel() for p in each.model.parameters()) for each in bundle.predictors]
    assert parameters[0] == alone
    assert cost["parameters"] == sum(parameters)
    assert min(cost["seconds"], cost["seconds_of_one"]) > 0
    card = (run_dir / "bundle-ensemble" / "card.md").read_text()
    assert f"{cost['parameters']:,} parameters" in card
    assert "not scored on the test split" in " ".join(card.split())
    assert f"| dice_mean | {said['metrics']['val/dice_mean']:.4f} |" in card
    assert "t0001, t0002 together: val/dice_mean" in capsys.readouterr().out
    # All else is as it was, and the test split was not opened.
    after = summary_of(run_dir) | {"ensemble": None}
    assert after == before


def test_networks_of_a_confirmation_are_averaged_before_those_of_the_search(
    run_dir: Path,
) -> None:
    (first, _) = read_trials(run_dir / "trials.jsonl")
    ledger = Ledger(run_dir / "trials.jsonl")
    ledger.confirm({"event": "plan", "finalists": ["t0001"], "baselines": [], "queue": []})
    again = ConfirmLedger(ledger)
    for name, value in (("t0001@1", 0.1), ("t0001@2", 0.2)):
        facts = {key: getattr(first, key) for key in ("baseline", "overrides", "config", "cost")}
        again.start(trial=name, planned_epochs=3, **facts)
        report = replace(first.reports[0], metrics={"val/dice_mean": value})
        again.report(name, report, "worker")
        again.end(name, "completed")
        shutil.copytree(run_dir / "checkpoints" / "t0001", run_dir / "checkpoints" / name)
    ledger.close()
    parts = ensembling.best_parts(reopen(run_dir), 3)
    assert [part.trial for part in parts] == ["t0001@2", "t0001@1", "t0001"]


def test_too_few_networks_are_said(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(run_dir / "checkpoints" / "t0002")
    assert main(["export", str(run_dir), "--ensemble", "2"]) == 2
    assert "has the weights of fewer than two networks" in capsys.readouterr().err
    assert not (run_dir / "bundle-ensemble").exists()


def test_a_final_network_is_that_of_a_training_on_all_images(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = summary_of(run_dir)
    assert main(["train", "--final", str(run_dir)]) == 0
    ended = reopen(run_dir)
    best, samples = ended.summary["incumbent"], ended.samples
    assert ended.summary["final"] == {
        "bundle": "bundle-final",
        "trial": "t0001",
        "epochs": best["epoch"],
        "images": 5,
    }
    bundle = load_bundle(run_dir / "bundle-final")
    everything = replace(samples, train=(*samples.train, *samples.val, *samples.test))
    hardware = bundle.predictor.hardware
    apply(hardware)
    again = Trainer(
        TrialConfig.model_validate(best["config"]), everything, horizon=3, hardware=hardware
    )
    for _ in range(best["epoch"]):
        again.run_epoch()
    weights, _ = read_weights(run_dir / "bundle-final" / WEIGHTS)
    for name, value in again.weights().items():
        np.testing.assert_array_equal(weights[name], value)
    assert bundle.manifest.mean != load_bundle(run_dir / "bundle").manifest.mean
    assert ended.summary | {"final": None} == before


def test_a_final_network_has_no_score_anywhere(
    run_dir: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--final", str(run_dir)]) == 0
    manifest = load_bundle(run_dir / "bundle-final").manifest
    assert manifest.metrics == {}
    assert manifest.data["notes"][-1].endswith("it has no test score of its own")
    card = (run_dir / "bundle-final" / "card.md").read_text()
    assert "it has no test score of its own" in card
    assert "## Scores" not in card
    capsys.readouterr()
    out = str(tmp_path / "s.csv")
    assert main(["evaluate", str(run_dir / "bundle-final"), "--split", "test", "-o", out]) == 0
    assert "trained on all of these images: this is no test" in " ".join(
        capsys.readouterr().out.split()
    )


def test_other_images_are_not_those_of_the_study(
    run_dir: Path, tmp_path: Path, write_folder: Callable[..., Path]
) -> None:
    path = run_dir / "space.yaml"
    other = write_folder(tmp_path / "other", names=("a", "b", "c"))
    text = path.read_text()
    (root,) = {line for line in text.splitlines() if line.strip().startswith("root:")}
    path.write_text(text.replace(root, root.partition(":")[0] + f": {other}"))
    with pytest.raises(Misuse, match="the images are not those that the study had; restore them"):
        reopen(run_dir)


def test_a_folder_without_a_study_that_has_ended_is_refused(tmp_path: Path, run_dir: Path) -> None:
    with pytest.raises(Misuse, match=r"holds no summary.json; name the folder of a study"):
        reopen(tmp_path)
    (run_dir / "summary.json").write_text("{}")
    with pytest.raises(Misuse, match="its record is damaged"):
        reopen(run_dir)
    (run_dir / "summary.json").write_text('{"incumbent": null, "data": {"fingerprint": ""}}')
    with pytest.raises(Misuse, match="this study has found no network"):
        reopen(run_dir)


def test_settings_beside_a_final_training_are_refused(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--final", str(run_dir), "--set", "model.depth=2"]) == 2
    assert "--final RUN: takes all settings from that study" in capsys.readouterr().err
    assert not (run_dir / "bundle-final").exists()


def test_networks_of_other_classes_are_not_averaged(run_dir: Path, console: Console) -> None:
    ended = reopen(run_dir)
    one, other = ensembling.best_parts(ended, 2)
    grey = other.config.model_copy(
        update={"data": other.config.data.model_copy(update={"channels": "grey"})}
    )
    with pytest.raises(Misuse, match="see other images or classes"):
        ensembling.export_ensemble(ended, [one, other._replace(config=grey)])
