"""Weights & Biases: one run a trial, in one group. The search only enqueues.

A thread of ours owns the SDK, so that a slow or dead server costs the search nothing. Offline is
the default: the runs lie in the run folder and `wandb sync` uploads them later.
"""

import logging
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from r2search.config import Study
from r2search.records import EpochReport, TrialOutcome

CLOSE_TIMEOUT = 60.0  # seconds that a study waits at its end for the tracker

log = logging.getLogger(__name__)


class WandbTracker:
    """Implements `Tracker` by the wandb SDK."""

    def __init__(self, study: Study, run_dir: Path, mode: Literal["offline", "online"]) -> None:
        self._study = study
        self._dir = run_dir.resolve() / "wandb"
        self._dir.mkdir(parents=True, exist_ok=True)
        self._group = run_dir.resolve().name
        self._mode = mode
        self._runs: dict[str, Any] = {}  # touched by the thread alone
        self._used = False
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)
        self._thread.start()
        self.failures = 0  # calls of the SDK that raised; read after close

    def start(self, trial: TrialOutcome) -> None:
        self._jobs.put(lambda: self._start(trial))

    def report(self, trial: str, report: EpochReport) -> None:
        self._jobs.put(lambda: self._report(trial, report))

    def end(self, trial: TrialOutcome) -> None:
        self._jobs.put(lambda: self._end(trial))

    def close(self) -> None:
        self._jobs.put(None)
        self._thread.join(CLOSE_TIMEOUT)
        if self._thread.is_alive():
            log.warning("wandb did not finish in %.0f s; the study goes on", CLOSE_TIMEOUT)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception as error:
                self.failures += 1
                log.warning("wandb: %s; the search goes on", str(error).splitlines()[0])
        self._teardown()

    def _start(self, trial: TrialOutcome) -> None:
        wandb = _import_wandb(self._dir)
        self._used = True
        run = wandb.init(
            id=f"{self._group}-{trial.trial}",
            name=trial.trial,
            project="r2search",
            group=self._group,
            job_type="baseline" if trial.baseline else "trial",
            config=trial.config,
            mode=self._mode,
            dir=str(self._dir.parent),
            reinit="create_new",
            resume="allow",
            settings=wandb.Settings(
                console="off",
                silent=True,
                x_disable_stats=True,
                x_disable_meta=True,
                finish_timeout=30,
            ),
        )
        run.define_metric("*", step_metric="epoch")
        self._runs[trial.trial] = run

    def _report(self, trial: str, report: EpochReport) -> None:
        if trial in self._runs:
            self._runs[trial].log({"epoch": report.epoch, **report.metrics})

    def _end(self, trial: TrialOutcome) -> None:
        run = self._runs.pop(trial.trial, None)
        if run is None:
            return
        best = trial.best(self._study.metric.name, self._study.metric.goal)
        run.summary["outcome"] = trial.outcome  # W&B itself knows only finished and failed
        run.summary["reason"] = trial.reason
        if best is not None:
            run.summary[f"best/{self._study.metric.name}"] = best.metrics[self._study.metric.name]
            run.summary["best/epoch"] = best.epoch
        run.finish(exit_code=int(trial.outcome == "failed"))

    def _teardown(self) -> None:
        try:
            for run in self._runs.values():
                run.finish(exit_code=1)
            if self._used:
                _import_wandb(self._dir).teardown()
        except Exception as error:
            log.warning("wandb: %s", str(error).splitlines()[0])


def _import_wandb(directory: Path) -> Any:
    """wandb, told before its import to keep everything inside the run folder."""
    for name in ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
        os.environ[name] = str(directory.parent if name == "WANDB_DIR" else directory)
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    return wandb
