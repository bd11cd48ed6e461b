"""Studies whose driver is gone go on from their record, through the real command."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from r2search.bundle import load_bundle
from r2search.tuning.events import read_events, read_trials

ROOT = Path(__file__).parents[1]
TRIALS = 12
STUDY = f"--space quick.yaml --time 10m --trials {TRIALS} --set budget.max_epochs=4"
STUDY += " --wandb disabled --reader folder"


def start(arguments: str, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(ROOT / "launch/tune.py"), *arguments.split()]
    with log.open("ab") as file:
        return subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, cwd=log.parent, start_new_session=True
        )


def wait_for(process: subprocess.Popen[bytes], log: Path, seen: Callable[[], object]) -> None:
    until = time.monotonic() + 240
    while not seen():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.05)


def reports_in(record: Path) -> int:
    return record.read_text().count('"event": "report"') if record.exists() else 0


def states_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoints/*/state-*.safetensors"))


def tear_newest_states(folder: Path) -> None:
    """Of every trial, as soon as no worker writes another one."""
    reports = [e for e in read_events(folder / "trials.jsonl") if e["event"] == "report"]
    while any(lives(int(report["worker"].rpartition(":")[2])) for report in reports):
        time.sleep(0.1)
    for state in {state.parent: state for state in states_in(folder)}.values():
        os.truncate(state, state.stat().st_size // 2)


def started_by(driver: int) -> dict[psutil.Process, str]:
    """All processes that a driver has started, with their commands."""
    found = {}
    for each in psutil.Process(driver).children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            found[each] = " ".join(each.cmdline())
    return found


def lives(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def summary_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


@dataclass
class Killed:
    """A study that was killed twice, left at once, interrupted, and then completed."""

    folder: Path
    refused: str  # what a second driver said, while the first one worked
    left: int  # the exit code of the one that was told twice to stop
    left_s: float  # after the second time
    family: dict[psutil.Process, str]  # that it had started


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, small_images: Path) -> Killed:
    """Beside the drivers the states of trials are torn, and at last other files."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    log, other = folder.with_suffix(".log"), folder.with_suffix(".other")
    record, moments = folder / "trials.jsonl", random.Random(0)
    arguments, refused = f"{STUDY} --data {small_images} --out={folder}", ""
    for session in ("two drivers", "killed", "stopped twice", "interrupted"):
        process, before = start(arguments, log), reports_in(record)
        wait_for(process, log, lambda least=before + 2: reports_in(record) >= least)  # type: ignore[misc]
        if session == "two drivers":
            process.send_signal(signal.SIGSTOP)  # so that the study does not end meanwhile
            assert start(f"--resume {folder}", other).wait(timeout=120) == 2, other.read_text()
            refused = other.read_text()
        time.sleep(moments.uniform(0, 0.5))
        if session == "stopped twice":
            family = started_by(process.pid)
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)  # two signals of a kind that come together are one
            process.send_signal(signal.SIGINT)
            told = time.monotonic()
            left = process.wait(timeout=60)
            left_s = time.monotonic() - told
        elif session == "interrupted":  # which saves the states of the trials that then go on
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 128 + signal.SIGINT, log.read_text()
            tear_newest_states(folder)
        else:
            process.kill()
            process.wait()
        # The next one, which is stopped twice, has W&B's process beside Ray's.
        seen = "offline" if session == "killed" else "disabled"
        arguments = f"--resume {folder} --wandb {seen}"
    with record.open("a") as torn:
        torn.write('{"t": 9')
    (folder / "study.journal").write_text('{"op_code": 0, "wor')
    (folder / "summary.json").write_text('{"status": "comp')
    (folder / "bundle").mkdir(exist_ok=True)
    (folder / "bundle" / "model.safetensors").write_bytes(b"half")
    assert start(arguments, log).wait(timeout=400) == 0, log.read_text()
    return Killed(folder, refused, left, left_s, family)


def test_no_report_is_lost_or_told_twice(killed: Killed) -> None:
    told = Counter(
        (event["trial"], event["epoch"])
        for event in read_events(killed.folder / "trials.jsonl")
        if event["event"] == "report"
    )
    assert set(told.values()) == {1}
    for trial in read_trials(killed.folder / "trials.jsonl"):
        assert [report.epoch for report in trial.reports] == list(range(1, len(trial.reports) + 1))


def test_the_study_is_as_one_that_was_never_killed(killed: Killed) -> None:
    summary = summary_of(killed.folder)
    assert summary["status"] == "completed"
    assert summary["trials"]["total"] == TRIALS
    assert all(trial.outcome for trial in read_trials(killed.folder / "trials.jsonl"))
    assert load_bundle(killed.folder / "bundle").manifest.trial == summary["incumbent"]["trial"]


def test_a_torn_state_is_passed_over_and_told(killed: Killed) -> None:
    notes = [e["text"] for e in read_events(killed.folder / "trials.jsonl") if e["event"] == "note"]
    assert [text for text in notes if "not intact" in text]


def test_two_drivers_do_not_share_a_run_folder(killed: Killed) -> None:
    assert "another driver works in it" in killed.refused


def test_a_driver_that_is_told_twice_to_stop_leaves_at_once(killed: Killed) -> None:
    assert killed.left == 128 + signal.SIGINT
    assert killed.left_s < 5  # by far, but the machine may be busy


def test_none_of_its_processes_outlives_it(killed: Killed) -> None:
    for kind in ("raylet", "gcs_server", "ray::ResourceTrainable", "trackers.follow"):
        assert any(kind in command for command in killed.family.values()), killed.family
    # The agents of Ray's node look for it for a minute; all others end in seconds.
    until = time.monotonic() + 90
    while left := [each for each in killed.family if each.is_running() and lives(each.pid)]:
        assert time.monotonic() < until, left
        time.sleep(0.2)


def test_an_ended_study_is_extended(killed: Killed, tmp_path: Path) -> None:
    log = tmp_path / "more.log"
    arguments = f"--resume {killed.folder} --trials +2 --time +3m --wandb disabled"
    process = start(arguments, log)
    wait_for(process, log, lambda: summary_of(killed.folder)["status"] == "resumed")
    assert process.wait(timeout=400) == 0, log.read_text()
    assert summary_of(killed.folder)["status"] == "completed"
    assert summary_of(killed.folder)["trials"]["total"] == TRIALS + 2


def test_a_driver_that_is_killed_while_it_confirms_goes_on_confirming(
    tmp_path: Path, small_images: Path
) -> None:
    folder, log = tmp_path / "run", tmp_path / "run.log"
    study = "--space quick.yaml --time 20m --trials 2 --set budget.max_epochs=2 --wandb disabled"
    study += f" --reader folder --data {small_images}"
    confirm = "--set confirm.finalists=2 --set confirm.seeds=2"
    process = start(f"{study} {confirm} --out={folder}", log)
    searched = 3 * 2  # reports of the baseline and two trials, if none is stopped
    wait_for(process, log, lambda: reports_in(folder / "trials.jsonl") >= searched + 2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with (folder / "trials.jsonl").open("a") as record:
        record.write('{"t": 9, "event": "confirm", "wha')
    assert start(f"--resume {folder} --wandb disabled", log).wait(timeout=400) == 0, log.read_text()
    events = list(read_events(folder / "trials.jsonl"))
    within = [event["what"] for event in events if event["event"] == "confirm"]
    told = Counter((what["trial"], what["epoch"]) for what in within if what["event"] == "report")
    assert set(told.values()) == {1}
    assert [what["event"] for what in within].count("plan") == 1
    ends = Counter(what["outcome"] for what in within if what["event"] == "end")
    assert ends == {"completed": 2 * 2 + 1}
    begun = [event["trial"] for event in events if event["event"] == "trial"]
    assert len(begun) == len(set(begun)) == 3  # the search did not go on
    summary = summary_of(folder)
    assert summary["status"] == "completed"
    assert summary["confirmed"]["dropped"] == []
    assert load_bundle(folder / "bundle").manifest.trial == summary["confirmed"]["chosen"]
