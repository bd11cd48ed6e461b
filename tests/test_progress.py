"""Where a study stands, from its record."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from r2search.config import Study
from r2search.data.samples import SampleSet
from r2search.progress import screen_state, shower
from r2search.records import EpochReport
from r2search.report.screen import Screen
from r2search.report.state import Rung, Running
from r2search.space import load_study
from r2search.tuning.events import Ledger

METRIC = "val/dice_mean"
SPACE = """\
name: tiny
data: {reader: synthetic_retina}
budget: {time: 10m, max_epochs: 9}
early_terminate: {type: asha, grace_period: 2, reduction_factor: 3}
parameters: {model: {parameters: {depth: {min: 1, max: 3}}}}
baselines: {B1: {model.depth: 4}}
"""


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def make_study(folder: Path, **settings: Any) -> Study:
    path = folder / "tiny.yaml"
    path.write_text(SPACE, encoding="utf-8")
    return load_study(path, {key.replace("__", "."): value for key, value in settings.items()})


@pytest.fixture
def told() -> tuple[Ledger, Clock]:
    """A study of two workers at its 30th second: one trial runs, one waits, one is stopped."""
    clock = Clock()
    ledger = Ledger(None, clock)
    ledger.begin(workers=2)

    def report(name: str, values: list[float]) -> None:
        for epoch, value in enumerate(values, start=len(ledger.trials[name].reports) + 1):
            clock.now += 1.0
            facts: dict[str, Any] = {"epoch": epoch, "metrics": {METRIC: value}, "pixels": 1}
            seconds = {"train": 1.0, "validate": 0.0}
            ledger.report(name, EpochReport(**facts, seconds=seconds), f"host:{name}")

    for name in ("B1", "t0001", "t0002", "t0003"):
        facts: dict[str, Any] = {"overrides": {}, "config": {}, "cost": {}, "planned_epochs": 9}
        ledger.start(trial=name, baseline=name == "B1", **facts)
    report("B1", [0.1] * 9)
    ledger.end("B1", "completed")
    report("t0001", [0.2, 0.3])
    ledger.wait("t0001")
    report("t0002", [0.1, 0.1])
    ledger.end("t0002", "stopped")
    report("t0003", [0.4, 0.6, 0.5])
    clock.now = 30.0
    return ledger, clock


def test_the_rungs_tell_who_came_and_who_waits(told: tuple[Ledger, Clock], tmp_path: Path) -> None:
    ledger, _ = told
    state = screen_state(make_study(tmp_path), False, ledger, "searching", None)
    assert state.rungs == [Rung(2, reached=3, waiting=1), Rung(6, reached=0, waiting=0)]
    assert state.curve == [0.4, 0.6, 0.5]
    assert state.incumbent == ("t0003", 0.6, 2)
    assert state.running == [Running("t0003", 3, 9, 0.6, "host:t0003", since_s=14.0)]


def test_a_trial_that_goes_on_from_a_rung_is_told_of_since_then(
    told: tuple[Ledger, Clock], tmp_path: Path
) -> None:
    ledger, clock = told
    ledger.promote("t0001")
    clock.now = 33.0
    running = screen_state(make_study(tmp_path), False, ledger, "searching", None).running
    assert running[0] == Running("t0001", 2, 9, 0.3, worker="", since_s=3.0)


@pytest.mark.parametrize("settings", [{"type": "none"}, {"type": "asha", "unit": "seconds"}])
def test_where_trials_do_not_meet_at_epochs_there_are_no_rungs(
    told: tuple[Ledger, Clock], tmp_path: Path, settings: dict[str, str]
) -> None:
    given = {f"early_terminate__{key}": value for key, value in settings.items()}
    assert screen_state(make_study(tmp_path, **given), False, told[0], "", None).rungs == []


def test_the_number_of_workers_is_that_of_the_record(
    told: tuple[Ledger, Clock], tmp_path: Path
) -> None:
    console = Console(file=io.StringIO())
    samples = SampleSet(
        reader="none",
        synthetic=False,
        train=(),
        val=(),
        test=(),
        fingerprint="",
        split="by_subject",
    )
    show: Callable[..., None] = shower(
        make_study(tmp_path), samples, told[0], Screen(console, "json")
    )
    show("searching")
    told[0].resume(workers=5)
    show("searching again")
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [json.loads(line)["workers"] for line in lines] == [2, 5]
