"""Which network is exported: the one that its confirmation chooses, else the best of the search."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2search.config import Study, TrialConfig
from r2search.data.folds import folded
from r2search.data.samples import SampleSet
from r2search.intervals import Choice, choose, interval, middle
from r2search.records import TrialOutcome
from r2search.scoring import (
    INSIDE,
    THRESHOLDS,
    Scores,
    View,
    best_threshold,
    restore,
    score_network,
)
from r2search.selection import incumbent
from r2search.train.metrics import Metrics
from r2search.tuning.events import Ledger
from r2search.tuning.reruns import left_out

Matrix = NDArray[np.float64]  # (trainings, images)


@dataclass(frozen=True, slots=True)
class Decision:
    """The networks of a study that are tested, and the one of them that is exported."""

    best: TrialOutcome  # the training whose weights are exported
    # By the trial that they repeat: the trainings that count, on the split of the study
    networks: dict[str, list[TrialOutcome]]
    # By trial: the one training whose scores are shown as the network's
    shown: dict[str, TrialOutcome]
    confirmed: dict[str, Any] | None  # what summary.json holds under that name
    # By trial, where one was chosen: from where on its networks see foreground
    thresholds: dict[str, float] = field(default_factory=dict)
    # By trial: what the shown training has on the validation images at that threshold
    validated: dict[str, Metrics] = field(default_factory=dict)

    @property
    def chosen(self) -> str:
        """The trial that the exported training repeats, or is."""
        return self.best.repeats


Round = Sequence[TrialOutcome]  # of one network: a training for every fold


@dataclass(frozen=True, slots=True)
class Trainings:
    """The trainings that count in a confirmation, by the trial that they repeat."""

    own: dict[str, list[TrialOutcome]]  # on the split of the study: one of them is exported
    rounds: dict[str, list[Round]]  # these decide
    folds: int
    missing: bool = False  # some network has no whole round, so that the study's own split decides

    def of(self, trial: str) -> list[TrialOutcome]:
        """Those of one network, each once."""
        every = chain(self.own[trial], *self.rounds[trial])
        return list({training.trial: training for training in every}.values())

    @property
    def all(self) -> list[TrialOutcome]:
        return [training for trial in self.own for training in self.of(trial)]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A training on the validation images."""

    scores: Scores
    curves: NDArray[np.float64]  # (I, T), Dice over thresholds


def decide(study: Study, samples: SampleSet, run_dir: Path, ledger: Ledger) -> Decision | None:
    """None when nothing can be ranked."""
    trials = list(ledger.trials.values())
    best = incumbent(trials, study.metric.name, study.metric.goal)
    if best is None:
        return None
    again = trainings(ledger) if study.confirmation else None
    if again is None:
        return _unconfirmed(study, trials, best, ledger)
    thresholds = _thresholds(samples, run_dir, ledger, again)
    seen = {
        one.trial: _look(samples, run_dir, one, thresholds.get(one.repeats)) for one in again.all
    }
    return _confirmed(study, again, thresholds, seen, ledger, best)


def trainings(ledger: Ledger) -> Trainings | None:
    """The trainings of a confirmation that came to their end.

    Of a baseline also that of the search, since nobody chose it. None unless every finalist has one
    on the split of the study, or failed there each time.
    """
    if ledger.plan is None:
        return None
    finalists, folds = ledger.plan["finalists"], ledger.plan.get("folds", 1)
    own, rounds = dict[str, list[TrialOutcome]](), dict[str, list[Round]]()
    for trial in (*finalists, *ledger.plan["baselines"]):
        begun = _begun(ledger, trial)
        done = [t for t in begun if t.outcome == "completed" and t.eligible]
        here = [t for t in begun if not t.fold[0]]
        by_fold = [[t for t in done if not t.fold[0]]]
        by_fold += [[t for t in done if t.fold == (fold, folds)] for fold in range(1, folds)]
        if by_fold[0]:
            own[trial] = by_fold[0]
            rounds[trial] = list(zip(*by_fold, strict=False))  # the shortest has the last one
        elif trial in finalists and not (here and all(t.failed for t in here)):
            return None
    if not any(trial in own for trial in finalists):
        return None
    if not all(rounds.values()):
        alone: dict[str, list[Round]] = {t: [[one] for one in own[t]] for t in own}
        return Trainings(own, alone, 1, missing=True)
    return Trainings(own, rounds, folds)


def _begun(ledger: Ledger, trial: str) -> list[TrialOutcome]:
    """The trainings that a confirmation looks at, in order."""
    first = ledger.trials[trial]
    again = [t for t in ledger.confirmed.values() if t.repeats == trial]
    return [first, *again] if first.baseline else again


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
    return Decision(best, {name: [one] for name, one in shown.items()}, shown, why)


def _thresholds(
    samples: SampleSet, run_dir: Path, ledger: Ledger, again: Trainings
) -> dict[str, float]:
    """The best one over the trainings of each network, on the study's own validation images.

    Of a network that was tested already it stays; one of several classes has none.
    """
    tested = {
        name: facts.get("views", {}).get(INSIDE, {}) for (name, _), facts in ledger.tested.items()
    }
    found = {}
    for trial, own in again.own.items():
        if TrialConfig.model_validate(own[0].config).model.classes > 2:
            continue
        before = [view["at"] for one in own if "at" in (view := tested.get(one.trial, {}))]
        looks = [] if before else [_look(samples, run_dir, one, None) for one in own]
        found[trial] = before[0] if before else best_threshold([each.curves for each in looks])
    return found


def _look(
    samples: SampleSet, run_dir: Path, training: TrialOutcome, threshold: float | None
) -> _Seen:
    samples = folded(samples, training.fold)
    predictor = restore(run_dir, training, samples, threshold)
    view = View(predictor.config.inference.threshold)
    views, curves = score_network(predictor, samples.val, {INSIDE: view})
    return _Seen(views[INSIDE], curves)


def _confirmed(
    study: Study,
    again: Trainings,
    thresholds: dict[str, float],
    seen: Mapping[str, _Seen],
    ledger: Ledger,
    searched: TrialOutcome,
) -> Decision:
    """By the means over rounds; `seen`: by training; `searched` is the best of the search."""
    assert ledger.plan is not None
    assert study.confirm is not None
    metric, goal = study.metric.name, study.metric.goal
    sign = 1.0 if goal == "maximize" else -1.0
    matrices = {
        trial: np.array([_row([seen[one.trial] for one in each], metric) for each in rounds])
        for trial, rounds in again.rounds.items()
    }
    networks = again.own
    costs = {trial: ledger.trials[trial].cost.get("flops", 0.0) for trial in networks}
    choice = choose(matrices, costs, goal, ledger.plan["finalists"])
    values = {name: each.scores.metrics[metric.removeprefix("val/")] for name, each in seen.items()}
    shown = {}
    for trial, own in networks.items():
        by_name = {one.trial: one for one in own}
        shown[trial] = by_name[middle({name: sign * values[name] for name in by_name})]
    best = shown[choice.chosen]
    as_searched = [_value(one, study) for one in networks.get(searched.trial, ())]
    dropped = [*ledger.plan["dropped"], *left_out(ledger, study.confirm.seeds)]
    if again.missing:
        dropped.append(
            "not every network came through all folds, so that the study's split decides"
        )
    return Decision(
        best=best,
        networks=networks,
        shown=shown,
        thresholds=thresholds,
        validated={trial: seen[one.trial].scores.metrics for trial, one in shown.items()},
        confirmed={
            "chosen": choice.chosen,
            "training": best.trial,
            "leader": choice.leader,
            "tied": [one.name for one in choice.others if one.tied],
            "few_images": choice.few_images,
            "images": matrices[choice.chosen].shape[1],
            "folds": again.folds,
            "networks": {
                trial: _describe(trial, again, matrices[trial], values, choice, study, ledger)
                for trial in sorted(networks, key=lambda trial: -sign * matrices[trial].mean())
            },
            "dropped": dropped,
            "thresholds": thresholds,
            # What the best of the search lost when it was trained again, at the search's threshold
            "searched": {
                "threshold": searched.config["inference"]["threshold"],
                "trial": searched.trial,
                "value": _value(searched, study),
                "again": float(np.mean(as_searched)) if as_searched else None,
            },
            "threshold": _curve(
                thresholds.get(choice.chosen), [seen[one.trial] for one in networks[choice.chosen]]
            ),
        },
    )


def _row(round_: Sequence[_Seen], metric: str) -> list[float]:
    """Of every image that it validates: of a mean over images its parts, else pseudo-values."""
    name = metric.removeprefix("val/")
    if name.partition("_class")[0].endswith("_mean"):
        return [image[name] for one in round_ for image in one.scores.images]
    return [float(value) for one in round_ for value in one.scores.blocks[name]]


def _value(training: TrialOutcome, study: Study) -> float:
    best = training.best(study.metric.name, study.metric.goal)
    assert best is not None
    return best.metrics[study.metric.name]


def _describe(
    trial: str,
    again: Trainings,
    matrix: Matrix,
    values: Mapping[str, float],
    choice: Choice,
    study: Study,
    ledger: Ledger,
) -> dict[str, Any]:
    """One network of the confirmation, for summary.json; `values`: the objective, by training."""
    mean, low, high = interval(matrix)
    rows = []
    for one in again.of(trial):
        best = one.best(study.metric.name, study.metric.goal)
        assert best is not None
        facts = {"training": one.trial, "seed": one.config["seed"], "fold": one.fold[0]}
        rows.append(facts | {"epoch": best.epoch, "value": values[one.trial]})
    behind = next((asdict(other) for other in choice.others if other.name == trial), None)
    failed = sum(t.failed for t in ledger.confirmed.values() if t.repeats == trial)
    return {
        "baseline": ledger.trials[trial].baseline,
        "mean": mean,
        "low": low,
        "high": high,
        "searched": _value(ledger.trials[trial], study),
        "flops": ledger.trials[trial].cost.get("flops"),
        "behind": behind,
        "trainings": rows,
        "failed": failed,
    }


def _curve(chosen: float | None, own: Sequence[_Seen]) -> dict[str, Any] | None:
    """What the threshold was chosen by; None of several classes, which have none."""
    if chosen is None:
        return None
    mean = np.mean([one.curves.mean(0) for one in own], axis=0)
    return {"chosen": chosen, "at": list(THRESHOLDS), "dice": [round(float(v), 5) for v in mean]}
