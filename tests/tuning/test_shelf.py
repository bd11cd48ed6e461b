"""Weights and states of trials in a store, as the driver sees them, and a worker that is killed."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from s3 import S3Server

from r2search.config import Study, TrialConfig
from r2search.data.samples import SampleSet
from r2search.models.cost import Rate
from r2search.scratch import shared_path
from r2search.storage import Storage
from r2search.train.hardware import apply, detect
from r2search.train.trainer import Trainer
from r2search.tuning.checkpoints import weights_path
from r2search.tuning.engine import ray_session, search
from r2search.tuning.events import Ledger, read_events
from r2search.tuning.resources import Workers
from r2search.tuning.shelf import Shelf, StoreShelf
from r2search.tuning.slots import Slots
from r2search.tuning.trainable import NetworkTrainable, Shared, scratch_name, sharing
from r2search.weights import WEIGHTS, read_weights, save_weights

METRIC = "val/dice_mean"
EPOCHS = 3
SPACE = f"""\
name: remote
data: {{reader: synthetic_retina}}
metric: {{name: {METRIC}, goal: maximize}}
budget: {{time: 600s, trials: 2, max_epochs: {EPOCHS}}}
search: {{searcher: random, seed: 1}}
early_terminate: {{type: asha, grace_period: 1, reduction_factor: 2}}
parameters:
  data: {{parameters: {{patch_size: {{value: 16}}, augmentation: {{value: none}}}}}}
  model: {{parameters: {{block: {{value: conv}}, depth: {{value: 1}}, base_filters: {{value: 2}}}}}}
  train:
    parameters:
      lr: {{min: 0.001, max: 0.1}}
      batch_size: {{value: 4}}
      epoch_pixels: {{value: 8192}}
      dtype: {{value: float32}}
  inference: {{parameters: {{tile: {{value: 64}}, overlap: {{value: 0}}}}}}
baselines:
  killed: {{train.lr: 0.013}}
"""
MakeStudy = Callable[..., Study]


class Later:
    """The changes that a driver has put off."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, Callable[[], None]]] = []

    def add(self, trial: str, change: Callable[[], None]) -> None:
        self.changes.append((trial, change))

    def cancel(self, trial: str) -> None:
        self.changes = [change for change in self.changes if change[0] != trial]

    def do(self) -> None:
        for _, change in self.changes:
            change()
        self.changes = []


@pytest.fixture
def later() -> Later:
    return Later()


@pytest.fixture(params=["disk", "store"])
def shelf(
    request: pytest.FixtureRequest, tmp_path: Path, later: Later
) -> tuple[Shelf, Callable[..., None]]:
    """A shelf of each kind, and `leave(trial, *epochs)`, what its worker does."""
    local = tmp_path / "checkpoints"
    if request.param == "disk":
        return Shelf(local), lambda trial, *epochs: leave(local / trial, *epochs)
    s3: S3Server = request.getfixturevalue("s3")
    store = Storage(s3.url(f"shelves/{tmp_path.name}"))

    def leave_there(trial: str, *epochs: int) -> None:
        leave(local / trial, *epochs)
        for path in (local / trial).iterdir():
            store.write(f"checkpoints/{trial}/{path.name}", path)
            path.unlink()

    return StoreShelf(store, later.add, later.cancel), leave_there


def leave(folder: Path, *epochs: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state-0001.safetensors").write_bytes(b"state")
    for epoch in epochs:
        weights = {"w": torch.full((2,), float(epoch))}
        save_weights(weights_path(folder, epoch), weights, {"epoch": str(epoch)})


def test_the_weights_of_one_epoch_are_kept(
    shelf: tuple[Shelf, Callable[..., None]], later: Later
) -> None:
    shelved, leave = shelf
    assert shelved.listing() == {}
    leave("t1", 2, 5)
    leave("t2")
    assert shelved.epochs("t1") == {2, 5}
    shelved.settle("t1", 5)
    later.do()
    assert shelved.listing() == {
        "t1": {"state-0001.safetensors", WEIGHTS},
        "t2": {"state-0001.safetensors"},
    }
    assert shelved.epochs("t1") == {5}
    shelved.settle("t1", 5)  # once more changes nothing
    later.do()
    assert shelved.epochs("t1") == {5}


def test_a_trial_that_goes_on_may_have_a_better_epoch_or_not(
    shelf: tuple[Shelf, Callable[..., None]], later: Later
) -> None:
    shelved, leave = shelf
    leave("t1", 2)
    shelved.settle("t1", 2)
    later.do()
    leave("t1", 4)
    assert shelved.epochs("t1") == {2, 4}
    shelved.settle("t1", 2)
    later.do()
    assert shelved.epochs("t1") == {2}
    leave("t1", 6)
    shelved.settle("t1", 6)
    later.do()
    assert shelved.epochs("t1") == {6}


def test_what_is_not_kept_is_dropped(
    shelf: tuple[Shelf, Callable[..., None]], later: Later
) -> None:
    shelved, leave = shelf
    leave("t1", 1)
    leave("t2", 1)
    leave("t3", 1)
    shelved.drop("t1")
    shelved.drop("t2", {"state-0001.safetensors"})
    later.do()
    shelved.drop_now("t3")
    assert shelved.listing() == {"t2": {"epoch-0001.safetensors"}}


def test_a_trial_that_goes_on_before_it_was_dropped_keeps_its_state(
    s3: S3Server, later: Later
) -> None:
    shelf = StoreShelf(Storage(s3.url("shelves/revived")), later.add, later.cancel)
    shelf.storage.write("checkpoints/t1/state-0001.safetensors", b"1")
    shelf.drop("t1")
    shelf.revive("t1")
    later.do()
    assert shelf.listing() == {"t1": {"state-0001.safetensors"}}


def planting(shared: Shared) -> type[NetworkTrainable]:
    """The trainable of a study whose baseline is killed once in its last epoch."""
    shared = replace(shared, rungs=frozenset(range(1, EPOCHS)))

    class Planted(sharing(shared)):  # type: ignore[misc]  # sent to the worker whole
        def _tick(self) -> None:
            import signal

            super()._tick()
            once = self.shared.checkpoints_dir.parent / "killed-once"
            if self._name == "killed" and self._trainer.epoch == 2 and not once.exists():
                once.touch()
                os.kill(os.getpid(), signal.SIGKILL)

    return Planted


def undisturbed(noise: SampleSet, config: TrialConfig) -> list[dict[str, float]]:
    """The metrics of a training that nothing disturbs."""
    hardware, before = detect(config.train, threads=1), torch.get_num_threads()
    trainer = Trainer(config, noise, horizon=EPOCHS, hardware=hardware)
    apply(hardware)  # in float32, two threads add up in another order
    try:
        return [trainer.run_epoch().metrics for _ in range(EPOCHS)]
    finally:
        torch.set_num_threads(before)


def test_a_trial_whose_worker_was_killed_goes_on_from_the_store(
    s3: S3Server, noise: SampleSet, make_study: MakeStudy, tmp_path: Path, later: Later
) -> None:
    run_dir, storage = tmp_path / "run", Storage(s3.url("searches/killed"))
    run_dir.mkdir()
    shelf = StoreShelf(storage, lambda trial, change: change(), later.cancel)
    ledger = Ledger(run_dir / "trials.jsonl")
    slots = Slots(Workers(count=1, threads=1, gpus=0.0), Rate(1e12, 1e12))
    with ray_session(noise) as ref, pytest.MonkeyPatch.context() as patch:
        patch.setattr("r2search.tuning.engine.sharing", planting)
        given: tuple[Any, ...] = (make_study(space=SPACE), noise, ref, slots, run_dir, ledger)
        search(*given, lambda: None, lambda: False, shelf)
    ledger.close()
    assert (run_dir / "killed-once").exists()
    trial = ledger.trials["killed"]
    metrics = [report.metrics for report in trial.reports]
    assert metrics == undisturbed(noise, TrialConfig.model_validate(trial.config))
    noted = [event for event in read_events(run_dir / "trials.jsonl") if event["event"] == "note"]
    assert [event["text"][:20] for event in noted] == ["its worker was lost "]
    assert trial.reports[-1].seconds["setup"] > 0  # of the worker that took it up
    assert len(trial.reports[0].seconds) == len(trial.reports[-1].seconds)
    best = trial.best(METRIC, "maximize")
    assert best is not None
    assert shelf.epochs("killed") == {best.epoch}
    assert shelf.listing()["killed"] == {WEIGHTS}
    storage.download(f"checkpoints/killed/{WEIGHTS}", tmp_path / "back")
    assert read_weights(tmp_path / "back")[1]["epoch"] == str(best.epoch)
    assert not (run_dir / "checkpoints").exists()  # as on a node that does not share it
    scratch = shared_path(scratch_name(storage))
    assert not scratch.exists() or not list(scratch.iterdir())
