"""Faults within a real search: each costs what it must, and nothing that was finished."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.storages.journal import JournalFileBackend

from r2search.config import Study, TrialConfig
from r2search.data.samples import SampleSet
from r2search.models.cost import Rate
from r2search.records import EpochReport, TrialOutcome
from r2search.summary import count_trials
from r2search.train.hardware import apply, detect
from r2search.train.trainer import Trainer
from r2search.tuning.checkpoints import TrialCheckpoints, weights_by_epoch
from r2search.tuning.engine import ray_session, search
from r2search.tuning.events import Ledger, read_events, read_trials
from r2search.tuning.resources import Workers
from r2search.tuning.slots import Slots
from r2search.tuning.trainable import NetworkTrainable, Shared, sharing
from r2search.weights import read_weights

METRIC = "val/dice_mean"
EPOCHS = 3
SPACE = f"""\
name: faults
data: {{reader: synthetic_retina}}
metric: {{name: {METRIC}, goal: maximize}}
budget: {{time: 600s, trials: 1, max_epochs: {EPOCHS}}}
search: {{searcher: random, seed: 1}}
early_terminate: {{type: asha, grace_period: 1, reduction_factor: 2}}
parameters:
  data:
    parameters:
      patch_size: {{value: 16}}
      augmentation: {{value: none}}
  model:
    parameters:
      block: {{value: conv}}
      depth: {{value: 1}}
      base_filters: {{value: 2}}
  train:
    parameters:
      lr: {{min: 0.001, max: 0.1}}
      batch_size: {{value: 4}}
      epoch_pixels: {{value: 8192}}
      dtype: {{value: float32}}
  inference:
    parameters:
      tile: {{value: 64}}
      overlap: {{value: 0}}
baselines:
  halved: {{train.lr: 0.01}}
  infeasible: {{train.lr: 0.011}}
  raising: {{train.lr: 0.012}}
  killed: {{train.lr: 0.013}}
  killing: {{train.lr: 0.014}}
  unready: {{train.lr: 0.0145}}
  broken_gpu: {{train.lr: 0.015}}
  unwritable: {{train.lr: 0.016}}
  unresettable: {{train.lr: 0.0165}}
  hung: {{train.lr: 0.017}}
  unbuildable: {{train.lr: 0.018}}
  metricless: {{train.lr: 0.019}}
  unsaved: {{train.lr: 0.02}}
"""
SLOTS = Slots(Workers(count=1, threads=1, gpus=0.0), Rate(1e12, 1e12))
MakeStudy = Callable[..., Study]


def planting(shared: Shared) -> type[NetworkTrainable]:
    """The trainable of a study, in whose steps happens what the names of its trials say.

    It saves its state after every epoch.
    """
    shared = replace(shared, rungs=frozenset(range(1, EPOCHS)), hung_s=10.0)

    class Planted(sharing(shared)):  # type: ignore[misc]  # sent to the worker whole
        def setup(self, config: dict[str, Any]) -> None:
            import r2search.train.trainer as module

            training_step = module.training_step  # type: ignore[attr-defined]

            def step(model: Any, optimizer: Any, micro_batches: Any, hardware: Any) -> Any:
                parts = list(micro_batches)
                self.plant(len(parts[0][0]))
                return training_step(model, optimizer, parts, hardware)

            module.training_step = step  # type: ignore[attr-defined]
            if config["name"] == "unready":  # begun by a new worker: the one before was killed
                self.plant_once("setup")
            super().setup(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            if new_config["name"] == "unresettable":
                self.plant_once("reset")
            return super().reset_config(new_config)  # type: ignore[no-any-return]

        def plant_once(self, where: str) -> None:
            once = self.shared.checkpoints_dir.parent / where
            if not once.exists():
                once.touch()
                raise ValueError("planted")

        def _build(self) -> Trainer:
            if self._name == "unbuildable":
                raise ValueError("planted")
            return super()._build()  # type: ignore[no-any-return]

        def _keep(self, trainer: Trainer, report: EpochReport) -> None:
            if self._name == "metricless" and report.epoch > 1:
                report.metrics.clear()
            if self._name == "unsaved" and report.epoch > 1:
                raise OSError("planted")
            super()._keep(trainer, report)

        def plant(self, patches: int) -> None:
            import os
            import signal
            import time

            import torch

            epoch, step = self._trainer.epoch + 1, len(self._trainer._progress.losses) + 1
            once = self.shared.checkpoints_dir.parent / f"{self._name}-{epoch}"
            if self._name == "halved" and epoch > 1 and patches > 2:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            if self._name == "infeasible":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            if self._name == "raising" and epoch > 1:
                raise ValueError("planted")
            if self._name in ("killed", "broken_gpu", "hung") and (epoch, step) == (3, 4):
                if not once.exists():
                    once.touch()
                    if self._name == "hung":
                        time.sleep(600)
                    if self._name == "broken_gpu":
                        raise torch.AcceleratorError("CUDA error: an illegal memory access")
                    os.kill(os.getpid(), signal.SIGKILL)
            if self._name == "killing" and (epoch, step) == (1, 4):
                os.kill(os.getpid(), signal.SIGKILL)
            if self._name == "unwritable" and not (folder := self._checkpoints._folder).exists():
                folder.write_text("in the way")
            if self._name == "slow" and epoch > 1:
                time.sleep(0.2)

    return Planted


@dataclass
class Searched:
    study: Study
    folder: Path
    trials: dict[str, TrialOutcome]
    events: list[dict[str, Any]]

    def notes(self, name: str) -> list[str]:
        return [
            event["text"]
            for event in self.events
            if event["event"] == "note" and event["trial"] == name
        ]


@pytest.fixture(scope="module")
def run(noise: SampleSet) -> Iterator[Callable[..., Searched]]:
    """`run(study, folder, stopping)` searches with planted faults."""
    with ray_session(noise) as ref, pytest.MonkeyPatch.context() as patch:
        patch.setattr("r2search.tuning.engine.sharing", planting)

        def searched(
            study: Study,
            folder: Path,
            stopping: Callable[[Ledger], bool] = lambda ledger: False,
            refresh: Callable[[], None] = lambda: None,
        ) -> Searched:
            (folder / "checkpoints").mkdir(parents=True)
            ledger = Ledger(folder / "trials.jsonl")
            search(
                study,
                noise,
                ref,
                SLOTS,
                folder,
                ledger,
                refresh,
                lambda: stopping(ledger),
            )
            ledger.close()
            path = folder / "trials.jsonl"
            trials = {trial.trial: trial for trial in read_trials(path)}
            return Searched(study, folder, trials, list(read_events(path)))

        yield searched


@pytest.fixture(scope="module")
def faulty(
    run: Callable[..., Searched], make_study: MakeStudy, tmp_path_factory: pytest.TempPathFactory
) -> Searched:
    return run(make_study(space=SPACE), tmp_path_factory.mktemp("faults") / "run")


def undisturbed(noise: SampleSet, trial: TrialOutcome) -> list[dict[str, float]]:
    """The metrics of a training of the same config that nothing disturbs."""
    config = TrialConfig.model_validate(trial.config)
    hardware, before = detect(config.train, threads=1), torch.get_num_threads()
    trainer = Trainer(config, noise, horizon=EPOCHS, hardware=hardware)
    apply(hardware)  # in float32, two threads add up in another order
    try:
        return [trainer.run_epoch().metrics for _ in range(EPOCHS)]
    finally:
        torch.set_num_threads(before)


def test_the_study_goes_on_whatever_happens_to_a_trial(faulty: Searched) -> None:
    assert {name: trial.outcome for name, trial in faulty.trials.items()} == {
        "halved": "completed",
        "infeasible": "infeasible",
        "raising": "failed",
        "killed": "completed",
        "killing": "infeasible",
        "unready": "completed",
        "broken_gpu": "completed",
        "unwritable": "completed",
        "unresettable": "completed",
        "hung": "completed",
        "unbuildable": "failed",
        "metricless": "failed",
        "unsaved": "failed",
        "t0001": "completed",
    }


def test_no_epoch_is_lost_or_told_twice(faulty: Searched) -> None:
    told = Counter(
        (event["trial"], event["epoch"]) for event in faulty.events if event["event"] == "report"
    )
    assert set(told.values()) == {1}
    epochs = {"infeasible": 0, "raising": 1, "killing": 0}
    epochs |= {"unbuildable": 0, "metricless": 1, "unsaved": 1}
    for name, trial in faulty.trials.items():
        assert [r.epoch for r in trial.reports] == list(range(1, epochs.get(name, EPOCHS) + 1))


@pytest.mark.parametrize("name", ["killed", "broken_gpu", "hung"])
def test_a_trial_whose_worker_was_lost_goes_on_exactly_where_it_was(
    faulty: Searched, noise: SampleSet, name: str
) -> None:
    trial = faulty.trials[name]
    assert [report.metrics for report in trial.reports] == undisturbed(noise, trial)
    (note,) = faulty.notes(name)
    assert note.startswith("its worker was lost (")
    assert trial.reports[-1].seconds["setup"] > 0  # of the worker that took it up


@pytest.mark.parametrize(("name", "where"), [("unready", "setup"), ("unresettable", "reset")])
def test_a_worker_that_fails_before_a_trial_costs_it_nothing(
    faulty: Searched, name: str, where: str
) -> None:
    assert (faulty.folder / where).exists()
    (note,) = faulty.notes(name)
    assert note == "its worker was lost (ValueError: planted); another goes on with it"


def test_a_trial_that_kills_its_worker_twice_is_infeasible(faulty: Searched) -> None:
    assert faulty.trials["killing"].reason.startswith("killed its worker twice: ")
    assert len(faulty.notes("killing")) == 1


def test_a_worker_that_is_lost_between_two_trials_costs_neither(
    run: Callable[..., Searched], make_study: MakeStudy, tmp_path: Path
) -> None:
    space = SPACE.partition("baselines:")[0] + "baselines:\n  first: {train.lr: 0.01}\n"
    killed = []

    def kill(ledger: Ledger) -> bool:
        if not killed and (first := ledger.trials.get("first")) and first.outcome:
            killed.append(int(first.worker.rpartition(":")[2]))
            os.kill(killed[0], signal.SIGKILL)
        return False

    ended = run(make_study(space=space), tmp_path / "run", kill)
    assert len(killed) == 1
    assert {name: trial.outcome for name, trial in ended.trials.items()} == {
        "first": "completed",
        "t0001": "completed",
    }
    (note,) = ended.notes("t0001")
    assert note.startswith("its worker was lost (")


def test_callbacks_that_raise_cost_no_report(
    run: Callable[..., Searched], make_study: MakeStudy, tmp_path: Path
) -> None:
    space = SPACE.partition("baselines:")[0] + "baselines:\n  first: {train.lr: 0.01}\n"

    def refresh() -> None:
        raise ValueError("planted")

    ended = run(make_study(space=space), tmp_path / "run", refresh=refresh)
    assert {name: (t.outcome, len(t.reports)) for name, t in ended.trials.items()} == {
        "first": ("completed", EPOCHS),
        "t0001": ("completed", EPOCHS),
    }


def test_an_exception_of_a_config_is_not_tried_again_and_costs_no_worker(faulty: Searched) -> None:
    assert faulty.trials["raising"].reason == "ValueError: planted"
    assert faulty.notes("raising") == []
    assert faulty.trials["raising"].worker == faulty.trials["halved"].worker


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("unbuildable", "ValueError: planted"),
        ("metricless", "KeyError: 'val/dice_mean'"),
        ("unsaved", "OSError: planted"),
    ],
)
def test_what_goes_wrong_round_an_epoch_is_the_end_of_one_trial(
    faulty: Searched, name: str, reason: str
) -> None:
    assert faulty.trials[name].reason == reason
    assert faulty.trials[name].worker in ("", faulty.trials["hung"].worker)


def test_memory_that_runs_out_halves_the_micro_batch_once(faulty: Searched) -> None:
    note = "out of memory; goes on with micro-batches of 2"
    assert faulty.notes("halved") == [f"epoch 2: {note}"]
    assert faulty.notes("infeasible") == [f"epoch 1: {note}"]
    assert faulty.trials["infeasible"].reason.startswith("OutOfMemoryError: CUDA out of memory")


def test_optuna_hears_of_a_config_without_room_as_of_one_that_is_refused(
    faulty: Searched,
) -> None:
    storage = optuna.storages.JournalStorage(
        JournalFileBackend(str(faulty.folder / "study.journal"))
    )
    told = optuna.load_study(study_name="faults", storage=storage).trials
    states = {trial.user_attrs["trial"]: (trial.state.name, trial.value) for trial in told}
    assert states["infeasible"] == ("PRUNED", None)
    assert states["killing"] == ("PRUNED", None)
    assert states["raising"][0] == states["metricless"][0] == "FAIL"
    assert states["killed"][0] == states["halved"][0] == "COMPLETE"


def test_a_config_without_room_counts_as_infeasible_alone(faulty: Searched) -> None:
    own = [TrialOutcome(**_of_search(trial)) for trial in faulty.trials.values()]
    counts = count_trials(own, {"too_slow": 2})
    assert (counts["infeasible"], counts["failed"], counts["completed"]) == (4, 4, 8)
    assert counts["total"] == 12


def _of_search(trial: TrialOutcome) -> dict[str, Any]:
    facts = {name: getattr(trial, name) for name in trial.__slots__}
    return facts | {"baseline": False}  # those are counted apart


def test_a_disk_that_cannot_be_written_is_told_and_costs_the_weights_alone(
    faulty: Searched,
) -> None:
    trial = faulty.trials["unwritable"]
    assert all(note.startswith("checkpoint not written: ") for note in faulty.notes("unwritable"))
    (lost,) = [event for event in faulty.events if event["event"] == "lost"]
    assert (lost["trial"], lost["saved"]) == ("unwritable", [])
    assert trial.best(METRIC, "maximize") is None
    assert not trial.eligible


def test_what_is_left_on_disk_is_the_best_weights_of_trials_that_did_not_fail(
    faulty: Searched,
) -> None:
    folder = faulty.folder / "checkpoints"
    left = {path.name for path in folder.iterdir() if path.is_dir()}
    kept = {"halved", "killed", "unready", "broken_gpu", "unresettable", "hung", "t0001"}
    assert left == kept
    for name in left:
        best = faulty.trials[name].best(METRIC, "maximize")
        (path,) = (folder / name).iterdir()
        _, facts = read_weights(path)
        assert best is not None
        assert (path.name, facts["epoch"]) == ("model.safetensors", str(best.epoch))
        assert facts[METRIC] == repr(best.metrics[METRIC])


def test_at_the_deadline_a_worker_leaves_a_long_epoch_and_saves_where_it_was(
    run: Callable[..., Searched], make_study: MakeStudy, tmp_path: Path
) -> None:
    # 512 steps of 0.2 s: Ray would kill a worker that stayed in such an epoch.
    space = SPACE.replace("8192", str(512 * 4 * 16**2)).partition("baselines:")[0]
    study = make_study({"budget.trials": 1, "early_terminate.type": "none"}, space)
    ended = run(
        study,
        tmp_path / "run",
        lambda ledger: any(trial.reports for trial in ledger.trials.values()),
    )
    trial = ended.trials["t0001"]
    assert (trial.outcome, len(trial.reports)) == ("interrupted", 1)
    folder = tmp_path / "run" / "checkpoints" / "t0001"
    assert set(weights_by_epoch(folder)) == {1}
    settings = {"config": trial.config, "planned_epochs": trial.planned_epochs}
    saved = TrialCheckpoints(folder, settings, METRIC).load()
    assert saved is not None
    assert saved.training.values["epoch"] == 1
    assert [report["epoch"] for report in saved.reports] == [1]
    assert 0 < len(saved.training.tensors["losses"]) < 512
    assert not (tmp_path / "run" / ".stop").exists()
