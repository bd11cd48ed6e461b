"""What still fits before a search ends."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2search.records import EpochReport, TrialOutcome
from r2search.tuning.budget import Plan
from r2search.tuning.deadline import (
    RECENT,
    is_last_call,
    must_begin,
    needs,
    shortened,
    slowness,
)

seconds = st.floats(0.1, 1e4)


def plan(epochs: int, epoch_seconds: float) -> Plan:
    return Plan(epochs, epoch_seconds, parameters=1, flops=1.0, memory=1, micro_batch=1)


def trial(predicted: float, *took: float) -> TrialOutcome:
    """One whose epochs took so long, half of it for validation."""
    made: dict[str, Any] = {"trial": "t", "baseline": False, "overrides": {}, "config": {}}
    reports = [
        EpochReport(epoch=epoch, metrics={}, pixels=1, seconds={"train": s / 2, "validate": s / 2})
        for epoch, s in enumerate(took, start=1)
    ]
    cost = {"epoch_seconds": predicted}
    return TrialOutcome(**made, cost=cost, planned_epochs=9, started=0.0, reports=reports)


def named(trials: list[TrialOutcome]) -> dict[str, TrialOutcome]:
    return {f"t{number}": each for number, each in enumerate(trials)}


def test_epochs_are_as_slow_as_the_last_one_of_the_middle_trial() -> None:
    # A first epoch, with which a worker begins, says little; so does one trial among many.
    trials = [trial(1.0, 9.0, 2.0), trial(10.0, 10.0), trial(1.0, 50.0), trial(1.0)]
    assert slowness(named(trials)) == 2.0


def test_only_the_trials_that_began_last_tell_how_slow_epochs_are_now() -> None:
    before, since = [trial(1.0, 9.0)] * 1000, [trial(1.0, 2.0)] * RECENT
    assert slowness(named(before + since)) == 2.0


def test_before_the_first_report_epochs_take_what_was_predicted() -> None:
    assert slowness(named([trial(1.0)])) == slowness({}) == 1.0


def test_a_trial_needs_what_its_middle_epoch_took_for_every_further_one() -> None:
    assert needs(trial(1.0, 30.0, 3.0, 4.0), epochs=5) == 20.0


def test_baselines_begin_when_three_tenths_more_than_they_need_are_left() -> None:
    plans = [plan(4, 2.0), plan(1, 2.0)]  # 10 s
    assert not must_begin(plans, left=13.1, slow=1.0)
    assert must_begin(plans, left=12.9, slow=1.0)
    assert must_begin(plans, left=25.9, slow=2.0)


def test_where_no_time_ends_the_search_baselines_begin_at_once() -> None:
    assert must_begin([plan(1, 1.0)], left=math.inf, slow=1.0)


@pytest.mark.parametrize(("left", "call"), [(13.1, False), (12.9, True)])
def test_the_last_call_comes_when_three_tenths_more_than_is_needed_are_left(
    left: float, call: bool
) -> None:
    assert is_last_call(10.0, left) is call


@given(st.integers(1, 200), seconds, st.floats(-1e4, 1e5), st.floats(0.1, 10.0))
def test_a_shortened_plan_ends_in_time_and_has_no_epoch_more_nor_one_less_than_it_must(
    epochs: int, epoch_seconds: float, left: float, slow: float
) -> None:
    found = shortened(plan(epochs, epoch_seconds), left, slow).epochs
    assert 1 <= found <= epochs
    epoch = slow * epoch_seconds
    assert found == 1 or found * epoch <= left * (1 + 1e-9)
    assert found == epochs or (found + 1) * epoch > left * (1 - 1e-9)
