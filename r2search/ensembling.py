"""Several networks of a study in one bundle: their probabilities are averaged."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from r2search.bundle import export_bundle
from r2search.config import Misuse, TrialConfig
from r2search.data.samples import Sample
from r2search.manifest import kind
from r2search.models.cost import model_cost
from r2search.records import CHECKPOINTS
from r2search.reopening import Ended, reopen
from r2search.report.card import derived_card
from r2search.report.screen import say
from r2search.rundir import hold
from r2search.scoring import (
    INSIDE,
    View,
    at_threshold,
    best_threshold,
    network,
    score_network,
)
from r2search.selection import ranking
from r2search.train.evaluation import evaluate
from r2search.train.hardware import apply
from r2search.train.image_metrics import ImageScorer
from r2search.train.inference import Ensemble, Predictor
from r2search.weights import WEIGHTS

ENSEMBLE = "bundle-ensemble"  # in a run folder
EDGE = 512  # pixels, of the image whose FLOPs are told
TIMED = 5  # images, of which the median time is told


class Part(NamedTuple):
    """One network to be averaged with others."""

    trial: str
    epoch: int
    config: TrialConfig
    weights_path: Path


def ensemble_run(run_dir: Path, networks: int, console: Console) -> int:
    """Average the best networks of a study, as RUN/bundle-ensemble; returns the exit code.

    Misuse as of `reopen`, and where fewer than two networks can be averaged. The test split stays
    closed: `evaluate` opens it.
    """
    ended = reopen(run_dir)
    with hold(run_dir):
        facts = export_ensemble(ended, best_parts(ended, networks))
        ended.amend("ensemble", facts)
    metric, cost, best = ended.study.metric.name, facts["cost"], ended.summary["incumbent"]
    together = f"{', '.join(facts['members'])} together: {metric} {facts['metrics'][metric]:.4f}"
    say(console, f"{together}; {best['trial']} alone: {best['value']:.4f}")
    say(
        console,
        f"{cost['parameters']:,} parameters; {cost['seconds']:.2f} s an image, "
        f"the first network alone {cost['seconds_of_one']:.2f} s",
    )
    say(console, f"Bundle: {run_dir / ENSEMBLE}")
    return 0


def best_parts(ended: Ended, networks: int) -> list[Part]:
    """The best networks of a study whose weights are there, at most so many, the best one first.

    The trainings of its confirmation come before those of the search, which were chosen by luck,
    too. Those of other folds were trained on the images that score the bundle.
    """
    metric, found = ended.study.metric, list[Part]()
    again = [training for training in ended.confirmed if not training.fold[0]]
    ranked = [ranking(each, metric.name, metric.goal) for each in (again, ended.trials)]
    for trial in (*ranked[0], *ranked[1]):
        path = ended.run_dir / CHECKPOINTS / trial.trial / WEIGHTS
        config, report = (
            TrialConfig.model_validate(trial.config),
            trial.best(metric.name, metric.goal),
        )
        alike = not found or kind(config) == kind(found[0].config)
        if path.is_file() and report is not None and alike and len(found) < networks:
            found.append(Part(trial.trial, report.epoch, config, path))
    if len(found) < 2:
        raise Misuse(
            f"{ended.run_dir}: has the weights of fewer than two networks that can be averaged; "
            "`r2search runs --clean` removes them, and a new study makes some"
        )
    return found


def export_ensemble(ended: Ended, parts: Sequence[Part]) -> dict[str, Any]:
    """Write the networks as one bundle; what summary.json holds of it.

    They are scored together on the validation split. Misuse where they cannot be averaged.
    """
    if len({kind(part.config) for part in parts}) > 1:
        raise Misuse("these networks see other images or classes: they cannot be averaged")
    predictors = [network(part.config, part.weights_path, ended.samples) for part in parts]
    if (ended.summary["confirmed"] or {}).get("thresholds"):  # as those of the study's networks are
        whole, views = Ensemble(tuple(predictors)), {INSIDE: View(0.5)}
        level = best_threshold([score_network(whole, ended.samples.val, views)[1]])
        parts = [part._replace(config=at_threshold(part.config, level)) for part in parts]
        predictors = [replace(p, config=at_threshold(p.config, level)) for p in predictors]
    together = Ensemble(tuple(predictors)).snapshot()
    scorer = ImageScorer(ended.samples.val, together.config.inference.threshold)
    metrics, _ = evaluate(together, ended.samples.val, scorer)
    facts: dict[str, Any] = {
        "bundle": ENSEMBLE,
        "members": [part.trial for part in parts],
        "metrics": {f"val/{name}": value for name, value in metrics.items()},
        "cost": cost_of(together, ended.samples.val),
    }
    first, *others = (_member(*each) for each in zip(parts, predictors, strict=True))
    manifest = first | {
        "study": ended.study.name,
        "threads": together.hardware.threads,
        "metrics": facts["metrics"],
        "data": ended.data_facts,
        "synthetic": ended.samples.synthetic,
        "versions": ended.summary["versions"],
    }
    export_bundle(
        ended.run_dir / ENSEMBLE,
        parts[0].weights_path,
        manifest,
        derived_card(ended.summary, _title(parts), _about(parts, facts["cost"]), facts["metrics"]),
        b"",
        list(zip((part.weights_path for part in parts[1:]), others, strict=True)),
    )
    return facts


def cost_of(together: Ensemble, images: Sequence[Sample]) -> dict[str, Any]:
    """What predicting with all of them takes, and with the first alone, on this machine."""
    costs = [model_cost(member.config.model, EDGE, EDGE) for member in together.members]
    return {
        "networks": len(costs),
        "parameters": sum(cost.parameters for cost in costs),
        "flops": sum(cost.flops for cost in costs),  # of an image of EDGE x EDGE pixels
        "seconds": _seconds(together, images),
        "seconds_of_one": _seconds(together.members[0], images),
        "threads": together.hardware.threads,
        "device": together.hardware.device,
    }


def _seconds(predictor: Predictor | Ensemble, images: Sequence[Sample]) -> float:
    """The median time that an image takes, once the first has been predicted."""
    apply(predictor.hardware)
    predictor.probability(images[0].image, images[0].fov)
    spent = []
    for sample in images[:TIMED]:
        start = time.perf_counter()
        predictor.probability(sample.image, sample.fov)
        spent.append(time.perf_counter() - start)
    return statistics.median(spent)


def _member(part: Part, predictor: Predictor) -> dict[str, Any]:
    """The fields of a `Member`, but for the hash."""
    return {
        "trial": part.trial,
        "epoch": part.epoch,
        "config": part.config,
        "dtype": predictor.hardware.dtype,
        "memory_format": predictor.hardware.memory_format,
        "mean": predictor.preparation.mean,
        "std": predictor.preparation.std,
    }


def _title(parts: Sequence[Part]) -> str:
    return f"{', '.join(part.trial for part in parts)} together"


def _about(parts: Sequence[Part], cost: dict[str, Any]) -> list[str]:
    """What the card says of the networks and of what they cost."""
    named = ", ".join(f"{part.trial} (epoch {part.epoch})" for part in parts)
    return [
        f"{cost['networks']} networks whose probabilities are averaged: {named}.",
        "Chosen by their validation scores, so that those below are optimistic; together they were "
        "not scored on the test split (`r2search evaluate --split test` does it).",
        f"Cost: {cost['parameters']:,} parameters and {cost['flops'] / 1e9:.1f} GFLOPs for an "
        f"image of {EDGE} x {EDGE} pixels; {cost['seconds']:.2f} s for a validation image, "
        f"where the first network alone takes {cost['seconds_of_one']:.2f} s "
        f"({cost['device']}, {cost['threads']} threads).",
    ]
