"""The test split: opened once, at the end, for every network that the study answers for."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2search.config import Study
from r2search.data.samples import Sample, SampleSet
from r2search.deciding import Decision
from r2search.intervals import interval
from r2search.records import TrialOutcome
from r2search.scoring import (
    INSIDE,
    SEARCHED,
    WHOLE,
    Scores,
    View,
    has_surround,
    restore,
    score_network,
    score_views,
)
from r2search.summary import certain
from r2search.train.image_metrics import SURENESS, ImageScorer
from r2search.train.metrics import METRICS, Metrics
from r2search.tuning.events import Ledger

IMAGES = "test_images.csv"  # of a run folder: every metric of every test image and network
OBSERVER = "second observer"
SHARES = {*METRICS, "cldice", "ece", "brier"}  # the other scores are distances and numbers

Views = dict[str, Any]  # of one training or observer, as the record has them: by view


def open_test(
    study: Study, samples: SampleSet, run_dir: Path, ledger: Ledger, decision: Decision
) -> dict[str, Any] | None:
    """Score every network of the decision on the test split; None if it is empty.

    What summary.json holds under `test`: every metric by `value` (of the training that is shown),
    and by `mean`, `low` and `high` over its trainings and images, each network at the threshold
    that was chosen for it; then `searched` has the scores at that of the search.
    Weights that were scored before keep their scores: a study that goes on opens the split again
    only for what it found since, and `opened` says how often that was. The scores of every image go
    into IMAGES.
    """
    if not samples.test:
        return None
    observer = _observe(samples)
    _score_new(study, samples, run_dir, ledger, decision, observer)
    found: dict[str, dict[str, Views]] = {}  # by trial and training
    for trial, own in decision.networks.items():
        found[trial] = {one.trial: ledger.tested[_key(one, study)]["views"] for one in own}
    tables = {
        view: _table(study, decision, found, view, _recorded(observer, {}) if observer else {})
        for view in (INSIDE, WHOLE, SEARCHED)
    }
    return {
        **tables[INSIDE],
        "whole": tables[WHOLE] if tables[WHOLE]["incumbent"] else None,
        "searched": tables[SEARCHED] if decision.thresholds else None,
        "opened": ledger.openings,
        "images": IMAGES,
    }


def _score_new(
    study: Study,
    samples: SampleSet,
    run_dir: Path,
    ledger: Ledger,
    decision: Decision,
    observer: Mapping[str, Scores],
) -> None:
    """Score what the record has no scores of; a record of an older version has others."""
    new, rows = {}, list[dict[str, Any]]()
    for trial, own in decision.networks.items():
        for training in own:
            key, level = _key(training, study), decision.thresholds.get(trial)
            if "at" in ledger.tested.get(key, {}).get("views", {}).get(INSIDE, {}):
                continue
            predictor = restore(run_dir, training, samples, level)
            at = predictor.config.inference.threshold
            views = _views(samples, at)
            if level is not None:
                views[SEARCHED] = View(training.config["inference"]["threshold"])
            scored, _ = score_network(predictor, samples.test, views)
            recorded = _recorded(scored, {INSIDE: {"at": at}})
            new[key] = {"metrics": scored[INSIDE].metrics, "views": recorded}
            rows += _rows(samples.test, trial, training.config["seed"], scored)
    if not new:
        return
    ledger.test(new)
    path = run_dir / IMAGES
    if not path.exists():
        rows += _rows(samples.test, OBSERVER, None, observer)
    begun = path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        if not begun:
            writer.writeheader()
        writer.writerows(rows)


def _key(training: TrialOutcome, study: Study) -> tuple[str, int]:
    best = training.best(study.metric.name, study.metric.goal)
    assert best is not None
    return training.trial, best.epoch


def _observe(samples: SampleSet) -> dict[str, Scores]:
    """The second human observer, scored like a network; empty unless every image has one."""
    drawn = [
        (s, certain(s.second_mask, samples.classes))
        for s in samples.test
        if s.second_mask is not None
    ]
    if not drawn or len(drawn) != len(samples.test):
        return {}
    also = ImageScorer(samples.test, 0.5)

    def drawing(sample: Sample, probability: NDArray[np.float32]) -> Metrics:
        """But for what a person does not say: how sure they are."""
        found = also(sample, probability).items()
        return {name: v for name, v in found if name.partition("_class")[0] not in SURENESS}

    views = _views(samples, 0.5)
    views[INSIDE] = views[INSIDE]._replace(also=drawing)
    return score_views(drawn, len(drawn), views)[0]


def _views(samples: SampleSet, threshold: float) -> dict[str, View]:
    """Inside the field of view, and of whole images where that is something else."""
    views = {INSIDE: View(threshold, also=ImageScorer(samples.test, threshold))}
    if has_surround(samples.test):
        views[WHOLE] = View(threshold, inside=False)
    return views


def _recorded(scored: Mapping[str, Scores], more: Mapping[str, dict[str, Any]]) -> Views:
    """Scores as the record has them: without those of single images."""
    return {
        view: {"metrics": each.metrics, "blocks": each.blocks, **more.get(view, {})}
        for view, each in scored.items()
    }


def _rows(
    samples: Sequence[Sample], network: str, seed: int | None, scored: Mapping[str, Scores]
) -> Iterator[dict[str, Any]]:
    for view, scores in scored.items():
        for sample, metrics in zip(samples, scores.images, strict=True):
            about = {"image": sample.id, "subject": sample.subject, "network": network}
            yield {**about, "seed": "" if seed is None else seed, "view": view, **metrics}


def _table(
    study: Study,
    decision: Decision,
    found: Mapping[str, Mapping[str, Views]],
    view: str,
    observer: Views,
) -> dict[str, Any]:
    """Everybody in one view; None for whom nothing is known in it."""
    rows = {
        trial: _sure(own[decision.shown[trial].trial][view], [each[view] for each in own.values()])
        for trial, own in found.items()
        if all(view in each for each in own.values())
    }
    return {
        "incumbent": rows.get(decision.chosen),
        "baselines": {name: rows.get(name) for name in study.baselines},
        "finalists": {t: row for t, row in rows.items() if t not in study.baselines},
        "second_observer": _sure(observer[view], [observer[view]]) if view in observer else None,
    }


def _sure(shown: Views, trainings: Sequence[Views]) -> dict[str, dict[str, float | None]]:
    """Every metric with its interval over trainings and images.

    No score is below 0 and no share above 1, nor is its interval.
    """
    found = {}
    for name, value in shown["metrics"].items():
        mean = sum(each["metrics"][name] for each in trainings) / len(trainings)
        spread, low, high = interval([each["blocks"][name] for each in trainings])
        if low is not None and high is not None:
            low, high = low + mean - spread, high + mean - spread
            low = max(0.0, low)
            if name.partition("_class")[0] in SHARES:
                high = min(1.0, high)
        found[name] = {"value": value, "mean": mean, "low": low, "high": high}
    return found
