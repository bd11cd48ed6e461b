"""What earlier studies found out, for a new one to begin with."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from r2search.config import Misuse, Study, TrialConfig
from r2search.records import RECORD, TrialOutcome
from r2search.selection import eligible
from r2search.space import point_of
from r2search.tuning.events import read_events, read_trials

Evidence = Sequence[Mapping[str, Any]]  # trials, as `gather` gives them
PLACE = ("reader", "root", "otherwise", "pool")  # of DataConfig: where the images lie


def gather(
    study: Study, runs: Sequence[str], images: str
) -> tuple[list[dict[str, Any]], list[str]]:
    """The trials of earlier run folders that are points of this study's space, and remarks.

    A trial is {run, trial, overrides, cost, values, finished}: what would be drawn to have its
    settings, all of them, those that do not vary here, too; and the best value after each of its
    epochs.
    Failed ones say nothing. `images`: the fingerprint of this study's.
    Misuse for a folder without a record, for another objective, and when no trial is of this space.
    """
    found, remarks = [], []
    for run in runs:
        first, trials = _read(study, Path(run))
        evidence = [one for trial in trials for one in _evidence(study, run, trial)]
        if not evidence:
            raise Misuse(
                f"--warm-start {run}: none of its {len(trials)} trials is of the space "
                f"{study.name} with the same fixed settings; leave it out"
            )
        others = ", on other images: values are compared as they are"
        remarks.append(
            f"{len(evidence)} of {len(trials)} trials of {run} are evidence"
            f"{'' if first.get('data') == images else others}"
        )
        found += evidence
    return found, remarks


def _read(study: Study, run: Path) -> tuple[dict[str, Any], list[TrialOutcome]]:
    """The first event of a record, and the trials that have a score."""
    record = run / RECORD
    if not record.is_file():
        raise Misuse(f"--warm-start {run}: holds no {RECORD}; name the folder of a study")
    try:
        first, trials = next(read_events(record), {}), eligible(read_trials(record))
    except (ValueError, KeyError) as error:
        raise Misuse(f"--warm-start {run}: its record is damaged ({error}); leave it out") from None
    metric = first.get("metric")
    if not metric or (metric["name"], metric["goal"]) != (study.metric.name, study.metric.goal):
        said = f"{metric['goal']} {metric['name']}" if metric else "no study's"
        raise Misuse(
            f"--warm-start {run}: its objective is {said}, not {study.metric.goal} "
            f"{study.metric.name}; leave it out"
        )
    return first, trials


def _evidence(study: Study, run: str, trial: TrialOutcome) -> Iterator[dict[str, Any]]:
    """The trial, if it is a point of the space."""
    try:
        config = TrialConfig.model_validate(trial.config)
    except ValidationError:
        return  # of another version
    here = {name: getattr(study.fixed.data, name) for name in PLACE}
    config = config.model_copy(update={"data": config.data.model_copy(update=here)})
    overrides = point_of(study, config)
    if overrides is None:
        return
    values = np.array([report.metrics[study.metric.name] for report in trial.reports])
    best = np.maximum if study.metric.goal == "maximize" else np.minimum
    yield {
        "run": Path(run).name,
        "trial": trial.trial,
        "overrides": overrides,
        "cost": trial.cost,
        "values": best.accumulate(values).tolist(),
        "finished": len(trial.reports) >= trial.planned_epochs,
    }
