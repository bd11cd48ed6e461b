"""A small study and small images, for tests of the search."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from r2search.config import Study
from r2search.data.samples import Sample, SampleSet, rng_for
from r2search.models.cost import Rate
from r2search.records import EpochReport
from r2search.space import draw, load_study, suggest_randomly, trial_config
from r2search.tuning.curves import Curve, Failure, Recording
from r2search.tuning.events import Ledger

SPACE = """\
name: tiny
data: {reader: synthetic_retina}
metric: {name: val/dice_mean, goal: maximize}
budget: {time: 600s, trials: 30, max_epochs: 4}
early_terminate: {type: ray_asha, grace_period: 1, reduction_factor: 2}
parameters:
  model:
    parameters:
      block: {values: [conv, recurrent]}
      recurrence: {min: 1, max: 3, when: {model.block: [recurrent]}}
      depth: {min: 1, max: 4}
      base_filters: {values: [4, 8], probabilities: [0.9, 0.1]}
      dropout: {min: 0.0, max: 0.3, q: 0.1}
  train:
    parameters:
      lr: {distribution: log_uniform_values, min: 1.0e-4, max: 1.0e-1}
      class_weights: {values: [1.0, [1.0, 3.0]]}
baselines:
  outside: {model.block: conv, model.base_filters: 16}
  inside: {model.block: conv, model.depth: 2, model.base_filters: 8, train.lr: 0.01}
"""

MakeStudy = Callable[..., Study]


@pytest.fixture(scope="session")
def make_study(tmp_path_factory: pytest.TempPathFactory) -> MakeStudy:
    """A study read from a space file; settings by dotted key over it."""

    def make(assignments: dict[str, Any] | None = None, space: str = SPACE) -> Study:
        path = tmp_path_factory.mktemp("space") / "tiny.yaml"
        path.write_text(space, encoding="utf-8")
        return load_study(path, assignments)

    return make


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "trials.jsonl")
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def noise() -> SampleSet:
    """Random images of 64 x 64 in which what is bright is foreground."""
    rng = np.random.default_rng(0)

    def sample(name: str) -> Sample:
        image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        mask = (image[:, :, 0] > 128).astype(np.uint8)
        return Sample(image=image, mask=mask, fov=np.ones((64, 64), bool), subject=name, id=name)

    train, val, test = (tuple(map(sample, names)) for names in ("abc", "d", "ef"))
    return SampleSet(
        reader="noise",
        synthetic=True,
        train=train,
        val=val,
        test=test,
        fingerprint="0",
        split="by_subject",
    )


def synthetic_curves(study: Study, count: int, seed: int = 0) -> Recording:
    """Learning curves that saturate, cross and shiver, of random configs and the baselines.

    A deep network learns more slowly and in the end more; at a learning rate far from 0.01 little
    is learned, and above 0.05 the third epoch breaks.
    """
    drawn = [draw(study, suggest_randomly(rng_for(seed, "config", n))) for n in range(count)]
    named = {name: baseline.overrides for name, baseline in study.baselines.items()}
    configs = named | {f"c{n:04d}": overrides for n, overrides in enumerate(drawn, start=1)}
    return Recording(
        space=study.name,
        metric=study.metric.name,
        goal=study.metric.goal,
        settings={"budget.max_epochs": study.budget.max_epochs},
        rate=Rate(1e15, 1e15),
        epoch_limit=60.0,
        validation_pixels=10_000,
        curves=tuple(
            synthetic_curve(study, name, overrides, baseline=name in named)
            for name, overrides in configs.items()
        ),
    )


def synthetic_curve(study: Study, name: str, overrides: dict[str, Any], baseline: bool) -> Curve:
    config = trial_config(study, overrides)
    depth, lr = config.model.depth, config.train.lr
    broken = 3 if lr > 0.05 else None
    reached = 0.6 + 0.05 * depth - 0.1 * abs(math.log10(lr) + 2) - 0.2 * config.model.dropout
    sign = 1 if study.metric.goal == "maximize" else -1
    seconds = {"train": 1.0 * depth, "validate": 0.25, "cpu": 0.5 + depth}
    reports = []
    for epoch in range(1, broken or study.budget.max_epochs + 1):  # the broken one has none
        noise = rng_for(0, name, epoch).normal(0, 0.01)
        value = reached * (1 - math.exp(-epoch / depth)) + noise
        metrics = {study.metric.name: sign * value, "train/loss": 1 - value}
        reports.append(EpochReport(epoch=epoch, metrics=metrics, pixels=100, seconds=seconds))
    failure = Failure(f"epoch {broken}, step 1: loss is nan", seconds) if broken else None
    overrides = json.loads(json.dumps(overrides))
    return Curve(name, baseline, overrides, 1000 * depth, 1e6 * depth, tuple(reports), failure)
