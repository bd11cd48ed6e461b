"""What Weights & Biases is to hold of a study, by its settings and its record alone. Pure."""

import hashlib
import time
from dataclasses import dataclass
from typing import Any

from r2search.config import Parameter, Study
from r2search.records import TrialOutcome

# What W&B compares to see whether a run is up to date: rows of its history, outcome and reason.
Mark = tuple[int, str, str]
RUNNING = "running"
PREDICTION = "prediction"  # key of the images in a run's history
SUMMARY = "search-summary"  # job type of the run of the study itself


@dataclass(frozen=True, kw_only=True, slots=True)
class RunView:
    """One run as W&B is to show it."""

    id: str
    name: str
    job_type: str
    config: dict[str, Any]  # nested, as the TrialConfig is
    rows: list[dict[str, float]]  # one an epoch; no two of one epoch
    ended: bool
    failed: bool
    outcome: dict[str, Any]  # for its config and its summary: W&B knows no such states
    best: dict[str, Any]  # for its summary

    @property
    def mark(self) -> Mark:
        return len(self.rows), self.outcome["outcome"], self.outcome["reason"]


def group_of(event: dict[str, Any]) -> str:
    """The name of the study at W&B, from the first event of its record.

    The same wherever the run folder lies and whatever it is called; of two studies never the same.
    """
    began = event["unix_time"]
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(began))
    mark = hashlib.sha256(f"{event['name']} {began!r} {event['data']}".encode()).hexdigest()[:6]
    return f"{event['name']}-{stamp}-{mark}"


def view_run(study: Study, group: str, trial: TrialOutcome) -> RunView:
    """What W&B is to show of a trial.

    One that waits at a rung is stopped there until it goes on: most never do.
    """
    outcome, reason = trial.outcome or RUNNING, trial.reason
    if trial.outcome is None and trial.waiting:
        outcome, reason = "stopped", waited(study, trial)
    best = trial.best(study.metric.name, study.metric.goal)
    epochs = trial.reports[-1].epoch if trial.reports else 0
    return RunView(
        id=f"{group}-{trial.trial}",
        name=trial.trial,
        job_type="baseline" if trial.baseline else "trial",
        config=trial.config | {"cost": trial.cost, "planned_epochs": trial.planned_epochs},
        rows=[
            {"epoch": report.epoch, **report.metrics, "time_s": at}
            | {f"seconds/{name}": value for name, value in report.seconds.items()}
            for report, at in zip(trial.reports, trial.report_times, strict=True)
        ],
        ended=outcome != RUNNING,
        failed=trial.failed,
        outcome={
            "outcome": outcome,
            "stopped_at_epoch": epochs if outcome == "stopped" else None,
            "reason": reason,
        },
        best={
            "best/epoch": best.epoch,
            f"best/{study.metric.name}": best.metrics[study.metric.name],
        }
        if best
        else {},
    )


def waited(study: Study, trial: TrialOutcome) -> str:
    """Why a trial that waits at a rung is stopped, if it never goes on."""
    return f"by {study.early_terminate.type}: waited at epoch {trial.reports[-1].epoch}"


def sweep_config(study: Study, group: str) -> dict[str, Any]:
    """The space of the study in the words of a W&B sweep file.

    No agent serves the sweep, so `method` is one that W&B is sure to know; `when` and the
    scheduler have no words there.
    """
    parameters: dict[str, Any] = {}
    for parameter in study.parameters:
        section, _, name = parameter.key.partition(".")
        nested = parameters.setdefault(section, {"parameters": {}})
        nested["parameters"][name] = _entry(parameter)
    return {
        "name": group,
        "description": study.question,
        "method": "random",
        "metric": {"name": study.metric.name, "goal": study.metric.goal},
        "parameters": parameters,
    }


def _entry(p: Parameter) -> dict[str, Any]:
    if p.kind == "choice":
        values = p.model_dump(mode="json")["values"]
        if p.probabilities is None:
            return {"values": values}
        weighed = {"values": values, "probabilities": list(p.probabilities)}
        return {"distribution": "categorical_w_probabilities", **weighed}
    number = int if p.kind == "int" else float
    ends = {"min": number(p.low), "max": number(p.high)}
    step = p.step if p.step is not None else 1 if p.kind == "int" and p.log else None
    if step is not None:
        kind = "q_log_uniform_values" if p.log else "q_uniform"
        return {"distribution": kind, **ends, "q": number(step)}
    kind = "log_uniform_values" if p.log else "int_uniform" if p.kind == "int" else "uniform"
    return {"distribution": kind, **ends}


def table(study: Study, trials: list[TrialOutcome]) -> tuple[list[str], list[list[Any]]]:
    """All trials, one a row, in the order in which they began: columns, and rows."""
    drawn = list(dict.fromkeys(key for trial in trials for key in trial.overrides))
    facts = ["trial", "baseline", "outcome", "reason", "epochs", "planned_epochs"]
    columns = [*facts, "best_epoch", study.metric.name, "parameters", *drawn]
    rows: list[list[Any]] = []
    for trial in trials:
        best = trial.best(study.metric.name, study.metric.goal)
        score = (best.epoch, best.metrics[study.metric.name]) if best else (None, None)
        told = [trial.trial, trial.baseline, trial.outcome or RUNNING, trial.reason]
        told += [len(trial.reports), trial.planned_epochs, *score, trial.cost.get("parameters")]
        rows.append([*told, *(_plain(trial.overrides.get(key)) for key in drawn)])
    return columns, rows


def _plain(value: Any) -> str | None:
    """A cell: columns of W&B have one type, and settings may be a number or a list of them."""
    return None if value is None else str(value)
