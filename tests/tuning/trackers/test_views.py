"""What W&B is to hold of a study, without W&B."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from r2search.config import Study
from r2search.records import EpochReport, TrialOutcome
from r2search.tuning.trackers.views import group_of, sweep_config, table, view_run

METRIC = "val/dice_mean"
MakeStudy = Callable[..., Study]


def trial_of(name: str = "t0001", **facts: Any) -> TrialOutcome:
    given: dict[str, Any] = {
        "trial": name,
        "baseline": False,
        "overrides": {"model.depth": 2},
        "config": {"model": {"depth": 2}},
        "cost": {"parameters": 100.0},
        "planned_epochs": 4,
        "started": 0.0,
        "reports": [
            EpochReport(epoch=epoch, metrics={METRIC: value}, pixels=1, seconds={"train": 1.0})
            for epoch, value in ((1, 0.75), (2, 0.5))
        ],
        "report_times": [1.5, 3.0],
    }
    return TrialOutcome(**given | facts)


def test_a_group_is_the_same_for_one_record_and_another_for_any_other() -> None:
    event = {"name": "retina", "unix_time": 1767225600.25, "data": "f00"}
    assert group_of(event).startswith("retina-20260101-000000-")
    assert group_of(dict(event)) == group_of(event)
    assert group_of(event | {"unix_time": 1767225600.26}) != group_of(event)


def test_a_running_trial_is_shown_by_its_epochs(make_study: MakeStudy) -> None:
    view = view_run(make_study(), "g", trial_of())
    assert (view.id, view.name, view.job_type, view.ended) == ("g-t0001", "t0001", "trial", False)
    assert view.rows[0] == {"epoch": 1, METRIC: 0.75, "seconds/train": 1.0, "time_s": 1.5}
    assert view.config["model"] == {"depth": 2}
    assert view.best == {"best/epoch": 1, f"best/{METRIC}": 0.75}


def test_a_trial_that_waits_is_shown_as_what_it_will_be_if_it_never_goes_on(
    make_study: MakeStudy,
) -> None:
    study = make_study()
    waits = view_run(study, "g", trial_of(waiting=True))
    reason = "by ray_asha: waited at epoch 2"
    ended = trial_of(waiting=True, outcome="stopped", reason=reason)
    assert waits == view_run(study, "g", ended)
    assert waits.outcome == {"outcome": "stopped", "stopped_at_epoch": 2, "reason": reason}


def test_a_trial_without_a_result_is_shown_as_failed(make_study: MakeStudy) -> None:
    for outcome in ("failed", "infeasible"):
        trial = replace(trial_of(reports=[], report_times=[]), outcome=outcome)
        view = view_run(make_study(), "g", trial)
        assert (view.ended, view.failed, view.rows, view.best) == (True, True, [], {})
        assert view.outcome["stopped_at_epoch"] is None


def test_the_space_is_told_in_the_words_of_a_sweep_file(make_study: MakeStudy) -> None:
    config = sweep_config(make_study(), "g")
    assert (config["name"], config["method"]) == ("g", "random")
    assert config["metric"] == {"name": METRIC, "goal": "maximize"}
    model, train = (config["parameters"][name]["parameters"] for name in ("model", "train"))
    assert model == {
        "block": {"values": ["conv", "recurrent"]},
        "recurrence": {"distribution": "int_uniform", "min": 1, "max": 3},
        "depth": {"distribution": "int_uniform", "min": 1, "max": 4},
        "base_filters": {
            "distribution": "categorical_w_probabilities",
            "values": [4, 8],
            "probabilities": [0.9, 0.1],
        },
        "dropout": {"distribution": "q_uniform", "min": 0.0, "max": 0.3, "q": 0.1},
    }
    assert train["lr"] == {"distribution": "log_uniform_values", "min": 1e-4, "max": 0.1}
    assert train["class_weights"] == {"values": [1.0, [1.0, 3.0]]}


def test_the_table_has_a_row_for_every_trial_and_a_column_for_all_that_was_drawn(
    make_study: MakeStudy,
) -> None:
    other = trial_of("t0002", overrides={"train.lr": 0.1}, reports=[], outcome="failed")
    columns, rows = table(make_study(), [trial_of(), other])
    first, second = (dict(zip(columns, row, strict=True)) for row in rows)
    assert (first["trial"], first["best_epoch"], first[METRIC], first["epochs"]) == (
        "t0001",
        1,
        0.75,
        2,
    )
    assert (first["model.depth"], first["train.lr"]) == ("2", None)
    assert (second["outcome"], second["best_epoch"], second["train.lr"]) == ("failed", None, "0.1")
