"""Which configs fit a budget, and how long each may train."""

import re
from collections.abc import Callable

import pytest

from r2search.config import BudgetConfig, ModelConfig, Study, TrialConfig
from r2search.models.cost import Rate, epoch_seconds, model_cost
from r2search.models.memory import step_memory, trial_memory
from r2search.space import trial_config
from r2search.tuning.budget import (
    Plan,
    Validated,
    epoch_limit,
    plan_baseline,
    plan_trial,
    search_seconds,
    seconds_left,
    training_flops,
    trial_seconds,
)
from r2search.tuning.resources import GPU_PROCESS_MEMORY, LAUNCH_S, SHARES, Room

CONFIG = TrialConfig(model=ModelConfig(block="conv", depth=2, base_filters=4))
# 1000 s, of which 6 % are for the end: 940 s of search, and two workers do 1880 worker-seconds.
BUDGET = BudgetConfig(time=1000, max_epochs=40)
VALIDATED = Validated(pixels=10_000, edge=100)


def rate_for(seconds: float, config: TrialConfig = CONFIG) -> Rate:
    """The rate at which an epoch of `config` takes so many seconds."""
    unit = epoch_seconds(config, VALIDATED.pixels, Rate(1.0, 1.0))
    return Rate(unit / seconds, unit / seconds)


def plan(
    config: TrialConfig = CONFIG,
    workers: int = 2,
    rate: Rate | None = None,
    room: Room | None = None,
) -> Plan:
    return plan_trial(config, BUDGET, workers, VALIDATED, rate or rate_for(1.0), room or Room())


def test_a_budget_of_flops_ends_as_they_went_so_far() -> None:
    budget = BUDGET.model_copy(update={"flops": 1e12})
    assert seconds_left(BUDGET, 100.0, 1e12) == 840.0  # there is no limit of them
    assert seconds_left(budget, 100.0, 0.0) == 840.0  # nothing is trained yet
    assert seconds_left(budget, 100.0, 4e11) == pytest.approx(150.0)  # 0.6 of 1e12 is left
    assert seconds_left(budget, 900.0, 1e11) == 40.0  # the time is over before
    assert seconds_left(budget, 100.0, 1.1e12) < 0


def test_the_flops_of_an_epoch_are_those_of_its_patches_three_times() -> None:
    patches = CONFIG.train.epoch_pixels / CONFIG.patch**2
    assert training_flops(CONFIG, 7.0) == pytest.approx(3 * 7.0 * patches)
    assert plan().epoch_flops == training_flops(CONFIG, plan().flops)


def test_a_slow_network_has_a_slow_pace() -> None:
    # An eighth of 1880 worker-seconds, 235, pays for 40 epochs of 5.875 s.
    assert plan(rate=rate_for(5.875)).pace == pytest.approx(1.0)
    assert plan(rate=rate_for(11.75)).pace == pytest.approx(0.5)
    assert plan(rate=rate_for(1.0)).pace == pytest.approx(5.875)


@pytest.mark.parametrize(
    ("seconds", "part"),
    [
        (1.0, 1.0),
        (234.0, 1.0),  # an eighth of 1880 worker-seconds, 235, pays for it
        (470.0, 0.5),
        (1e9, 0.0),  # a step is the least
    ],
)
def test_a_baseline_trains_the_part_of_an_epoch_that_a_trial_may(
    make_study: Callable[..., Study], seconds: float, part: float
) -> None:
    study = make_study({"budget.time": 1000, "budget.max_epochs": 40})
    given = dict(study.baselines["outside"].overrides)
    config = trial_config(study, given)
    rate = rate_for(seconds, config)

    def planner(config: TrialConfig) -> Plan:
        return plan_trial(config, study.search_budget, 2, VALIDATED, rate, Room())

    overrides, planned = plan_baseline(study, "outside", planner)
    assert study.baselines["outside"].overrides == given  # nobody else sees a change
    whole, step = config.train.epoch_pixels, config.train.batch_size * config.patch**2
    trained = overrides.pop("train.epoch_pixels", whole)
    assert overrides == given
    assert trained == pytest.approx(max(part * whole, step), abs=1)
    assert planned.epochs == {1.0: 40}.get(seconds, 1)
    if part == 0.5:
        assert planned.epoch_seconds == pytest.approx(235, rel=0.05)


@pytest.mark.parametrize(
    ("time", "search"),
    [(1000.0, 940.0), (60.0, 55.0), (8.0, 4.0), (1.0, 0.5)],
    ids=["6 % are for the end", "at least 5 s", "but never over half", "however short"],
)
def test_the_search_leaves_time_for_what_follows_it(time: float, search: float) -> None:
    assert search_seconds(BudgetConfig(time=time)) == pytest.approx(search)


@pytest.mark.parametrize(
    ("workers", "trial"),
    [(1, 117.5), (2, 235.0), (4, 470.0), (16, 470.0), (1000, 470.0)],
)
def test_a_trial_takes_half_of_the_wall_clock_at_most(workers: int, trial: float) -> None:
    assert trial_seconds(BUDGET, workers) == pytest.approx(trial)
    assert epoch_limit(BUDGET, workers) == pytest.approx(0.08 * trial)
    assert plan(workers=workers, rate=rate_for(trial / 30.5)).epochs == 30


@pytest.mark.parametrize(("seconds", "refused"), [(18.7, False), (18.9, True)])
def test_an_epoch_over_one_percent_of_the_worker_seconds_is_refused(
    seconds: float, refused: bool
) -> None:
    refusal = plan(rate=rate_for(seconds)).refusal  # limit: 18.8 s
    assert bool(refusal) == refused
    if refusal:
        assert refusal.cause == "too_slow"
        assert refusal.reason == "an epoch would take 18.9 s, over the limit of 18.8 s"
        assert refusal.excess == pytest.approx(18.9 / 18.8 - 1)


@pytest.mark.parametrize(
    ("seconds", "epochs"),
    [(1.0, 40), (5.8, 40), (5.95, 39), (18.0, 13), (1000.0, 1), (1e6, 1)],
    ids=["235 fit, 40 asked", "40.5 fit", "39.5 fit", "13.1 fit", "none fits", "far from it"],
)
def test_a_trial_gets_the_epochs_that_an_eighth_of_the_worker_seconds_holds(
    seconds: float, epochs: int
) -> None:
    # 1880 / 8 = 235 s; a baseline is planned by the same rule, and always gets one epoch.
    assert plan(rate=rate_for(seconds)).epochs == epochs


def test_a_slower_network_gets_fewer_epochs_of_the_same_budget() -> None:
    slow = CONFIG.model_copy(update={"model": ModelConfig(depth=4, base_filters=16)})
    rate = rate_for(15.0)
    fast_plan, slow_plan = (plan(c, rate=rate) for c in (CONFIG, slow))
    assert slow_plan.epoch_seconds > fast_plan.epoch_seconds
    assert slow_plan.epochs < fast_plan.epochs


def test_more_workers_allow_costlier_trials() -> None:
    plans = [plan(workers=n, rate=rate_for(18.9)) for n in (1, 2, 4)]
    assert [bool(plan.refusal) for plan in plans] == [True, True, False]
    assert [plan.epochs for plan in plans] == [6, 12, 24]  # of 117, 235 and 470 s


def test_a_plan_tells_its_cost_in_plain_numbers() -> None:
    planned = plan(rate=rate_for(2.0))
    assert planned.cost() == {
        "parameters": planned.parameters,
        "flops": planned.flops,
        "epoch_flops": planned.epoch_flops,
        "epoch_seconds": pytest.approx(2.0),
        "memory": trial_memory(CONFIG, "float32", CONFIG.train.batch_size, VALIDATED.edge),
    }
    assert planned.parameters > 0
    assert planned.flops > 0


def test_what_does_not_fit_at_once_is_trained_in_micro_batches() -> None:
    room = Room(step_memory(CONFIG, "float32", 3))
    planned = plan(room=room)
    assert (planned.micro_batch, planned.refusal) == (3, None)
    assert plan().micro_batch == CONFIG.train.batch_size  # in boundless memory


def test_what_does_not_fit_patch_by_patch_is_refused() -> None:
    needed = trial_memory(CONFIG, "float32", 1, VALIDATED.edge)
    planned = plan(room=Room(needed / 1.5))
    assert planned.refusal
    assert planned.refusal.cause == "too_large"
    assert planned.refusal.excess == pytest.approx(0.5)
    assert planned.refusal.reason == (
        f"needs {needed / 1e6:.0f} MB, over the limit of {needed / 1.5e6:.0f} MB a worker"
    )
    assert planned.micro_batch == 1  # of a baseline, which is run all the same
    assert plan(room=Room(needed)).refusal is None


def test_large_needs_are_told_in_gigabytes() -> None:
    config = TrialConfig(model=ModelConfig(depth=5, base_filters=64, recurrence=3))
    refusal = plan(config, room=Room(2e9)).refusal
    assert refusal
    assert re.fullmatch(r"needs \d+\.\d GB, over the limit of 2\.0 GB a worker", refusal.reason)


def test_memory_is_that_of_the_precision_in_which_a_trial_is_trained() -> None:
    forced = CONFIG.model_copy(
        update={"train": CONFIG.train.model_copy(update={"dtype": "float32"})}
    )
    half, whole = (plan(c, room=Room(dtype="bfloat16")).memory for c in (CONFIG, forced))
    assert half == trial_memory(CONFIG, "bfloat16", 16, VALIDATED.edge)
    assert whole == trial_memory(CONFIG, "float32", 16, VALIDATED.edge)


def test_a_trial_gets_the_share_of_a_gpu_that_its_network_needs() -> None:
    large = TrialConfig(model=ModelConfig(depth=4, base_filters=64))
    fast = Rate(1e20, 1e20)
    room = Room(16e9, gpu_memory=16e9, shares=SHARES)
    shares = [plan(c, rate=fast, room=room).gpu_share for c in (CONFIG, large)]
    assert shares == [1 / 16, 1 / 2]
    needed = plan(large, rate=fast, room=room).memory
    assert 16e9 / 4 < needed + GPU_PROCESS_MEMORY < 16e9 / 2
    assert plan(CONFIG, rate=fast).gpu_share is None  # on CPUs


def test_a_step_that_keeps_a_gpu_busy_gets_all_of_it() -> None:
    room = Room(16e9, gpu_memory=16e9, shares=SHARES)
    patches = CONFIG.train.batch_size
    flops = 3 * model_cost(CONFIG.model, CONFIG.patch, CONFIG.patch).flops * patches
    shares = [
        plan(rate=Rate(flops / (busy * LAUNCH_S), 1e20), room=room).gpu_share
        for busy in (0.06, 0.2, 0.6, 50.0)
    ]
    assert shares == [1 / 16, 1 / 4, 1, 1]
