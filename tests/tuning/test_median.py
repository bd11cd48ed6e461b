"""Who is worse than half of the others is stopped: the median rule, without Ray."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2search.tuning.median import MedianRule


def train(rule: MedianRule, name: str, *values: float) -> int | None:
    """The epoch after which a trial with these values is stopped, if it is."""
    for epoch, value in enumerate(values, start=1):
        if rule.report(name, epoch, value):
            return epoch
    return None


@pytest.fixture
def rule() -> MedianRule:
    """Two trials with averages of 0.6 and 0.8 after three epochs, and one of 0.4."""
    rule = MedianRule(grace_period=2, least=3)
    for name, value in (("a", 0.4), ("b", 0.6), ("c", 0.8)):
        assert train(rule, name, value, value, value) is None
    return rule


def test_a_trial_below_the_median_is_stopped_after_the_grace_period(rule: MedianRule) -> None:
    assert train(rule, "late", 0.5, 0.5, 0.5) == 2


def test_a_trial_at_the_median_goes_on(rule: MedianRule) -> None:
    assert train(rule, "even", 0.5, 0.6, 0.1) is None  # by its best, not by its last


def test_the_others_are_judged_by_their_average_to_the_same_epoch() -> None:
    rule = MedianRule(grace_period=1, least=1)
    train(rule, "slow", 0.0, 0.4, 0.8, 0.8)
    assert train(rule, "x", 0.1, 0.3, 0.35, 0.4) == 3  # 0.4 on average, of 0.0, 0.4 and 0.8


def test_too_few_others_judge_nobody() -> None:
    rule = MedianRule(grace_period=1, least=2)
    assert train(rule, "a", 0.9, 0.9) is None
    assert train(rule, "b", 0.1, 0.1) is None
    assert train(rule, "c", 0.1, 0.1) == 1


def test_a_value_that_is_not_finite_is_the_worst(rule: MedianRule) -> None:
    assert train(rule, "broken", math.nan, math.nan) == 2


def test_an_epoch_that_comes_again_changes_nothing(rule: MedianRule) -> None:
    rule.report("again", 1, 0.9)
    rule.report("again", 1, 0.1)
    assert not rule.report("again", 2, 0.2)  # 0.9 still counts


Curves = st.lists(st.lists(st.floats(0, 1), min_size=8, max_size=8), min_size=1, max_size=12)


@given(Curves, st.integers(1, 6), st.integers(1, 4))
def test_nobody_is_stopped_in_the_grace_period_or_by_too_few(
    curves: list[list[float]], grace: int, least: int
) -> None:
    rule, told = MedianRule(grace, least), []
    for number, values in enumerate(curves):
        stopped = train(rule, str(number), *values)
        if stopped is not None:
            others = [other[:stopped] for other in told if len(other) >= stopped]
            assert stopped >= grace
            assert len(others) >= least
            assert max(values[:stopped]) < statistics.median(map(statistics.fmean, others))
        told.append(values[:stopped])
