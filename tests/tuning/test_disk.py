"""A disk that becomes full costs checkpoints, never the record."""

import errno
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from small_disk import fill, small_disk

from r2search.bundle import load_bundle
from r2search.config import Study, TrialConfig
from r2search.space import load_study
from r2search.study import run_study
from r2search.train.trainer import TrainingState
from r2search.tuning.budget import Plan, Refusal
from r2search.tuning.checkpoints import Best, TrialCheckpoints, weights_by_epoch
from r2search.tuning.disk import disk_needed, free_note
from r2search.tuning.events import Ledger, read_events, read_trials
from r2search.tuning.record_file import RESERVE, RecordError

MakeStudy = Callable[..., Study]
MIB = 2**20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", size_mib=128) as path:
        yield path


def write_until_full(ledger: Ledger) -> int:
    """Note after note of a megabyte, until the record takes no more; how many it took."""
    written = 0
    while True:
        try:
            ledger.note("t0001", "x" * MIB)
        except RecordError as error:
            if error.errno != errno.ENOSPC:
                raise
            return written
        written += 1


def test_a_record_has_room_of_its_own_on_a_full_disk(disk: Path) -> None:
    ledger = Ledger(disk / "trials.jsonl")
    fill(disk)
    assert write_until_full(ledger) == RESERVE // MIB - 1  # and a line is longer than its text
    ledger.close()


def test_a_record_that_cannot_be_written_ends_with_its_last_whole_line(disk: Path) -> None:
    path = disk / "trials.jsonl"
    ledger = Ledger(path)
    filler = fill(disk)
    written = write_until_full(ledger)
    assert path.read_bytes().endswith(b"\n")
    assert len(list(read_events(path))) == len(ledger.past) == written
    filler.unlink()
    ledger.note("t0001", "there is room again")
    ledger.close()
    assert [event["text"] for event in read_events(path)][-1] == "there is room again"
    assert len(list(read_events(path))) == written + 1


def test_a_record_can_be_taken_up_on_a_full_disk(disk: Path) -> None:
    fill(disk)
    ledger = Ledger(disk / "trials.jsonl")
    assert ledger.past == []
    ledger.close()


def test_checkpoints_pause_on_a_full_disk_and_tell_it_once(disk: Path) -> None:
    checkpoints = TrialCheckpoints(disk / "t0001", {}, "val/dice_mean")
    filler = fill(disk)

    def epoch(number: int) -> None:
        checkpoints.keep(Best(number, number / 10, {"weight": torch.ones(2)}))
        checkpoints.save(TrainingState({"weight": torch.ones(2)}, {"epoch": number}))
        checkpoints.flush()

    epoch(1)
    epoch(2)
    (told,) = checkpoints.problems
    assert told.startswith("checkpoint not written: ")
    assert "disk is full" in told
    filler.unlink()
    epoch(3)
    checkpoints.close()
    assert 3 in weights_by_epoch(disk / "t0001")
    assert len(checkpoints.problems) == 1


def test_a_study_goes_on_while_the_disk_is_full(tmp_path: Path) -> None:
    settings = {
        "budget.time": 400.0,
        "budget.trials": 2,
        "budget.max_epochs": 6,
        "resources.workers": 1,
        "early_terminate.type": "none",
    }
    study = load_study("quick.yaml", settings)
    with small_disk(tmp_path / "disk", size_mib=256) as disk:
        record = disk / "run" / "trials.jsonl"

        def wait_for(words: str) -> None:
            until = time.monotonic() + 300
            while not record.exists() or words not in record.read_text():
                assert time.monotonic() < until, words
                time.sleep(0.05)

        def be_full() -> None:
            wait_for('"event": "report"')
            filler = fill(disk)
            wait_for("the disk is full")
            filler.unlink()

        filling = threading.Thread(target=be_full)
        filling.start()
        summary = run_study(study, disk / "run", tracking="disabled")
        filling.join()
        assert summary["status"] == "completed"
        assert "the disk is full" in record.read_text()
        for trial in read_trials(record):
            epochs = list(range(1, trial.planned_epochs + 1))
            assert [report.epoch for report in trial.reports] == epochs
        manifest = load_bundle(disk / "run" / "bundle").manifest
        assert manifest.trial == summary["incumbent"]["trial"]


def plan_of(config: TrialConfig) -> Plan:
    """Networks of a hundred parameters a filter; those of depth 3 are refused."""
    refusal = Refusal("too_slow", "too slow", 0.5) if config.model.depth == 3 else None
    size = 10**9 if refusal else 100 * config.model.base_filters
    return Plan(9, 1.0, size, 1e6, 1000, 4, refusal=refusal)


def test_the_disk_that_a_study_needs_is_that_of_its_largest_networks(
    make_study: MakeStudy,
) -> None:
    study = make_study()
    least = disk_needed(study, plan_of, workers=1)
    baselines = [1600, 800]  # 16 filters, the largest of all, and 8
    # three states of four networks, two best weights, five kept checkpoints, the bundle
    assert least == 4 * ((3 * 4 + 2 + 5 + 1) * 1600 + sum(baselines)) + 96 * MIB
    assert disk_needed(study, plan_of, workers=3) - least == 4 * 2 * (3 * 4 + 2) * 1600
    waiting = make_study({"early_terminate.type": "asha"})
    assert disk_needed(waiting, plan_of, workers=1) - least == 4 * 10 * (2 * 4 + 1) * 1600
    again = make_study({"confirm.finalists": 3, "confirm.seeds": 2})
    assert disk_needed(again, plan_of, workers=1) - least == 4 * (3 + 2) * 2 * 1600


def test_a_disk_that_may_become_full_is_told_beforehand(tmp_path: Path) -> None:
    assert free_note(tmp_path, 1) == ""
    said = free_note(tmp_path, 10**18)
    assert "GB are free and the study may take 1000000000.0 GB" in said
    assert "make room" in said
