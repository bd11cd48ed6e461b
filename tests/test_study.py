"""A study whose search breaks goes on by itself; one that breaks again and again has a result."""

import io
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import r2search.study
from r2search.config import Misuse
from r2search.models.cost import Rate
from r2search.rundir import open_ledger
from r2search.space import dump_study, load_study
from r2search.study import PAUSES_S, begin, note_workers, prepare, run_study
from r2search.tuning.engine import search
from r2search.tuning.events import Ledger, read_events
from r2search.tuning.resources import Workers
from r2search.tuning.slots import Slots

STUDY = {
    "budget.time": 300.0,
    "budget.trials": 2,
    "budget.max_epochs": 3,
    "resources.workers": 1,
    "early_terminate.type": "none",
}


def images_of(folder: Path) -> dict[str, str]:
    return {"data.reader": "folder", "data.root": str(folder)}


def breaking(times: int) -> Callable[..., None]:
    """`search`, in whose Ray loop an error is raised so often, each time after a further report."""
    left = times

    def planted(*given: Any) -> None:
        *others, stopping, shelf = given
        ledger: Ledger = others[5]
        before = sum(len(trial.reports) for trial in ledger.trials.values())

        def raising() -> bool:
            nonlocal left
            if left and sum(len(trial.reports) for trial in ledger.trials.values()) > before:
                left -= 1
                raise RuntimeError("planted")
            return bool(stopping())

        search(*others, raising, shelf)  # type: ignore[call-arg]

    return planted


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_images: Path
) -> Callable[[int], tuple[Any, str]]:
    def run(times: int) -> tuple[Any, str]:
        monkeypatch.setattr(r2search.study, "search", breaking(times))
        monkeypatch.setattr(r2search.study, "PAUSES_S", (0.1,) * len(PAUSES_S))
        said = Console(file=io.StringIO(), width=200)
        run_study(
            load_study("quick.yaml", STUDY | images_of(small_images)),
            tmp_path / "run",
            tracking="disabled",
            console=said,
            progress="json",
        )
        summary = json.loads((tmp_path / "run" / "summary.json").read_text())
        return summary, said.file.getvalue()  # type: ignore[attr-defined]

    return run


def test_more_folds_than_the_images_allow_are_refused_before_the_start() -> None:
    with pytest.raises(Misuse, match=r"^confirm\.folds: 99 are too many for \d+ subjects"):
        prepare(load_study("quick.yaml", {"confirm.folds": 99}))


def test_a_search_that_breaks_goes_on_from_its_record(
    run: Callable[[int], tuple[Any, str]], tmp_path: Path
) -> None:
    summary, said = run(1)
    assert summary["status"] == "completed"
    assert summary["trials"]["completed"] == 2
    assert said.count("the search broke (planted); it goes on from its record") == 1
    events = list(read_events(tmp_path / "run" / "trials.jsonl"))
    told = Counter((e["trial"], e["epoch"]) for e in events if e["event"] == "report")
    assert set(told.values()) == {1}
    assert 0 < summary["time"]["goodput"] <= 1
    lines = [json.loads(line) for line in said.splitlines()]  # nothing else is printed
    assert [line["status"] for line in lines if line["event"] == "end"] == ["completed"]
    resumed = [event["broken"] for event in events if event["event"] == "resume"]
    assert resumed == ["RuntimeError: planted"]


def test_a_signal_that_comes_before_a_broken_search_goes_on_ends_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_images: Path
) -> None:
    began = []

    def planted(*given: Any) -> None:
        began.append(time.monotonic())
        threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
        raise RuntimeError("planted")

    monkeypatch.setattr(r2search.study, "search", planted)
    monkeypatch.setattr(r2search.study, "PAUSES_S", (300.0,))
    said = Console(file=io.StringIO(), width=200)
    study = load_study("quick.yaml", STUDY | images_of(small_images))
    summary = run_study(study, tmp_path / "run", tracking="disabled", console=said)
    assert (summary["status"], summary["signal"]) == ("interrupted", signal.SIGINT)
    assert len(began) == 1
    assert time.monotonic() - began[0] < 60


def test_a_study_that_is_killed_before_its_first_trial_keeps_its_evidence(
    tmp_path: Path, write_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "photographs")
    monkeypatch.chdir(tmp_path)
    given = {"data.reader": "folder", "data.root": "photographs"}
    study, samples = prepare(load_study("quick.yaml", STUDY | given))
    monkeypatch.chdir("/")
    assert load_study(_written(dump_study(study), tmp_path)).fixed.data == study.fixed.data
    slots = Slots(Workers(count=2, threads=1, gpus=0.0), Rate(1.0, 1.0))
    evidence = [{"run": "earlier", "trial": "t0001"}]
    kinds = ["study", "workers", "resume"]
    for session in range(3):
        ledger = open_ledger(tmp_path, samples)
        begin(study, samples, ledger, evidence if session == 0 else [])
        if session:  # the first one was killed while it measured its workers
            note_workers(study, ledger, slots)
        assert [event["event"] for event in ledger.past] == kinds[: session + 1]
        ledger.close()
    told = list(read_events(tmp_path / "trials.jsonl"))
    assert told[0]["evidence"] == evidence
    assert [event.get("workers") for event in told] == [None, 2, 2]


def _written(text: str, folder: Path) -> Path:
    (folder / "space.yaml").write_text(text, encoding="utf-8")
    return folder / "space.yaml"


def test_a_study_that_is_not_resumed_finds_its_folder_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    ledger = Ledger(tmp_path / "trials.jsonl")
    for name in ("t0001", "t0002"):
        facts: dict[str, Any] = {"overrides": {}, "config": {}, "cost": {}}
        ledger.start(trial=name, baseline=False, planned_epochs=1, **facts)
        ledger.end(name, "completed")
    ledger.finish()
    ledger.close()
    study = load_study("quick.yaml", STUDY)
    with pytest.raises(Misuse, match="its trials are done"):
        run_study(study, tmp_path, tracking="disabled", resume=True)
    assert {path.name for path in tmp_path.iterdir()} <= {"trials.jsonl", ".lock", "checkpoints"}


def test_a_search_that_breaks_again_and_again_keeps_its_result(
    run: Callable[[int], tuple[Any, str]], tmp_path: Path
) -> None:
    summary, said = run(len(PAUSES_S) + 1)
    assert summary["status"] == "partial"
    assert said.count("the search broke (planted); it goes on from its record") == len(PAUSES_S)
    assert summary["incumbent"] is not None
    assert (tmp_path / "run" / "bundle").is_dir()
    assert "the search ended by an error (planted); finishing what there is" in said
