"""A study becomes a Ray Tune run."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from r2search.config import Study, TrialConfig
from r2search.data.patches import resized_shape
from r2search.data.samples import SampleSet
from r2search.records import CHECKPOINTS
from r2search.scratch import own_scratch
from r2search.storage.stop import StopMark
from r2search.tuning.budget import Plan, Validated, plan_trial
from r2search.tuning.callback import StudyCallback
from r2search.tuning.events import Ledger
from r2search.tuning.optuna_view import OptunaView
from r2search.tuning.resources import Workers
from r2search.tuning.scheduler import build_scheduler, stopping_epochs, take_up
from r2search.tuning.searcher import StudySearcher
from r2search.tuning.shelf import Shelf
from r2search.tuning.slots import Slots
from r2search.tuning.trainable import Shared, sharing

# Read by ray when it starts and when a run starts.
_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the ledger has the reason of every failure
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # data paths stay what they were
    "RAY_DEDUP_LOGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing goes out to the network
    "RAY_preload_python_modules": "r2search.tuning.startup",  # a worker starts sooner
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # trials.jsonl replaces them
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # the last result of a failed trial has none
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # launch decides what a signal means
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # a resumed study reads trials.jsonl, not Ray's snapshot
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}

log = logging.getLogger(__name__)


@contextmanager
def ray_session(samples: SampleSet) -> Iterator[Any]:
    """A Ray to work with: the cluster that RAY_ADDRESS names, else one of our own.

    Yields the reference to the samples, decoded once and shared by all workers of a node.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failed trials are in the ledger
    size = sum(_bytes(sample) for part in (samples.train, samples.val) for sample in part)
    if os.environ.get("RAY_ADDRESS"):
        ray.init(logging_level=logging.ERROR, log_to_driver=False)
    else:
        ray.init(
            address="local",
            include_dashboard=False,
            logging_level=logging.ERROR,
            log_to_driver=False,
            object_store_memory=2 * size + 200 * 2**20,
        )
    try:
        yield ray.put(replace(samples, test=()))  # no trial ever sees the test split
    finally:
        ray.shutdown()


class StudyStopper(tune.Stopper):
    """Ends the search when it is told to: at the deadline, or by a signal.

    Ray waits ten seconds for its workers to end. `mark` tells them to leave the epoch that they are
    in.
    """

    def __init__(self, stopping: Callable[[], bool], mark: StopMark) -> None:
        self._stopping = stopping
        self._mark = mark

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray pickles a run's parts for its own restore, which is never used

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        stopping = self._stopping()
        if stopping:
            self._mark.set()
        return stopping


def search(
    study: Study,
    samples: SampleSet,
    samples_ref: Any,
    slots: Slots,
    run_dir: Path,
    ledger: Ledger,
    refresh: Callable[[], None],
    stopping: Callable[[], bool],
    shelf: Shelf | None = None,
) -> None:
    """Run the trials until the budget is spent or `stopping()`. All that matters is in the ledger.

    A failed trial ends itself alone. `shelf`: where its weights and states lie, if not in the run
    folder.
    """
    shelf = shelf or Shelf(run_dir / CHECKPOINTS)
    train(
        study,
        samples_ref,
        slots,
        run_dir,
        _tune_config(study, samples, slots, run_dir, ledger),
        StudyCallback(study, ledger, shelf, refresh, stopping),
        stopping,
        shelf,
        stopping_epochs(study),
    )


def train(
    study: Study,
    samples_ref: Any,
    slots: Slots,
    run_dir: Path,
    config: tune.TuneConfig,
    callback: StudyCallback,
    stopping: Callable[[], bool],
    shelf: Shelf,
    rungs: frozenset[int] = frozenset(),
) -> None:
    """Train what the searcher of `config` proposes, until it is finished or `stopping()`."""
    mark = StopMark(run_dir, shelf.storage)
    mark.clear()
    callback.take_up()
    try:
        with own_scratch("ray") as storage:
            tune.Tuner(
                _trainable(study, samples_ref, slots.workers, run_dir, mark, shelf, rungs),
                tune_config=config,
                run_config=tune.RunConfig(
                    name="study",
                    storage_path=str(storage),
                    stop=StudyStopper(stopping, mark),
                    callbacks=[callback],
                    # The trainable keeps the best weights itself; Ray would save every trial's end.
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    # Ray tries no trial again: the searcher proposes those that lost their worker.
                    verbose=0,
                ),
            ).fit()
    finally:
        mark.clear()
        callback.end_running()  # at last: without its record it raises


def _trainable(
    study: Study,
    samples_ref: Any,
    workers: Workers,
    run_dir: Path,
    mark: StopMark,
    shelf: Shelf,
    rungs: frozenset[int],
) -> Any:
    shared = Shared(
        samples=samples_ref,
        threads=workers.threads,
        metric=study.metric.name,
        goal=study.metric.goal,
        checkpoints_dir=run_dir / CHECKPOINTS,
        rungs=rungs,
        stop_path=mark.path,
        storage=shelf.storage,
    )

    def resources(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        share = workers.gpus if config["gpu_share"] is None else config["gpu_share"]
        return tune.PlacementGroupFactory([{"CPU": workers.threads, "GPU": share}])

    return tune.with_resources(sharing(shared), resources)


def planner_for(study: Study, samples: SampleSet, slots: Slots) -> Callable[[TrialConfig], Plan]:
    """What any config would cost in this study, on these workers."""

    def plan(config: TrialConfig) -> Plan:
        images = validated(samples, config)
        return plan_trial(
            config, study.search_budget, slots.workers.largest, images, slots.rate, slots.room
        )

    return plan


def _tune_config(
    study: Study, samples: SampleSet, slots: Slots, run_dir: Path, ledger: Ledger
) -> tune.TuneConfig:
    scheduler = build_scheduler(study)
    take_up(study, scheduler, ledger)
    searcher = StudySearcher(
        study,
        planner_for(study, samples, slots),
        ledger,
        OptunaView(study, run_dir),
        gpus=slots.workers.capacity,
        left=lambda: ledger.left(study.search_budget),
    )
    return tune_config(searcher, scheduler, slots)


def tune_config(searcher: Searcher, scheduler: TrialScheduler, slots: Slots) -> tune.TuneConfig:
    """As many trials at a time as there are workers, until the searcher says that it is enough."""

    def name(trial: Any) -> str:  # one for every stretch of a trial between two rungs
        return f"{trial.config['name']}-{trial.config['until_epoch']}"

    return tune.TuneConfig(
        search_alg=searcher,
        scheduler=scheduler,
        num_samples=-1,  # the searcher says when it is finished
        max_concurrent_trials=slots.workers.count,
        reuse_actors=True,
        trial_name_creator=name,
        trial_dirname_creator=name,
    )


def validated(samples: SampleSet, config: TrialConfig) -> Validated:
    """What the network of `config` sees of the validation images."""
    data = config.data
    shapes = [resized_shape(sample.mask.shape, data.resize, data.aspect) for sample in samples.val]
    return Validated(
        pixels=sum(height * width for height, width in shapes),
        edge=max(max(shape) for shape in shapes),
    )


def _bytes(sample: Any) -> int:
    return int(sample.image.nbytes + sample.mask.nbytes + sample.fov.nbytes)
