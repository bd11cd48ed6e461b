"""What is kept of a trial when it ends: the weights of the best epoch that the record knows."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from r2search.config import Study
from r2search.records import EpochReport
from r2search.tuning.callback import (
    KEPT_CHECKPOINTS,
    KEPT_WAITING,
    LOST,
    LOST_BEFORE,
    StudyCallback,
)
from r2search.tuning.checkpoints import weights_path
from r2search.tuning.events import Ledger, read_events
from r2search.tuning.shelf import Shelf
from r2search.weights import read_weights, save_weights

METRIC = "val/dice_mean"
PLANNED = 4
MakeStudy = Callable[..., Study]


class Driver:
    """A callback told what Ray would tell it, and a worker that leaves files."""

    def __init__(self, study: Study, ledger: Ledger, folder: Path) -> None:
        self.ledger, self.folder = ledger, folder
        self.callback = StudyCallback(study, ledger, Shelf(folder), lambda: None, lambda: False)

    def trial(self, name: str, baseline: bool = False, until: int = PLANNED) -> Any:
        trial = self.proposed(name, baseline, until)
        self.callback.on_trial_start(0, [], trial)
        return trial

    def proposed(self, name: str, baseline: bool = False, until: int = PLANNED) -> Any:
        """A trial that no worker has begun."""
        facts: dict[str, Any] = {
            "overrides": {},
            "config": {},
            "cost": {},
            "planned_epochs": PLANNED,
        }
        facts |= {"until_epoch": until, "bracket": 0, "rungs": []}
        return SimpleNamespace(
            config={"name": name, "baseline": baseline, **facts}, error_file=None
        )

    def lose(self, trial: Any) -> str | None:
        """The worker of a trial dies; how the trial ended, if it did."""
        self.callback.on_trial_error(0, [], trial)
        return self.ledger.trials[trial.config["name"]].outcome

    def report(self, trial: Any, epoch: int, value: float, **more: Any) -> None:
        report = EpochReport(epoch=epoch, metrics={METRIC: value}, pixels=1, seconds={})
        result = {"report": report.to_dict(), "worker": "w", "notes": [], **more}
        self.callback.on_trial_result(0, [], trial, result)

    def leave(self, name: str, *epochs: int, state: bool = True) -> None:
        """Files as a worker leaves them."""
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        for epoch in epochs:
            weights = {"w": torch.full((1,), float(epoch))}
            save_weights(weights_path(folder, epoch), weights, {"epoch": str(epoch)})
        if state:
            (folder / "state-0001.safetensors").touch()

    def left(self, name: str) -> list[str]:
        return sorted(path.name for path in (self.folder / name).glob("*"))

    def kept_epoch(self, name: str) -> str:
        return read_weights(self.folder / name / "model.safetensors")[1]["epoch"]


@pytest.fixture
def driver(make_study: MakeStudy, ledger: Ledger, tmp_path: Path) -> Driver:
    return Driver(make_study(), ledger, tmp_path / "checkpoints")


def test_files_that_cannot_be_settled_cost_no_report(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Shelf, trial: str, epoch: int | None) -> None:
        raise PermissionError(trial)

    monkeypatch.setattr(Shelf, "settle", refuse)
    first, second = driver.trial("t0001"), driver.trial("t0002")
    driver.report(first, 1, 0.5)
    driver.callback.on_trial_complete(0, [], first)  # stopped; its weights come later
    driver.leave("t0001", 1)
    for epoch in (1, 2):
        driver.report(second, epoch, 0.6)
    assert [report.epoch for report in driver.ledger.trials["t0002"].reports] == [1, 2]


def test_of_a_trial_that_ended_the_weights_of_its_best_epoch_alone_are_kept(
    driver: Driver,
) -> None:
    trial = driver.trial("t0001")
    for epoch, value in enumerate([0.5, 0.7, 0.6, 0.6], start=1):
        driver.report(trial, epoch, value)
    driver.leave("t0001", 1, 2)
    driver.callback.on_trial_complete(0, [], trial)
    assert driver.left("t0001") == ["model.safetensors"]
    assert driver.kept_epoch("t0001") == "2"


def test_where_the_best_weights_are_missing_the_best_that_are_left_take_their_place(
    driver: Driver, tmp_path: Path
) -> None:
    trial = driver.trial("t0001")
    for epoch, value in enumerate([0.5, 0.4, 0.6, 0.7], start=1):
        driver.report(trial, epoch, value)
    driver.leave("t0001", 1, 2)
    driver.callback.on_trial_complete(0, [], trial)
    assert driver.kept_epoch("t0001") == "1"
    best = driver.ledger.trials["t0001"].best(METRIC, "maximize")
    assert best is not None
    assert best.epoch == 1
    (event,) = [e for e in read_events(tmp_path / "trials.jsonl") if e["event"] == "lost"]
    assert event["saved"] == [1, 2]
    assert event["reason"] == "the weights of epoch 4, its best, are lost"


def test_a_trial_that_is_stopped_between_rungs_leaves_its_weights_when_its_worker_moves_on(
    driver: Driver, tmp_path: Path
) -> None:
    trial = driver.trial("t0001")
    for epoch, value in enumerate([0.5, 0.6], start=1):
        driver.report(trial, epoch, value)
    driver.callback.on_trial_complete(0, [], trial)
    driver.leave("t0001", 1, 2)  # only now
    driver.report(driver.trial("t0002"), 1, 0.1)
    assert driver.left("t0001") == ["model.safetensors", "state-0001.safetensors"]
    assert driver.kept_epoch("t0001") == "2"
    assert all(event["event"] != "lost" for event in read_events(tmp_path / "trials.jsonl"))


def test_weights_of_a_stopped_trial_that_never_come_are_lost(driver: Driver) -> None:
    trial = driver.trial("t0001")
    driver.report(trial, 1, 0.5)
    driver.callback.on_trial_complete(0, [], trial)
    assert driver.ledger.trials["t0001"].saved is None
    driver.callback.end_running()
    assert driver.ledger.trials["t0001"].saved == []


def test_weights_of_an_epoch_that_nobody_heard_of_do_not_count(driver: Driver) -> None:
    trial = driver.trial("t0001")
    driver.report(trial, 1, 0.5)
    driver.leave("t0001", 2)
    driver.callback.end_running()
    assert driver.ledger.trials["t0001"].saved == []
    assert driver.left("t0001") == ["state-0001.safetensors"]


def test_a_trial_that_was_interrupted_keeps_its_state_and_is_settled_again_later(
    driver: Driver,
) -> None:
    trial = driver.trial("t0001")
    driver.report(trial, 1, 0.9)
    driver.leave("t0001", 1)
    driver.callback.end_running()
    assert driver.left("t0001") == ["model.safetensors", "state-0001.safetensors"]
    driver.leave("t0001", 2)  # another worker went on, and found nothing better
    driver.callback._settle_checkpoint("t0001")
    assert driver.left("t0001") == ["model.safetensors", "state-0001.safetensors"]
    assert driver.kept_epoch("t0001") == "1"


def test_over_the_whole_study_a_bounded_number_of_files_is_left(driver: Driver) -> None:
    for number in range(2 * KEPT_CHECKPOINTS):
        trial = driver.trial(f"t{number:04d}")
        driver.report(trial, 1, number / 100)
        driver.leave(f"t{number:04d}", 1)
        driver.callback.on_trial_complete(0, [], trial)
    running = driver.trial("t0099")
    driver.report(running, 1, 0.0)
    driver.leave("t0099", 1)
    driver.leave("t0003", 1)  # a worker that writes after the trial was over
    driver.callback.end_running()
    files = [path for path in driver.folder.rglob("*") if path.is_file()]
    assert len(files) == KEPT_CHECKPOINTS + 1
    assert driver.left("t0099") == ["state-0001.safetensors"]  # too poor for its weights


def test_nothing_is_kept_of_a_trial_that_failed_not_even_of_a_baseline(driver: Driver) -> None:
    for name, outcome in (("B1", "failed"), ("t0001", "infeasible")):
        trial = driver.trial(name, baseline=name == "B1")
        driver.report(trial, 1, 0.9)
        driver.leave(name, 1)
        ending = {"outcome": outcome, "reason": "why", "worker": "w", "notes": ["told"]}
        driver.callback.on_trial_result(0, [], trial, ending)
        driver.callback.on_trial_complete(0, [], trial)
        assert (driver.ledger.trials[name].outcome, driver.left(name)) == (outcome, [])
        assert driver.ledger.trials[name].reason == "why"


def test_an_epoch_trained_again_does_not_reach_the_record(driver: Driver) -> None:
    trial = driver.trial("t0001")
    for epoch in (1, 2, 1, 2, 3):
        driver.report(trial, epoch, 0.5)
    told = [event["epoch"] for event in driver.ledger.past if event["event"] == "report"]
    assert told == [1, 2, 3]


def test_what_a_worker_notes_is_written_down(
    driver: Driver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trial = driver.trial("t0001")
    driver.report(trial, 1, 0.5, notes=["checkpoint not written: disk full"])
    notes = [e for e in read_events(tmp_path / "trials.jsonl") if e["event"] == "note"]
    assert [note["text"] for note in notes] == ["checkpoint not written: disk full"]
    assert "t0001: checkpoint not written: disk full" in caplog.text


def test_a_trial_at_its_rung_waits_with_its_state(driver: Driver) -> None:
    trial = driver.trial("t0001", until=2)
    for epoch in (1, 2):
        driver.report(trial, epoch, 0.5)
    driver.leave("t0001", 2)
    driver.callback.on_trial_complete(0, [], trial)
    record = driver.ledger.trials["t0001"]
    assert (record.waiting, record.outcome) == (True, None)
    assert driver.left("t0001") == ["epoch-0002.safetensors", "state-0001.safetensors"]
    driver.trial("t0001", until=PLANNED)  # it goes on
    assert not driver.ledger.trials["t0001"].waiting


def test_a_trial_that_still_waits_when_the_study_ends_was_stopped(driver: Driver) -> None:
    trial = driver.trial("t0001", until=2)
    for epoch in (1, 2):
        driver.report(trial, epoch, 0.1 * epoch)
    driver.leave("t0001", 2)
    driver.callback.on_trial_complete(0, [], trial)
    driver.callback.end_running()
    record = driver.ledger.trials["t0001"]
    assert (record.outcome, record.may_go_on) == ("stopped", True)
    assert record.reason.endswith("waited at epoch 2")
    assert driver.kept_epoch("t0001") == "2"


def test_of_many_that_wait_only_the_best_keep_their_files(driver: Driver) -> None:
    for number in range(KEPT_WAITING + 2):
        trial = driver.trial(f"t{number}", until=1)
        driver.report(trial, 1, 0.01 * number)
        driver.leave(f"t{number}", 1)
        driver.callback.on_trial_complete(0, [], trial)
    kept = {path.name for path in driver.folder.iterdir()}
    assert kept == {f"t{number}" for number in range(2, KEPT_WAITING + 2)}
    driver.callback.end_running()
    events = list(read_events(driver.folder.parent / "trials.jsonl"))
    assert not [event for event in events if event["event"] == "lost"]


def test_a_trial_whose_files_are_gone_takes_no_place_among_those_that_wait(driver: Driver) -> None:
    def wait(name: str, value: float) -> None:
        trial = driver.trial(name, until=1)
        driver.report(trial, 1, value)
        driver.leave(name, 1)
        driver.callback.on_trial_complete(0, [], trial)

    for number in range(KEPT_WAITING + 1):
        wait(f"t{number}", 1 - 0.01 * number)
    driver.trial("t0")  # goes on, so that one more may be kept
    wait("worst", 0.1)
    kept = {f"t{number}" for number in range(KEPT_WAITING)}
    assert {path.name for path in driver.folder.iterdir()} == kept | {"worst"}
    driver.leave(f"t{KEPT_WAITING}", 1)  # late, by a worker that took up another one
    wait("better", 0.2)
    assert {path.name for path in driver.folder.iterdir()} == kept | {"better"}


def test_a_trial_that_loses_its_worker_twice_in_one_epoch_is_infeasible(driver: Driver) -> None:
    for epoch in (1, 2, 3):  # each time it has come further
        trial = driver.trial("t0001")
        driver.report(trial, epoch, 0.5)
        assert driver.lose(trial) is None
    for _ in range(LOST - 2):
        assert driver.lose(driver.trial("t0001")) is None
    assert driver.lose(driver.trial("t0001")) == "infeasible"
    reason = "killed its worker twice: failed without a message"
    assert driver.ledger.trials["t0001"].reason == reason


def test_workers_that_were_dead_before_they_began_a_trial_are_no_fault_of_it(
    driver: Driver,
) -> None:
    assert all(driver.lose(driver.proposed("t0001")) is None for _ in range(LOST_BEFORE - 1))
    assert driver.lose(driver.trial("t0001")) is None
    assert driver.lose(driver.proposed("t0001")) == "failed"
    reason = "no worker could begin it: failed without a message"
    assert driver.ledger.trials["t0001"].reason == reason
