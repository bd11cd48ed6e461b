"""A run folder is made once, found again, and held by one driver."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from r2search.config import Misuse
from r2search.data import load
from r2search.data.samples import SampleSet
from r2search.records import FORMAT, RECORD, Outcome
from r2search.report.wording import warnings
from r2search.rundir import abandon, claim, hold, open_ledger, open_run, require_more
from r2search.space import load_study
from r2search.tuning.events import Ledger


@pytest.fixture(scope="module")
def samples() -> SampleSet:
    return load(load_study("quick.yaml").fixed.data)


def test_a_new_run_folder_is_made(tmp_path: Path) -> None:
    assert claim(tmp_path / "runs" / "one") == tmp_path / "runs" / "one"
    assert (tmp_path / "runs" / "one" / "checkpoints").is_dir()


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(Misuse, match="not an empty folder; name a new one"):
        claim(tmp_path)


def test_only_a_folder_with_a_record_is_resumed(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match=rf"--resume {tmp_path}: holds no {RECORD}; name the folder"):
        claim(tmp_path, resume=True)
    (tmp_path / RECORD).touch()
    (tmp_path / "checkpoints").mkdir()
    assert claim(tmp_path, resume=True) == tmp_path


def test_another_driver_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    other = (
        f"from pathlib import Path; from r2search.rundir import hold; hold(Path({str(tmp_path)!r}))"
    )
    with hold(tmp_path):
        found = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True)
        assert "another driver works in it; wait for it, or stop it" in found.stderr
    subprocess.run([sys.executable, "-c", other], check=True)


def test_what_ran_before_stays_in_environment_json(tmp_path: Path) -> None:
    study = load_study("quick.yaml")
    for command in ("first", "second", "third"):
        open_run(study, tmp_path, command)
    facts = json.loads((tmp_path / "environment.json").read_text())
    assert facts["command"] == "third"
    assert [session["command"] for session in facts["earlier"]] == ["first", "second"]
    assert all("earlier" not in session for session in facts["earlier"])


def test_a_damaged_environment_json_does_not_keep_a_study_from_going_on(tmp_path: Path) -> None:
    (tmp_path / "environment.json").write_text('{"command": "fir')
    open_run(load_study("quick.yaml"), tmp_path, "second")
    assert json.loads((tmp_path / "environment.json").read_text())["earlier"] == []


def test_a_summary_of_the_session_before_does_not_look_current(tmp_path: Path) -> None:
    study = load_study("quick.yaml")
    open_run(study, tmp_path, "first")
    assert not (tmp_path / "summary.json").exists()
    (tmp_path / "summary.json").write_text('{"status": "interrupted", "signal": 2}')
    open_run(study, tmp_path, "second")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary == {"status": "resumed", "signal": 2}
    assert "The study was resumed since: this is what it had before." in warnings(summary)
    (tmp_path / "summary.json").write_text('{"status": "interr')
    open_run(study, tmp_path, "third")
    assert (tmp_path / "summary.json").read_text() == '{"status": "interr'


def test_a_study_goes_on_with_its_own_images_alone(tmp_path: Path, samples: SampleSet) -> None:
    ledger = open_ledger(tmp_path, samples)
    ledger.begin(data=samples.fingerprint)
    ledger.close()
    assert len(open_ledger(tmp_path, samples).past) == 1
    with pytest.raises(Misuse, match="the images are not those that it began with"):
        open_ledger(tmp_path, replace(samples, fingerprint="of others"))


def test_a_record_of_another_format_is_not_gone_on_with(tmp_path: Path, samples: SampleSet) -> None:
    ledger = open_ledger(tmp_path, samples)
    ledger.begin(data=samples.fingerprint)
    ledger.close()
    record = tmp_path / RECORD
    record.write_text(record.read_text().replace(f'"format": {FORMAT}', '"format": 1'))
    with pytest.raises(Misuse, match=f"has format 1, and this version writes {FORMAT}; go on with"):
        open_ledger(tmp_path, samples)


def test_a_damaged_record_is_named_by_its_line(tmp_path: Path, samples: SampleSet) -> None:
    (tmp_path / RECORD).write_text('{"t": 0.0, "event": "stu\n{"t": 1.0, "event": "resume"}\n')
    with pytest.raises(Misuse, match=rf"{RECORD}:1: not JSON; .*restore it, or begin a new study"):
        open_ledger(tmp_path, samples)


@pytest.fixture
def ended(tmp_path: Path) -> Callable[..., Ledger]:
    """`ended(trials, outcome)`: the record of a study of a minute, closed after a second."""

    def ended(trials: int, outcome: Outcome = "completed") -> Ledger:
        ledger = Ledger(tmp_path / RECORD)
        for number in range(trials):
            facts: dict[str, Any] = {"overrides": {}, "config": {}, "cost": {}}
            ledger.start(trial=f"t{number}", baseline=False, planned_epochs=1, **facts)
            ledger.end(f"t{number}", outcome)
        return ledger

    return ended


BUDGET = {"budget.time": 60.0, "budget.trials": 2}


def test_a_study_that_has_ended_is_resumed_only_with_more_to_do(
    tmp_path: Path, ended: Callable[..., Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, ledger = load_study("quick.yaml", BUDGET), ended(2)
    require_more(study, tmp_path, ledger)  # it was never tested and reported
    ledger.finish()
    limited = study.model_copy(update={"budget": study.budget.model_copy(update={"flops": 1e9})})
    monkeypatch.setattr(ledger, "flops", 2e9)
    with pytest.raises(Misuse, match=r"its FLOPs are spent; give it more, as by --flops \+1e15"):
        require_more(limited, tmp_path, ledger)
    with pytest.raises(Misuse, match=r"its trials are done; give it more, as by --trials \+50"):
        require_more(study, tmp_path, ledger)
    require_more(load_study("quick.yaml", BUDGET | {"budget.trials": 3}), tmp_path, ledger)
    monkeypatch.setattr(ledger, "elapsed", lambda: 58.0)
    with pytest.raises(Misuse, match=r"its time is spent; give it more, as by --time \+30m"):
        require_more(study, tmp_path, ledger)


def test_a_study_whose_trials_were_cut_off_has_more_to_do(
    tmp_path: Path, ended: Callable[..., Ledger]
) -> None:
    ledger = ended(2, "interrupted")
    ledger.finish()
    require_more(load_study("quick.yaml", BUDGET), tmp_path, ledger)


def test_a_resumed_study_that_did_not_end_has_its_end_to_do(
    tmp_path: Path, ended: Callable[..., Ledger]
) -> None:
    ledger = ended(2)
    ledger.finish()
    ledger.resume()
    require_more(load_study("quick.yaml", BUDGET), tmp_path, ledger)


def test_a_run_folder_in_which_nothing_happened_is_taken_back(tmp_path: Path) -> None:
    run_dir = claim(tmp_path / "run")
    ledger = Ledger(run_dir / RECORD)
    ledger.begin(name="refused")  # by a node of the cluster
    ledger.close()
    abandon(run_dir)
    assert not run_dir.exists()


def test_a_run_folder_with_a_record_is_never_taken_back(
    tmp_path: Path, ended: Callable[..., Ledger]
) -> None:
    ended(1)
    abandon(tmp_path)
    assert (tmp_path / RECORD).is_file()
