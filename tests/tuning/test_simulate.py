"""Studies replayed on recorded curves."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_curves import synthetic_curves

from r2search.config import Misuse, Study
from r2search.models.cost import Rate
from r2search.space import trial_config
from r2search.tuning.curves import Recording
from r2search.tuning.simulate import CLOSE, Replayed, Table, replay

MakeStudy = Callable[..., Study]

LONG = {"budget.time": "10h", "budget.max_epochs": 9, "budget.trials": 200}
METRIC = "val/dice_mean"


def of(make_study: MakeStudy, **settings: Any) -> Study:
    given = {key.replace("__", "."): value for key, value in settings.items()}
    return make_study(LONG | {"search.searcher": "random"} | given)


@pytest.fixture(scope="module")
def recording(make_study: MakeStudy) -> Recording:
    return synthetic_curves(of(make_study), 40)


def best_of(recording: Recording) -> float:
    return max(r.metrics[METRIC] for curve in recording.curves for r in curve.reports)


@pytest.mark.parametrize("searcher", ["random", "tpe"])
def test_without_early_stopping_and_with_time_enough_the_best_config_is_found(
    make_study: MakeStudy, recording: Recording, searcher: str
) -> None:
    study = of(make_study, early_terminate__type="none", search__searcher=searcher)
    found = replay(Table(study, recording, 4), 0)
    assert found.trials == len(recording.curves)
    assert found.best == found.value_at(1.0) == best_of(recording)
    assert found.regret_at(1.0) == 0.0
    oracle = Table(study, recording, 4).oracle_seconds()
    assert 0 < oracle <= found.seconds_to_target() < found.seconds < found.planned
    assert not found.stopped_best


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000))
def test_a_seed_has_one_result(make_study: MakeStudy, recording: Recording, seed: int) -> None:
    study = of(make_study, budget__time=120, search__searcher="tpe")
    found = replay(Table(study, recording, 3), seed)
    assert replay(Table(study, recording, 3), seed) == found
    assert found != replace(replay(Table(study, recording, 3), seed + 1), seed=seed)
    times, values = zip(*found.found, strict=True)
    assert list(times) == sorted(times)
    assert list(values) == sorted(values)
    assert found.best >= values[-1]


def test_curves_that_cross_deceive_a_scheduler_that_stops_early(
    make_study: MakeStudy, recording: Recording
) -> None:
    study = of(make_study, early_terminate__grace_period=1, early_terminate__reduction_factor=4)
    found = replay(Table(study, recording, 4), 0)
    assert found.stopped_best
    assert found.regret_at(1.0) > CLOSE
    assert found.seconds_to_target() == math.inf


@pytest.mark.parametrize("searcher", ["random", "tpe"])
@pytest.mark.parametrize("kind", ["ray_asha", "asha", "pasha", "hyperband", "median"])
def test_to_minimise_is_the_mirror_of_to_maximise(
    make_study: MakeStudy, kind: str, searcher: str
) -> None:
    given = {"early_terminate__type": kind, "search__searcher": searcher}
    studies = [of(make_study, metric__goal=goal, budget__time=150, **given) for goal in GOALS]
    up, down = (replay(Table(study, synthetic_curves(study, 40), 2), 4) for study in studies)
    assert [(t, -value) for t, value in down.found] == list(up.found)
    assert (-down.best, down.epochs, down.trials) == (up.best, up.epochs, up.trials)
    assert down.regret_at(0.01) == up.regret_at(0.01) > 0


GOALS = ("maximize", "minimize")


def test_baselines_are_run_as_recorded_and_those_that_were_not_are_left_out(
    make_study: MakeStudy, recording: Recording
) -> None:
    table = Table(of(make_study), recording, 1)
    assert list(table.study.baselines) == ["outside", "inside"]
    curve = table.curve("outside", {})
    assert curve.baseline
    without = replace(recording, curves=tuple(c for c in recording.curves if c.name != "outside"))
    assert list(Table(of(make_study), without, 1).study.baselines) == ["inside"]


def test_a_config_costs_what_the_clock_of_the_recording_says(
    make_study: MakeStudy, recording: Recording
) -> None:
    study = of(make_study)
    table = Table(study, recording, 1)
    curve = next(curve for curve in recording.curves if not curve.baseline)
    plan = table.planner(trial_config(study, curve.overrides))
    assert plan.epoch_seconds == pytest.approx(curve.reports[0].seconds["clock"])
    assert (plan.parameters, plan.flops) == (curve.parameters, curve.flops)
    came = table.train({"name": "t0001", "overrides": curve.overrides}, 1)
    assert sum(came.seconds.values()) == pytest.approx(curve.reports[0].seconds["clock"])


def test_what_the_recording_refused_is_refused_and_what_it_has_is_not(
    make_study: MakeStudy, recording: Recording
) -> None:
    study = of(make_study)
    slow = replace(recording, rate=Rate(1e3, 1e3))
    table = Table(study, slow, 1)
    known = trial_config(study, recording.curves[-1].overrides)
    other = known.model_copy(update={"model": known.model.model_copy(update={"dropout": 0.25})})
    assert table.planner(known).refusal is None
    refusal = table.planner(other).refusal
    assert refusal is not None
    assert refusal.cause == "too_slow"


def test_a_study_with_little_time_has_no_dear_configs(
    make_study: MakeStudy, recording: Recording
) -> None:
    few, all_ = (
        Table(of(make_study, budget__time=seconds), recording, 1).study.budget.trials
        for seconds in (60, 36_000)
    )
    assert 0 < few < all_ == 40
    with pytest.raises(Misuse, match="none of the recorded configs"):
        Table(of(make_study, budget__time=30), recording, 1)


def test_a_narrower_space_has_the_configs_that_lie_in_it(
    make_study: MakeStudy, recording: Recording
) -> None:
    study = of(make_study, model__block="conv")
    table = Table(study, recording, 1)
    plain = [
        curve
        for curve in recording.curves
        if not curve.baseline and curve.overrides["model.block"] == "conv"
    ]
    assert table.study.budget.trials == len(plain) > 0
    take = table.taker()
    taken = take(take({}))
    assert "model.block" not in taken
    assert json.dumps(taken, sort_keys=True) in table._curves


def test_an_early_look_sees_nothing() -> None:
    found = Replayed(
        seed=0,
        found=((10.0, 0.5), (50.0, 0.8)),
        best=0.9,
        seconds=90.0,
        planned=100.0,
        trials=2,
        epochs=9,
        stopped_best=False,
    )
    assert [found.value_at(share) for share in (0.05, 0.1, 0.49, 0.5)] == [None, 0.5, 0.5, 0.8]
    assert found.regret_at(0.05) == math.inf
    assert found.regret_at(1.0) == pytest.approx(0.1)
    assert found.seconds_to_target() == math.inf
    assert replace(found, best=0.804).seconds_to_target() == 50.0
