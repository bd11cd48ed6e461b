"""The Ray actor that trains: one process, reused from trial to trial."""

import gc
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune

from r2search.bundle import save_weights
from r2search.config import TrialConfig
from r2search.data.samples import SampleSet
from r2search.train.hardware import apply, detect
from r2search.train.trainer import Trainer


@dataclass(frozen=True, slots=True)
class Shared:
    """What all trials of a study have in common."""

    samples: Any  # reference to the SampleSet in Ray's object store
    threads: int
    metric: str
    goal: str
    checkpoints_dir: Path


class NetworkTrainable(tune.Trainable):
    """One epoch a step. The weights of the best epoch so far lie in the run folder.

    So do those of the best before it, until the next step: a search that ends in between never
    hears of the newer one.

    A failure raises and ends this trial alone; `reset_config` never returns False, which would
    lose the slot.
    """

    shared: Shared  # filled in by `sharing`
    _trainer: Trainer
    _best: tuple[float, Path] | None  # the objective, larger is better, and the weights

    def setup(self, config: dict[str, Any]) -> None:
        # In the shared memory of the node: read-only arrays, no copy.
        self._samples: SampleSet = ray.get(self.shared.samples)
        self._build(config)

    def step(self) -> dict[str, Any]:
        if self._best is not None:  # asked for another epoch: the report of it has arrived
            _, kept = self._best
            for path in kept.parent.iterdir():
                if path != kept:
                    path.unlink()
        report = self._trainer.run_epoch()
        value = report.metrics[self.shared.metric]
        signed = value if self.shared.goal == "maximize" else -value
        if self._best is None or signed > self._best[0]:
            path = checkpoint_path(self.shared.checkpoints_dir, self._name, report.epoch)
            self._best = signed, path
            path.parent.mkdir(parents=True, exist_ok=True)
            facts = {
                "trial": self._name,
                "epoch": str(report.epoch),
                self.shared.metric: repr(value),
            }
            save_weights(path, self._trainer.weights(), facts)
        return {
            **report.metrics,
            "epoch": report.epoch,
            "report": report.to_dict(),
            "worker": f"{ray.get_runtime_context().get_node_id()[:8]}:{os.getpid()}",
            "done": report.epoch >= self._planned,
        }

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        del self._trainer
        gc.collect()
        self._build(new_config)
        return True

    def _build(self, config: dict[str, Any]) -> None:
        trial = TrialConfig.model_validate(config["config"])
        hardware = detect(trial.train, threads=self.shared.threads)
        apply(hardware)
        self._name: str = config["name"]
        self._planned: int = config["planned_epochs"]
        self._best = None
        self._trainer = Trainer(trial, self._samples, horizon=self._planned, hardware=hardware)


def sharing(shared: Shared) -> type[NetworkTrainable]:
    """The trainable of one study."""
    return type("NetworkTrainable", (NetworkTrainable,), {"shared": shared})


def checkpoint_path(checkpoints_dir: Path, trial: str, epoch: int) -> Path:
    """Where the weights of one epoch lie while the trial runs."""
    return checkpoints_dir / trial / f"epoch-{epoch:04d}.safetensors"
