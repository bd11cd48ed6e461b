"""TensorBoard and MLflow, by Ray's own callbacks, fed from the record of a study.

Ray Tune itself does not feed them: a trial that waits at rungs is several trials to it, and what a
callback waits for, the search would wait for. What they hold of a study is begun anew whenever it
is followed anew, as by `--resume`; so it is always of the whole record.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from r2search.records import EpochReport, TrialOutcome
from r2search.tuning.trackers.account import hide


@dataclass(eq=False, slots=True)
class RayTrial:
    """A trial as Ray's callbacks read one."""

    name: str
    local_path: str
    config: dict[str, Any]  # what was drawn, and at last how it ended
    told: int = 0  # reports
    ended: str | None = None  # its outcome, when that is told

    @property
    def evaluated_params(self) -> dict[str, Any]:
        return self.config

    def init_local_path(self) -> None:
        os.makedirs(self.local_path, exist_ok=True)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Tracker:
    """One of Ray's callbacks, and what it needs."""

    title: str
    module: str  # that must be installed
    extra: str  # of ours, which installs it
    # Forget what there is of the study that has this name, in this run folder; its callback.
    open: Callable[[Path, str], Any]


def open_tensorboard(run_dir: Path, group: str) -> Any:
    from ray.tune.logger import TBXLoggerCallback
    from tensorboardX import event_file_writer

    # It names files by the machine, and a run folder may go to others.
    event_file_writer.socket = SimpleNamespace(gethostname=lambda: "r2search")
    shutil.rmtree(run_dir / TENSORBOARD, ignore_errors=True)
    (run_dir / TENSORBOARD).mkdir()
    return TBXLoggerCallback()  # type: ignore[no-untyped-call]


def open_mlflow(run_dir: Path, group: str) -> Any:
    """Of an experiment with the study's name, in the run folder or where MLflow's own variable
    MLFLOW_TRACKING_URI says.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # we try again, and say so
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)  # it would go before the name
    from mlflow.tracking import MlflowClient
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    where = os.environ.get(MLFLOW_URI) or f"sqlite:///{run_dir.resolve() / 'mlflow.db'}"
    client = MlflowClient(where)
    if known := client.get_experiment_by_name(group):
        for run in client.search_runs([known.experiment_id]):
            client.delete_run(run.info.run_id)
    callback = MLflowLoggerCallback(where, experiment_name=group, log_params_on_trial_end=True)
    callback.setup()  # type: ignore[no-untyped-call]
    return callback


TENSORBOARD = "tensorboard"  # folder of a run
MLFLOW_URI = "MLFLOW_TRACKING_URI"
TRACKERS: dict[str, Tracker] = {
    "tensorboard": Tracker("TensorBoard", "tensorboardX", "search", open_tensorboard),
    "mlflow": Tracker("MLflow", "mlflow", "mlflow", open_mlflow),
}


@dataclass(slots=True)
class LoggerMirror:
    """A study as one of Ray's callbacks shows it; in the place of a `Mirror` of W&B."""

    tracker: Tracker
    run_dir: Path
    group: str
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    sweep_path: str = ""
    _callback: Any = None
    _trials: dict[str, RayTrial] = field(default_factory=dict)

    def look(self) -> None:
        self._callback = self.tracker.open(self.run_dir, self.group)

    def missing(self, trials: Iterable[TrialOutcome]) -> list[str]:
        """The trials of which it does not have all."""
        return [trial.trial for trial in trials if not self._has(trial)]

    def bring(self, trial: TrialOutcome) -> None:
        """Tell what is new of a trial."""
        if self._has(trial):
            return
        seen = self._trials.get(trial.trial) or self._begin(trial)
        for report, at in list(zip(trial.reports, trial.report_times, strict=True))[seen.told :]:
            self._callback.log_trial_result(report.epoch, seen, _result(report, at))
            seen.told += 1
        if trial.outcome is not None:
            seen.config |= {"outcome": trial.outcome, "reason": trial.reason}
            self._callback.log_trial_end(seen, failed=trial.failed)
            seen.ended = trial.outcome

    def bring_summary(self, trials: list[TrialOutcome], record_bytes: int) -> None:
        """They have no place for one."""

    def forget(self) -> None:
        """After an error: all is told again."""
        self._trials.clear()

    def close(self) -> None:
        """Of trials that have not ended, what is told is written."""
        for seen in self._trials.values():
            if seen.ended is None:
                self._callback.log_trial_end(seen, failed=False)

    def explain(self, said: str) -> str:
        """What an error says, without the address of a server."""
        return hide(said, self.environment.get(MLFLOW_URI, ""))

    def _has(self, trial: TrialOutcome) -> bool:
        seen = self._trials.get(trial.trial)
        return bool(seen and (seen.told, seen.ended) == (len(trial.reports), trial.outcome))

    def _begin(self, trial: TrialOutcome) -> RayTrial:
        drawn = {"baseline": trial.baseline, **trial.overrides}
        seen = RayTrial(trial.trial, str(self.run_dir / TENSORBOARD / trial.trial), drawn)
        self._callback.log_trial_start(seen)
        self._trials[trial.trial] = seen
        return seen


def _result(report: EpochReport, at: float) -> dict[str, Any]:
    """A report as Ray's trainables make one; an epoch is an iteration."""
    return {"training_iteration": report.epoch, **report.metrics, "time_s": at}
