"""A study of 500 trials, simulated: real searcher, scheduler, record and summary, no training."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from learning_curves import synthetic_curves

from r2search.config import Study
from r2search.data.samples import Sample, SampleSet
from r2search.records import RECORD, TrialOutcome
from r2search.selection import incumbent
from r2search.space import load_study
from r2search.summary import account_time, count_trials, summarize_study
from r2search.tuning.audit import audit
from r2search.tuning.events import Ledger
from r2search.tuning.rungs import describe_search
from r2search.tuning.simulate import Table, as_set
from r2search.tuning.virtual import Clock, VirtualSearch

TRIALS, WORKERS = 500, 8
SPACE = """\
name: big
question: Does a page of 500 trials open quickly?
data: {reader: synthetic_retina}
budget: {time: 10h, trials: 500, max_epochs: 27}
search: {searcher: random, seed: 0}
early_terminate: {type: asha, grace_period: 1, reduction_factor: 3}
parameters:
  data: {parameters: {patch_size: {values: [64, 96, 128]}}}
  model:
    parameters:
      block: {values: [conv, residual, recurrent]}
      recurrence: {min: 1, max: 3, when: {model.block: [recurrent]}}
      depth: {min: 2, max: 5}
      base_filters: {values: [8, 16, 32, 64]}
      dropout: {min: 0.0, max: 0.5}
  train:
    parameters:
      lr: {distribution: log_uniform_values, min: 1.0e-4, max: 6.0e-2}
      class_weights: {distribution: log_uniform_values, min: 1.0, max: 12.0}
baselines:
  B1: {model.block: residual, model.depth: 2, train.lr: 0.001}
"""


def simulate_study(folder: Path) -> tuple[dict[str, Any], list[TrialOutcome]]:
    """The summary and the trials of the study; its record lies in the folder."""
    path = folder / "space.yaml"
    path.write_text(SPACE, encoding="utf-8")
    study, clock = load_study(path), Clock()
    table = Table(study, synthetic_curves(study, TRIALS + 40), WORKERS)
    ledger = Ledger(None, clock)  # each event would be flushed to the disk by itself
    searcher, scheduler = as_set(table, table.study, ledger)
    VirtualSearch(table.study, searcher, scheduler, table.train, ledger, clock, table.workers).run()
    record = "".join(f"{json.dumps(event)}\n" for event in ledger.past)
    (folder / RECORD).write_text(record, encoding="utf-8")
    trials = list(ledger.trials.values())
    return _summary(study, ledger, trials), trials


def _summary(study: Study, ledger: Ledger, trials: list[TrialOutcome]) -> dict[str, Any]:
    wall = ledger.elapsed()
    rng = np.random.default_rng(0)
    scores = sorted(rng.uniform(0.4, 0.9, 60).tolist(), reverse=True)
    facts = {
        "status": "completed",
        "command": "r2search tune --space big.yaml",
        "trials": count_trials(trials, ledger.refused),
        "time": account_time(trials, wall, wall, study.budget.time, WORKERS * wall),
        "search": describe_search(study),
        "audit": audit(study, trials),
        "images": {
            "metric": "dice_mean",
            "scores": [{"id": f"{i:03}", "value": value} for i, value in enumerate(scores)],
            "shown": [],
        },
    }
    best = incumbent(trials, study.metric.name, study.metric.goal)
    return summarize_study(study, _samples(), trials, best, facts)


def _samples() -> SampleSet:
    """Nearly nothing: no network sees it."""

    def sample(name: str) -> Sample:
        mask = np.eye(4, dtype=np.uint8)
        image = np.zeros((4, 4, 3), np.uint8)
        fov = np.ones((4, 4), bool)
        return Sample(image=image, mask=mask, fov=fov, subject=name, id=name)

    return SampleSet(
        reader="made_up",
        synthetic=True,
        train=(sample("a"),),
        val=(sample("b"),),
        test=(sample("c"),),
        fingerprint="0" * 64,
        split="by_subject",
    )
