"""Trials of earlier studies are evidence, where they are points of the space."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from r2search.config import Misuse, Study
from r2search.data.samples import rng_for
from r2search.records import RECORD, EpochReport
from r2search.space import draw, suggest_randomly, trial_config
from r2search.tuning.budget import Plan
from r2search.tuning.events import Ledger
from r2search.tuning.evidence import gather
from r2search.tuning.proposals import STARTUP_TRIALS
from r2search.tuning.searcher import StudySearcher

METRIC = "val/dice_mean"
EPOCHS = 4
IMAGES = "c0ffee"  # their fingerprint
MakeStudy = Callable[..., Study]


def plan(config: Any) -> Plan:
    return Plan(EPOCHS, 1.0, 100, 1e6, 1000, 4)


@pytest.fixture
def earlier(tmp_path: Path) -> Callable[..., str]:
    """`earlier(study, trials)` writes the record of a study; every second trial was stopped."""

    def write(study: Study, trials: int = 4, *, failed: bool = False, images: str = IMAGES) -> str:
        (tmp_path / study.name).mkdir(exist_ok=True)
        ledger = Ledger(tmp_path / study.name / RECORD)
        ledger.begin(metric=study.metric.model_dump(), data=images)
        for number in range(trials):
            overrides = draw(study, suggest_randomly(rng_for(7, "earlier", number)))
            config = trial_config(study, overrides).model_dump(mode="json")
            facts: dict[str, Any] = {"overrides": overrides, "config": config, "cost": {}}
            name = f"t{number:04d}"
            ledger.start(trial=name, baseline=False, planned_epochs=EPOCHS, **facts)
            for epoch in range(1, (EPOCHS if number % 2 == 0 else 1) + 1):
                value = 0.1 * number + (0.1, 0.3, 0.2, 0.4)[epoch - 1]
                report = EpochReport(epoch=epoch, metrics={METRIC: value}, pixels=1, seconds={})
                ledger.report(name, report, "w")
            ledger.end(name, "failed" if failed else "completed" if number % 2 == 0 else "stopped")
        ledger.close()
        return str(tmp_path / study.name)

    return write


def test_a_trial_is_told_by_its_best_after_each_epoch(
    make_study: MakeStudy, earlier: Callable[..., str]
) -> None:
    study = make_study()
    found, remarks = gather(study, [earlier(study)], IMAGES)
    assert [(one["trial"], one["finished"]) for one in found] == [
        ("t0000", True),
        ("t0001", False),
        ("t0002", True),
        ("t0003", False),
    ]
    assert found[0]["values"] == pytest.approx([0.1, 0.3, 0.3, 0.4])
    assert found[0]["run"] == "tiny"
    assert remarks[0].startswith("4 of 4 trials of ")
    assert remarks[0].endswith("are evidence")


def test_other_images_are_no_hindrance_but_are_told(
    make_study: MakeStudy, earlier: Callable[..., str]
) -> None:
    run = earlier(make_study({"data.reader": "synthetic_skin"}), images="others")
    found, remarks = gather(make_study(), [run], IMAGES)
    assert len(found) == 4
    assert remarks[0].endswith("evidence, on other images: values are compared as they are")


def test_trials_outside_the_space_are_left_out(
    make_study: MakeStudy, earlier: Callable[..., str]
) -> None:
    run = earlier(make_study(), trials=20)
    narrow = make_study({"model.block": "conv"})
    found, remarks = gather(narrow, [run], IMAGES)
    assert 0 < len(found) < 20
    assert all("model.block" not in one["overrides"] for one in found)
    assert remarks[0].startswith(f"{len(found)} of 20 trials")


def test_trials_with_other_fixed_settings_are_of_another_space(
    make_study: MakeStudy, earlier: Callable[..., str]
) -> None:
    run = earlier(make_study({"train.epoch_pixels": 12345}))
    with pytest.raises(Misuse, match="none of its 4 trials is of the space tiny"):
        gather(make_study(), [run], IMAGES)


def test_failed_trials_say_nothing(make_study: MakeStudy, earlier: Callable[..., str]) -> None:
    with pytest.raises(Misuse, match="none of its 0 trials"):
        gather(make_study(), [earlier(make_study(), failed=True)], IMAGES)


def test_another_objective_is_refused(make_study: MakeStudy, earlier: Callable[..., str]) -> None:
    run = earlier(make_study({"metric.name": "val/iou_mean"}))
    with pytest.raises(Misuse, match=r"its objective is maximize val/iou_mean, not maximize val/"):
        gather(make_study(), [run], IMAGES)


@pytest.mark.parametrize(
    ("text", "reason"),
    [(None, "holds no trials.jsonl"), ("", "no study's"), ('{"event"\n{}\n', "1: not JSON")],
)
def test_a_folder_without_a_whole_record_is_refused(
    make_study: MakeStudy, tmp_path: Path, text: str | None, reason: str
) -> None:
    if text is not None:
        (tmp_path / RECORD).write_text(text)
    with pytest.raises(Misuse, match=reason):
        gather(make_study(), [str(tmp_path)], IMAGES)


def test_the_searcher_begins_with_the_evidence_and_replays_it(
    make_study: MakeStudy, earlier: Callable[..., str], tmp_path: Path
) -> None:
    study = make_study()
    study = study.model_copy(update={"baselines": {}})
    found, _ = gather(study, [earlier(study, trials=STARTUP_TRIALS)], IMAGES)
    ledger = Ledger(tmp_path / "new.jsonl")
    ledger.begin(evidence=found)
    searcher = StudySearcher(study, plan, ledger)
    told = searcher._proposals._optuna.get_trials()
    assert [trial.state for trial in told[:2]] == [TrialState.COMPLETE, TrialState.PRUNED]
    assert told[1].intermediate_values == {1: pytest.approx(0.2)}
    assert told[0].user_attrs["trial"] == "tiny/t0000"
    first = searcher.suggest("ray1")
    assert isinstance(first, dict)
    assert first["name"] == "t0001"  # evidence is no trial of this study
    random = make_study({"search.searcher": "random"}).model_copy(update={"baselines": {}})
    drawn = StudySearcher(random, plan, Ledger(None)).suggest("ray1")
    assert isinstance(drawn, dict)
    assert first["overrides"] != drawn["overrides"]  # TPE has proposed the very first one
    ledger.close()
    again = Ledger(tmp_path / "new.jsonl")
    assert StudySearcher(study, plan, again).suggest("ray1") == first
