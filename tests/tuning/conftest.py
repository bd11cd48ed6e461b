"""A small study and small images, for tests of the search."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from r2search.config import Study
from r2search.data.samples import Sample, SampleSet
from r2search.space import load_study
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
