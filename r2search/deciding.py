"""Which network is exported: the one that its confirmation chooses, else the best of the search."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2search.config import Study, TrialConfig
from r2search.data.samples import SampleSet
from r2search.intervals import Choice, choose, interval, middle
from r2search.records import AGAIN, TrialOutcome
from r2search.scoring import (
    INSIDE,
    OWN,
    THRESHOLDS,
    Scores,
    View,
    best_threshold,
    restore,
    score_network,
)
from r2search.selection import incumbent
from r2search.tuning.events import Ledger

Matrix = NDArray[np.float64]  # (trainings, images)


@dataclass(frozen=True, slots=True)
class Decision:
    """The networks of a study that are tested, and the one of them that is exported."""

    best: TrialOutcome  # the training whose weights are exported
    # By the trial that they repeat: the trainings that count
    networks: dict[str, list[TrialOutcome]]
    # By trial: the one training whose scores are shown as the network's
    shown: dict[str, TrialOutcome]
    thresholds: dict[str, float]  # by trial, where one was chosen
    confirmed: dict[str, Any] | None  # what summary.json holds under that name

    @property
    def chosen(self) -> str:
        """The trial that the exported training repeats, or is."""
        return self.best.repeats


@dataclass(frozen=True, slots=True)
class _Seen:
    """A training on the validation images."""

    training: TrialOutcome
    scores: Scores
    curves: NDArray[np.float64]  # (I, T), Dice over thresholds


def decide(study: Study, samples: SampleSet, run_dir: Path, ledger: Ledger) -> Decision | None:
    """None when nothing can be ranked."""
    trials = list(ledger.trials.values())
    best = incumbent(trials, study.metric.name, study.metric.goal)
    if best is None:
        return None
    again = trainings(ledger) if study.confirmation else {}
    if not again:
        return _unconfirmed(study, trials, best, ledger)
    seen = {
        trial: [_look(study, samples, run_dir, training) for training in own]
        for trial, own in again.items()
    }
    return _confirmed(study, seen, ledger, best)


def trainings(ledger: Ledger) -> dict[str, list[TrialOutcome]]:
    """By trial, the trainings that count in a confirmation: those that came to their end.

    Of a baseline also that of the search, since nobody chose it. Empty unless every finalist has
    one, or failed each time.
    """
    if ledger.plan is None:
        return {}
    found: dict[str, list[TrialOutcome]] = {}
    for trial in (*ledger.plan["finalists"], *ledger.plan["baselines"]):
        first = ledger.trials[trial]
        own = [t for t in ledger.confirmed.values() if t.repeats == trial]
        if first.baseline:
            own.insert(0, first)
        done = [t for t in own if t.outcome == "completed" and t.eligible]
        if done:
            found[trial] = done
        elif trial in ledger.plan["finalists"] and not (own and all(t.failed for t in own)):
            return {}
    return found if any(trial in found for trial in ledger.plan["finalists"]) else {}


def _unconfirmed(
    study: Study, trials: Sequence[TrialOutcome], best: TrialOutcome, ledger: Ledger
) -> Decision:
    """As the search has ranked its trials."""
    shown = {trial.trial: trial for trial in trials if trial.baseline and trial.eligible}
    shown[best.trial] = best
    why = None
    if study.confirmation:
        plan = ledger.plan or {"dropped": ["the study ended before"], "queue": []}
        why = {"chosen": None, "dropped": plan["dropped"]}
        if plan["queue"]:
            why["dropped"] = ["it was cut off before every finalist was trained again"]
    return Decision(best, {name: [one] for name, one in shown.items()}, shown, {}, why)


def _look(study: Study, samples: SampleSet, run_dir: Path, training: TrialOutcome) -> _Seen:
    predictor = restore(run_dir, training, samples)
    view = View(predictor.config.inference.threshold)
    views, curves = score_network(predictor, samples.val, {INSIDE: view})
    return _Seen(training, views[INSIDE], curves)


def _confirmed(
    study: Study, seen: Mapping[str, Sequence[_Seen]], ledger: Ledger, searched: TrialOutcome
) -> Decision:
    """By the means over seeds; `searched` is the best of the search."""
    assert ledger.plan is not None
    metric, goal = study.metric.name, study.metric.goal
    sign = 1.0 if goal == "maximize" else -1.0
    matrices = {trial: _matrix(own, metric) for trial, own in seen.items()}
    costs = {trial: ledger.trials[trial].cost.get("flops", 0.0) for trial in seen}
    choice = choose(matrices, costs, goal, ledger.plan["finalists"])
    networks = {trial: [one.training for one in own] for trial, own in seen.items()}
    shown = {}
    for trial, own in networks.items():
        by_name = {one.trial: one for one in own}
        shown[trial] = by_name[middle({n: sign * _value(one, study) for n, one in by_name.items()})]
    several = TrialConfig.model_validate(shown[choice.chosen].config).model.classes > 2
    thresholds = {
        trial: best_threshold([one.curves for one in own])
        for trial, own in seen.items()
        if not several
    }
    thresholds |= thresholds_before(ledger, shown)
    best = shown[choice.chosen]
    again = networks.get(searched.trial)
    lucky = _value(searched, study)
    return Decision(
        best=best,
        networks=networks,
        shown=shown,
        thresholds=thresholds,
        confirmed={
            "chosen": choice.chosen,
            "training": best.trial,
            "leader": choice.leader,
            "tied": [one.name for one in choice.others if one.tied],
            "few_images": choice.few_images,
            "images": matrices[choice.chosen].shape[1],
            "networks": {
                trial: _describe(trial, networks[trial], matrices[trial], choice, study, ledger)
                for trial in sorted(networks, key=lambda trial: -sign * matrices[trial].mean())
            },
            "dropped": [*ledger.plan["dropped"], *_lost(ledger)],
            # What the best of the search lost when it was trained again
            "searched": {
                "trial": searched.trial,
                "value": lucky,
                "again": float(np.mean([_value(one, study) for one in again])) if again else None,
            },
            "threshold": _curve(thresholds.get(choice.chosen), seen[choice.chosen]),
        },
    )


def thresholds_before(ledger: Ledger, shown: Mapping[str, TrialOutcome]) -> dict[str, float]:
    """The thresholds with which networks were tested already: they stay."""
    found = {}
    for (name, _), facts in ledger.tested.items():
        own = facts.get("views", {}).get(OWN)
        if own and name.partition(AGAIN)[0] in shown:
            found[name.partition(AGAIN)[0]] = float(own["at"])
    return found


def _matrix(own: Sequence[_Seen], metric: str) -> Matrix:
    """(trainings, images): of a mean over images its parts, else the pseudo-values."""
    name = metric.removeprefix("val/")
    if name.partition("_class")[0].endswith("_mean"):
        return np.array([[image[name] for image in one.scores.images] for one in own])
    return np.array([one.scores.blocks[name] for one in own])


def _value(training: TrialOutcome, study: Study) -> float:
    best = training.best(study.metric.name, study.metric.goal)
    assert best is not None
    return best.metrics[study.metric.name]


def _describe(
    trial: str,
    own: Sequence[TrialOutcome],
    matrix: Matrix,
    choice: Choice,
    study: Study,
    ledger: Ledger,
) -> dict[str, Any]:
    """One network of the confirmation, for summary.json."""
    mean, low, high = interval(matrix)
    rows = []
    for one in own:
        best = one.best(study.metric.name, study.metric.goal)
        assert best is not None
        seed, value = one.config["seed"], best.metrics[study.metric.name]
        rows.append({"training": one.trial, "seed": seed, "epoch": best.epoch, "value": value})
    behind = next((asdict(other) for other in choice.others if other.name == trial), None)
    again = [t for t in ledger.confirmed.values() if t.repeats == trial]
    return {
        "baseline": ledger.trials[trial].baseline,
        "mean": mean,
        "low": low,
        "high": high,
        "searched": _value(ledger.trials[trial], study),
        "flops": ledger.trials[trial].cost.get("flops"),
        "behind": behind,
        "trainings": rows,
        "failed": sum(t.failed for t in again),
    }


def _lost(ledger: Ledger) -> list[str]:
    """What was planned and did not come to its end."""
    assert ledger.plan is not None
    names = [f"{row['trial']}{AGAIN}{row['number']}" for row in ledger.plan["queue"]]
    open_ = [
        name
        for name in names
        if name not in ledger.confirmed
        or not (ledger.confirmed[name].outcome == "completed" or ledger.confirmed[name].failed)
    ]
    return [f"no time was left for {', '.join(open_)}"] if open_ else []


def _curve(chosen: float | None, own: Sequence[_Seen]) -> dict[str, Any] | None:
    """What the threshold was chosen by; None of several classes, which have none."""
    if chosen is None:
        return None
    mean = np.mean([one.curves.mean(0) for one in own], axis=0)
    return {"chosen": chosen, "at": list(THRESHOLDS), "dice": [round(float(v), 5) for v in mean]}
