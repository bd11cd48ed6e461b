"""Searches through a real Ray whose space holds what a worker cannot: in memory, on one GPU."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import ray
from rich.console import Console

from r2search.config import Baseline, Study
from r2search.data.samples import SampleSet
from r2search.models.cost import Rate
from r2search.models.memory import trial_memory
from r2search.records import TrialOutcome
from r2search.space import trial_config
from r2search.study import run_study
from r2search.tuning.engine import search
from r2search.tuning.events import Ledger, read_events, read_trials
from r2search.tuning.resources import GPU_PROCESS_MEMORY, SHARES, Room, Workers
from r2search.tuning.slots import Slots

MakeStudy = Callable[..., Study]
SPACE = """\
name: limits
data: {reader: synthetic_retina}
budget: {time: 600s, trials: 6, max_epochs: 2}
search: {searcher: random, seed: 1}
resources: {workers: 1}
early_terminate: {type: none}
parameters:
  data:
    parameters:
      patch_size: {value: 16}
      augmentation: {value: none}
  model:
    parameters:
      block: {value: conv}
      depth: {value: 2}
      base_filters: {values: [2, 96]}
      norm: {value: group}
  train:
    parameters:
      lr: {min: 0.001, max: 0.01}
      batch_size: {value: 4}
      epoch_pixels: {value: 2048}
      dtype: {value: float32}
  inference:
    parameters:
      tile: {value: 64}
      overlap: {value: 0}
"""
SMALL, LARGE = ({"model.base_filters": filters} for filters in (2, 96))


def needs(study: Study, overrides: dict[str, Any]) -> int:
    return trial_memory(trial_config(study, overrides), "float32", 4)


@pytest.fixture
def study(make_study: MakeStudy) -> Study:
    return make_study(space=SPACE)


def test_a_study_starts_nothing_that_memory_cannot_hold_and_says_how_many(
    make_study: MakeStudy, study: Study, tmp_path: Path
) -> None:
    limit = 2 * needs(study, SMALL)
    assert limit < needs(study, LARGE) / 2
    limited = make_study({"resources.memory": limit}, SPACE)
    summary = run_study(
        limited, tmp_path / "run", tracking="disabled", console=Console(file=io.StringIO())
    )
    assert summary["status"] == "completed"
    trials = read_trials(tmp_path / "run" / "trials.jsonl")
    assert len(trials) == limited.budget.trials
    assert {trial.outcome for trial in trials} == {"completed"}
    assert {trial.overrides["model.base_filters"] for trial in trials} == {2}
    refused = [
        event
        for event in read_events(tmp_path / "run" / "trials.jsonl")
        if event["event"] == "infeasible"
    ]
    assert {event["overrides"]["model.base_filters"] for event in refused} == {96}
    assert {event["cause"] for event in refused} == {"too_large"}
    assert all("over the limit of" in event["reason"] for event in refused)
    counts = json.loads((tmp_path / "run" / "summary.json").read_text())["trials"]
    assert counts["infeasible"] == len(refused) > 0  # by the seed
    assert counts["too_large"] == len(refused)
    report = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert f"{len(refused)} drawn configs were infeasible: {len(refused)} too large" in report


@pytest.fixture
def samples_on_a_gpu(noise: SampleSet) -> Any:
    """The samples in a Ray that believes to have a GPU; what runs there finds none."""
    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=1,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 2**20,
    )
    yield ray.put(replace(noise, test=()))
    ray.shutdown()


def test_small_networks_share_a_gpu_and_a_large_one_has_it_for_itself(
    study: Study, noise: SampleSet, samples_on_a_gpu: Any, tmp_path: Path
) -> None:
    order = {"small": SMALL, "smaller": SMALL, "large": LARGE}
    study = study.model_copy(
        update={
            "baselines": {name: Baseline(overrides=order[name]) for name in order},
            "budget": study.budget.model_copy(update={"trials": 1, "max_epochs": 8}),
        }
    )
    gpu_memory = GPU_PROCESS_MEMORY + 1.2 * needs(study, LARGE)
    assert gpu_memory / 2 > GPU_PROCESS_MEMORY + needs(study, SMALL)  # two of them fit, one large
    workers = Workers(count=2, threads=1, gpus=1.0, shares=SHARES, capacity=1.0)
    slots = Slots(workers, Rate(1e12, 1e12), Room(gpu_memory=gpu_memory, shares=SHARES))
    (tmp_path / "checkpoints").mkdir()
    ledger = Ledger(tmp_path / "trials.jsonl")
    search(study, noise, samples_on_a_gpu, slots, tmp_path, ledger, lambda: None, lambda: False)
    ledger.close()
    trials = {trial.trial: trial for trial in read_trials(tmp_path / "trials.jsonl")}
    assert {trial.outcome for trial in trials.values()} == {"completed"}
    pairs = {frozenset(pair) for pair in combinations(trials, 2) if overlap(trials, *pair)}
    large = {name for name, trial in trials.items() if trial.overrides.items() >= LARGE.items()}
    assert "large" in large
    assert pairs  # of small ones
    assert not [pair for pair in pairs if pair & large]


def overlap(trials: dict[str, TrialOutcome], one: str, other: str) -> bool:
    """Whether two trials trained at the same time."""
    ends = [trials[one].ended, trials[other].ended]
    assert None not in ends
    return trials[one].started < ends[1] and trials[other].started < ends[0]
