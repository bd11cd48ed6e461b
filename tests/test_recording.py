"""Curves recorded by the real command: broken off, taken to another machine, gone on with."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from r2search.space import as_drawn, load_study
from r2search.tuning.curves import read_curves

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
COMMAND = BENCHMARKS / "record_curves.py"
SPACE = """\
name: tiny
data: {reader: folder}
metric: {name: val/dice_mean, goal: maximize}
budget: {time: 600s, trials: 30, max_epochs: 4}
parameters:
  data: {parameters: {patch_size: {value: 32}}}
  model:
    parameters:
      block: {value: conv}
      depth: {value: 1}
      base_filters: {values: [2, 3, 4, 5, 6]}
  train: {parameters: {lr: {distribution: log_uniform_values, min: 1.0e-3, max: 1.0e-1}}}
baselines:
  small: {model.base_filters: 2}
"""


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, write_folder: Callable[..., Path]
) -> tuple[Path, Path]:
    """A space file and its images."""
    root = tmp_path_factory.mktemp("recording")
    (root / "tiny.yaml").write_text(SPACE, encoding="utf-8")
    return root / "tiny.yaml", write_folder(root / "images")


def record(folder: tuple[Path, Path], out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    space, images = folder
    few = ["--epochs", "2", "--epoch-pixels", "2000", "--resize", "48", "--validation", "1"]
    command = [sys.executable, str(COMMAND), str(space), "--data", str(images), "--out", str(out)]
    return subprocess.run(
        [*command, *few, "--processes", "1", *more], capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def table(folder: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of two configs and the baseline, with its parts beside it."""
    out = tmp_path_factory.mktemp("out") / "tiny.parquet"
    done = record(folder, out, "--configs", "2")
    assert done.returncode == 0, done.stderr
    return out


def test_a_table_alone_is_gone_on_with_and_its_configs_are_not_trained_again(
    folder: tuple[Path, Path], table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tiny.parquet"
    shutil.copy(table, out)
    done = record(folder, out, "--configs", "3")
    assert done.returncode == 0, done.stderr
    assert "3 of 4 are there" in done.stdout
    assert done.stdout.count(" done: ") == 1
    before, after = read_curves(table), read_curves(out)
    assert [curve.name for curve in after.curves] == ["small", "c0001", "c0002", "c0003"]
    assert after.curves[:3] == before.curves  # their seconds, too: nobody trained them again
    again = record(folder, out, "--configs", "1")
    assert "2 of 2 are there" in again.stdout
    assert read_curves(out).curves == after.curves  # none is lost by asking for fewer


def test_parts_without_a_table_are_enough(
    folder: tuple[Path, Path], table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tiny.parquet"
    shutil.copytree(table.with_name("tiny.parquet.parts"), tmp_path / "tiny.parquet.parts")
    done = record(folder, out, "--configs", "2")
    assert done.returncode == 0, done.stderr
    assert "3 of 3 are there" in done.stdout
    assert read_curves(out).curves == read_curves(table).curves


@pytest.mark.parametrize(("factor", "taken"), [(1 + 4e-16, True), (1.001, False)])
def test_another_processor_may_draw_another_last_digit_and_no_more(
    folder: tuple[Path, Path], table: Path, tmp_path: Path, factor: float, taken: bool
) -> None:
    parts = tmp_path / "tiny.parquet.parts"
    shutil.copytree(table.with_name(parts.name), parts)
    part = json.loads((parts / "c0001.json").read_text())
    drawn = part["overrides"]["train.lr"]
    part["overrides"]["train.lr"] = drawn * factor
    assert part["overrides"]["train.lr"] != drawn
    (parts / "c0001.json").write_text(json.dumps(part))
    done = record(folder, tmp_path / "tiny.parquet", "--configs", "2")
    assert (done.returncode == 0) is taken, done.stderr
    wanted = "3 of 3 are there" if taken else "of another config than this c0001"
    assert wanted in done.stdout + done.stderr


def test_a_table_says_who_began_it_and_who_went_on(
    folder: tuple[Path, Path], table: Path, tmp_path: Path
) -> None:
    facts = read_curves(table).facts
    assert facts["continued"] == []
    out, elsewhere = tmp_path / "tiny.parquet", {"processor": "another"}
    renamed = pq.read_table(table)
    about = renamed.schema.metadata[b"r2search"].replace(
        facts["machine"]["processor"].encode(), b"another"
    )
    pq.write_table(renamed.replace_schema_metadata({b"r2search": about}), out)
    done = record(folder, out, "--configs", "2")
    assert done.returncode == 0, done.stderr
    found = read_curves(out).facts
    assert found["machine"] == facts["machine"] | elsewhere
    assert [each["machine"] for each in found["continued"]] == [facts["machine"]]


@pytest.mark.parametrize("only_parts", [False, True])
def test_another_recording_is_not_gone_on_with(
    folder: tuple[Path, Path], table: Path, tmp_path: Path, only_parts: bool
) -> None:
    out = tmp_path / "tiny.parquet"
    if only_parts:
        shutil.copytree(table.with_name("tiny.parquet.parts"), tmp_path / "tiny.parquet.parts")
    else:
        shutil.copy(table, out)
    done = record(folder, out, "--configs", "3", "--seed", "1")
    assert done.returncode == 1
    assert "holds a recording with other seed" in done.stderr
    assert "name another --out" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("curves/*.parquet")), ids=lambda p: p.stem)
def test_a_table_of_this_project_is_of_its_space_file_as_it_is_now(path: Path) -> None:
    recording = read_curves(path)
    study = load_study(f"{recording.space}.yaml", recording.settings)
    now = [parameter.model_dump(mode="json") for parameter in study.parameters]
    assert recording.facts["parameters"] == now
    assert not recording.facts["synthetic"]
    for curve in recording.curves:
        if curve.baseline:
            assert curve.overrides == study.baselines[curve.name].overrides
        else:
            assert as_drawn(study, curve.overrides)
            assert curve.failure or len(curve.reports) == study.budget.max_epochs
