"""The Ray actor that trains: one process, reused from trial to trial."""

import gc
import os
from pathlib import Path
from typing import Any

from ray import tune

from r2search.bundle import save_weights
from r2search.config import TrialConfig
from r2search.data.samples import SampleSet
from r2search.train.hardware import apply, detect
from r2search.train.trainer import Trainer


class NetworkTrainable(tune.Trainable):  # type: ignore[misc]  # ray has no types
    """One epoch a step. The weights of the best epoch so far lie in the run folder.

    A failure raises and ends this trial alone; `reset_config` never returns False, which would
    lose the slot.
    """

    def setup(
        self,
        config: dict[str, Any],
        samples: SampleSet,
        threads: int,
        metric: tuple[str, str],
        checkpoints_dir: Path,
    ) -> None:
        self._samples = samples  # shared memory of the node: read-only arrays, no copy
        self._threads = threads
        self._metric, self._goal = metric
        self._checkpoints_dir = checkpoints_dir
        self._build(config)

    def step(self) -> dict[str, Any]:
        report = self._trainer.run_epoch()
        value = report.metrics[self._metric]
        signed = value if self._goal == "maximize" else -value
        if self._best is None or signed > self._best:
            self._best = signed
            path = checkpoint_path(self._checkpoints_dir, self._name)
            path.parent.mkdir(parents=True, exist_ok=True)
            facts = {"trial": self._name, "epoch": str(report.epoch), self._metric: repr(value)}
            save_weights(path, self._trainer.weights(), facts)
        return {
            **report.metrics,
            "epoch": report.epoch,
            "report": report.to_dict(),
            "worker": f"{os.uname().nodename}:{os.getpid()}",
            "done": report.epoch >= self._planned,
        }

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        del self._trainer
        gc.collect()
        self._build(new_config)
        return True

    def _build(self, config: dict[str, Any]) -> None:
        trial = TrialConfig.model_validate(config["config"])
        hardware = detect(trial.train, threads=self._threads)
        apply(hardware)
        self._name: str = config["name"]
        self._planned: int = config["planned_epochs"]
        self._best: float | None = None
        self._trainer = Trainer(trial, self._samples, horizon=self._planned, hardware=hardware)


def checkpoint_path(checkpoints_dir: Path, trial: str) -> Path:
    """Where the best weights of a trial lie."""
    return checkpoints_dir / trial / "model.safetensors"
