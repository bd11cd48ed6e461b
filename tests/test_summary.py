"""The facts of a finished study."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from r2search.config import Baseline, Study
from r2search.data.samples import Sample, SampleSet
from r2search.records import EpochReport, Outcome, TrialOutcome
from r2search.space import load_study
from r2search.summary import (
    KEYS,
    account_time,
    count_trials,
    describe_trial,
    second_observer,
    summarize_study,
)

METRIC = "val/dice_mean"
SPACE = """\
name: tiny
question: Which?
budget: {time: 10m, trials: 4, max_epochs: 40}
parameters: {model: {parameters: {depth: {min: 1, max: 3}}}}
baselines: {B1: {model.depth: 4}, B2: {model.depth: 5}}
"""


@pytest.fixture
def study(tmp_path: Path) -> Study:
    path = tmp_path / "tiny.yaml"
    path.write_text(SPACE, encoding="utf-8")
    return load_study(path)


def trial_of(
    name: str, values: list[float], outcome: Outcome | None = "completed", **facts: Any
) -> TrialOutcome:
    seconds = {"train": 2.0, "feed": 0.5, "validate": 1.0}
    given: dict[str, Any] = {
        "trial": name,
        "baseline": name.startswith("B"),
        "overrides": {"model.depth": 2},
        "config": {"model": {"depth": 2}, "seed": 4},
        "cost": {"parameters": 100},
        "planned_epochs": 10,
        "started": 0.0,
        "outcome": outcome,
        "reports": [
            EpochReport(epoch=i, metrics={METRIC: v}, pixels=1, seconds=seconds)
            for i, v in enumerate(values, start=1)
        ],
    }
    return TrialOutcome(**given | facts)


def sample_of(name: str, second: list[int] | None) -> Sample:
    """One row of four pixels, of which the first two are foreground."""
    return Sample(
        image=np.zeros((1, 4, 3), np.uint8),
        mask=np.array([[1, 1, 0, 0]], np.uint8),
        fov=np.ones((1, 4), bool),
        subject=f"subject-{name}",
        id=name,
        second_mask=None if second is None else np.array([second], np.uint8),
    )


def samples_of(*val: Sample) -> SampleSet:
    return SampleSet(
        reader="folder",
        synthetic=False,
        train=(sample_of("a", None), sample_of("b", None)),
        val=val,
        test=(),
        fingerprint="f00",
        split="by_subject",
        notes=("a note",),
    )


def test_a_summary_has_every_key_and_is_plain_json(study: Study) -> None:
    summary = summarize_study(
        study, samples_of(sample_of("c", None)), [], None, {"status": "failed"}
    )
    assert list(summary) == KEYS
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["status"] == "failed"
    assert summary["incumbent"] is None
    assert summary["confirmed"] is None


def test_a_fact_of_no_known_key_is_our_mistake(study: Study) -> None:
    with pytest.raises(AssertionError, match="colour"):
        summarize_study(study, samples_of(sample_of("c", None)), [], None, {"colour": "red"})


def test_the_incumbent_is_told_by_its_best_epoch(study: Study) -> None:
    trials = [trial_of("t0001", [0.5, 0.7, 0.6]), trial_of("B1", [0.6])]
    summary = summarize_study(study, samples_of(sample_of("c", None)), trials, trials[0], {})
    assert summary["incumbent"] == {
        "trial": "t0001",
        "training": "t0001",
        "seed": 4,
        "epoch": 2,
        "value": 0.7,
        "metrics": {METRIC: 0.7},
        "overrides": {"model.depth": 2},
        "start": None,
        "config": {"model": {"depth": 2}, "seed": 4},
        "epochs": 3,
        "planned_epochs": 10,
        "share_of_schedule": 0.25,  # 10 of the 40 epochs of the budget
        "parameters": 100,
        "share_of_published": None,
        "seconds": 9.0,  # three epochs of 2 + 1 s; feed is a part of train
    }


def test_an_incumbent_that_the_space_file_names_is_said_to_be_a_start(study: Study) -> None:
    trials = [trial_of("t0001", [0.5])]
    known = study.model_copy(update={"starts": {"a": {"model.depth": 3}, "b": {"model.depth": 2}}})
    summary = summarize_study(known, samples_of(sample_of("c", None)), trials, trials[0], {})
    assert summary["incumbent"]["start"] == "b"


def test_a_baseline_of_a_part_of_an_epoch_had_that_part_of_the_schedule(study: Study) -> None:
    config = {"model": {"depth": 4}, "train": {"epoch_pixels": 1_000_000}}  # of 4 million
    trials = [trial_of("t0001", [0.7]), trial_of("B1", [0.6], config=config, planned_epochs=1)]
    summary = summarize_study(study, samples_of(sample_of("c", None)), trials, trials[0], {})
    assert summary["baselines"]["B1"]["share_of_schedule"] == 0.25 / 40


def test_the_front_holds_what_no_trial_dominates_where_a_cost_counts(study: Study) -> None:
    costs = {"a": 9.0, "b": 5.0, "c": 6.0}
    values = {"a": 0.9, "b": 0.7, "c": 0.6}
    trials = [
        replace(trial_of(name, [values[name]]), cost={"parameters": 1, "flops": cost})
        for name, cost in costs.items()
    ]
    samples = samples_of(sample_of("c", None))
    assert summarize_study(study, samples, trials, None, {})["front"] is None
    metric = study.metric.model_copy(update={"against": ("flops",)})
    weighed = study.model_copy(update={"metric": metric})
    assert summarize_study(weighed, samples, trials, None, {})["front"] == [
        {"trial": "a", "value": 0.9, "flops": 9.0},
        {"trial": "b", "value": 0.7, "flops": 5.0},
    ]


def test_baselines_are_named_in_the_order_of_the_file_and_null_without_a_score(
    study: Study,
) -> None:
    trials = [trial_of("B2", [0.9], "failed"), trial_of("t0001", [0.5])]
    summary = summarize_study(study, samples_of(sample_of("c", None)), trials, trials[0], {})
    assert list(summary["baselines"].items()) == [("B1", None), ("B2", None)]
    trials = [trial_of("B2", [0.6]), trial_of("B1", [0.4])]
    summary = summarize_study(study, samples_of(sample_of("c", None)), trials, trials[0], {})
    assert {name: b["value"] for name, b in summary["baselines"].items()} == {"B1": 0.4, "B2": 0.6}


def test_a_baseline_tells_how_much_of_its_published_training_it_got(study: Study) -> None:
    # Published: 50 steps of 16 patches (the default) of 96 x 96 pixels. Trained: two epochs.
    published = 50 * 16 * 96 * 96
    known = Baseline(overrides={"model.depth": 4}, published_steps=50)
    study = study.model_copy(update={"baselines": study.baselines | {"B1": known}})
    seconds = {"train": 2.0, "feed": 0.5, "validate": 1.0}
    reports = [
        EpochReport(epoch=i, metrics={METRIC: 0.5}, pixels=published // 10, seconds=seconds)
        for i in (1, 2)
    ]
    trials = [trial_of(name, [], reports=reports) for name in ("B1", "B2", "t0001")]
    told = [describe_trial(study, trial) for trial in trials]
    assert [row["share_of_published"] for row in told if row] == [pytest.approx(0.2), None, None]


def test_a_failed_trial_has_nothing_to_tell(study: Study) -> None:
    assert describe_trial(study, trial_of("t0001", [0.5], "failed")) is None
    assert describe_trial(study, trial_of("t0001", [])) is None


def test_the_data_are_told_by_counts_and_subjects(study: Study) -> None:
    summary = summarize_study(study, samples_of(sample_of("c", None)), [], None, {})
    assert summary["data"] == {
        "reader": "folder",
        "fingerprint": "f00",
        "synthetic": False,
        "split": "by_subject",
        "notes": ["a note"],
        "counts": {"train": 2, "val": 1, "test": 0},
        "subjects": {"train": ["subject-a", "subject-b"], "val": ["subject-c"], "test": []},
    }


def test_a_second_observer_is_scored_like_a_network(study: Study) -> None:
    half, all_right = sample_of("c", [1, 0, 0, 0]), sample_of("d", [1, 1, 0, 0])
    # Dice of the first: 1 hit of 2 + 1 pixels, 2/3; of the second 1; their mean 5/6.
    scores = second_observer((half, all_right), classes=2)
    assert scores is not None
    assert scores["dice_mean"] == pytest.approx(5 / 6)
    summary = summarize_study(study, samples_of(half, all_right), [], None, {})
    assert summary["objective"] == {
        "name": METRIC,
        "goal": "maximize",
        "second_observer": pytest.approx(5 / 6),
    }


def test_a_second_observer_of_several_classes_is_scored_by_class() -> None:
    sample = replace(sample_of("c", [1, 0, 2, 0]), mask=np.array([[1, 1, 2, 0]], np.uint8))
    scores = second_observer((sample,), classes=3)
    assert scores is not None
    found = [scores[name] for name in ("dice_mean_class1", "dice_mean_class2", "dice_mean")]
    assert found == pytest.approx([2 / 3, 1.0, 5 / 6])


def test_there_is_no_second_observer_unless_every_image_has_one() -> None:
    partly = (sample_of("c", [1, 0, 0, 0]), sample_of("d", None))
    assert second_observer(partly, classes=2) is None
    assert second_observer((), classes=2) is None


def test_trials_are_counted_by_their_ending_and_baselines_apart() -> None:
    trials = [
        trial_of("B1", [0.5]),
        trial_of("B2", [], "failed"),
        trial_of("t0001", [0.5]),
        trial_of("t0002", [0.5], "stopped"),
        trial_of("t0003", [0.5], "stopped"),
        trial_of("t0004", [], "failed"),
        trial_of("t0005", [0.5], "interrupted"),
        trial_of("t0006", [0.5], None),  # still running
        trial_of("t0007", [], "infeasible"),  # did not fit into memory
    ]
    assert count_trials(trials, {"too_slow": 3, "too_large": 4}) == {
        "total": 6,
        "completed": 1,
        "stopped": 2,
        "failed": 1,
        "interrupted": 1,
        "infeasible": 8,
        "too_slow": 3,
        "too_large": 5,
        "baselines": 2,
    }


def test_goodput_is_the_share_of_worker_time_spent_in_epochs() -> None:
    trials = [trial_of("t0001", [0.5, 0.6]), trial_of("t0002", [0.5], "failed")]
    told = account_time(trials, wall=20.0, search_wall=10.0, budget=30.0, whole=20.0)
    assert told == {
        "wall_s": 20.0,
        "budget_s": 30.0,
        "search_s": 10.0,
        "train_s": 6.0,  # three epochs of 2 s
        "train_flops": 0.0,  # none is known
        "validate_s": 3.0,
        "worker_s": 20.0,
        "steps_s": 4.5,
        "feed_s": 1.5,
        "checkpoint_s": 0.0,
        "setup_s": 0.0,
        "idle_s": 11.0,
        "goodput": 0.45,  # 2 workers had 10 s each
    }


def test_a_search_that_never_began_has_no_goodput() -> None:
    assert account_time([], 1.0, 0.0, 30.0, 0.0)["goodput"] == 0.0
