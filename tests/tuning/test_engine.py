"""One small search through a real Ray, and what it leaves behind."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pytest
import ray
from optuna.storages.journal import JournalFileBackend

from r2search.config import Study, TrialConfig
from r2search.data.samples import SampleSet
from r2search.models.cost import Rate
from r2search.records import EpochReport, TrialOutcome
from r2search.selection import ranking
from r2search.space import trial_config
from r2search.tuning.budget import Plan, plan_trial
from r2search.tuning.callback import KEPT_CHECKPOINTS, StudyCallback
from r2search.tuning.checkpoints import STATES
from r2search.tuning.curves import Failure
from r2search.tuning.engine import ray_session, search, validated
from r2search.tuning.events import Ledger, read_events, read_trials
from r2search.tuning.resources import Workers
from r2search.tuning.scheduler import build_scheduler
from r2search.tuning.searcher import StudySearcher
from r2search.tuning.shelf import Shelf
from r2search.tuning.slots import Slots
from r2search.tuning.trainable import NetworkTrainable, Shared, sharing
from r2search.tuning.virtual import Clock, VirtualSearch
from r2search.weights import read_weights

METRIC = "val/dice_mean"
EPOCHS = 2
TRIALS = 9
# With a weight decay of 1, a step at a rate of 10 multiplies every weight by -9: after some 40 of
# the 60 steps of an epoch it is no float any more, whatever the network.
EXPLODES = 10.0
IDLE = 1e-6  # learns nothing: is stopped, but for a baseline
SPACE = f"""\
name: engine
data: {{reader: synthetic_retina}}
metric: {{name: {METRIC}, goal: maximize}}
budget: {{time: 600s, trials: {TRIALS}, max_epochs: {EPOCHS}}}
search: {{searcher: random, seed: 5}}
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
      base_filters: {{values: [2, 4]}}
  train:
    parameters:
      optimizer: {{value: sgd}}
      lr: {{values: [{IDLE:f}, 0.05, 0.1, {EXPLODES}], probabilities: [0.3, 0.3, 0.3, 0.1]}}
      lr_schedule: {{value: constant}}
      warmup_epochs: {{value: 0.0}}
      weight_decay: {{value: 1.0}}
      batch_size: {{value: 4}}
      epoch_pixels: {{value: 61440}}
      dtype: {{value: float32}}
  inference:
    parameters:
      tile: {{value: 64}}
      overlap: {{value: 0}}
  model.dropout: {{min: 0.0, max: 0.01}} # no two configs are alike
baselines:
  steady: {{train.lr: {IDLE:f}}}
"""
# One worker, so that trials follow one another; nothing is too dear for it.
SLOTS = Slots(Workers(count=1, threads=1, gpus=0.0), Rate(1e12, 1e12))
MakeStudy = Callable[..., Study]


@dataclass
class Searched:
    """A study with its Ray, and the search that was run in it."""

    study: Study
    samples: SampleSet
    ref: Any
    folder: Path
    trials: dict[str, TrialOutcome] = field(default_factory=dict)

    def run(self, run_dir: Path, study: Study, stopping: Callable[[Ledger], bool]) -> None:
        (run_dir / "checkpoints").mkdir(parents=True)
        ledger = Ledger(run_dir / "trials.jsonl")
        search(
            study,
            self.samples,
            self.ref,
            SLOTS,
            run_dir,
            ledger,
            lambda: None,
            lambda: stopping(ledger),
        )
        ledger.close()


@pytest.fixture(scope="module")
def searched(
    make_study: MakeStudy, noise: SampleSet, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Searched]:
    """A search that has run to its end; its Ray is still up."""
    folder = tmp_path_factory.mktemp("search") / "run"
    with ray_session(noise) as ref:
        done = Searched(make_study(space=SPACE), noise, ref, folder)
        done.run(folder, done.study, lambda ledger: False)
        done.trials = {trial.trial: trial for trial in read_trials(folder / "trials.jsonl")}
        yield done


def explodes(trial: TrialOutcome) -> bool:
    return bool(trial.overrides["train.lr"] == EXPLODES)


def test_every_trial_is_recorded_with_its_ending(searched: Searched) -> None:
    names = [*(f"t{number:04d}" for number in range(1, TRIALS + 1)), "steady"]
    assert list(searched.trials) == names
    for trial in searched.trials.values():
        assert trial.outcome in ("completed", "stopped", "failed")
        assert trial.ended is not None
        assert trial.planned_epochs == EPOCHS
        assert trial.config == trial_config(searched.study, trial.overrides).model_dump(mode="json")
        assert [report.epoch for report in trial.reports] == list(range(1, len(trial.reports) + 1))


def test_outcomes_say_what_happened(searched: Searched) -> None:
    for trial in searched.trials.values():
        epochs = {"completed": EPOCHS, "stopped": 1, "failed": 0}[str(trial.outcome)]
        assert len(trial.reports) == epochs
        assert (trial.outcome == "failed") == explodes(trial)
    outcomes = Counter(trial.outcome for trial in searched.trials.values())
    assert min(outcomes[kind] for kind in ("completed", "stopped", "failed")) >= 1  # by the seed


def test_a_search_without_ray_decides_and_writes_the_same(searched: Searched) -> None:
    def planner(config: TrialConfig) -> Plan:
        images = validated(searched.samples, config)
        return plan_trial(config, searched.study.budget, 1, images, SLOTS.rate, SLOTS.room)

    def train(proposal: dict[str, Any], epoch: int) -> EpochReport | Failure:
        trial = searched.trials[proposal["name"]]
        if trial.failed:
            return Failure(trial.reason, {"train": 1.0, "validate": 0.0})
        return trial.reports[epoch - 1]

    ledger = Ledger(None, clock := Clock())
    budget = searched.study.search_budget
    searcher = StudySearcher(searched.study, planner, ledger, left=lambda: ledger.left(budget))
    scheduler = build_scheduler(searched.study)
    VirtualSearch(searched.study, searcher, scheduler, train, ledger, clock).run()
    events = list(read_events(searched.folder / "trials.jsonl"))
    assert timeless(ledger.past) == timeless(events)


def timeless(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A record without what depends on the machine: times, and the worker's name."""
    return [{k: v for k, v in event.items() if k not in ("t", "worker")} for event in events]


def test_a_failed_trial_tells_why_and_ends_itself_alone(searched: Searched) -> None:
    failed = [trial for trial in searched.trials.values() if explodes(trial)]
    for trial in failed:
        assert trial.reason.startswith("FloatingPointError: epoch 1, step ")
        assert "loss is" in trial.reason
    last = list(searched.trials.values())[-1]
    assert failed[0].ended is not None
    assert last.started > failed[0].ended  # others began after it


def test_a_baseline_is_trained_to_its_end(searched: Searched) -> None:
    baseline = searched.trials["steady"]
    assert (baseline.baseline, baseline.outcome) == (True, "completed")


def test_a_worker_trains_one_trial_after_another(searched: Searched) -> None:
    workers = Counter(trial.worker for trial in searched.trials.values() if trial.worker)
    failures = sum(map(explodes, searched.trials.values()))
    assert failures
    assert len(workers) == 1  # a failure of a config costs no worker its life


def test_the_best_checkpoints_are_kept_and_no_others(searched: Searched) -> None:
    best = ranking(searched.trials.values(), METRIC, "maximize")
    expected = {trial.trial for trial in best[:KEPT_CHECKPOINTS]}
    assert len(best) > KEPT_CHECKPOINTS
    assert "steady" not in expected  # but a baseline's are kept, however bad
    expected.add("steady")
    states = {name for name, trial in searched.trials.items() if trial.may_go_on}
    kept = {path.name for path in (searched.folder / "checkpoints").iterdir()}
    assert kept == expected | states  # a study that is extended goes on with those that waited
    for name in states - expected:
        assert all(
            path.match(STATES) for path in (searched.folder / "checkpoints" / name).iterdir()
        )
    for name in expected - states:
        (path,) = (searched.folder / "checkpoints" / name).iterdir()
        report = searched.trials[name].best(METRIC, "maximize")
        assert report is not None
        weights, facts = read_weights(path)
        assert path.name == "model.safetensors"
        assert weights
        assert facts == {
            "trial": name,
            "epoch": str(report.epoch),
            METRIC: repr(report.metrics[METRIC]),
        }


def test_the_journal_tells_stopped_trials_as_pruned_and_failed_ones_as_failed(
    searched: Searched,
) -> None:
    storage = optuna.storages.JournalStorage(
        JournalFileBackend(str(searched.folder / "study.journal"))
    )
    told = optuna.load_study(study_name="engine", storage=storage).trials
    states = {"completed": "COMPLETE", "stopped": "PRUNED", "failed": "FAIL"}
    own = [trial for trial in searched.trials.values() if not trial.baseline]  # outside the space
    assert {trial.user_attrs["trial"]: trial.state.name for trial in told} == {
        trial.trial: states[str(trial.outcome)] for trial in own
    }


def test_the_test_split_is_not_shipped_to_the_workers(searched: Searched) -> None:
    shipped = ray.get(searched.ref)
    assert shipped.test == ()
    assert [sample.id for sample in shipped.train] == ["a", "b", "c"]
    assert [sample.id for sample in shipped.val] == ["d"]


def test_the_images_that_a_worker_sees_are_shared_and_read_only(searched: Searched) -> None:
    image = ray.get(searched.ref).train[0].image
    assert not image.flags.writeable
    assert not image.flags.owndata


def test_nothing_of_rays_stays_in_the_run_folder(searched: Searched) -> None:
    left = {path.name for path in searched.folder.iterdir()}
    assert left == {"checkpoints", "trials.jsonl", "study.journal"}


def test_a_search_that_is_stopped_ends_its_trials_as_interrupted(
    searched: Searched, make_study: MakeStudy, tmp_path: Path
) -> None:
    assigned = {"budget.max_epochs": 1000, "early_terminate.type": "none"}
    study = make_study(assigned, SPACE).model_copy(update={"baselines": {}})
    searched.run(
        tmp_path / "run",
        study,
        lambda ledger: any(len(trial.reports) >= 2 for trial in ledger.trials.values()),
    )
    trials = read_trials(tmp_path / "run" / "trials.jsonl")
    last = trials[-1]
    assert (last.outcome, last.reason) == ("interrupted", "the study ended")
    assert 2 <= len(last.reports) < 1000
    best = last.best(METRIC, "maximize")
    assert best is not None
    _, facts = read_weights(tmp_path / "run" / "checkpoints" / last.trial / "model.safetensors")
    assert facts["epoch"] == str(best.epoch)


def test_a_search_whose_trials_all_fail_ends_normally(
    searched: Searched, make_study: MakeStudy, tmp_path: Path
) -> None:
    study = make_study({"train.lr": EXPLODES, "budget.trials": 1}, SPACE)
    study = study.model_copy(update={"baselines": {}})
    searched.run(tmp_path / "run", study, lambda ledger: False)
    trials = read_trials(tmp_path / "run" / "trials.jsonl")
    assert [trial.outcome for trial in trials] == ["failed"]
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


def test_weights_of_an_epoch_that_was_never_reported_are_not_taken_for_the_best(
    searched: Searched, make_study: MakeStudy, tmp_path: Path
) -> None:
    # The learning rate as the objective: it rises while it warms up, so every epoch is better.
    study = make_study({"train.warmup_epochs": 100, "train.lr": 0.01}, SPACE).model_copy(
        update={"metric": searched.study.metric.model_copy(update={"name": "train/lr"})}
    )
    shared = Shared(
        samples=searched.ref,
        threads=1,
        metric="train/lr",
        goal="maximize",
        checkpoints_dir=tmp_path,
    )
    config = trial_config(study, {"model.base_filters": 2}).model_dump(mode="json")
    trainable = trainable_of(
        shared,
        {
            "name": "t0001",
            "config": config,
            "planned_epochs": 9,
            "until_epoch": 9,
            "reported": 0,
            "cost": {"epoch_seconds": 1.0},
        },
    )
    ledger = Ledger(tmp_path / "trials.jsonl")
    ledger.start(
        trial="t0001", baseline=False, overrides={}, config=config, cost={}, planned_epochs=9
    )
    for _ in range(2):  # epochs 1 and 2 are reported
        result = trainable.step()
        ledger.report("t0001", EpochReport(**result["report"]), result["worker"])
    trainable.step()  # epoch 3 is done when the study is already over
    trainable.cleanup()
    left = {path.name for path in (tmp_path / "t0001").iterdir()}
    state = "state-0001.safetensors"
    assert left == {"epoch-0002.safetensors", "epoch-0003.safetensors", state}
    callback = StudyCallback(study, ledger, Shelf(tmp_path), lambda: None, lambda: True)
    callback.end_running()
    ledger.close()
    assert ledger.trials["t0001"].outcome == "interrupted"
    left = {path.name for path in (tmp_path / "t0001").iterdir()}
    assert left == {"model.safetensors", state}  # the trial may be continued
    assert read_weights(tmp_path / "t0001" / "model.safetensors")[1]["epoch"] == "2"


def test_a_worker_is_as_good_as_new_for_its_next_trial(searched: Searched, tmp_path: Path) -> None:
    shared = Shared(
        samples=searched.ref, threads=1, metric=METRIC, goal="maximize", checkpoints_dir=tmp_path
    )
    configs = [
        {
            "name": name,
            "planned_epochs": EPOCHS,
            "until_epoch": EPOCHS,
            "reported": 0,
            "cost": {"epoch_seconds": 1.0},
            "config": trial_config(searched.study, overrides).model_dump(mode="json"),
        }
        for name, overrides in (
            ("t0001", {"model.base_filters": 4, "train.lr": 0.1}),
            ("t0002", {"model.base_filters": 2, "train.lr": 0.05}),
        )
    ]
    reused, fresh = trainable_of(shared, configs[0]), trainable_of(shared, configs[1])
    reused.step()
    assert reused.reset_config(configs[1]) is True
    assert reused.step()["report"]["metrics"] == fresh.step()["report"]["metrics"]


def trainable_of(shared: Shared, config: dict[str, Any]) -> NetworkTrainable:
    """A trainable in this process, without the folder that Ray gives it in the home directory."""
    trainable = object.__new__(sharing(shared))
    trainable.setup(config)
    return trainable
