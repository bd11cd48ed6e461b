"""Learning curves made up for tests, in the form of recorded ones."""

import json
import math
from typing import Any

from r2search.config import Study
from r2search.data.samples import rng_for
from r2search.models.cost import Rate
from r2search.records import EpochReport
from r2search.space import draw, suggest_randomly, trial_config
from r2search.tuning.curves import Curve, Failure, Recording


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
    seconds = {"train": 0.3 * depth, "validate": 0.1, "clock": 0.1 + 0.2 * depth}
    reports = []
    for epoch in range(1, broken or study.budget.max_epochs + 1):  # the broken one has none
        noise = rng_for(0, name, epoch).normal(0, 0.01)
        value = reached * (1 - math.exp(-epoch / depth)) + noise
        metrics = {study.metric.name: sign * value, "train/loss": 1 - value}
        reports.append(EpochReport(epoch=epoch, metrics=metrics, pixels=100, seconds=seconds))
    failure = Failure(f"epoch {broken}, step 1: loss is nan", seconds) if broken else None
    overrides = json.loads(json.dumps(overrides))
    return Curve(
        name, baseline, overrides, 1000 * depth, 1e6 * depth, "float32", tuple(reports), failure
    )
