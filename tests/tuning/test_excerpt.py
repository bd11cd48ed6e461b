"""What TPE is shown of a long study. Real Optuna."""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers._tpe.sampler import _split_trials, default_gamma
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

from r2search.config import Study
from r2search.tuning import excerpt, proposals
from r2search.tuning.budget import Plan
from r2search.tuning.events import Ledger
from r2search.tuning.excerpt import ExcerptStorage
from r2search.tuning.searcher import StudySearcher

MakeStudy = Callable[..., Study]

SPACE: dict[str, BaseDistribution] = {"x": FloatDistribution(0, 1)}


def fill(study: optuna.Study, count: int, seed: int = 0) -> None:
    """Trials of every kind, some at a time: they end in another order than they began in."""
    rng, running = random.Random(seed), list[optuna.Trial]()
    for _ in range(count):
        running.append(study.ask(SPACE))
        while len(running) > 4 or (running and rng.random() < 0.5):
            end(study, running.pop(rng.randrange(len(running))), rng)


def end(study: optuna.Study, trial: optuna.Trial, rng: random.Random) -> None:
    values = [round(rng.random(), 2) for _ in study.directions]  # some are equal
    kind = rng.choice(["complete", "pruned", "unreported", "infeasible", "failed"])
    if kind == "complete":
        study.tell(trial, values)
        return
    if kind == "infeasible":
        trial.set_constraint("too_slow", rng.random())
    elif kind == "pruned" and len(values) == 1:
        for step in range(1, rng.choice([2, 4])):
            trial.report(rng.random(), step)
    study.tell(trial, state=TrialState.FAIL if kind == "failed" else TrialState.PRUNED)


def twins(directions: list[StudyDirection], count: int) -> tuple[optuna.Study, optuna.Study]:
    """The same trials, whole and as an excerpt."""
    whole, some = (
        optuna.create_study(
            directions=directions, storage=storage, sampler=optuna.samplers.RandomSampler(seed=0)
        )
        for storage in (InMemoryStorage(), ExcerptStorage(directions, seed=0))
    )
    for study in (whole, some):
        fill(study, count)
    return whole, some


def ended(study: optuna.Study) -> list[int]:
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    return [trial.number for trial in study.get_trials(deepcopy=False, states=states)]


AIMS = [
    [StudyDirection.MAXIMIZE],
    [StudyDirection.MINIMIZE],
    [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE],
]


@pytest.mark.parametrize("directions", AIMS, ids=str)
def test_as_long_as_all_fit_all_are_shown(directions: list[StudyDirection]) -> None:
    whole, some = twins(directions, 300)
    assert [t.number for t in some.trials] == [t.number for t in whole.trials]
    assert [t.params for t in some.trials] == [t.params for t in whole.trials]


@pytest.mark.parametrize("directions", AIMS[:2], ids=str)
def test_what_tpe_takes_for_good_is_what_it_would_take_of_all(
    directions: list[StudyDirection],
) -> None:
    whole, some = twins(directions, 1200)
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    good = []
    for study in (whole, some):
        below, _ = _split_trials(study, study.get_trials(states=states), default_gamma(400))
        good.append([trial.number for trial in below])
    assert len(ended(some)) == excerpt.MOST < len(ended(whole))
    assert len(good[0]) == default_gamma(len(ended(whole))) == 25
    assert good[0] == good[1]


@pytest.mark.parametrize("directions", AIMS, ids=str)
def test_the_others_are_a_sample_of_all_times(directions: list[StudyDirection]) -> None:
    whole, some = twins(directions, 1200)
    assert set(ended(some)) < set(ended(whole))
    assert len(ended(some)) == excerpt.MOST
    for first in range(0, 1200, 200):
        share = sum(first <= number < first + 200 for number in ended(some)) / excerpt.MOST
        assert 0.1 < share < 0.25


@pytest.mark.parametrize("directions", AIMS[:2], ids=str)
def test_who_is_shown_follows_from_the_results_and_not_from_who_ended_first(
    directions: list[StudyDirection],
) -> None:
    shown = []
    for order in (1, -1):
        study = optuna.create_study(directions=directions, storage=ExcerptStorage(directions, 0))
        trials = [study.ask() for _ in range(600)]
        for trial in trials[::order]:
            study.tell(trial, random.Random(trial.number).random())
        shown.append(ended(study))
    assert shown[0] == shown[1]


def test_the_front_of_two_objectives_is_shown() -> None:
    whole, some = twins(AIMS[2], 1200)
    front = {trial.number for trial in whole.best_trials}
    assert 1 < len(front) < excerpt.GOOD
    assert front <= set(ended(some))


def test_what_runs_is_shown_and_what_failed_is_forgotten_with_the_first_that_is_left_out() -> None:
    _, some = twins(AIMS[0], 1200)
    some.ask(SPACE)
    counted = Counter(trial.state for trial in some.trials)
    assert counted.keys() == {TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING}
    assert some.trials[-1].state == TrialState.RUNNING
    assert [t.number for t in some.trials] == sorted(t.number for t in some.trials)


class Whole(InMemoryStorage):
    """Optuna's own, in the place of ours."""

    def __init__(self, directions: list[StudyDirection], seed: int) -> None:
        super().__init__()

    @property
    def created(self) -> int:
        return len(self.get_all_trials(0, deepcopy=False))


def drawn(study: Study, count: int) -> list[dict[str, Any]]:
    """What a study proposes whose values are functions of the settings."""
    plan = Plan(4, 1.0, 1, 1.0, memory=1, micro_batch=1)
    searcher, found = StudySearcher(study, lambda config: plan, Ledger(None)), []
    for number in range(count):
        proposal = searcher.suggest(f"ray{number}")
        assert isinstance(proposal, dict)
        found.append(proposal["overrides"])
        value = 1.0 - 0.1 * found[-1].get("model.depth", 1) - found[-1].get("model.dropout", 0)
        epoch = number % 4 + 1
        searcher.on_trial_complete(f"ray{number}", {"val/dice_mean": value, "epoch": epoch})
    return found


@pytest.mark.parametrize("against", [[], ["epoch_seconds"]])
def test_a_study_that_is_shown_whole_proposes_as_with_optunas_own_storage(
    make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch, against: list[str]
) -> None:
    study = make_study(
        {"budget.trials": 80, "metric.against": against, "early_terminate.type": "none"}
    )
    ours = drawn(study, 60)
    monkeypatch.setattr(proposals, "ExcerptStorage", Whole)
    assert drawn(study, 60) == ours
