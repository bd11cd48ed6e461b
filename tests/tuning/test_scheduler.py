"""Who is stopped: Ray's own ASHA, driven report by report."""

import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.schedulers import TrialScheduler

from r2search.config import WAITING, EarlyTerminateConfig, Study
from r2search.records import EpochReport
from r2search.tuning.budget import Plan
from r2search.tuning.events import Ledger
from r2search.tuning.scheduler import (
    SCHEDULERS,
    build_rungs,
    build_scheduler,
    stopping_epochs,
    take_up,
    waiting_epochs,
)

METRIC = "val/dice_mean"
CONTINUE, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP
MakeStudy = Callable[..., Study]
GRACE = {"early_terminate.grace_period": 2, "early_terminate.reduction_factor": 2}


def plan(pace: float) -> Plan:
    return Plan(16, 1.0, 100, 1e6, 1000, 4, pace=pace)


class Run:
    """Trials of one study; `report` gives the scheduler's decision."""

    def __init__(self, make_study: MakeStudy, **assigned: Any) -> None:
        assignments = {
            "budget.max_epochs": 16,
            "early_terminate.type": "ray_asha",
            "early_terminate.grace_period": 2,
        } | assigned
        self.study = make_study(assignments)
        self.scheduler = build_scheduler(self.study)
        self.trials: dict[str, Any] = {}

    def add(self, name: str, baseline: bool = False) -> Any:
        trial = SimpleNamespace(trial_id=name, config={"name": name, "baseline": baseline})
        self.trials[name] = trial
        self.scheduler.on_trial_add(None, trial)
        return trial

    def report(self, name: str, epoch: int, value: float, *, baseline: bool = False) -> str:
        trial = self.trials.get(name) or self.add(name, baseline)
        return self.scheduler.on_trial_result(None, trial, {"epoch": epoch, METRIC: value})

    def complete(self, name: str, epoch: int, value: float) -> None:
        self.scheduler.on_trial_complete(None, self.trials[name], {"epoch": epoch, METRIC: value})


def test_the_worse_half_is_stopped_and_the_better_half_is_not(make_study: MakeStudy) -> None:
    run = Run(make_study)
    # Rungs at epochs 2, 4, 8 and 16; a trial must reach the median of those before it.
    assert run.report("a", 2, 0.8) == CONTINUE  # the first at its rung
    assert run.report("b", 2, 0.5) == STOP  # below 0.8
    assert run.report("c", 2, 0.7) == CONTINUE  # above 0.65
    assert run.report("d", 2, 0.69) == STOP  # below 0.7
    assert run.report("a", 3, 0.1) == CONTINUE  # no rung
    assert run.report("a", 4, 0.8) == CONTINUE
    assert run.report("c", 4, 0.7) == STOP  # at the next rung


def test_a_trial_is_ranked_by_its_best_epoch_so_far(make_study: MakeStudy) -> None:
    run = Run(make_study)
    run.report("a", 2, 0.5)
    run.report("dipping", 1, 0.8)
    assert run.report("dipping", 2, 0.1) == CONTINUE
    assert run.report("c", 2, 0.6) == STOP  # below 0.65, between 0.5 and 0.8


def test_a_trial_that_came_first_is_judged_by_those_that_come_later(
    make_study: MakeStudy,
) -> None:
    run = Run(make_study)
    assert run.report("first", 2, 0.3) == CONTINUE  # nobody to lose against
    assert run.report("first", 3, 0.4) == CONTINUE
    run.report("second", 2, 0.5)
    assert run.report("first", 4, 0.4) == CONTINUE  # the first at the next rung, too
    assert run.report("second", 4, 0.6) == CONTINUE
    assert run.report("first", 5, 0.59) == STOP  # with five epochs less than the other with four
    assert run.report("second", 5, 0.1) == CONTINUE


def test_a_trial_that_has_caught_up_goes_on(make_study: MakeStudy) -> None:
    run = Run(make_study)
    run.report("slow", 2, 0.3)
    run.report("quick", 2, 0.5)
    assert run.report("slow", 3, 0.55) == CONTINUE


def test_a_baseline_is_not_stopped(make_study: MakeStudy) -> None:
    run = Run(make_study)
    for epoch in (2, 4, 8):
        run.report("a", epoch, 0.8)
        assert run.report("B1", epoch, 0.1, baseline=True) == CONTINUE
    run.complete("B1", 16, 0.1)


def test_a_baseline_is_not_ranked(make_study: MakeStudy) -> None:
    run = Run(make_study)
    for epoch in (2, 4):
        run.report("B1", epoch, 0.9, baseline=True)
    run.complete("B1", 8, 0.9)  # the last result of a trial comes with its end
    # Each is the first at its rung; ranked, the baseline would stop it.
    assert [run.report("a", epoch, 0.5) for epoch in (2, 4, 8)] == [CONTINUE] * 3


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=12))
def test_minimizing_mirrors_maximizing(make_study: MakeStudy, values: list[float]) -> None:
    larger, smaller = Run(make_study), Run(make_study, **{"metric.goal": "minimize"})
    for number, value in enumerate(values):
        decisions = {
            run.report(str(number), 2, v) for run, v in ((larger, value), (smaller, -value))
        }
        assert len(decisions) == 1


@pytest.mark.parametrize("kind", SCHEDULERS)
@settings(max_examples=20, deadline=None)
@given(values=st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_nothing_is_stopped_before_the_grace_period(
    make_study: MakeStudy, kind: str, values: list[float]
) -> None:
    run = Run(make_study, **{"early_terminate.type": kind, "early_terminate.grace_period": 3})
    for number, value in enumerate(values):
        assert [run.report(str(number), epoch, value) for epoch in (1, 2)] == [CONTINUE] * 2
        run.report(str(number), 3, value)


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_every_scheduler_follows_a_trial_to_its_end(make_study: MakeStudy, kind: str) -> None:
    run = Run(make_study, **{"early_terminate.type": kind})
    for name, baseline in (("B1", True), ("a", False)):
        run.add(name, baseline)
        assert run.report(name, 2, 0.5) == CONTINUE
        run.complete(name, 16, 0.5)


def test_without_early_termination_nothing_is_stopped(make_study: MakeStudy) -> None:
    run = Run(make_study, **{"early_terminate.type": "none"})
    run.report("a", 2, 0.8)
    assert [run.report("b", epoch, 0.0) for epoch in range(1, 16)] == [CONTINUE] * 15


def test_a_grace_period_beyond_the_longest_training_stops_nothing_early(
    make_study: MakeStudy,
) -> None:
    run = Run(make_study, **{"budget.max_epochs": 3, "early_terminate.grace_period": 5})
    run.report("a", 2, 0.8)
    assert [run.report("b", epoch, 0.1) for epoch in (1, 2)] == [CONTINUE] * 2


def test_every_type_of_the_space_file_has_its_scheduler() -> None:
    named = get_args(EarlyTerminateConfig.model_fields["type"].annotation)
    assert set(SCHEDULERS) == set(named)


@pytest.mark.parametrize(("grace_period", "factor"), [(2, 2), (1, 3), (5, 4)])
def test_trials_are_stopped_only_after_the_epochs_that_are_named(
    make_study: MakeStudy, grace_period: int, factor: int
) -> None:
    assigned = {
        "early_terminate.type": "ray_asha",
        "early_terminate.grace_period": grace_period,
        "early_terminate.reduction_factor": factor,
    }
    run = Run(make_study, **assigned)
    rng = random.Random(0)
    stopped = set()
    for number in range(100):
        for epoch in range(1, 16):
            if run.report(f"trial{number}", epoch, rng.random()) == STOP:
                stopped.add(epoch)
                break
    named = stopping_epochs(make_study({"budget.max_epochs": 16} | assigned))
    assert stopped == {epoch for epoch in named if epoch < 16}
    assert min(named) == grace_period


@pytest.mark.parametrize("kind", [kind for kind in SCHEDULERS if kind != "ray_asha"])
def test_only_rays_asha_names_epochs_at_which_it_stops(make_study: MakeStudy, kind: str) -> None:
    assert stopping_epochs(make_study({"early_terminate.type": kind})) == frozenset()


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_trials_wait_at_rungs_only_with_our_own_halving(make_study: MakeStudy, kind: str) -> None:
    study = make_study({"early_terminate.type": kind, "budget.max_epochs": 16} | GRACE)
    assert waiting_epochs(study, plan(1.0)) == ((2, 4, 8) if kind in WAITING else ())


def test_rungs_in_seconds_scale_with_the_pace_of_a_network(make_study: MakeStudy) -> None:
    study = make_study(
        {"early_terminate.type": "asha", "early_terminate.unit": "seconds", "budget.max_epochs": 16}
        | GRACE
    )
    assert waiting_epochs(study, plan(0.5)) == (1, 2, 4)
    assert waiting_epochs(study, plan(3.0)) == (6, 12, 24)


def test_hyperband_has_a_bracket_for_each_rung_and_one_without(make_study: MakeStudy) -> None:
    study = make_study({"early_terminate.type": "hyperband", "budget.max_epochs": 16} | GRACE)
    table, levels = build_rungs(study), []
    for number in range(4):
        place = table.next_place(waiting_epochs(study, plan(1.0)))
        table.begin(str(number), place)
        table.report(str(number), 1, 0.5)
        levels.append(place.levels)
    assert levels == [(2, 4, 8), (4, 8), (8,), ()]


@pytest.mark.parametrize("goal", ["maximize", "minimize"])
def test_the_median_rule_stops_the_worse_half_but_no_baseline(
    make_study: MakeStudy, goal: str
) -> None:
    run = Run(make_study, **{"early_terminate.type": "median", "metric.goal": goal})
    sign = 1 if goal == "maximize" else -1
    for name, value in (("a", 0.6), ("b", 0.7), ("c", 0.8)):
        assert {run.report(name, epoch, sign * value) for epoch in (1, 2, 3)} == {CONTINUE}
    assert run.report("d", 1, sign * 0.5) == CONTINUE  # in its grace period
    assert run.report("d", 2, sign * 0.5) == STOP
    assert run.report("B", 1, sign * 0.1, baseline=True) == CONTINUE
    assert run.report("B", 2, sign * 0.1, baseline=True) == CONTINUE


@pytest.mark.parametrize("kind", ["ray_asha", "median"])
def test_a_scheduler_that_is_made_again_from_the_record_decides_alike(
    make_study: MakeStudy, tmp_path: Path, kind: str
) -> None:
    rng, assigned = random.Random(0), {"early_terminate.type": kind}
    whole, running = Run(make_study, **assigned), dict.fromkeys("Babcdefghijk", 0)
    again, ledger = Run(make_study, **assigned), Ledger(tmp_path / "trials.jsonl")
    decisions = []
    while running:
        name = rng.choice(list(running))
        running[name] = epoch = running[name] + 1
        value, baseline = rng.random(), name == "B"
        decisions.append(whole.report(name, epoch, value, baseline=baseline))
        assert again.report(name, epoch, value, baseline=baseline) == decisions[-1]
        note(ledger, name, epoch, value)
        if decisions[-1] == STOP or epoch == 16:
            del running[name]
        again = Run(make_study, **assigned)  # the driver was killed
        take_up(again.study, again.scheduler, ledger)
    assert decisions.count(STOP) >= 3


def test_a_trial_that_was_to_stop_when_the_driver_was_killed_is_stopped(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    ledger = Ledger(tmp_path / "trials.jsonl")
    for name, last, value in (("a", 2, 0.8), ("b", 2, 0.5), ("c", 16, 0.9)):
        for epoch in range(1, last + 1):
            note(ledger, name, epoch, value)
    again = Run(make_study)
    take_up(again.study, again.scheduler, ledger)
    assert {name: trial.outcome for name, trial in ledger.trials.items()} == {
        "a": None,
        "b": "stopped",
        "c": None,  # its planned epochs are over: completed, not stopped
    }


def note(ledger: Ledger, name: str, epoch: int, value: float) -> None:
    """Write an epoch down, as the callback does."""
    if name not in ledger.trials:
        facts: dict[str, Any] = {"overrides": {}, "config": {}, "cost": {}}
        ledger.start(trial=name, baseline=name == "B", planned_epochs=16, **facts)
    report = EpochReport(epoch=epoch, metrics={METRIC: value}, pixels=1, seconds={})
    ledger.report(name, report, "worker")
