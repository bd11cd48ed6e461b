"""trials.jsonl: what is written is what is read, whatever ended the writing."""

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2search.records import EpochReport
from r2search.tuning.budget import Refusal
from r2search.tuning.events import Ledger, read_events, read_trials

FACTS: dict[str, Any] = {
    "baseline": False,
    "overrides": {"model.depth": 2},
    "config": {"model": {"depth": 2}},
    "cost": {"parameters": 10.0},
    "planned_epochs": 3,
}


def report_of(epoch: int, dice: float = 0.5) -> EpochReport:
    seconds = {"train": 1.0, "feed": 0.1, "validate": 0.5}
    return EpochReport(epoch=epoch, metrics={"val/dice": dice}, pixels=100, seconds=seconds)


def fill(ledger: Ledger) -> None:
    """Two trials: one that ended after two epochs, one that runs."""
    ledger.begin(name="tiny")
    ledger.start(trial="B1", **FACTS | {"baseline": True})
    ledger.report("B1", report_of(1, 0.5), "w1")
    ledger.start(trial="t0001", **FACTS)
    ledger.report("B1", report_of(2, 0.75), "w1")
    ledger.end("B1", "stopped", "by asha")
    ledger.report("t0001", report_of(1, 0.25), "w2")


finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.one_of(st.booleans(), st.integers(), finite, st.text(), st.tuples(finite, finite))
reports = st.builds(
    EpochReport,
    epoch=st.integers(1, 99),
    metrics=st.dictionaries(st.text(), finite, max_size=3),
    pixels=st.integers(0, 10**9),
    seconds=st.dictionaries(st.text(), finite, max_size=3),
)
trials = st.fixed_dictionaries(
    {
        "facts": st.fixed_dictionaries(
            {
                "baseline": st.booleans(),
                "overrides": st.dictionaries(st.text(), values, max_size=3),
                "config": st.dictionaries(st.text(), values, max_size=3),
                "cost": st.dictionaries(st.text(), finite, max_size=2),
                "planned_epochs": st.integers(1, 40),
            }
        ),
        "reports": st.lists(reports, max_size=3, unique_by=lambda report: report.epoch).map(
            lambda told: sorted(told, key=lambda report: report.epoch)
        ),
        "worker": st.text(),
        "ending": st.none() | st.sampled_from(["completed", "stopped", "failed", "interrupted"]),
        "reason": st.text(),
    }
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(), trials, max_size=4))
def test_what_is_written_is_read_back_equal(story: dict[str, dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trials.jsonl"
        ledger = Ledger(path)
        for name, trial in story.items():
            ledger.start(trial=name, **trial["facts"])
        for turn in range(3):  # trials that run at once report in turn
            for name, trial in story.items():
                for report in trial["reports"][turn : turn + 1]:
                    ledger.report(name, report, trial["worker"])
        for name, trial in story.items():
            if trial["ending"] is not None:
                ledger.end(name, trial["ending"], trial["reason"])
        assert read_trials(path) == list(ledger.trials.values())
        told = {trial.trial: trial.reports for trial in read_trials(path)}
        assert told == {name: trial["reports"] for name, trial in story.items()}
        ledger.close()


def test_every_event_is_on_disk_before_the_next_one(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "trials.jsonl")
    fill(ledger)
    assert len(read_trials(tmp_path / "trials.jsonl")) == 2  # nothing was closed
    ledger.close()


def test_times_are_seconds_since_the_study_began(ledger: Ledger) -> None:
    fill(ledger)
    trial = ledger.trials["B1"]
    assert trial.ended is not None
    times = [0.0, trial.started, *trial.report_times, trial.ended, ledger.elapsed() + 0.001]
    assert times == sorted(times)
    assert ledger.trials["t0001"].ended is None


@pytest.mark.parametrize("tail", [b"", b"\0\0\0", b"\xff\xfe\x80"])
def test_a_last_line_torn_anywhere_is_passed_over(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "trials.jsonl"
    ledger = Ledger(path)
    fill(ledger)
    ledger.close()
    whole = path.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1  # of the last line: t0001's only report
    for cut in range(start + 1, len(whole) - 1):
        path.write_bytes(whole[:cut] + tail)
        assert [len(trial.reports) for trial in read_trials(path)] == [2, 0]


@pytest.mark.parametrize("damage", [b"{", b"", b"\xff\xff", b'{"event": "end"'])
def test_a_damaged_line_in_the_middle_is_an_error_that_names_it(
    tmp_path: Path, damage: bytes
) -> None:
    path = tmp_path / "trials.jsonl"
    ledger = Ledger(path)
    fill(ledger)
    ledger.close()
    lines = path.read_bytes().split(b"\n")
    lines[2] = damage
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(ValueError, match=r"trials\.jsonl:3: not JSON"):
        read_trials(path)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused_and_leaves_no_trace(
    ledger: Ledger, tmp_path: Path, bad: float
) -> None:
    fill(ledger)
    before = (tmp_path / "trials.jsonl").read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        ledger.report("t0001", report_of(2, bad), "w2")
    assert (tmp_path / "trials.jsonl").read_bytes() == before
    assert len(ledger.trials["t0001"].reports) == 1


def test_a_value_that_json_does_not_know_is_refused(ledger: Ledger) -> None:
    with pytest.raises(TypeError):  # and not written as a text that nobody reads back
        ledger.start(trial="t0001", **FACTS | {"overrides": {"data.root": Path("x")}})


def test_only_the_first_ending_of_a_trial_counts(ledger: Ledger, tmp_path: Path) -> None:
    fill(ledger)
    ledger.end("B1", "failed", "too late")
    assert (ledger.trials["B1"].outcome, ledger.trials["B1"].reason) == ("stopped", "by asha")
    assert read_trials(tmp_path / "trials.jsonl")[0].outcome == "stopped"


def test_a_refused_config_is_counted_and_is_no_trial(ledger: Ledger, tmp_path: Path) -> None:
    ledger.refuse({"model.depth": 5}, Refusal("too_slow", "too dear", 0.5), proposed=True)
    ledger.refuse({"model.depth": 4}, Refusal("too_large", "too large", 1.5), proposed=False)
    assert ledger.infeasible == 2
    assert ledger.refused == {"too_slow": 1, "too_large": 1}
    assert ledger.trials == {}
    events = list(read_events(tmp_path / "trials.jsonl"))
    assert [event["overrides"] for event in events] == [{"model.depth": 5}, {"model.depth": 4}]


def test_every_line_is_an_object_with_its_time_and_kind(ledger: Ledger, tmp_path: Path) -> None:
    fill(ledger)
    lines = (tmp_path / "trials.jsonl").read_text(encoding="ascii").splitlines()
    kinds = [json.loads(line)["event"] for line in lines]
    assert kinds == ["study", "trial", "report", "trial", "report", "end", "report"]
    assert all(json.loads(line)["t"] >= 0 for line in lines)


def test_an_epoch_that_is_trained_again_is_not_told_again(ledger: Ledger, tmp_path: Path) -> None:
    fill(ledger)
    before = (tmp_path / "trials.jsonl").read_bytes()
    assert ledger.report("B1", report_of(2, 0.9), "w9") is False
    assert ledger.report("B1", report_of(1, 0.9), "w9") is False
    assert (tmp_path / "trials.jsonl").read_bytes() == before
    assert ledger.report("B1", report_of(3, 0.9), "w9") is True
    assert [report.epoch for report in ledger.trials["B1"].reports] == [1, 2, 3]


def test_a_note_is_written_and_changes_nothing(ledger: Ledger, tmp_path: Path) -> None:
    fill(ledger)
    before = dict(ledger.trials)
    ledger.note("B1", "its worker was lost")
    assert ledger.trials == before
    *_, event = read_events(tmp_path / "trials.jsonl")
    assert (event["event"], event["trial"], event["text"]) == ("note", "B1", "its worker was lost")


def test_of_a_trial_whose_weights_were_lost_only_what_is_left_and_what_follows_counts(
    ledger: Ledger, tmp_path: Path
) -> None:
    fill(ledger)
    ledger.lose("B1", [1], "the weights of epoch 2 are lost")
    for trial in (ledger.trials["B1"], read_trials(tmp_path / "trials.jsonl")[0]):
        best = trial.best("val/dice", "maximize")
        assert best is not None
        assert best.epoch == 1
    ledger.report("B1", report_of(3, 0.6), "w1")
    assert ledger.trials["B1"].saved == [1, 3]


@pytest.mark.parametrize("tail", [b"", b"\0\0\0"])
def test_a_record_is_taken_up_after_its_last_whole_line(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "trials.jsonl"
    ledger = Ledger(path)
    fill(ledger)
    ledger.close()
    whole = path.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for cut in range(start, len(whole)):
        path.write_bytes(whole[:cut] + tail)
        again = Ledger(path)
        assert [len(trial.reports) for trial in again.trials.values()] == [2, 0]
        again.note("B1", "taken up")
        again.close()
        assert path.read_bytes().startswith(whole[:start])
        *_, last = read_events(path)
        assert (last["event"], len(list(read_events(path)))) == ("note", len(again.past))


def test_the_clock_of_a_record_goes_on_where_it_stood(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    path.write_text('{"t": 100.0, "event": "study"}\n', encoding="utf-8")
    ledger = Ledger(path)
    assert 100 <= ledger.elapsed() < 101
    ledger.close()


def test_what_was_refused_is_counted_again(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    for _ in range(2):
        ledger = Ledger(path)
        ledger.refuse({"model.depth": 5}, Refusal("too_slow", "too dear", 0.5), proposed=True)
        ledger.close()
    assert ledger.refused == {"too_slow": 2}


@pytest.mark.parametrize(
    ("waits", "outcome", "goes_on"),
    [
        (False, "interrupted", True),
        (True, "stopped", True),
        (False, "stopped", False),
        (False, "completed", False),
        (False, "failed", False),
    ],
)
def test_a_study_that_goes_on_opens_what_was_cut_off_or_waited(
    ledger: Ledger, waits: bool, outcome: str, goes_on: bool
) -> None:
    ledger.start(trial="t1", **FACTS)
    if waits:
        ledger.wait("t1")
    ledger.end("t1", outcome, "why")  # type: ignore[arg-type]
    ledger.resume()
    trial = ledger.trials["t1"]
    assert (trial.outcome is None) == (trial.ended is None) == goes_on
    assert trial.waiting == waits


def test_scores_on_the_test_split_are_kept_for_a_study_that_goes_on(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "trials.jsonl")
    fill(ledger)
    assert ledger.openings == 0
    ledger.test({("B1", 2): {"metrics": {"dice": 0.25}}})
    ledger.close()
    again = Ledger(tmp_path / "trials.jsonl")
    scored = {"trial": "B1", "epoch": 2, "metrics": {"dice": 0.25}}
    assert (again.openings, again.tested) == (1, {("B1", 2): scored})


def test_a_record_may_be_in_memory_alone_and_have_a_clock_of_its_own() -> None:
    now = 100.0
    ledger = Ledger(None, lambda: now)
    now = 103.5
    fill(ledger)
    assert [event["t"] for event in ledger.past] == [3.5] * 7
    assert ledger.trials["t0001"].started == 3.5
    assert ledger.elapsed() == 3.5
    ledger.close()


def test_the_time_of_a_search_is_that_of_all_its_sessions() -> None:
    now = 5.0
    ledger = Ledger(None, lambda: now)
    ledger.begin()
    now = 8.0  # after the calibration
    ledger.found_workers(workers=2)
    now = 10.0
    ledger.start(trial="t0001", **FACTS)
    now = 18.0
    ledger.end("t0001", "interrupted")
    now = 20.0
    ledger.test({})
    ledger.finish()
    now = 31.0
    ledger.resume(workers=3)
    now = 35.0
    ledger.start(trial="t0002", **FACTS)
    assert ledger.searched() == (10.0 + 4.0, 2 * 10.0 + 3 * 4.0)
    assert Ledger(None).searched() == (0.0, 0.0)
