import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from r2search.report.ending import print_summary, tell_end
from r2search.report.screen import SPARK, Screen, render, spark
from r2search.report.state import Rung, Running, ScreenState, plain_line


def state(**how: Any) -> ScreenState:
    """A made-up study half way through; `how` overrides what it tells."""
    facts: dict[str, Any] = {
        "name": "retina",
        "phase": "searching",
        "elapsed_s": 312.0,
        "budget_s": 600.0,
        "running": [Running("t0009", 4, 12, 0.731, "a1:77", 8.2), Running("t0010", 0, 12, None)],
        "counts": {"completed": 3, "stopped": 5, "failed": 1, "infeasible": 2},
        "incumbent": ("t0007", 0.7912, 31),
        "baselines": {"B1": 0.779, "B2": None},
        "second_observer": 0.801,
        "sparkline": [0.2, 0.5, 0.7, 0.79],
    }
    return ScreenState(**facts | how)


def plain(width: int = 200) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=False)


def lines(console: Console) -> list[str]:
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue().splitlines()


def shown(console: Console, what: ScreenState) -> str:
    console.print(render(what))
    return "\n".join(lines(console))


def test_the_panel_shows_incumbent_yardsticks_trials_and_time() -> None:
    text = shown(plain(90), state())
    for words in (
        "retina",
        "5:12 gone, 4:48 left of 10:00",
        "0.791  t0007, epoch 31",
        "0.779  incumbent is 0.012 better",
        "0.801  incumbent is 0.010 worse",
        "3 completed, 5 stopped, 1 failed, 2 running, 2 configs refused",
        "epoch 5/12  0:08  best 0.731  a1:77",
    ):
        assert words in text
    assert "Synthetic" not in text
    assert "Synthetic data" in shown(plain(90), state(synthetic=True))


@pytest.mark.parametrize("width", [1, 2, 10, 40, 200])
@pytest.mark.parametrize("how", [{}, {"counts": {}, "incumbent": None, "sparkline": []}])
def test_the_panel_fits_any_width(width: int, how: dict[str, Any]) -> None:
    for line in shown(plain(width), state(**how)).splitlines():
        assert len(line) <= width


def test_many_running_trials_are_cut_short() -> None:
    running = [Running(f"t{i:04}", 1, 12, None) for i in range(300)]
    text = shown(plain(80), state(running=running))
    assert "and 288 more" in text
    assert len(text.splitlines()) < 30


def test_the_panel_shows_rungs_the_incumbent_s_epochs_and_idle_workers() -> None:
    rungs = [Rung(2, 9, 3), Rung(6, 3, 0)]
    text = shown(plain(90), state(rungs=rungs, curve=[0.1, 0.5, 0.79], workers=5))
    assert "epoch 2: 9 (3 wait)   epoch 6: 3" in text
    assert "▁▅█  0.100 to 0.790" in text
    assert "3 of 5 workers idle" in text
    assert "idle" not in shown(plain(90), state(workers=2))


def test_for_a_machine_every_line_is_an_object() -> None:
    console = Console(file=io.StringIO(), width=40, force_terminal=True)
    with Screen(console, "json") as screen:
        screen.note("grö[ß]er\nthan a line")
        screen.update(state(rungs=[Rung(2, 9, 3)], synthetic=True))
        screen.update(state(elapsed_s=313.0))
        screen.update(state(phase="testing"))
    note, first, last = map(json.loads, lines(console))
    assert note == {"event": "note", "text": "grö[ß]er\nthan a line"}
    assert first["event"] == "progress"
    assert first["left_s"] == 288.0
    assert first["incumbent"] == {"trial": "t0007", "value": 0.7912, "epoch": 31}
    assert first["rungs"] == [{"epoch": 2, "reached": 9, "waiting": 3}]
    assert first["running"][0]["worker"] == "a1:77"
    assert first["synthetic"] is True
    assert last["phase"] == "testing"


def test_for_a_machine_the_end_says_where_all_is(summary: dict[str, Any]) -> None:
    console = plain()
    tell_end(Screen(console, "json"), summary, Path("runs/retina"))
    (line,) = lines(console)
    told = json.loads(line)
    assert told["event"] == "end"
    assert told["status"] == "completed"
    assert told["incumbent"] == {"trial": "t0011", "epoch": 11, "value": 0.7928}
    assert told["bundle"] == "runs/retina/bundle"
    tell_end(Screen(console, "json"), {"status": "failed"}, Path("runs/retina"))
    told = json.loads(lines(console)[-1])
    assert (told["incumbent"], told["bundle"]) == (None, None)


def test_who_asks_for_plain_lines_gets_them_on_a_terminal_too() -> None:
    console = Console(file=io.StringIO(), width=40, force_terminal=True, color_system=None)
    with Screen(console, "plain") as screen:
        screen.update(state())
    assert lines(console) == [plain_line(state())]


def test_without_a_terminal_a_line_comes_only_when_something_changes() -> None:
    console = plain()
    counts = {"completed": 3, "stopped": 5, "failed": 1, "infeasible": 2}
    with Screen(console) as screen:
        screen.update(state(elapsed_s=0))
        screen.update(state(elapsed_s=1))
        screen.update(state(elapsed_s=2, running=[Running("t0011", 1, 12, None)]))
        screen.update(state(elapsed_s=3, counts=counts | {"infeasible": 7}))
        assert len(lines(console)) == 1
        screen.update(state(elapsed_s=4, counts=counts | {"stopped": 6}))
        assert "6 stopped" in lines(console)[-1]
        screen.update(state(elapsed_s=5, counts=counts | {"stopped": 6}, phase="testing"))
        assert "testing" in lines(console)[-1]
        screen.update(
            state(
                elapsed_s=6,
                counts=counts | {"stopped": 6},
                phase="testing",
                incumbent=("t0011", 0.8, 2),
            )
        )
        assert "t0011 0.800" in lines(console)[-1]
    assert len(lines(console)) == 4


def test_without_a_terminal_a_quiet_study_says_so_every_30_seconds() -> None:
    console = plain()
    with Screen(console) as screen:
        for second in range(0, 100):
            screen.update(state(elapsed_s=float(second)))
    # at 0, 30, 60 and 90 seconds
    assert [line.split(",")[0] for line in lines(console)] == ["[0:00", "[0:30", "[1:00", "[1:30"]


def test_a_plain_line_is_one_line_with_the_time_left() -> None:
    assert plain_line(state()) == (
        "[5:12, 4:48 left] searching: 3 completed, 5 stopped, 1 failed, 2 running, 2 "
        "configs refused; best t0007 0.791 (epoch 31) against B1 0.779, second observer 0.801"
    )


def test_plain_lines_say_once_that_the_data_is_synthetic() -> None:
    console = plain(40)
    with Screen(console) as screen:
        screen.update(state(synthetic=True))
        screen.update(state(synthetic=True, phase="testing"))
    assert sum("Synthetic data" in line for line in lines(console)) == 1
    assert len(lines(console)) == 3, "a line of a log is not wrapped"


def test_on_a_terminal_the_panel_is_live_and_notes_stand_above() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    with Screen(console) as screen:
        screen.update(state())
        screen.note("a warning with [brackets] and 100 %")
        screen.update(state(phase="testing"))
    text = "\n".join(lines(console))
    assert "a warning with [brackets] and 100 %" in text
    assert "╭─ retina" in text or "r2search: retina" in text


@pytest.mark.parametrize(
    "environment",
    [{"TERM": "dumb"}, {"NO_COLOR": "1"}, {"TERM": "unknown"}, {"COLUMNS": "1", "LINES": "1"}],
)
def test_an_odd_terminal_does_not_stop_a_study(environment: dict[str, str]) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, _environ=environment)
    with Screen(console) as screen:
        screen.update(state())
        screen.note("odd: \udcff")
    assert lines(console)


def test_a_terminal_without_unicode_gets_plain_ascii_lines() -> None:
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding="ascii"), force_terminal=True, width=40)
    with Screen(console) as screen:
        screen.update(state())
        screen.note("größer")
    console.file.flush()
    assert "gr??er" in raw.getvalue().decode("ascii")


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), st.integers(2, 60))
def test_a_sparkline_never_outgrows_its_width_and_ends_at_the_last_value(
    values: list[float], width: int
) -> None:
    text = spark(values, width)
    assert len(text) == min(len(values), width)
    assert set(text) <= set(SPARK)
    if max(values) > min(values) and values[-1] == max(values):
        assert text[-1] == SPARK[-1] or len(values) > width


def test_a_rising_sparkline_uses_all_heights() -> None:
    assert spark([0, 1, 2, 3, 4, 5, 6, 7]) == SPARK
    assert spark([0.5, 0.5]) == SPARK[0] * 2


@pytest.mark.parametrize(
    ("status", "said"), [("completed", False), ("interrupted", True), ("partial", True)]
)
def test_a_study_that_did_not_come_to_its_end_says_how_it_goes_on(
    summary: dict[str, Any], status: str, said: bool
) -> None:
    console = plain()
    print_summary(console, summary | {"status": status}, Path("run"), resume="s3://b/run")
    assert ("r2search tune --resume s3://b/run" in "\n".join(lines(console))) == said


def test_the_summary_says_how_it_went_where_things_are_and_what_is_next(
    summary: dict[str, Any],
) -> None:
    console = plain()
    print_summary(console, summary, Path("runs/retina"))
    text = "\n".join(lines(console))
    for words in (
        "It is 0.035 better than baseline B1 (0.758).",
        "28 trials beside the baselines (5 completed, 21 stopped, 1 failed, 1 interrupted)",
        "in 10:12.",
        "runs/retina/report.html",
        "r2search predict runs/retina/bundle IMAGE -o OUT",
    ):
        assert words in text
    assert "--resume" not in text
    words_of = [line.split() for line in lines(console)]
    assert "incumbent 0.751 (0.731 to 0.769) 0.740 0.972 0.810".split() in words_of
    assert "second observer 0.778 (0.758 to 0.796) 0.790 0.970 n/a".split() in words_of


def test_the_closing_table_says_how_much_of_its_published_training_a_baseline_got(
    summary: dict[str, Any],
) -> None:
    console = plain(80)
    print_summary(console, summary, Path("run"))
    (first,) = [line for line in lines(console) if line.startswith("baseline B1")][:1]
    assert first.endswith("0.34 of the published training")
    assert sum("published" in line for line in lines(console)) == 1


def test_several_classes_are_summed_up_by_their_mean(two_classes: dict[str, Any]) -> None:
    console = plain()
    print_summary(console, two_classes, Path("run"))
    assert "class" not in "\n".join(lines(console))
    assert "incumbent 0.751 (0.731 to 0.769) 0.740 0.972 0.810".split() in [
        line.split() for line in lines(console)
    ]


def test_the_summary_of_a_study_without_result_offers_no_bundle() -> None:
    console = plain()
    print_summary(console, dict.fromkeys(("incumbent", "test", "trials", "time")), Path("run"))
    text = "\n".join(lines(console))
    assert "No trial has yielded a network." in text
    assert "predict" not in text


@pytest.mark.parametrize("width", [1, 40])
def test_the_summary_fits_a_narrow_terminal_without_unicode(
    summary: dict[str, Any], width: int
) -> None:
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding="ascii"), width=width)
    print_summary(console, summary, Path("run \udcff"))
    console.file.flush()
    assert b"run ?" in raw.getvalue()


def test_the_scores_on_the_test_split_begin_with_the_objective(
    summary: dict[str, Any], tmp_path: Path
) -> None:
    summary["objective"]["name"] = "val/iou"
    summary["test"]["incumbent"]["iou"] = {"value": 0.5}
    console = Console(width=120, record=True, file=io.StringIO())
    print_summary(console, summary, tmp_path)
    (header,) = [line for line in console.export_text().splitlines() if "test split" in line]
    assert header.split()[2:4] == ["iou", "dice_mean"]
