"""What a confirmation trains, and what it leaves out when time is short."""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest

from r2search.config import Study
from r2search.records import EpochReport, Outcome, TrialOutcome
from r2search.space import load_study
from r2search.tuning.events import ConfirmLedger, Ledger
from r2search.tuning.reruns import BEGIN_S, SPARE, Reruns, left_out, plan_reruns, planned_by

METRIC = "val/dice_mean"
EPOCHS = 10
EACH = SPARE * EPOCHS * 4.0 + BEGIN_S  # seconds of a training, an epoch of 4 s


def training(name: str, value: float, outcome: Outcome = "completed", depth: int = 1) -> Any:
    seconds = {"train": 3.0, "feed": 0.5, "validate": 1.0}
    report = EpochReport(epoch=1, metrics={METRIC: value}, pixels=1, seconds=seconds)
    return TrialOutcome(
        trial=name,
        baseline=name.startswith("B"),
        overrides={"model.depth": depth},
        config={"model": {"depth": depth}, "name": name},
        cost={"flops": 1.0},
        planned_epochs=EPOCHS,
        started=0.0,
        outcome=outcome,
        reports=[report],
    )


TRIALS = [
    training("B1", 0.7),
    *(training(f"t{number}", 0.7 + number / 100) for number in range(1, 6)),
    training("t9", 0.9, "failed"),
]


@pytest.fixture
def study() -> Study:
    return load_study("quick.yaml", {"confirm.finalists": 3, "confirm.seeds": 3})


@pytest.fixture
def plan(study: Study) -> Callable[..., Reruns]:
    def plan(seconds: float, trials: Any = TRIALS, workers: int = 1, share: float = 0.0) -> Reruns:
        return plan_reruns(study, trials, workers, seconds, share)

    return plan


def names(reruns: Reruns) -> list[str]:
    """Of those that there is time for."""
    return [rerun.name for rerun in reruns.queue if rerun.after is None]


def spare(reruns: Reruns) -> list[tuple[str, float]]:
    """Those that there may be time for, and how much each leaves."""
    return [(r.name, r.after) for r in reruns.queue if r.after is not None]


def test_the_best_are_trained_again_seed_by_seed(plan: Callable[..., Reruns]) -> None:
    reruns = plan(1e6)
    assert reruns.finalists == ("t5", "t4", "t3")
    assert reruns.baselines == ("B1",)
    assert names(reruns) == (
        "B1@1 t3@1 t4@1 t5@1 B1@2 t3@2 t4@2 t5@2 t3@3 t4@3 t5@3".split()
    )  # that of the search is the third training of the baseline
    assert reruns.dropped == ()


def test_a_baseline_that_did_not_end_is_trained_as_often_as_the_finalists(
    plan: Callable[..., Reruns],
) -> None:
    trials = [replace(TRIALS[0], outcome="interrupted"), *TRIALS[1:]]
    assert names(plan(1e6, trials)).count("B1@3") == 1


def test_the_same_config_is_no_two_finalists(plan: Callable[..., Reruns]) -> None:
    twin = replace(TRIALS[5], trial="t7", started=1.0)
    assert plan(1e6, [*TRIALS, twin]).finalists == ("t5", "t4", "t3")


@pytest.mark.parametrize(
    ("trainings", "finalists", "queued", "dropped"),
    [
        (11, 3, 11, []),
        (10, 3, 10, []),
        (7, 3, 7, []),
        (6, 3, 6, []),
        (5, 3, 3, []),
        (2, 2, 2, ["2 of 3 finalists were trained again"]),
        (1, 1, 1, ["1 of 3 finalists were trained again"]),
        (0.9, 0, 0, ["no time for one training of each"]),
        (-1, 0, 0, ["no time for one training of each"]),
    ],
)
def test_seeds_are_dropped_before_finalists(
    plan: Callable[..., Reruns],
    trainings: float,
    finalists: int,
    queued: int,
    dropped: list[str],
) -> None:
    reruns = plan(trainings * EACH + 1e-6)
    assert (len(reruns.finalists), len(names(reruns))) == (finalists, queued)
    assert list(reruns.dropped) == dropped


def test_seeds_that_were_dropped_come_last_one_of_every_network_after_the_other(
    plan: Callable[..., Reruns],
) -> None:
    reruns = plan(5 * EACH + 4 * 2.0, workers=1, share=2.0)
    assert names(reruns) == ["t3@1", "t4@1", "t5@1"]
    assert [rerun.name for rerun in reruns.queue[3:]] == [name for name, _ in spare(reruns)]
    # Four trainings are scored anyhow, in 2 s each, and each of these is one more.
    assert spare(reruns) == [
        *(("t5@2", 10.0), ("t4@2", 12.0), ("t3@2", 14.0), ("B1@1", 16.0)),
        *(("t5@3", 18.0), ("t4@3", 20.0), ("t3@3", 22.0), ("B1@2", 24.0)),
    ]
    assert spare(plan(1e6)) == []


def test_what_is_spare_is_of_the_finalists_that_are_left(plan: Callable[..., Reruns]) -> None:
    names_ = {name.partition("@")[0] for name, _ in spare(plan(EACH + 1e-6))}
    assert names_ == {"t5", "B1"}


def confirming(study: Study, seconds: float) -> Ledger:
    """The record of a search, and the plan of its confirmation."""
    ledger = Ledger(None)
    for trial in TRIALS[:6]:
        facts = {"overrides": {}, "config": trial.config, "cost": {}, "planned_epochs": EPOCHS}
        ledger.start(trial=trial.trial, baseline=trial.baseline, **facts)
        ledger.end(trial.trial, "completed")
    planned = plan_reruns(study, TRIALS, 1, seconds, 0.0)
    ledger.confirm({"event": "plan", **asdict(planned)})
    return ledger


def train_again(ledger: Ledger, name: str, outcome: Outcome) -> None:
    own = ConfirmLedger(ledger)
    own.start(trial=name, baseline=False, planned_epochs=1, overrides={}, config={}, cost={})
    own.end(name, outcome)


@pytest.mark.parametrize(
    ("trainings", "said"),
    [
        (11, []),
        (10, ["the baselines got 2 of 3 seeds"]),
        (7, ["the finalists got 2 of 3 seeds", "the baselines got 2 of 3 seeds"]),
        (5, ["the finalists got 1 of 3 seeds", "the baselines got 1 of 3 seeds"]),
    ],
)
def test_seeds_that_there_was_no_time_for_are_told(
    study: Study, trainings: float, said: list[str]
) -> None:
    ledger = confirming(study, trainings * EACH + 1e-6)
    for rerun in planned_by(ledger):
        if rerun.after is None:
            train_again(ledger, rerun.name, "completed")
    assert left_out(ledger, 3) == said


def test_a_spare_training_counts_when_it_came_to_its_end(study: Study) -> None:
    ledger = confirming(study, 5 * EACH)
    for name in ("t5@1", "t4@1", "t5@2"):
        train_again(ledger, name, "completed")
    train_again(ledger, "t4@2", "interrupted")
    baselines = "the baselines got 1 of 3 seeds"
    lost = "no time was left for t3@1"
    assert left_out(ledger, 3) == ["the finalists got 1 to 2 of 3 seeds", baselines, lost]
    for name in ("t3@1", "t3@2"):
        train_again(ledger, name, "failed")  # not for want of time
    ledger.confirmed["t4@2"] = replace(ledger.confirmed["t4@2"], outcome="completed")
    assert left_out(ledger, 3) == ["the finalists got 2 of 3 seeds", baselines]


FOLDS = {"confirm.finalists": 1, "confirm.seeds": 2, "confirm.folds": 3}


def test_folds_are_trained_round_by_round() -> None:
    reruns = plan_reruns(load_study("quick.yaml", FOLDS), TRIALS, 1, 1e6, 0.0)
    assert reruns.folds == 3
    assert names(reruns) == (
        "B1@1 B1@1.1 B1@1.2 t5@1 t5@1.1 t5@1.2 B1@2.1 B1@2.2 t5@2 t5@2.1 t5@2.2".split()
    )
    assert {rerun.name: rerun.fold for rerun in reruns.queue}["t5@2.1"] == (1, 3)


@pytest.mark.parametrize(
    ("trainings", "queued", "folds"), [(11, 11, 3), (5, 5, 3), (4.9, 1, 1), (0.9, 0, 1)]
)
def test_folds_are_dropped_after_seeds(trainings: float, queued: int, folds: int) -> None:
    study, seconds = load_study("quick.yaml", FOLDS), trainings * EACH + 1e-6
    reruns = plan_reruns(study, TRIALS, 1, seconds, 0.0)
    assert (len(names(reruns)), reruns.folds) == (queued, folds)
    assert bool(spare(reruns)) == (folds == 1 and queued > 0)  # a part of a round counts nothing
    assert ("3 folds were left out" in reruns.dropped) == (queued == 1)


def test_workers_share_the_trainings(plan: Callable[..., Reruns]) -> None:
    assert len(names(plan(6 * EACH + 1e-6, workers=2))) == 11  # six after one another
    assert len(names(plan(5.9 * EACH, workers=2))) == 10


def test_scoring_all_of_them_takes_time_too(plan: Callable[..., Reruns]) -> None:
    seconds = 11 * EACH + 1e-6
    assert len(names(plan(seconds, share=2.0))) == 10
    assert len(names(plan(seconds + 12 * 2.0, share=2.0))) == 11  # of 1 s, the baseline's too


def test_without_a_trial_there_is_nothing_to_confirm(plan: Callable[..., Reruns]) -> None:
    assert plan(1e6, TRIALS[:1]).dropped == ("no trial to be trained again",)
