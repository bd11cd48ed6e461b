"""A search without Ray: workers, and a clock that jumps."""

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from r2search.config import Study, TrialConfig
from r2search.data.samples import rng_for
from r2search.records import EpochReport
from r2search.tuning.budget import Plan, search_seconds
from r2search.tuning.curves import Failure
from r2search.tuning.events import Ledger
from r2search.tuning.scheduler import SCHEDULERS, build_scheduler
from r2search.tuning.searcher import StudySearcher
from r2search.tuning.virtual import SWITCH_S, Clock, VirtualSearch

MakeStudy = Callable[..., Study]

METRIC = "val/dice_mean"
EPOCH_FLOPS = 1e9
Value = Callable[[dict[str, Any], int], float]


def drawn_value(proposal: dict[str, Any], epoch: int) -> float:
    return float(rng_for(0, proposal["name"], epoch).random())


def plan(config: TrialConfig) -> Plan:
    """A deep network takes longer, and trains for fewer epochs."""
    seconds = float(config.model.depth)
    return Plan(9 - config.model.depth, seconds, 1, 1.0, 1, 1, epoch_flops=EPOCH_FLOPS * seconds)


def run(
    study: Study,
    workers: int = 1,
    value: Value = drawn_value,
    scheduler: TrialScheduler | None = None,
) -> Ledger:
    """The record of a search whose trials with a rate above 0.05 break in their third epoch."""

    def train(proposal: dict[str, Any], epoch: int) -> EpochReport | Failure:
        seconds = {"train": proposal["cost"]["epoch_seconds"], "validate": 0.0}
        if epoch == 3 and proposal["config"]["train"]["lr"] > 0.05:
            return Failure("loss is nan", seconds)
        metrics = {METRIC: value(proposal, epoch)}
        return EpochReport(epoch=epoch, metrics=metrics, pixels=1, seconds=seconds)

    ledger = Ledger(None, clock := Clock())
    searcher = StudySearcher(study, plan, ledger, left=lambda: ledger.left(study.budget))
    scheduler = scheduler or build_scheduler(study)
    VirtualSearch(study, searcher, scheduler, train, ledger, clock, workers).run()
    return ledger


def test_a_trial_that_was_called_to_its_end_is_given_to_no_other_worker(
    make_study: MakeStudy,
) -> None:
    study = make_study({"early_terminate.type": "asha", "budget.time": 60, "budget.max_epochs": 9})
    ledger = run(study, workers=4)
    passing = set()
    for name in ledger.trials.keys() - study.baselines.keys():
        own = [event for event in ledger.past if event.get("trial") == name]
        for event, then in pairwise(own):
            assert (event["event"], then["event"]) != ("promote", "promote")
            if event.get("epoch") in (1, 2, 4, 8) and then["event"] == "report":
                passing.add(name)
    assert passing  # a rung, where it would be there for any worker to take


@pytest.mark.parametrize("kind", SCHEDULERS)
@settings(max_examples=8, deadline=None)
@given(
    workers=st.integers(1, 5),
    seed=st.integers(0, 1000),
    seconds=st.integers(20, 400),
    grace=st.integers(1, 3),
)
def test_a_search_keeps_to_its_workers_its_clock_and_its_plans(
    make_study: MakeStudy, kind: str, workers: int, seed: int, seconds: int, grace: int
) -> None:
    study = make_study(
        {
            "early_terminate.type": kind,
            "early_terminate.grace_period": grace,
            "search.seed": seed,
            "search.searcher": "random",
            "budget.time": seconds,
            "budget.max_epochs": 9,
        }
    )
    ledger = run(study, workers)
    running: set[str] = set()
    times = [event["t"] for event in ledger.past]
    assert times == sorted(times)
    assert times[-1] <= search_seconds(study.budget)
    for event in ledger.past:
        if event["event"] in ("trial", "promote"):
            assert event["trial"] not in running
            running.add(event["trial"])
        elif event["event"] in ("wait", "end"):
            running.discard(event["trial"])
        elif event["event"] == "report":
            assert event["trial"] in running
        assert len(running) <= workers
    for trial in ledger.trials.values():
        epochs = [report.epoch for report in trial.reports]
        assert epochs == list(range(1, len(epochs) + 1))
        assert len(epochs) <= trial.planned_epochs
        assert (trial.outcome == "completed") == (len(epochs) == trial.planned_epochs)
        assert trial.outcome != "stopped" or len(epochs) >= grace
        assert not trial.baseline or trial.outcome in ("completed", "interrupted")
    assert not running


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("seed", range(3))
def test_no_trial_is_stopped_in_its_grace_period_or_before_another_came_so_far(
    make_study: MakeStudy, kind: str, seed: int
) -> None:
    study = make_study(
        {
            "early_terminate.type": kind,
            "early_terminate.grace_period": 2,
            "budget.time": 200,
            "budget.max_epochs": 8,
            "search.seed": seed,
        }
    )
    own = [trial for trial in run(study, workers=3).trials.values() if not trial.baseline]
    stopped = [trial for trial in own if trial.outcome == "stopped"]
    assert bool(stopped) is (kind != "none")
    for trial in stopped:
        assert len(trial.reports) >= 2
        assert trial.ended is not None
        others = [
            other
            for other in own
            if other is not trial and sum(t <= trial.ended for t in other.report_times) >= 2
        ]
        assert others


def test_an_epoch_takes_its_seconds_and_a_switch_its_own(make_study: MakeStudy) -> None:
    study = make_study({"early_terminate.type": "none", "budget.trials": 1})
    ledger = run(study)
    trial = ledger.trials["t0001"]
    each = trial.cost["epoch_seconds"]
    expected = [trial.started + SWITCH_S + n * each for n in range(1, len(trial.reports) + 1)]
    assert trial.report_times == pytest.approx(expected, abs=2e-3)


def test_workers_train_side_by_side(make_study: MakeStudy) -> None:
    study = make_study({"early_terminate.type": "none", "budget.trials": 30})
    alone, four = (run(study, workers).past[-1]["t"] for workers in (1, 4))
    assert alone / 4 <= four <= alone / 4 + 40  # the longest trial takes less


def test_a_budget_of_flops_ends_the_search(make_study: MakeStudy) -> None:
    rule = {"early_terminate.type": "asha", "budget.trials": 1000, "budget.time": "100h"}
    most = 200 * EPOCH_FLOPS
    ledger = run(make_study(rule | {"budget.flops": most}), workers=2)
    spent = sum(trial.cost["epoch_flops"] * len(trial.reports) for trial in ledger.trials.values())
    assert ledger.flops == spent
    assert most < spent <= most + 2 * 4 * EPOCH_FLOPS  # an epoch of each worker at most
    assert ledger.elapsed() < 0.01 * search_seconds(make_study(rule).budget)
    assert all(trial.outcome for trial in ledger.trials.values())


def test_ray_s_own_schedulers_can_be_driven(make_study: MakeStudy) -> None:
    study = make_study({"early_terminate.type": "none", "budget.max_epochs": 9})
    asha = AsyncHyperBandScheduler("epoch", METRIC, "max", max_t=9, grace_period=2)
    ledger = run(study, workers=2, scheduler=asha)
    epochs = [len(t.reports) for t in ledger.trials.values() if t.outcome == "stopped"]
    assert len(epochs) > 5
    assert set(epochs) <= {2, 8}  # its rungs, by a factor of 4


def test_a_trial_that_breaks_ends_itself_alone(make_study: MakeStudy) -> None:
    ledger = run(make_study({"budget.max_epochs": 9, "early_terminate.type": "none"}), workers=2)
    failed = [trial for trial in ledger.trials.values() if trial.outcome == "failed"]
    assert failed
    assert all((len(t.reports), t.reason) == (2, "loss is nan") for t in failed)


def test_at_the_deadline_what_runs_is_interrupted_and_what_waits_is_stopped(
    make_study: MakeStudy,
) -> None:
    study = make_study({"early_terminate.type": "asha", "budget.time": 60, "budget.max_epochs": 9})
    ledger = run(study, workers=3)
    last = max(trial.ended or 0 for trial in ledger.trials.values())
    assert last == search_seconds(study.budget)
    outcomes = [trial.outcome for trial in ledger.trials.values() if trial.ended == last]
    assert outcomes.count("interrupted") == 3
    assert "stopped" in outcomes
    assert all(trial.outcome for trial in ledger.trials.values())


def test_a_trial_whose_state_was_not_kept_trains_its_epochs_again(make_study: MakeStudy) -> None:
    study = make_study(
        {
            "early_terminate.type": "asha",
            "early_terminate.reduction_factor": 3,
            "budget.trials": 60,
            "budget.max_epochs": 9,
            "train.lr": 0.01,
            "model.depth": 1,
        }
    )

    def falling(proposal: dict[str, Any], epoch: int) -> float:
        """Every trial is worse than the one before: the newest that waits is the first to go."""
        number = proposal["name"].removeprefix("t")
        return 1 - int(number) / 1000 if number.isdigit() else 0.0

    past = run(study, value=falling).past
    took = {}
    for event, then in pairwise(past):
        if event["event"] == "promote" and event["trial"] not in took:
            took[event["trial"]] = then["t"] - event["t"]
    assert took["t0001"] == pytest.approx(SWITCH_S + 1)
    assert took["t0018"] == pytest.approx(SWITCH_S + 1 + 1)  # it waited behind ten better ones


def test_a_search_of_ten_hours_and_a_thousand_trials_takes_seconds(make_study: MakeStudy) -> None:
    study = make_study(
        {
            "search.searcher": "random",
            "budget.time": "10h",
            "budget.trials": 1000,
            "budget.max_epochs": 9,
        }
    )
    began = time.process_time()
    ledger = run(study)
    assert time.process_time() - began < 30
    assert len(ledger.trials) == 1000 + len(study.baselines)
    assert ledger.past[-1]["t"] > 3600
