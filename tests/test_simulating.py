"""`r2search simulate`, as a person uses it."""

import json
from pathlib import Path
from typing import Any

import pytest
from learning_curves import synthetic_curves

from r2search.cli import main
from r2search.space import load_study
from r2search.tuning.curves import write_curves

SPACE = """\
name: little
data: {reader: synthetic_retina}
metric: {name: val/dice_mean, goal: maximize}
budget: {time: 300s, trials: 99, max_epochs: 6}
search: {searcher: random}
parameters:
  model:
    parameters:
      depth: {min: 1, max: 4}
      dropout: {min: 0.0, max: 0.3}
  train:
    parameters:
      lr: {distribution: log_uniform_values, min: 1.0e-4, max: 1.0e-1}
baselines:
  plain: {model.depth: 2}
"""
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A space file and curves of it."""
    made = tmp_path_factory.mktemp("simulating")
    (made / "little.yaml").write_text(SPACE, encoding="utf-8")
    recording = synthetic_curves(load_study(made / "little.yaml"), 40)
    write_curves(made / "curves.parquet", recording)
    return made


def simulate(folder: Path, *flags: str) -> int:
    files = [str(folder / "curves.parquet"), "--space", str(folder / "little.yaml")]
    return main(["simulate", *files, *flags])


def simulated(folder: Path, out: Path, *flags: str) -> dict[str, Any]:
    assert simulate(folder, "--json", str(out), *flags) == 0
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def test_a_table_has_a_row_for_every_combination(folder: Path, capsys: Capture) -> None:
    vary = ["--vary", "early_terminate.type=[none, asha]", "--vary", "search.searcher=[random]"]
    assert simulate(folder, "--seeds", "2", *vary) == 0
    said = capsys.readouterr().out
    assert "little: val/dice_mean of 40 recorded configs and plain; 4 workers, 300 s" in said
    assert "type=none" in said
    assert "type=asha" in said


def test_the_same_seeds_give_the_same_studies(folder: Path, tmp_path: Path) -> None:
    flags = ["--seeds", "2", "--workers", "2", "--set", "search.searcher=tpe"]
    first = simulated(folder, tmp_path / "a.json", *flags)
    assert simulated(folder, tmp_path / "b.json", *flags) == first
    (studies,) = first["settings"].values()
    assert [study["seed"] for study in studies] == [0, 1]
    assert studies[0]["found"] != studies[1]["found"]
    assert first["workers"] == 2


def test_more_time_finds_no_less(folder: Path, tmp_path: Path) -> None:
    flags = ["--seeds", "3", "--workers", "1", "--set", "early_terminate.type=none", "--time"]
    (little,) = simulated(folder, tmp_path / "a.json", *flags, "91s")["settings"].values()
    (much,) = simulated(folder, tmp_path / "b.json", *flags, "2h")["settings"].values()
    assert [study["regret"]["1"] for study in much] == [0.0, 0.0, 0.0]
    assert max(study["regret"]["0.1"] for study in little) > 0.0
    for study in little:
        regrets = list(study["regret"].values())
        assert regrets == sorted(regrets, reverse=True)
    assert all(study["trials"] < 41 for study in little)
    assert all(study["trials"] == 41 for study in much)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--vary", "search.searcher=tpe"], "list values"),
        (["--vary", "search.searcher"], "write KEY=VALUE"),
        (["--set", "metric.name=val/iou_mean"], "was not recorded"),
        (["--set", "budget.max_epochs=7"], "recorded with 6"),
        (["--space", "retina.yaml"], "are of little"),
        (["--workers", "0"], "whole number"),
    ],
)
def test_what_cannot_be_simulated_is_said(
    folder: Path, capsys: Capture, flags: list[str], message: str
) -> None:
    assert simulate(folder, *flags) == 2
    assert message in capsys.readouterr().err


def test_fewer_epochs_than_recorded_can_be_simulated(folder: Path, tmp_path: Path) -> None:
    flags = ["--seeds", "1", "--set", "early_terminate.type=none", "--time", "2h"]
    whole = simulated(folder, tmp_path / "a.json", *flags)["settings"]["as given"][0]
    flags += ["--set", "budget.max_epochs=2"]
    short = simulated(folder, tmp_path / "b.json", *flags)["settings"]["as given"][0]
    assert short["epochs"] <= 2 * short["trials"] < whole["epochs"]
    assert short["best"] < whole["best"]
