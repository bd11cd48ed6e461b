"""Which configs fit a budget, and how long each may train."""

import pytest

from r2search.config import BudgetConfig, ModelConfig, TrialConfig
from r2search.models.cost import Rate, epoch_seconds
from r2search.tuning.budget import plan_trial, search_seconds

CONFIG = TrialConfig(model=ModelConfig(block="conv", depth=2, base_filters=4))
# 1000 s, of which 6 % are for the end: 940 s of search, and two workers do 1880 worker-seconds.
BUDGET = BudgetConfig(time=1000, max_epochs=40)
VALIDATED = 10_000  # pixels


def rate_for(seconds: float, config: TrialConfig = CONFIG) -> Rate:
    """The rate at which an epoch of `config` takes so many seconds."""
    unit = epoch_seconds(config, VALIDATED, Rate(1.0, 1.0))
    return Rate(unit / seconds, unit / seconds)


@pytest.mark.parametrize(
    ("time", "search"),
    [(1000.0, 940.0), (60.0, 55.0), (8.0, 4.0), (1.0, 0.5)],
    ids=["6 % are for the end", "at least 5 s", "but never over half", "however short"],
)
def test_the_search_leaves_time_for_what_follows_it(time: float, search: float) -> None:
    assert search_seconds(BudgetConfig(time=time)) == pytest.approx(search)


@pytest.mark.parametrize(("seconds", "refused"), [(18.7, False), (18.9, True)])
def test_an_epoch_over_one_percent_of_the_worker_seconds_is_refused(
    seconds: float, refused: bool
) -> None:
    plan = plan_trial(CONFIG, BUDGET, 2, VALIDATED, rate_for(seconds))  # limit: 18.8 s
    assert bool(plan.refusal) == refused
    if refused:
        assert plan.refusal == "an epoch would take 18.9 s, over the limit of 18.8 s"


@pytest.mark.parametrize(
    ("seconds", "epochs"),
    [(1.0, 40), (9.3, 40), (9.5, 39), (18.0, 20), (1000.0, 1), (1e6, 1)],
    ids=["376 fit, 40 asked", "40.4 fit", "39.6 fit", "20.9 fit", "none fits", "far from it"],
)
def test_a_trial_gets_the_epochs_that_a_fifth_of_the_worker_seconds_holds(
    seconds: float, epochs: int
) -> None:
    # 0.2 * 1880 = 376 s; a baseline is planned by the same rule, and always gets one epoch.
    assert plan_trial(CONFIG, BUDGET, 2, VALIDATED, rate_for(seconds)).epochs == epochs


def test_a_slower_network_gets_fewer_epochs_of_the_same_budget() -> None:
    slow = CONFIG.model_copy(update={"model": ModelConfig(depth=4, base_filters=16)})
    rate = rate_for(15.0)
    fast_plan, slow_plan = (plan_trial(c, BUDGET, 2, VALIDATED, rate) for c in (CONFIG, slow))
    assert slow_plan.epoch_seconds > fast_plan.epoch_seconds
    assert slow_plan.epochs < fast_plan.epochs


def test_more_workers_allow_costlier_trials() -> None:
    plans = [plan_trial(CONFIG, BUDGET, n, VALIDATED, rate_for(18.9)) for n in (1, 2, 4)]
    assert [bool(plan.refusal) for plan in plans] == [True, True, False]
    assert [plan.epochs for plan in plans] == [9, 19, 39]  # of 188, 376 and 752 s


def test_a_plan_tells_its_cost_in_plain_numbers() -> None:
    plan = plan_trial(CONFIG, BUDGET, 2, VALIDATED, rate_for(2.0))
    assert plan.cost() == {
        "parameters": plan.parameters,
        "flops": plan.flops,
        "epoch_seconds": pytest.approx(2.0),
    }
    assert plan.parameters > 0
    assert plan.flops > 0
