"""What is expected of a study follows from the plans of its draws."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from r2search.config import Study, TrialConfig
from r2search.tuning.budget import Plan, Refusal, search_seconds
from r2search.tuning.foresight import DRAWS, foresee

MakeStudy = Callable[..., Study]


def plan_of(config: TrialConfig) -> Plan:
    """A second an epoch and level; networks of depth 4 are too slow."""
    refusal = Refusal("too_slow", "far too slow", 1.0) if config.model.depth == 4 else None
    return Plan(9, float(config.model.depth), 100, 1e6, 1000, 4, refusal=refusal)


@pytest.fixture
def study(make_study: MakeStudy) -> Study:
    """Rungs at 1 and 3, an end at 9 epochs; one in three goes on."""
    return make_study(
        {
            "budget.time": 2000.0,
            "budget.max_epochs": 27,
            "early_terminate.reduction_factor": 3,
            "budget.trials": 1000,
        }
    )


def test_the_draws_are_sorted_by_cost_and_the_refused_ones_counted(study: Study) -> None:
    seen = foresee(study, plan_of, workers=2)
    seconds = [plan.epoch_seconds for plan in seen.fitting]
    assert seconds == sorted(seconds)
    assert set(seconds) == {1.0, 2.0, 3.0}
    assert len(seen.fitting) + seen.refused["too_slow"] == DRAWS
    assert seen.reasons == {"too_slow": "far too slow"}
    assert list(seen.baselines) == ["outside", "inside"]


def test_a_rung_keeps_one_in_the_reduction_factor(study: Study) -> None:
    seen = foresee(study, plan_of, workers=2)
    assert [level for level, _ in seen.rungs] == [1, 3, 9]
    counts = [count for _, count in seen.rungs]
    assert counts == pytest.approx([seen.trials, seen.trials / 3, seen.trials / 9])


def test_the_expected_trials_fill_the_time_that_the_baselines_leave(study: Study) -> None:
    seen = foresee(study, lambda config: replace(plan_of(config), epoch_seconds=2.0), workers=2)
    have = 2 * search_seconds(study.budget) - 2 * 9 * 2.0
    # one epoch each, two more of a third, six more of a ninth
    assert seen.trials == pytest.approx(have / (2.0 * (1 + 2 / 3 + 6 / 9)))
    assert seen.seconds == pytest.approx(search_seconds(study.budget))


def test_without_early_stopping_every_trial_is_trained_to_its_end(
    study: Study, make_study: MakeStudy
) -> None:
    whole = make_study({"budget.time": 2000.0, "early_terminate.type": "none"})
    seen = foresee(whole, lambda config: replace(plan_of(config), epoch_seconds=2.0), workers=1)
    assert [level for level, _ in seen.rungs] == [9]
    assert seen.trials == pytest.approx(min(30, (1880.0 - 36.0) / 18.0))


def test_the_median_rule_is_taken_to_stop_half(make_study: MakeStudy) -> None:
    study = make_study({"budget.time": 2000.0, "early_terminate.type": "median"})
    seen = foresee(study, lambda config: replace(plan_of(config), epoch_seconds=2.0), workers=1)
    assert seen.rungs == ((1, seen.trials), (9, seen.trials / 2))


def test_the_brackets_of_hyperband_get_the_same_time(study: Study) -> None:
    rule = study.early_terminate.model_copy(update={"type": "hyperband"})
    study = study.model_copy(update={"early_terminate": rule})
    seen = foresee(study, lambda config: replace(plan_of(config), epoch_seconds=2.0), workers=2)
    # epochs of a trial that first waits at 1, at 3, and nowhere
    means = (1 + 2 / 3 + 6 / 9, 3 + 6 / 3, 9)
    counts = [1 / mean for mean in means]
    shares = [sum(counts), counts[0] / 3 + counts[1] + counts[2], counts[0] / 9 + counts[1] / 3]
    shares[2] += counts[2]
    assert [epoch for epoch, _ in seen.rungs] == [1, 3, 9]
    expected = [seen.trials * share / sum(counts) for share in shares]
    assert [count for _, count in seen.rungs] == pytest.approx(expected)


def test_rungs_in_seconds_cost_a_slow_trial_no_more_than_a_fast_one(study: Study) -> None:
    rule = study.early_terminate.model_copy(update={"type": "asha", "unit": "seconds"})
    paced = study.model_copy(update={"early_terminate": rule})

    def slow(config: TrialConfig) -> Plan:
        return replace(plan_of(config), epoch_seconds=6.0, pace=1 / 3)

    assert foresee(paced, slow, 1).trials > foresee(study, slow, 1).trials


def test_flops_may_end_a_study_before_its_time(study: Study) -> None:
    budget = study.budget.model_copy(update={"flops": 1000.0})
    limited = study.model_copy(update={"budget": budget})

    def plan(config: TrialConfig) -> Plan:
        return replace(plan_of(config), epoch_flops=10.0)

    # two baselines take 90 each; a trial (1 + 2/3 + 6/9) * 10 on average
    assert foresee(limited, plan, 2).trials == pytest.approx((1000 - 180) / (10 * 7 / 3))


def test_a_study_with_few_trials_ends_early(make_study: MakeStudy) -> None:
    few = make_study({"budget.time": 20000.0, "budget.trials": 3})
    seen = foresee(few, plan_of, workers=2)
    assert seen.trials == 3
    assert seen.seconds < 0.01 * search_seconds(few.budget)


def test_a_space_in_which_nothing_fits_expects_no_trial(study: Study) -> None:
    refusal = Refusal("too_large", "needs 9 GB", 1.0)
    seen = foresee(study, lambda config: replace(plan_of(config), refusal=refusal), workers=2)
    assert (seen.fitting, seen.trials) == ((), 0.0)
    assert seen.refused == {"too_large": DRAWS}


def test_the_same_study_is_foreseen_alike(study: Study) -> None:
    assert foresee(study, plan_of, workers=2) == foresee(study, plan_of, workers=2)
