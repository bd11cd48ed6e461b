"""A study that is killed and taken up again decides as if it had never stopped."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r2search.config import Study, TrialConfig
from r2search.records import EpochReport
from r2search.tuning import excerpt
from r2search.tuning.budget import Plan, Refusal
from r2search.tuning.events import Ledger, read_events
from r2search.tuning.scheduler import build_scheduler, take_up
from r2search.tuning.searcher import StudySearcher
from r2search.tuning.virtual import Clock, VirtualSearch

METRIC = "val/dice_mean"
EPOCHS = 9
MakeStudy = Callable[..., Study]


class Killed(BaseException):
    """The driver is gone."""


def plan(config: TrialConfig) -> Plan:
    """Deep networks are refused."""
    refusal = Refusal("too_slow", "too slow", 0.5) if config.model.depth > 3 else None
    return Plan(EPOCHS, 1.0, 100, 1e6, 1000, 4, refusal=refusal)


def value_of(proposal: dict[str, Any], epoch: int) -> float:
    """What a trial reaches, the same whenever it is asked."""
    noise = random.Random(f"{proposal['name']} {epoch}").random()
    config = proposal["config"]
    return 1 - 0.1 * config["model"]["depth"] - config["model"]["dropout"] / epoch + 0.1 * noise


def train(proposal: dict[str, Any], epoch: int) -> EpochReport:
    metrics = {METRIC: value_of(proposal, epoch)}
    seconds = {"train": 1.0, "validate": 0.0}
    return EpochReport(epoch=epoch, metrics=metrics, pixels=1, seconds=seconds)


def drive(study: Study, path: Path, writes: float = float("inf")) -> None:
    """A search by one worker; its driver is killed after so many writes."""
    ledger = Ledger(path, clock := Clock())
    if ledger.past:
        ledger.resume()
    scheduler = build_scheduler(study)
    take_up(study, scheduler, ledger)
    searcher = StudySearcher(study, plan, ledger)
    write, left = ledger._write, writes

    def dying(event: dict[str, Any]) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        write(event)

    ledger._write = dying  # type: ignore[method-assign]
    try:
        VirtualSearch(study, searcher, scheduler, train, ledger, clock).search()
    finally:
        ledger.close()


def record(path: Path) -> list[dict[str, Any]]:
    """The record without times, and without the lines that a study is taken up."""
    events = ({k: v for k, v in event.items() if k != "t"} for event in read_events(path))
    return [event for event in events if event["event"] != "resume"]


@pytest.mark.parametrize(
    ("kind", "searcher", "against"),
    [
        ("asha", "random", []),
        ("asha", "tpe", []),
        ("asha", "tpe", ["epoch_seconds"]),
        ("pasha", "tpe", []),
        ("hyperband", "tpe", []),
    ],
)
@pytest.mark.parametrize("seed", range(2))
def test_a_study_that_is_killed_ten_times_has_the_record_of_one_that_is_not(
    make_study: MakeStudy,
    tmp_path: Path,
    kind: str,
    searcher: str,
    against: list[str],
    seed: int,
) -> None:
    study = make_study(
        {
            "budget.trials": 60,
            "budget.time": "100h",  # a kill costs time, by which another search may end sooner
            "budget.max_epochs": EPOCHS,
            "early_terminate.type": kind,
            "search.searcher": searcher,
            "search.seed": seed,
            "metric.against": against,
        }
    )
    drive(study, tmp_path / "whole.jsonl")
    expected = record(tmp_path / "whole.jsonl")
    path, rng = tmp_path / "killed.jsonl", random.Random(seed)
    for _ in range(10):
        with pytest.raises(Killed):
            drive(study, path, rng.randrange(1, len(expected) // 12))
    drive(study, path)
    assert record(path) == expected
    assert {"wait", "promote", "infeasible", "end"} <= {event["event"] for event in expected}


@pytest.mark.parametrize(("kind", "trials"), [("asha", 1000), ("median", 200), ("ray_asha", 200)])
def test_a_thousand_trials_survive_ten_kills(
    make_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, trials: int
) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: None)  # the machine itself does not fail here
    study = make_study(
        {
            "budget.trials": trials,
            "budget.time": "100h",
            "budget.max_epochs": EPOCHS,
            "early_terminate.type": kind,
            "search.searcher": "random",
        }
    )
    drive(study, tmp_path / "whole.jsonl")
    expected = record(tmp_path / "whole.jsonl")
    path, rng = tmp_path / "killed.jsonl", random.Random(0)
    for _ in range(10):
        with pytest.raises(Killed):
            drive(study, path, rng.randrange(1, len(expected) // 12))
    drive(study, path)
    assert record(path) == expected
    names = {event["trial"] for event in expected if "trial" in event}
    assert len(names) == trials + len(study.baselines)


@pytest.mark.parametrize("kind", ["asha", "ray_asha"])
def test_a_study_of_which_tpe_is_shown_an_excerpt_survives_kills_too(
    make_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(excerpt, "MOST", 30)
    monkeypatch.setattr(excerpt, "GOOD", 3)
    study = make_study(
        {
            "budget.trials": 80,
            "budget.time": "100h",
            "budget.max_epochs": EPOCHS,
            "early_terminate.type": kind,
        }
    )
    drive(study, tmp_path / "whole.jsonl")
    expected = record(tmp_path / "whole.jsonl")
    path, rng = tmp_path / "killed.jsonl", random.Random(0)
    for _ in range(5):
        with pytest.raises(Killed):
            drive(study, path, rng.randrange(1, len(expected) // 6))
    drive(study, path)
    assert record(path) == expected


def test_a_study_that_has_ended_has_nothing_left_to_do(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    study = make_study({"budget.trials": 5, "early_terminate.type": "asha"})
    drive(study, tmp_path / "run.jsonl")
    before = record(tmp_path / "run.jsonl")
    drive(study, tmp_path / "run.jsonl")
    assert record(tmp_path / "run.jsonl") == before


def test_an_extended_study_goes_on_with_further_trials(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    study = make_study({"budget.trials": 5, "early_terminate.type": "asha"})
    drive(study, tmp_path / "run.jsonl")
    more = study.model_copy(update={"budget": study.budget.model_copy(update={"trials": 8})})
    drive(more, tmp_path / "run.jsonl")
    names = {event["trial"] for event in record(tmp_path / "run.jsonl") if "trial" in event}
    assert {f"t{number:04d}" for number in range(1, 9)} <= names
