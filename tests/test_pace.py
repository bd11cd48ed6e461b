"""How far predicting is: a line now and then, with the time left."""

import io

from rich.console import Console

from r2search.pace import QUIET_S, Pace


def test_without_a_terminal_a_line_tells_now_and_then_how_far_it_is(console: Console) -> None:
    now = [0.0]
    with Pace(console, files=3, work=400, clock=lambda: now[0]) as pace:
        now[0] = QUIET_S - 1
        pace.reach(1.0, 100)
        pace.finish(100)
        now[0] = QUIET_S  # a quarter is done, so three times as long is left
        pace.reach(0.0, 200)
        now[0] = QUIET_S + 1  # soon after
        pace.reach(0.2, 200)
        now[0] = 2 * QUIET_S
        pace.reach(0.5, 200)
        pace.finish(200)
        pace.finish(100)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == [
        "1 of 3 images, 25%, 1:30 left",
        "1 of 3 images, 50%, 1:00 left",
    ]


def test_a_terminal_shows_a_bar_that_goes_away() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, _environ={"TERM": "xterm"})
    with Pace(console, files=2, work=20) as pace:
        pace.finish(10)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1 of 2 images" in shown
    assert "50%" in shown
    assert shown.rstrip().endswith("\x1b[2K")


def test_files_without_content_are_no_division_by_zero(console: Console) -> None:
    with Pace(console, files=1, work=0) as pace:
        pace.finish(0)
