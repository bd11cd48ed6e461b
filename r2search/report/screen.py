"""While a study runs: a live panel on a terminal, else lines for a log or for a machine."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from rich.console import Console, ConsoleRenderable, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from r2search.report.state import Rung, ScreenState, as_object, counts_line, others, plain_line
from r2search.report.wording import SYNTHETIC, compare, duration, number

QUIET_S = 30.0  # seconds between plain lines while nothing changes
SHOWN_RUNNING = 12
Progress = Literal["auto", "plain", "json"]
SPARK = "▁▂▃▄▅▆▇█"  # low to high
SPARK_WIDTH = 40


class Screen:
    """Shows where a study stands: a live panel on a terminal, else a line when something changes.

    A context manager. An odd terminal (narrow, dumb, without colour or Unicode) never raises.
    """

    def __init__(self, console: Console | None = None, progress: Progress = "auto") -> None:
        """`progress`: auto, plain (lines on a terminal, too) or json (each line an object)."""
        self.console = console or Console()
        self.for_machines = progress == "json"
        able = self.console.is_terminal and not self.console.is_dumb_terminal
        live = progress == "auto" and able and not self.console.options.ascii_only
        self._live = (
            Live(console=self.console, refresh_per_second=4, transient=True) if live else None
        )
        self._shown: ScreenState | None = None  # the state of the last plain line

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()

    def update(self, state: ScreenState) -> None:
        if self._live:
            self._live.update(render(state))
        elif _is_news(self._shown, state):
            if self.for_machines:
                self.write(as_object(state))
            else:
                if state.synthetic and self._shown is None:
                    self.note(SYNTHETIC)
                self.note(plain_line(state))
            self._shown = state

    def note(self, text: str) -> None:
        """Print one line, above the panel where there is one."""
        if self.for_machines:
            self.write({"event": "note", "text": text})
        else:
            say(self.console, text)

    def write(self, event: Mapping[str, Any]) -> None:
        """Print one object, in a line of its own: ASCII, whatever the terminal shows."""
        say(self.console, json.dumps(event))


def render(state: ScreenState) -> ConsoleRenderable:
    """The live panel."""
    rows: list[ConsoleRenderable] = []
    if state.synthetic:
        rows.append(Text(SYNTHETIC, "yellow"))
    share = min(state.elapsed_s, state.budget_s)
    rows += [
        _clock(state),
        ProgressBar(
            total=max(state.budget_s, 1e-9),
            completed=share,
            complete_style="blue",
            finished_style="blue",
        ),
        Text(),
        _yardsticks(state),
    ]
    if len(state.sparkline) > 1:
        rows.append(_fields({"best so far": spark(state.sparkline)}))
    if len(state.curve) > 1:
        low, high = number(min(state.curve)), number(max(state.curve))
        rows.append(_fields({"its epochs": f"{spark(state.curve)}  {low} to {high}"}))
    rows.append(_fields({"trials": counts_line(state)}))
    if state.rungs:
        rows.append(_fields({"rungs": "   ".join(map(_rung, state.rungs))}))
    rows += [Text(), _running(state)]
    title = Text(f"r2search: {state.name}", style="bold")
    return Panel(Group(*rows), title=title, title_align="left", border_style="blue")


def spark(values: Sequence[float], width: int = SPARK_WIDTH) -> str:
    """A curve of at most `width` characters; the last value is always its end."""
    if len(values) > width:
        values = [values[round(i * (len(values) - 1) / (width - 1))] for i in range(width)]
    low, high = min(values), max(values)
    scale = (len(SPARK) - 1) / (high - low) if high > low else 0.0
    return "".join(SPARK[round((value - low) * scale)] for value in values)


def say(console: Console, text: str, style: str = "") -> None:
    """Print a text as it is, however long and with brackets, as a path may have them."""
    console.print(Text(_encodable(console, text), style=style), soft_wrap=True)


def _is_news(before: ScreenState | None, now: ScreenState) -> bool:
    """A trial ended, a new incumbent, another phase; or QUIET_S have passed."""
    if before is None or now.elapsed_s - before.elapsed_s >= QUIET_S:
        return True
    return _marks(before) != _marks(now)


def _marks(state: ScreenState) -> tuple[object, ...]:
    ended = {kind: number for kind, number in state.counts.items() if kind != "infeasible"}
    return state.phase, ended, state.incumbent


def _clock(state: ScreenState) -> Text:
    left = f"{duration(state.left_s)} left of {duration(state.budget_s)}"
    return Text.assemble((state.phase, "bold"), f"  {duration(state.elapsed_s)} gone, {left}")


def _yardsticks(state: ScreenState) -> Table:
    """The incumbent against baselines and second observer."""
    table = _grid()
    if state.incumbent is None:
        table.add_row("incumbent", Text("no trial has reported yet", "dim"))
    else:
        trial, value, epoch = state.incumbent
        text = Text.assemble((number(value), "bold green"), f"  {trial}, epoch {epoch}")
        table.add_row("incumbent", text)
    for name, other in others(state).items():
        text = Text(number(other) if other is not None else "not yet")
        if other is not None and state.incumbent and name != state.incumbent[0]:
            ahead = compare(state.incumbent[1], other, state.goal)
            text.append(f"  incumbent is {ahead.removesuffix(' than').removesuffix(' to')}", "dim")
        table.add_row(name, text)
    return table


def _running(state: ScreenState) -> Table:
    table = _grid()
    for each in state.running[:SHOWN_RUNNING]:
        text = Text(f"epoch {min(each.epoch + 1, each.planned)}/{each.planned}")
        text.append(f"  {duration(each.since_s)}", "dim")
        if each.value is not None:
            text.append(f"  best {number(each.value)}")
        text.append(f"  {each.worker}", "dim")
        table.add_row(each.trial, text)
    hidden = len(state.running) - SHOWN_RUNNING
    if hidden > 0:
        table.add_row("", Text(f"and {hidden} more", "dim"))
    idle = (state.workers or 0) - len(state.running)
    if idle > 0:
        table.add_row("", Text(f"{idle} of {state.workers} workers idle", "dim"))
    return table


def _rung(rung: Rung) -> str:
    waiting = f" ({rung.waiting} wait)" if rung.waiting else ""
    return f"epoch {rung.epoch}: {rung.reached}{waiting}"


def _fields(pairs: Mapping[str, str]) -> Table:
    table = _grid()
    for name, value in pairs.items():
        table.add_row(name, value)
    return table


def _grid() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", width=15, overflow="fold")
    table.add_column(overflow="fold")
    return table


def _encodable(console: Console, text: str) -> str:
    """The text with `?` for what the terminal cannot show."""
    encoding = console.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)
