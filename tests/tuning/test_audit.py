"""What a record tells about its own search."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_curves import synthetic_curve

from r2search.config import Study
from r2search.records import EpochReport, TrialOutcome
from r2search.tuning.audit import audit
from r2search.tuning.budget import Plan
from r2search.tuning.curves import Failure
from r2search.tuning.events import Ledger
from r2search.tuning.scheduler import build_scheduler
from r2search.tuning.searcher import StudySearcher
from r2search.tuning.virtual import Clock, VirtualSearch

METRIC = "val/dice_mean"
MakeStudy = Callable[..., Study]


def trial(
    name: str,
    values: Sequence[float],
    outcome: Any = "completed",
    *,
    baseline: bool = False,
    began: float = 0.0,
    bracket: int = 0,
    rungs: tuple[int, ...] = (),
) -> TrialOutcome:
    """A trial that reports every ten seconds."""
    reports = [
        EpochReport(epoch=epoch, metrics={METRIC: value}, pixels=1, seconds={})
        for epoch, value in enumerate(values, start=1)
    ]
    return TrialOutcome(
        trial=name,
        baseline=baseline,
        overrides={},
        config={},
        cost={},
        planned_epochs=4,
        started=began,
        bracket=bracket,
        rungs=rungs,
        reports=reports,
        report_times=[began + 10.0 * epoch for epoch in range(1, len(values) + 1)],
        outcome=outcome,
    )


@pytest.fixture
def study(make_study: MakeStudy) -> Study:
    """Rungs at 1 and 2 epochs, an end at 4."""
    return make_study()


FINISHED = [
    trial("a", (0.1, 0.2, 0.3, 0.4)),  # gains 0.3 from its first epoch on
    trial("b", (0.2, 0.4, 0.5, 0.6)),
    trial("c", (0.3, 0.6, 0.8, 0.8)),
]


def test_an_order_that_stays_has_a_tau_of_one(study: Study) -> None:
    late = trial("d", (0.35, 0.5), "stopped")
    order = audit(study, [*FINISHED, late, trial("e", (0.0,), "stopped")])["order"]
    assert [(row["from"], row["to"], row["trials"]) for row in order] == [(1, 2, 4), (2, None, 3)]
    assert order[0]["tau"] == pytest.approx(4 / 6)  # of six pairs, one has changed
    assert order[1]["tau"] == pytest.approx(1.0)


def test_trials_that_meet_after_the_same_seconds_are_compared_there(make_study: MakeStudy) -> None:
    study = make_study({"early_terminate.type": "asha", "early_terminate.unit": "seconds"})
    slow, fast = (1, 1), (2, 4)
    trials = [
        trial("a", (0.1, 0.2), "stopped", rungs=slow),
        trial("b", (0.3, 0.4, 0.5, 0.6, 0.7), "stopped", rungs=fast),
        trial("c", (0.2, 0.2, 0.2, 0.9, 0.9), "stopped", rungs=fast),
        trial("d", (0.9, 0.9), "stopped", rungs=fast),  # at its first rung: it came no further
    ]
    found = audit(study, trials)
    assert found["unit"] == "seconds"
    assert [(row["from"], row["to"], row["trials"]) for row in found["order"]] == [
        (1, 2, 3),
        (2, None, 0),
    ]
    # Of a, b and c, 0.1, 0.4 and 0.2 at the first rung, and 0.1, 0.6 and 0.9 at the second
    assert found["order"][0]["tau"] == pytest.approx(1 / 3)


def test_the_rungs_of_a_later_bracket_are_counted_from_its_own(make_study: MakeStudy) -> None:
    study = make_study({"early_terminate.type": "hyperband"})
    trials = [trial(name, values, bracket=1, rungs=(2,)) for name, values in CURVES.items()]
    plain = [trial(name, values, rungs=(1, 2)) for name, values in CURVES.items()]
    assert audit(study, trials)["order"] == audit(study, plain)["order"]


CURVES = {"a": (0.1, 0.2, 0.3, 0.4), "b": (0.2, 0.4, 0.5, 0.3), "c": (0.3, 0.1, 0.8, 0.8)}


def test_a_trial_is_ranked_by_its_best_so_far(study: Study) -> None:
    dip = trial("d", (0.9, 0.1, 0.1, 0.95))
    assert audit(study, [*FINISHED, dip])["order"][1]["tau"] == pytest.approx(1.0)


def test_where_the_goal_is_to_minimize_all_is_mirrored(make_study: MakeStudy) -> None:
    trials = [*FINISHED, trial("d", (0.35, 0.5), "stopped")]
    mirrored = [
        trial(t.trial, [-report.metrics[METRIC] for report in t.reports], t.outcome) for t in trials
    ]
    up = audit(make_study(), trials)
    down = audit(make_study({"metric.goal": "minimize"}), mirrored)
    assert down["order"] == up["order"]
    assert down["stopping"] == up["stopping"]
    assert down["half"]["loss"] == pytest.approx(up["half"]["loss"])


def test_stopped_trials_gain_what_the_others_gained(study: Study) -> None:
    near = trial("d", (0.45,), "stopped")  # 0.75, 0.85 or 0.95 in the end; the incumbent has 0.8
    stopping = audit(study, [*FINISHED, near])["stopping"]
    assert (stopping["stopped"], stopping["finished"]) == (1, 3)
    assert stopping["chance"] == pytest.approx(2 / 3, abs=0.05)
    assert stopping["regret"] == pytest.approx((0.05 + 0.15) / 3, abs=0.01)


def test_a_trial_far_behind_was_stopped_rightly(study: Study) -> None:
    stopping = audit(study, [*FINISHED, trial("d", (0.1,), "stopped")])["stopping"]
    assert (stopping["chance"], stopping["regret"]) == (0.0, 0.0)


def test_without_trials_at_their_end_nothing_is_estimated(study: Study) -> None:
    found = audit(study, [*FINISHED[:2], trial("d", (0.1,), "stopped")])
    assert found["stopping"] is None
    assert found["order"][1]["tau"] is None


def test_half_of_the_time_counts_from_the_first_to_the_last_report(study: Study) -> None:
    later = trial("later", (0.5, 0.9), began=60.0)
    found = audit(study, [*FINISHED, later])["half"]
    assert found == {"trial": "c", "value": 0.8, "loss": pytest.approx(0.1)}


def test_baselines_and_failures_are_no_evidence_of_stopping(study: Study) -> None:
    more = [trial("B", (0.9, 0.1, 0.1, 0.1), baseline=True), trial("f", (0.9, 0.1), "failed")]
    assert audit(study, [*FINISHED, *more])["order"] == audit(study, FINISHED)["order"]


def test_a_study_without_a_report_is_audited_too(study: Study) -> None:
    found = audit(study, [])
    assert found["stopping"] is found["half"] is found["importance"] is None
    assert {row["tau"] for row in found["order"]} == {None}


def test_a_study_shorter_than_its_grace_period_has_no_rung(make_study: MakeStudy) -> None:
    study = make_study({"early_terminate.grace_period": 9})
    assert audit(study, FINISHED)["order"] == []


@pytest.mark.parametrize(
    ("kind", "searcher"), [("ray_asha", "random"), ("ray_asha", "tpe"), ("asha", "tpe")]
)
def test_of_a_whole_study_settings_that_do_nothing_have_an_importance_near_zero(
    make_study: MakeStudy, kind: str, searcher: str
) -> None:
    study = make_study(
        {
            "budget.trials": 150,
            "budget.time": "10h",
            "budget.max_epochs": 9,
            "early_terminate.type": kind,
            "early_terminate.grace_period": 3,
            "search.searcher": searcher,
        }
    )

    def train(proposal: dict[str, Any], epoch: int) -> EpochReport | Failure:
        curve = synthetic_curve(
            study, *(proposal[key] for key in ("name", "overrides", "baseline"))
        )
        if epoch <= len(curve.reports):
            return curve.reports[epoch - 1]
        assert curve.failure
        return curve.failure

    ledger = Ledger(None, clock := Clock())
    searching = StudySearcher(study, lambda config: Plan(9, 1.0, 1, 1.0, 1, 1), ledger)
    VirtualSearch(study, searching, build_scheduler(study), train, ledger, clock, 2).run()
    found = audit(study, list(ledger.trials.values()))["importance"]
    assert found["trials"] > 100
    for useless in ("train.class_weights", "model.base_filters", "model.block"):
        assert found["shares"][useless] < 0.05
    assert max(found["shares"], key=found["shares"].__getitem__) in ("model.depth", "train.lr")


@given(
    kind=st.sampled_from(["asha", "median", "none"]),
    curves=st.lists(st.lists(st.floats(0, 1), max_size=6), max_size=20),
    rng=st.randoms(use_true_random=False),
)
@settings(deadline=None, max_examples=50)
def test_no_record_breaks_the_audit(
    make_study: MakeStudy, kind: str, curves: list[list[float]], rng: Any
) -> None:
    outcomes = ["completed", "stopped", "failed", "infeasible", "interrupted", None]
    trials = [
        trial(f"t{number}", values, rng.choice(outcomes), baseline=rng.random() < 0.2)
        for number, values in enumerate(curves)
    ]
    found = audit(make_study({"early_terminate.type": kind}), trials)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
