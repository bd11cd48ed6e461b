"""One worker: it goes on where a killed one was, ends well when told to, and frees its memory."""

import gc
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from r2search.config import TrialConfig
from r2search.data.samples import SampleSet
from r2search.records import EpochReport
from r2search.train.hardware import apply, detect
from r2search.train.trainer import Trainer
from r2search.tuning.checkpoints import weights_by_epoch
from r2search.tuning.engine import ray_session
from r2search.tuning.predictions import PREDICTIONS, begin_predictions
from r2search.tuning.trainable import NetworkTrainable, Shared, sharing

METRIC = "train/lr"  # rises through the warm-up: every epoch is the best
PLANNED = 4
CONFIG = TrialConfig.model_validate(
    {
        "data": {"patch_size": 16, "augmentation": "none"},
        "model": {"block": "conv", "depth": 1, "base_filters": 2, "dropout": 0.2},
        "train": {
            "batch_size": 4,
            "epoch_pixels": 4096,  # 4 steps
            "warmup_epochs": 4,
            "max_epochs": 4,
            "dtype": "float32",
        },
        "inference": {"tile": 64, "overlap": 0},
    }
)


@pytest.fixture(scope="module")
def ref(noise: SampleSet) -> Iterator[Any]:
    with ray_session(noise) as shared:
        yield shared


@pytest.fixture
def shared(ref: Any, tmp_path: Path) -> Shared:
    return Shared(
        samples=ref,
        threads=1,
        metric=METRIC,
        goal="maximize",
        checkpoints_dir=tmp_path / "checkpoints",
        rungs=frozenset({1}),
        stop_path=tmp_path / "stop",
        save_every_s=0,
    )


def proposal(name: str = "t0001", config: TrialConfig = CONFIG, **more: Any) -> dict[str, Any]:
    whole = config.model_dump(mode="json")
    planned = {"planned_epochs": PLANNED, "until_epoch": PLANNED, "cost": {"epoch_seconds": 1.0}}
    return {"name": name, "config": whole, "reported": 0, **planned, **more}


def begin(shared: Shared, config: dict[str, Any] | None = None) -> NetworkTrainable:
    """A worker in this process, without the folder that Ray gives it in the home directory."""
    trainable = object.__new__(sharing(shared))
    trainable.setup(config or proposal())
    return trainable


def told(result: dict[str, Any]) -> EpochReport:
    """A report without what a second run does not repeat."""
    return replace(EpochReport(**result["report"]), seconds={})


@pytest.fixture
def expected(shared: Shared, noise: SampleSet) -> list[EpochReport]:
    """The reports of a training that nothing interrupts."""
    hardware = detect(CONFIG.train, threads=shared.threads)
    apply(hardware)  # another number of threads sums in another order
    trainer = Trainer(CONFIG, noise, horizon=PLANNED, hardware=hardware)
    return [replace(trainer.run_epoch(), seconds={}) for _ in range(PLANNED)]


class Killed(BaseException):
    """What happens to a worker that is killed: nothing of it runs any more."""


def kill_in_epoch(monkeypatch: pytest.MonkeyPatch, epoch: int, step: int = 3) -> None:
    """Kill this worker within an epoch, once."""
    tick = NetworkTrainable._tick

    def killing(self: NetworkTrainable) -> None:
        self._look = 0.0
        tick(self)
        assert self._trainer is not None
        self._checkpoints.flush()
        if self._trainer.epoch + 1 == epoch and len(self._trainer._progress.losses) == step:
            monkeypatch.setattr(NetworkTrainable, "_tick", tick)
            raise Killed

    monkeypatch.setattr(NetworkTrainable, "_tick", killing)


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_worker_goes_on_within_the_epoch_in_which_another_was_killed(
    shared: Shared, expected: list[EpochReport], monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    kill_in_epoch(monkeypatch, epoch)
    first = begin(shared)
    reports = [told(first.step()) for _ in range(epoch - 1)]
    with pytest.raises(Killed):
        first.step()
    second = begin(shared, proposal(reported=epoch - 1))
    result = second.step()
    assert second._trainer is None or second._trainer.epoch == epoch
    reports += [told(result), *(told(second.step()) for _ in range(PLANNED - epoch))]
    assert reports == expected
    assert result["notes"] == []
    found = weights_by_epoch(shared.checkpoints_dir / "t0001")
    assert set(found) == {PLANNED - 1, PLANNED}


def test_a_trial_that_waited_goes_on_as_if_it_had_not(
    shared: Shared, expected: list[EpochReport]
) -> None:
    first = begin(shared, proposal(until_epoch=2))
    results = [first.step() for _ in range(2)]
    assert [result["done"] for result in results] == [False, True]
    first.reset_config(proposal("t0002", until_epoch=1))  # another trial in between
    first.step()
    first.reset_config(proposal(reported=1))
    assert told(first.step()) == expected[1]  # told again: it may not have arrived
    results += [first.step() for _ in range(PLANNED - 2)]
    assert [told(result) for result in results] == expected


def test_epochs_after_the_last_state_are_trained_again_alike(
    shared: Shared, expected: list[EpochReport]
) -> None:
    seldom = replace(shared, save_every_s=3600)  # at the rung alone, after epoch 1
    first = begin(seldom)
    assert [told(first.step()) for _ in range(3)] == expected[:3]
    del first
    second = begin(seldom)
    again = [told(second.step()) for _ in range(PLANNED)]
    # The rung's report may not have arrived: it is told again, then epochs 2, 3 and 4.
    assert again == expected


def test_a_worker_leaves_its_epoch_when_the_study_ends_and_another_goes_on(
    shared: Shared, expected: list[EpochReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    seldom = replace(shared, save_every_s=3600)
    first = begin(seldom)
    reports = [told(first.step()) for _ in range(2)]
    assert shared.stop_path
    shared.stop_path.touch()
    monkeypatch.setattr("r2search.tuning.trainable.LOOK_S", 0.0)
    first._look = 0.0
    result = first.step()
    assert (result["outcome"], result["done"]) == ("interrupted", True)
    assert first._trainer is not None
    assert first._trainer.epoch == 2  # the third is not done
    first.cleanup()
    assert 2 in weights_by_epoch(shared.checkpoints_dir / "t0001")  # the best that was reported
    shared.stop_path.unlink()
    second = begin(seldom, proposal(reported=2))
    reports += [told(second.step()) for _ in range(2)]
    assert reports == expected


def test_a_report_that_may_not_have_arrived_is_told_again(
    shared: Shared, expected: list[EpochReport]
) -> None:
    first = begin(replace(shared, save_every_s=3600))
    reports = [told(first.step()) for _ in range(3)]
    first.cleanup()  # the study is over; nobody heard of epoch 3
    found = weights_by_epoch(shared.checkpoints_dir / "t0001")
    assert set(found) == {2, 3}
    second = begin(shared, proposal(reported=2))
    assert told(second.step()) == reports[2]
    assert told(second.step()) == expected[3]


def test_all_reports_that_the_record_lacks_are_told_again(
    shared: Shared, expected: list[EpochReport]
) -> None:
    first = begin(shared)
    for _ in range(3):
        first.step()
    first.cleanup()
    second = begin(shared, proposal(reported=1))  # a record that lags behind the state
    assert [told(second.step()) for _ in range(PLANNED - 1)] == expected[1:]


def test_a_state_with_another_horizon_is_not_taken_up(
    shared: Shared, expected: list[EpochReport]
) -> None:
    first = begin(shared, proposal(planned_epochs=9))
    first.step()
    first.cleanup()
    result = begin(shared).step()
    assert told(result) == expected[0]
    assert "made with other settings" in result["notes"][0]


def test_at_a_rung_and_at_the_end_the_best_weights_are_on_disk(shared: Shared) -> None:
    trainable = begin(replace(shared, save_every_s=3600))
    found = []
    for _ in range(PLANNED):
        trainable.step()
        found.append(set(weights_by_epoch(shared.checkpoints_dir / "t0001")))
    assert found == [{1}, {1}, {1}, {3, 4}]  # the report of 4 may never arrive


def test_a_disk_that_cannot_be_written_ends_no_trial(
    shared: Shared, expected: list[EpochReport]
) -> None:
    shared.checkpoints_dir.write_text("in the way")
    trainable = begin(shared)
    results = [trainable.step() for _ in range(PLANNED)]
    assert [told(result) for result in results] == expected
    assert "checkpoint not written: " in results[0]["notes"][0]
    trainable.cleanup()


def test_at_rungs_and_at_its_end_a_trial_leaves_a_prediction(
    shared: Shared, noise: SampleSet, expected: list[EpochReport], tmp_path: Path
) -> None:
    begin_predictions(tmp_path, noise.val[0], ["vessel"])
    trainable = begin(shared)
    results = [trainable.step() for _ in range(PLANNED)]
    assert [told(result) for result in results] == expected  # it changes nothing
    left = {path.name for path in (tmp_path / PREDICTIONS).glob("*.png")}
    assert left == {"t0001-0001.png", f"t0001-{PLANNED:04}.png"}


def test_a_prediction_that_cannot_be_written_ends_no_trial(
    shared: Shared, noise: SampleSet, tmp_path: Path
) -> None:
    begin_predictions(tmp_path, noise.val[0], ["vessel"])
    (tmp_path / PREDICTIONS / ".t0001-0001.png").mkdir()  # in the way
    trainable = begin(shared)
    result = trainable.step()
    assert "its sample prediction is not written: " in result["notes"][0]
    assert result["epoch"] == 1
    trainable.cleanup()


def test_what_goes_wrong_with_a_config_is_told_as_its_end(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("Expected more than 1 value per channel\nwhen training")

    trainable = begin(shared)
    trainable.step()
    monkeypatch.setattr("r2search.train.trainer.training_step", broken)
    result = trainable.step()
    assert (result["outcome"], result["done"]) == ("failed", True)
    assert result["reason"] == "ValueError: Expected more than 1 value per channel when training"
    monkeypatch.undo()
    assert trainable.reset_config(proposal("t0002"))
    assert trainable.step()["report"]["epoch"] == 1


@pytest.mark.parametrize("times", [1, 2])
def test_memory_that_runs_out_in_the_making_of_a_trainer(
    shared: Shared, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    failures = iter([torch.OutOfMemoryError("CUDA out of memory")] * times)

    def placed(*_: Any) -> None:
        for error in failures:
            raise error

    monkeypatch.setattr("r2search.train.trainer.place_model", placed)
    result = begin(shared).step()
    assert result["notes"] == ["out of memory; begins with micro-batches of 2"]
    if times == 1:
        assert result["report"]["epoch"] == 1
    else:
        assert result["outcome"] == "infeasible"
        assert result["reason"] == "OutOfMemoryError: CUDA out of memory"


def test_a_proposal_may_name_the_micro_batch(shared: Shared) -> None:
    trainable = begin(shared, proposal(micro_batch=3))
    trainable.step()
    assert trainable._trainer is not None
    assert trainable._trainer.micro_batch == 3


def live_tensors() -> int:
    """Bytes of every tensor that Python knows of, except those of modules and tests."""
    gc.collect()
    found = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in found)


def test_nothing_of_a_trial_outlives_it(shared: Shared) -> None:
    trainable = begin(shared, proposal("t0000"))
    trainable.step()
    trainable.reset_config(proposal("t0001"))
    before = live_tensors()
    for number in (2, 3):
        trainable.step()
        trainable.step()
        assert trainable._trainer is not None
        trainer = weakref.ref(trainable._trainer)
        model = weakref.ref(trainable._trainer.model)
        kernel = weakref.ref(trainable._trainer.model.head.weight)
        assert live_tensors() > before
        trainable.reset_config(proposal(f"t000{number}"))
        assert (trainer(), model(), kernel()) == (None, None, None)
        assert live_tensors() == before
    trainable.cleanup()


def test_the_first_epoch_tells_how_long_the_switch_took(shared: Shared) -> None:
    trainable = begin(shared)
    first, second = (trainable.step()["report"]["seconds"] for _ in range(2))
    assert first["setup"] > 0
    assert first["checkpoint"] > 0  # after epoch 1 is a rung
    assert "setup" not in second
    trainable.reset_config(proposal("t0002"))
    assert trainable.step()["report"]["seconds"]["setup"] > 0


def test_the_collector_of_garbage_is_off_until_a_worker_has_its_first_network(
    shared: Shared,
) -> None:
    enabled = ray.remote(num_cpus=0)(lambda: gc.isenabled())
    assert not ray.get(enabled.remote())  # in a process of Ray
    trainable = begin(shared)
    gc.disable()
    try:
        trainable.step()
        assert gc.isenabled()
    finally:
        gc.enable()
        trainable.cleanup()
