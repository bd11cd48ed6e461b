"""summary.json: the facts of a finished study, for a script. Pure."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2search.config import Study, TrialConfig
from r2search.data.samples import Sample, SampleSet
from r2search.records import TrialOutcome
from r2search.selection import front
from r2search.train.metrics import score, summarize

FORMAT = 4  # of summary.json: in 3 the scores of confirmed networks were at the search's threshold
# Every key of the format, in order; one that is not produced yet is null. `signal` is the number
# of the one that interrupted the study.
KEYS = (
    "format status signal name question command space data objective incumbent front baselines "
    "confirmed test optimism images search audit trials time tracking hardware versions revision "
    "bundle ensemble final"
).split()


def summarize_study(
    study: Study,
    samples: SampleSet,
    outcomes: list[TrialOutcome],
    best: TrialOutcome | None,
    facts: dict[str, Any],
) -> dict[str, Any]:
    """What is known of a study; `facts` fill the keys that its trials do not tell.

    `best` is the training that is exported.
    """
    metric = study.metric
    baselines = {trial.trial: trial for trial in outcomes if trial.baseline}
    summary: dict[str, Any] = dict.fromkeys(KEYS)
    second = second_observer(samples.val, samples.classes)
    split, _, name = metric.name.partition("/")
    summary.update(
        format=FORMAT,
        name=study.name,
        question=study.question,
        data=describe_data(samples),
        objective={
            "name": metric.name,
            "goal": metric.goal,
            "second_observer": second[name] if second and split == "val" else None,
        },
        incumbent=describe_trial(study, best) if best else None,
        front=describe_front(study, outcomes) if metric.against else None,
        baselines={
            name: describe_trial(study, baselines[name]) if name in baselines else None
            for name in study.baselines
        },
    )
    unknown = set(facts) - set(KEYS)
    assert not unknown, unknown
    return summary | facts


def describe_trial(study: Study, trial: TrialOutcome) -> dict[str, Any] | None:
    """A trial by its best epoch; None when it has none or failed."""
    best = trial.best(study.metric.name, study.metric.goal)
    if best is None or trial.failed:
        return None
    return {
        "trial": trial.repeats,
        "training": trial.trial,  # the folder of its checkpoint
        "seed": trial.config.get("seed"),
        "epoch": best.epoch,
        "value": best.metrics[study.metric.name],
        "metrics": best.metrics,
        "overrides": trial.overrides,
        "start": start_of(study, trial),
        "config": trial.config,
        "epochs": len(trial.reports),
        "planned_epochs": trial.planned_epochs,
        "share_of_schedule": _share_of_schedule(study, trial),
        "parameters": trial.cost["parameters"],
        "share_of_published": share_of_published(study, trial),
        "seconds": sum(sum(_spent(r.seconds)) for r in trial.reports),
    }


def start_of(study: Study, trial: TrialOutcome) -> str | None:
    """The start of the space file that a trial is; None if it was found by the search."""
    drawn = json.dumps(trial.overrides, sort_keys=True)  # a record has lists for tuples
    named = study.starts.items()
    return next((name for name, one in named if json.dumps(one, sort_keys=True) == drawn), None)


def _share_of_schedule(study: Study, trial: TrialOutcome) -> float:
    """Pixels a trial may train on, over those of max_epochs; a slow baseline has shorter epochs."""
    pixels = TrialConfig.model_validate(trial.config).train.epoch_pixels
    longest = study.budget.max_epochs * study.fixed.train.epoch_pixels
    return trial.planned_epochs * pixels / longest


def describe_front(study: Study, trials: list[TrialOutcome]) -> list[dict[str, Any]]:
    """The trials that none dominates by the objective and the costs it is weighed against."""
    metric, found = study.metric, []
    for trial in front(trials, metric.name, metric.goal, metric.against):
        best = trial.best(metric.name, metric.goal)
        assert best is not None
        point: dict[str, Any] = {"trial": trial.trial, "value": best.metrics[metric.name]}
        found.append(point | {name: trial.cost[name] for name in metric.against})
    return found


def share_of_published(study: Study, trial: TrialOutcome) -> float | None:
    """Pixels a baseline was trained on, over those of its publication; None if unknown."""
    name = trial.repeats
    if not trial.baseline or name not in study.baselines:
        return None
    config = TrialConfig.model_validate(trial.config)
    published = study.baselines[name].published_pixels(config)
    return sum(report.pixels for report in trial.reports) / published if published else None


def describe_data(samples: SampleSet) -> dict[str, Any]:
    """Where the images come from and how they are split."""
    parts = {"train": samples.train, "val": samples.val, "test": samples.test}
    return {
        "reader": samples.reader,
        "fingerprint": samples.fingerprint,
        "synthetic": samples.synthetic,
        "split": samples.split,
        "notes": list(samples.notes),
        "counts": {name: len(part) for name, part in parts.items()},
        "subjects": {name: sorted({s.subject for s in part}) for name, part in parts.items()},
    }


def second_observer(samples: tuple[Sample, ...], classes: int) -> dict[str, float] | None:
    """A second human observer scored like a network; None unless every image has one."""
    scores = [
        score(certain(s.second_mask, classes), s.mask, s.fov, threshold=0.5)
        for s in samples
        if s.second_mask is not None
    ]
    return summarize(scores) if scores and len(scores) == len(samples) else None


def certain(mask: NDArray[np.uint8], classes: int) -> NDArray[np.float32]:
    """A mask as the probabilities (F, H, W) of its foreground classes."""
    return np.stack([mask == index for index in range(1, classes)]).astype(np.float32)


def count_trials(trials: list[TrialOutcome], refused: Mapping[str, int]) -> dict[str, int]:
    """How the search's own trials ended; baselines are counted apart.

    `refused`: drawn configs that were not run, by cause. They are `infeasible`, and so is what
    memory did not hold when it was tried. Neither counts in `total`.
    """
    own = Counter(trial.outcome for trial in trials if not trial.baseline)
    too_slow = refused.get("too_slow", 0)
    too_large = refused.get("too_large", 0) + own["infeasible"]
    return {
        "total": own.total() - own["infeasible"],
        "completed": own["completed"],
        "stopped": own["stopped"],
        "failed": own["failed"],
        "interrupted": own["interrupted"],
        "infeasible": too_slow + too_large,
        "too_slow": too_slow,
        "too_large": too_large,
        "baselines": sum(trial.baseline for trial in trials),
    }


def account_time(
    trials: list[TrialOutcome], wall: float, search_wall: float, budget: float, whole: float
) -> dict[str, float]:
    """Where the time went, in seconds; goodput is the share of worker time in epochs.

    `whole`, told as `worker_s`, is what all workers had while the search ran. It is `steps_s` and
    `feed_s` (together `train_s`), `validate_s`, `checkpoint_s`, `setup_s` (between two trials) and
    `idle_s`, the rest. `train_flops` are those of the training, as the costs of the trials have
    them.
    """

    def total(kind: str) -> float:
        return sum(r.seconds.get(kind, 0.0) for t in trials for r in t.reports)

    train, validate, feed = total("train"), total("validate"), total("feed")
    checkpoint, setup = total("checkpoint"), total("setup")
    return {
        "wall_s": wall,
        "budget_s": budget,
        "search_s": search_wall,
        "train_s": train,
        "train_flops": sum(t.cost.get("epoch_flops", 0.0) * len(t.reports) for t in trials),
        "validate_s": validate,
        "worker_s": whole,
        "steps_s": train - feed,
        "feed_s": feed,
        "checkpoint_s": checkpoint,
        "setup_s": setup,
        "idle_s": max(0.0, whole - train - validate - checkpoint - setup),
        "goodput": (train + validate) / whole if whole else 0.0,
    }


def _spent(seconds: dict[str, float]) -> list[float]:
    return [seconds["train"], seconds["validate"]]  # feed is a part of train
