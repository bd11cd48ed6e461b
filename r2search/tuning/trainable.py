"""The Ray actor that trains: one process, reused from trial to trial."""

import faulthandler
import gc
import hashlib
import logging
import os
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from r2search.config import TrialConfig
from r2search.data.folds import OWN, Fold, folded
from r2search.data.samples import SampleSet
from r2search.records import CHECKPOINTS, MOST_SAID, EpochReport, Outcome
from r2search.scratch import shared_scratch
from r2search.storage import Storage, StorageError
from r2search.storage.stop import watch_stop
from r2search.storage.twin import Twin
from r2search.train.hardware import apply, detect, return_freed_memory
from r2search.train.micro_batches import halved, is_out_of_memory
from r2search.train.trainer import Trainer
from r2search.tuning.checkpoints import EVERY_S, Best, TrialCheckpoints
from r2search.tuning.memory_guard import MemoryGuard
from r2search.tuning.predictions import keep_prediction

LOOK_S = 0.5  # between looks whether the study ends
HUNG_S = 300.0  # without a training step a worker is taken for hung,
HUNG_EPOCHS = 10  # or, where that is longer, for so many predicted epochs,
COMPILE_S = 1800.0  # and for so much longer where steps are compiled

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shared:
    """What all trials of a study have in common."""

    samples: Any  # reference to the SampleSet in Ray's object store
    threads: int
    metric: str
    goal: str
    checkpoints_dir: Path
    rungs: frozenset[int] = frozenset()  # epochs after which Ray's scheduler may stop a trial
    stop_path: Path | None = None  # a file that is there when the study ends
    storage: Storage | None = None  # takes the place of both on a cluster without shared folders
    save_every_s: float = EVERY_S
    hung_s: float = HUNG_S


class StudyEnds(Exception):
    """The study ends in the middle of an epoch."""


class NetworkTrainable(tune.Trainable):
    """One epoch a step, from the last checkpoint of the trial if there is one.

    Nothing that goes wrong with a config is raised: `step` tells it as the trial's end, with
    `outcome` and `reason`. So Ray retries no config that failed, and the worker goes on with the
    next one. What ends the process itself (a signal, the kernel's memory killer, a GPU that no
    longer answers) Ray sees, and it starts the trial again in another worker. A process that hangs
    ends itself.
    """

    shared: Shared  # filled in by `sharing`
    _trainer: Trainer | None
    _checkpoints: TrialCheckpoints
    _reports: list[dict[str, Any]]  # of all epochs of the trial
    _unheard: list[dict[str, Any]]  # those of a state that the driver may not have

    def setup(self, config: dict[str, Any]) -> None:
        self._left = time.perf_counter()  # when the last step of the trial before ended
        self._guard = MemoryGuard()
        # In the shared memory of the node: read-only arrays, no copy.
        self._samples: SampleSet = ray.get(self.shared.samples)
        self._stop_path = self.shared.stop_path
        if self.shared.storage is not None:
            scratch = shared_scratch(scratch_name(self.shared.storage))
            self._stop_path = scratch / f".stop-{os.getpid()}"
            watch_stop(self.shared.storage, self._stop_path)
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._end()
        self._begin(new_config)
        return True

    def cleanup(self) -> None:
        """The study ends, perhaps in the middle of this trial: what can go on is saved."""
        if self._trainer is not None:
            self._checkpoints.save(self._trainer.state(), self._reports)
        self._end()

    def step(self) -> dict[str, Any]:
        self._checkpoints.confirm()  # asked for another epoch: the report of the last one arrived
        self._watch()
        try:
            with self._guard.step():
                result = self._result(self._next_epoch())
        except StudyEnds:
            result = _ending("interrupted", "the study ended")
        except StorageError as error:  # no fault of the config
            result = _ending("interrupted", str(error))
        except Exception as error:
            if isinstance(error, torch.AcceleratorError) and not is_out_of_memory(error):
                log.exception("the GPU failed")
                os._exit(1)  # it fails for every later trial of this process too
            log.exception("%s failed", self._name)
            outcome: Outcome = "infeasible" if is_out_of_memory(error) else "failed"
            said = " ".join(str(error).split())[:MOST_SAID]
            result = _ending(outcome, f"{type(error).__name__}: {said}")
        finally:
            faulthandler.cancel_dump_traceback_later()
        notes = self._notes()
        if result["done"] and result.get("outcome") != "interrupted":
            self._trainer = None
            self._checkpoints.forget()
        self._left = time.perf_counter()
        worker = f"{ray.get_runtime_context().get_node_id()[:8]}:{os.getpid()}"
        return result | {"worker": worker, "notes": notes}

    def _result(self, report: EpochReport) -> dict[str, Any]:
        done = report.epoch >= self._until
        return {**report.metrics, "epoch": report.epoch, "report": report.to_dict(), "done": done}

    def _begin(self, config: dict[str, Any]) -> None:
        """Take up a trial. Its network is built by its first step, which tells what goes wrong."""
        self._config = config
        self._name: str = config["name"]
        self._planned: int = config["planned_epochs"]
        self._until: int = config["until_epoch"]  # it waits there, or is done
        self._fold: Fold = tuple(config.get("fold", OWN))
        self._trainer = None
        self._reports, self._unheard = [], []
        self._setup: dict[str, float] = {}
        self._saving = 0.0  # seconds of this epoch
        self._look = 0.0
        folder, twin = self.shared.checkpoints_dir / self._name, None
        if self.shared.storage is not None:
            folder = shared_scratch(scratch_name(self.shared.storage)) / self._name
            twin = Twin(folder, self.shared.storage, f"{CHECKPOINTS}/{self._name}")
        self._checkpoints = TrialCheckpoints(
            folder,
            {"config": config["config"], "planned_epochs": self._planned},
            self.shared.metric,
            self.shared.save_every_s,
            twin,
        )

    def _end(self) -> None:
        """Write what is not yet on disk; then nothing of the trial stays in memory."""
        self._checkpoints.save_best()
        self._checkpoints.close()
        self._trainer = None
        return_freed_memory()
        gc.freeze()  # modules, by the hundred thousand: not looked through at every switch

    def _next_epoch(self) -> EpochReport:
        """Train an epoch and keep it if it is the best; or repeat what the driver has not heard."""
        if self._trainer is None:
            saved = self._checkpoints.load()
            self._trainer = self._build()
            gc.enable()  # `startup` has it off: all is imported now
            if saved is not None:
                self._trainer.restore(saved.training)
                self._reports = saved.reports
                known = self._config["reported"]
                self._unheard = [report for report in saved.reports if report["epoch"] > known]
            self._setup = {"setup": time.perf_counter() - self._left}
        if self._unheard:
            return EpochReport(**self._unheard.pop(0))
        report = self._trainer.run_epoch(self._tick)
        report = replace(report, seconds=report.seconds | self._setup)
        began = time.perf_counter()
        self._keep(self._trainer, report)
        seconds = self._saving + time.perf_counter() - began
        self._setup, self._saving = {}, 0.0
        return replace(report, seconds=report.seconds | {"checkpoint": seconds})

    def _build(self) -> Trainer:
        """A trainer; where memory runs out, again with less of it to be used."""
        trial = TrialConfig.model_validate(self._config["config"])
        hardware = detect(trial.train, threads=self.shared.threads)
        apply(hardware)
        micro_batch = self._config.get("micro_batch")
        samples = folded(self._samples, self._fold)
        make = partial(Trainer, trial, samples, horizon=self._planned, hardware=hardware)
        try:
            return make(micro_batch=micro_batch)
        except (MemoryError, RuntimeError) as error:
            size = halved(micro_batch, trial)
            if not (is_out_of_memory(error) and size):
                raise
        return_freed_memory()
        self._checkpoints.problems.append(f"out of memory; begins with micro-batches of {size}")
        return make(micro_batch=size, may_halve=False)

    def _tick(self) -> None:
        """Between two steps: save what is due, and leave when the study ends."""
        now = time.monotonic()
        if now < self._look or self._trainer is None:
            return
        self._look = now + LOOK_S
        self._watch()
        if self._stop_path and self._stop_path.exists():
            raise StudyEnds
        if self._checkpoints.due():
            began = time.perf_counter()
            self._checkpoints.save(self._trainer.state(), self._reports)
            self._saving += time.perf_counter() - began

    def _watch(self) -> None:
        """From now on: where no step follows in time, say where it hangs and end the process.

        Even a call that never gives Python back its lock cannot keep it from that.
        """
        limit = max(self.shared.hung_s, HUNG_EPOCHS * self._config["cost"]["epoch_seconds"])
        limit += COMPILE_S if self._config["config"]["train"].get("compile") else 0.0
        faulthandler.dump_traceback_later(limit, exit=True, file=2)

    def _keep(self, trainer: Trainer, report: EpochReport) -> None:
        """Copy the weights of a best epoch; write what the driver may want when it hears of it."""
        self._reports.append(report.to_dict())
        value, best = report.metrics[self.shared.metric], self._checkpoints.best
        sign = 1 if self.shared.goal == "maximize" else -1
        if best is None or sign * value > sign * best.value:
            self._checkpoints.keep(Best(report.epoch, value, trainer.weights()))
        if report.epoch >= self._planned:
            self._checkpoints.save_best()
            self._checkpoints.flush()
        elif report.epoch >= self._until or report.epoch in self.shared.rungs:
            self._checkpoints.save(trainer.state(), self._reports)
            self._checkpoints.flush()
        else:
            return
        if self._fold[0] or trainer.first_mask is None:
            return  # it was trained on the image that is shown, or there is none
        run_dir = self.shared.checkpoints_dir.parent
        try:
            keep_prediction(run_dir, self._name, report.epoch, trainer.first_mask)
        except OSError as error:  # the disk is full, perhaps; no fault of the config
            self._checkpoints.problems.append(f"its sample prediction is not written: {error}")

    def _notes(self) -> list[str]:
        """What is to be told of this trial, once."""
        sources = [self._checkpoints.problems] + ([self._trainer.notes] if self._trainer else [])
        notes = [note for source in sources for note in source]
        for source in sources:
            source.clear()
        return notes


def _ending(outcome: Outcome, reason: str) -> dict[str, Any]:
    """The last result of a trial that has no further report."""
    return {"outcome": outcome, "reason": reason, "done": True}


def scratch_name(storage: Storage) -> str:
    """Of the scratch folder in which the workers of a machine keep what they send to a store."""
    return hashlib.sha256(f"{storage.endpoint} {storage.url}".encode()).hexdigest()[:16]


def sharing(shared: Shared) -> type[NetworkTrainable]:
    """The trainable of one study."""
    return type("NetworkTrainable", (NetworkTrainable,), {"shared": shared})
