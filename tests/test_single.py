"""Training one configuration without a search: it leaves behind what a study leaves behind."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r2search.bundle import load_bundle
from r2search.cli import main
from r2search.space import load_study
from r2search.study import prepare
from r2search.summary import KEYS
from r2search.train.hardware import training_step
from r2search.tuning.events import read_events, read_trials

QUICK = ["train", "--space", "quick.yaml"]
TWO_EPOCHS = "--set model.depth=1 --set budget.max_epochs=2".split()
SIMPLE = "--set model.block=conv --set model.depth=1 --set budget.max_epochs=1000".split()
# The smallest training on tiny images of one's own.
SMALL = {
    "data.patch_size": 16,
    "model.depth": 1,
    "model.base_filters": 2,
    "train.epoch_pixels": 4096,
    "budget.max_epochs": 2,
}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a short training on the synthetic images."""
    run_dir = tmp_path_factory.mktemp("single") / "run"
    assert main([*QUICK, *TWO_EPOCHS, "--out", str(run_dir)]) == 0
    return run_dir


@pytest.fixture
def train(tmp_path: Path, write_folder: Callable[..., Path]) -> Callable[..., Path]:
    """`train(code, *flags, **settings)` trains on tiny images by the command line."""

    def run(code: int = 0, *flags: str, **settings: Any) -> Path:
        data = write_folder(tmp_path / "data")
        out = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        sets = (f"--set={key}={value}" for key, value in (SMALL | settings).items())
        flags = (f"--data={data}", f"--out={out}", *sets, *flags)
        assert main(["train", "--space", "general.yaml", *flags]) == code
        return out

    return run


def summary_of(run_dir: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((run_dir / "summary.json").read_text())
    return summary


def test_the_run_folder_is_that_of_a_study(run_dir: Path) -> None:
    names = {"bundle", "checkpoints", "environment.json", "pictures", "report.html", "space.yaml"}
    names |= {"summary.json", "test_images.csv", "trials.jsonl"}
    assert {path.name for path in run_dir.iterdir()} == names
    bundle = sorted(path.name for path in (run_dir / "bundle").iterdir())
    assert bundle == ["SHA256SUMS", "card.md", "config.yaml", "model.safetensors", "preview.png"]


def test_the_summary_has_every_key_and_one_trial(run_dir: Path) -> None:
    summary = summary_of(run_dir)
    assert list(summary) == KEYS
    assert (summary["status"], summary["signal"]) == ("completed", None)
    assert summary["trials"]["total"] == summary["trials"]["completed"] == 1
    assert summary["incumbent"]["epochs"] == 2
    assert summary["data"]["synthetic"] is True
    assert summary["command"] == (
        "r2search train --space quick.yaml --set model.depth=1 --set budget.max_epochs=2 "
        f"--out {run_dir}"
    )


def test_the_bundle_is_of_the_best_epoch_of_the_record(run_dir: Path) -> None:
    (trial,) = read_trials(run_dir / "trials.jsonl")
    best = trial.best("val/dice_mean", "maximize")
    assert best is not None
    manifest = load_bundle(run_dir / "bundle").manifest
    assert manifest.epoch == best.epoch
    assert best.metrics.items() <= manifest.metrics.items()
    more = {"cldice", "betti0_error", "hd95_px", "assd_px", "ece", "brier"}
    assert manifest.metrics.keys() - best.metrics.keys() == {f"val/{name}" for name in more}
    assert more <= summary_of(run_dir)["test"]["incumbent"].keys()
    assert "| hd95_px |" in (run_dir / "bundle" / "card.md").read_text()
    assert "hd95_px" in (run_dir / "report.html").read_text()
    assert summary_of(run_dir)["incumbent"]["value"] == best.metrics["val/dice_mean"]


def test_what_ran_can_be_run_again_from_the_folder(run_dir: Path) -> None:
    # The space file written down is itself a space file, of the same fixed settings.
    study = load_study(run_dir / "space.yaml")
    config = summary_of(run_dir)["incumbent"]["config"]
    assert json.loads(study.fixed.model_dump_json()) == config


def test_without_a_setting_a_default_takes_the_place_of_what_varies(
    train: Callable[..., Path],
) -> None:
    config = summary_of(train())["incumbent"]["config"]
    assert config["model"]["depth"] == 1
    assert config["model"]["block"] == "recurrent_residual"
    assert config["train"]["loss"] == "bce_dice"


def test_a_baseline_brings_its_settings_and_set_wins_over_it(
    train: Callable[..., Path],
) -> None:
    # U-Net of general.yaml: block conv, base_filters 32, depth 4.
    run_dir = train(0, "--baseline=U-Net")
    model = summary_of(run_dir)["incumbent"]["config"]["model"]
    assert (model["block"], model["base_filters"], model["depth"]) == ("conv", 2, 1)
    written = load_study(run_dir / "space.yaml").fixed.model
    assert (written.block, written.base_filters, written.depth) == ("conv", 2, 1)


def test_the_exported_weights_are_those_of_the_best_epoch(
    train: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    # Of two epochs one has the lowest score and one the highest: once the last is not the best.
    best = []
    for goal in ("minimize", "maximize"):
        run_dir = train(0, f"--set=metric.goal={goal}")
        incumbent = summary_of(run_dir)["incumbent"]
        best.append(incumbent["epoch"])
        capsys.readouterr()
        assert main(["evaluate", str(run_dir / "bundle"), "-o", str(run_dir / "s.csv")]) == 0
        printed = re.search(r"dice_mean +│ +([0-9.]+)", capsys.readouterr().out)
        assert printed
        assert float(printed[1]) == pytest.approx(incumbent["value"], abs=1e-6)
    assert sorted(best) == [1, 2]


def test_a_training_that_breaks_has_no_bundle_and_exit_code_1(train: Callable[..., Path]) -> None:
    # Each step multiplies a weight by 1 - lr * weight_decay = -9: past float32 in 40 steps.
    run_dir = train(
        1,
        **{
            "train.optimizer": "sgd",
            "train.lr": 10,
            "train.weight_decay": 1,
            "train.warmup_epochs": 0,
            "train.batch_size": 4,
            "train.epoch_pixels": 65536,
        },
    )
    summary = summary_of(run_dir)
    assert (summary["status"], summary["incumbent"], summary["bundle"]) == ("failed", None, None)
    assert not (run_dir / "bundle").exists()
    (trial,) = read_trials(run_dir / "trials.jsonl")
    assert trial.outcome == "failed"
    assert "loss is nan; trial fails" in trial.reason
    assert (run_dir / "report.html").exists()


@pytest.mark.parametrize(("room", "code"), [(2, 0), (1, 1)])
def test_when_memory_runs_out_the_training_goes_on_with_less_or_is_infeasible(
    train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, room: int, code: int
) -> None:
    def step(model: Any, optimizer: Any, micro_batches: Any, hardware: Any) -> Any:
        parts = list(micro_batches)
        if max(len(images) for images, _ in parts) > room:
            raise MemoryError("planted")
        return training_step(model, optimizer, parts, hardware)

    monkeypatch.setattr("r2search.train.trainer.training_step", step)
    run_dir = train(code, **{"train.batch_size": 4})
    (trial,) = read_trials(run_dir / "trials.jsonl")
    notes = [e["text"] for e in read_events(run_dir / "trials.jsonl") if e["event"] == "note"]
    if code:
        assert (trial.outcome, trial.reason) == ("infeasible", "planted")
        assert summary_of(run_dir)["trials"]["infeasible"] == 1
    else:
        assert trial.outcome == "completed"
        assert notes == ["epoch 1: out of memory; goes on with micro-batches of 2"]


def test_sigterm_ends_the_training_well_and_is_told_by_exit_code_143(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "r2search.cli", *QUICK, *SIMPLE, f"--out={run_dir}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 1/1000"):
            process.send_signal(signal.SIGTERM)
            break
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 143, said
    summary = summary_of(run_dir)
    assert (summary["status"], summary["signal"]) == ("interrupted", signal.SIGTERM)
    assert summary["trials"]["interrupted"] == 1
    assert load_bundle(run_dir / "bundle").manifest.epoch == summary["incumbent"]["epoch"]


def test_a_data_folder_in_the_home_folder_is_found(
    tmp_path: Path, write_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    root = write_folder(tmp_path / "eyes")
    study, samples = prepare(load_study("general.yaml", {"data.root": "~/eyes"}))
    assert study.fixed.data.root == root
    assert len(samples.train) == 3
