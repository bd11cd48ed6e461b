"""Studies whose driver is gone go on from their record, through the real command."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from r2search.bundle import load_bundle
from r2search.tuning.events import read_events, read_trials

ROOT = Path(__file__).parents[1]
STUDY = "--space quick.yaml --time 10m --trials 6 --set budget.max_epochs=4 --wandb disabled"


def start(arguments: str, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(ROOT / "launch/tune.py"), *arguments.split()]
    with log.open("ab") as file:
        return subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, cwd=log.parent, start_new_session=True
        )


def wait_for_reports(process: subprocess.Popen[bytes], record: Path, count: int, log: Path) -> None:
    until = time.monotonic() + 240
    while not record.exists() or record.read_text().count('"event": "report"') < count:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.1)


def summary_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a study whose driver was killed four times, and that was then completed.

    The last kill has left torn files.
    """
    folder = tmp_path_factory.mktemp("killed") / "run"
    log = folder.with_suffix(".log")
    arguments = f"{STUDY} --out={folder}"
    moments = random.Random(0)
    for reports in (1, 3, 6, 9):
        process = start(arguments, log)
        wait_for_reports(process, folder / "trials.jsonl", reports, log)
        time.sleep(moments.uniform(0, 1.5))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        arguments = f"--resume {folder} --wandb disabled"
    with (folder / "trials.jsonl").open("a") as record:
        record.write('{"t": 9')
    (folder / "study.journal").write_text('{"op_code": 0, "wor')
    (folder / "summary.json").write_text('{"status": "comp')
    (folder / "bundle").mkdir()
    (folder / "bundle" / "model.safetensors").write_bytes(b"half")
    assert start(arguments, log).wait(timeout=400) == 0, log.read_text()
    return folder


def test_no_report_is_lost_or_told_twice(killed: Path) -> None:
    told = Counter(
        (event["trial"], event["epoch"])
        for event in read_events(killed / "trials.jsonl")
        if event["event"] == "report"
    )
    assert set(told.values()) == {1}
    for trial in read_trials(killed / "trials.jsonl"):
        assert [report.epoch for report in trial.reports] == list(range(1, len(trial.reports) + 1))


def test_the_study_is_as_one_that_was_never_killed(killed: Path) -> None:
    summary = summary_of(killed)
    assert summary["status"] == "completed"
    assert summary["trials"]["total"] == 6
    assert all(trial.outcome for trial in read_trials(killed / "trials.jsonl"))
    assert load_bundle(killed / "bundle").manifest.trial == summary["incumbent"]["trial"]


def test_an_ended_study_is_extended(killed: Path, tmp_path: Path) -> None:
    log = tmp_path / "more.log"
    arguments = f"--resume {killed} --trials +2 --time +3m --wandb disabled"
    assert start(arguments, log).wait(timeout=400) == 0, log.read_text()
    assert summary_of(killed)["trials"]["total"] == 8


def test_two_drivers_do_not_share_a_run_folder(tmp_path: Path) -> None:
    folder, log, other = tmp_path / "run", tmp_path / "run.log", tmp_path / "other.log"
    process = start(f"{STUDY} --trials 1000 --out={folder}", log)
    wait_for_reports(process, folder / "trials.jsonl", 1, log)
    assert start(f"--resume {folder}", other).wait(timeout=120) == 2, other.read_text()
    assert "another driver works in it" in other.read_text()
    process.kill()
    process.wait()
