"""Run folders are listed, and what only going on needs is removed."""

import io
import json
from pathlib import Path

import pytest
from made_up_study import MadeUpStudy
from rich.console import Console

from r2search.cli import main
from r2search.config import Misuse
from r2search.housekeeping import CUT_OFF, WORKING, find_runs, show_runs, size
from r2search.rundir import claim, hold


def run_of(folder: Path, status: str | None) -> Path:
    """A study that ended with `status`; None: it was cut off."""
    study = MadeUpStudy(folder)
    study.trials()
    (folder / "bundle").mkdir()
    (folder / "bundle" / "model.safetensors").write_bytes(b"w" * 500)
    (folder / "checkpoints" / "t0001").mkdir(parents=True)
    (folder / "checkpoints" / "t0001" / "model.safetensors").write_bytes(b"w" * 3_000_000)
    if status:
        facts = {"incumbent": {"value": 0.4}, "objective": {"name": "val/dice_mean"}}
        (folder / "summary.json").write_text(json.dumps(facts | {"status": status}))
    study.ledger.close()
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    run_of(folder / "done", "completed")
    run_of(folder / "broken", "partial")
    run_of(folder / "killed", None)
    run_of(folder / "killed_again", "resumed")
    (folder / "notes").mkdir()
    (folder / "readme.txt").write_text("no run")
    return folder


def listed(folder: Path, *, clean: bool = False) -> str:
    console = Console(file=io.StringIO(), width=140)
    assert show_runs(folder, console, clean=clean, yes=True) == 0
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_every_run_is_told_with_its_end_its_best_value_and_its_size(runs: Path) -> None:
    found = {run.path.name: run for run in find_runs(runs)}
    assert {name: run.state for name, run in found.items()} == {
        "done": "completed",
        "broken": "partial",
        "killed": CUT_OFF,
        "killed_again": CUT_OFF,
    }
    assert found["done"].value == 0.4
    assert found["killed"].value is None
    assert found["done"].checkpoints == 3_000_000
    assert 3_000_500 < found["done"].size < 3_100_000
    text = listed(runs)
    assert "0.400" in text
    assert "3.0 GB" not in text
    assert f"3 MB can be freed: r2search runs {runs} --clean" in text


def test_a_run_folder_may_be_named_itself(runs: Path) -> None:
    assert [run.path for run in find_runs(runs / "done")] == [runs / "done"]


def test_only_completed_studies_are_cleaned_and_never_of_bundle_or_record(runs: Path) -> None:
    before = {path.relative_to(runs) for path in runs.rglob("*")}
    assert "removed the checkpoints of 1 completed studies, 3 MB" in listed(runs, clean=True)
    gone = before - {path.relative_to(runs) for path in runs.rglob("*")}
    assert {path.parts[:2] for path in gone} == {("done", "checkpoints")}
    assert "there is nothing to clean" in listed(runs, clean=True)


def test_nothing_is_removed_without_a_yes(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rich.prompt.Confirm.ask", lambda *args, **kwargs: False)
    console = Console(file=io.StringIO())
    assert show_runs(runs, console, clean=True) == 0
    assert (runs / "done" / "checkpoints" / "t0001").is_dir()


def test_a_run_that_a_driver_works_in_is_left_alone(runs: Path) -> None:
    with hold(runs / "done"):
        assert {run.path.name: run.state for run in find_runs(runs)}["done"] == WORKING
        listed(runs, clean=True)
        assert (runs / "done" / "checkpoints" / "t0001").is_dir()


def test_a_cleaned_study_says_why_it_cannot_go_on(runs: Path) -> None:
    listed(runs, clean=True)
    with pytest.raises(Misuse, match=r"its checkpoints are gone, as by `r2search runs --clean`"):
        claim(runs / "done", resume=True)
    assert claim(runs / "killed", resume=True) == runs / "killed"
    assert claim(runs / "done", resume=True, remote=True) == runs / "done"


def test_damaged_files_cost_what_they_say_and_nothing_else(runs: Path) -> None:
    (runs / "done" / "summary.json").write_text('{"status": ')
    (runs / "killed" / "trials.jsonl").write_bytes(b"\xff\xfe\n")
    found = {run.path.name: run for run in find_runs(runs)}
    assert found["done"].state == CUT_OFF
    assert found["killed"].began is None


def test_a_folder_without_runs_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", str(tmp_path)]) == 2
    assert "holds no run folder" in capsys.readouterr().err
    assert main(["runs", str(tmp_path / "gone")]) == 2
    assert "no such folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "2 kB"), (2.4e6, "2 MB"), (3e9, "3.0 GB")],
)
def test_sizes_are_for_people(count: float, text: str) -> None:
    assert size(count) == text
