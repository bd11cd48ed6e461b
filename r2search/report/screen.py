"""The terminal: a live screen while a study runs, plain lines without a terminal, a summary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from rich.console import Console, ConsoleRenderable, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from r2search.report.wording import (
    SYNTHETIC,
    Summary,
    compare,
    count,
    duration,
    number,
    objective,
    part,
    published,
    scores_on_test,
    verdict,
    warnings,
)

QUIET_S = 30.0  # seconds between plain lines while nothing changes
SHOWN_RUNNING = 12
TEST_METRICS = ("dice_mean", "sensitivity", "specificity", "auc_pr")  # after the objective
SPARK = "▁▂▃▄▅▆▇█"  # low to high
SPARK_WIDTH = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class ScreenState:
    """What the screen shows: plain values, seconds since the study began."""

    name: str
    phase: str  # `calibrating`, `searching`, `testing`, `reporting`, ...
    elapsed_s: float
    budget_s: float
    synthetic: bool = False
    metric: str = "objective"
    goal: str = "maximize"
    running: Sequence[tuple[str, int, int, float | None]] = ()  # trial, epoch, planned, value
    counts: Mapping[str, int] = field(default_factory=dict)  # outcome -> trials
    incumbent: tuple[str, float, int] | None = None  # trial, value, epoch
    baselines: Mapping[str, float | None] = field(default_factory=dict)
    second_observer: float | None = None
    sparkline: Sequence[float] = ()  # best value so far, in order of time

    @property
    def left_s(self) -> float:
        return max(0.0, self.budget_s - self.elapsed_s)


class Screen:
    """Shows where a study stands: a live panel on a terminal, else a line when something changes.

    A context manager. An odd terminal (narrow, dumb, without colour or Unicode) never raises.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        able = self._console.is_terminal and not self._console.is_dumb_terminal
        live = able and not self._console.options.ascii_only
        self._live = (
            Live(console=self._console, refresh_per_second=4, transient=True) if live else None
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
            if state.synthetic and self._shown is None:
                self.note(SYNTHETIC)
            self.note(plain_line(state))
            self._shown = state

    def note(self, text: str) -> None:
        """Print one line, above the panel where there is one."""
        say(self._console, text)


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
    rows += [_fields({"trials": _counts(state)}), Text(), _running(state)]
    title = Text(f"r2search: {state.name}", style="bold")
    return Panel(Group(*rows), title=title, title_align="left", border_style="blue")


def plain_line(state: ScreenState) -> str:
    """The same in one line, for a log file."""
    best = "no value yet"
    if state.incumbent:
        trial, value, epoch = state.incumbent
        best = f"best {trial} {number(value)} (epoch {epoch})"
        known = [f"{name} {number(v)}" for name, v in _others(state).items() if v is not None]
        best += f" against {', '.join(known)}" if known else ""
    clock = f"[{duration(state.elapsed_s)}, {duration(state.left_s)} left]"
    return f"{clock} {state.phase}: {_counts(state)}; {best}"


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


def print_summary(console: Console, summary: Summary, run_dir: Path, resume: str = "") -> None:
    """Print how the study ended: the verdict, the scores, where things are, what to do next.

    `resume`: what it is to be resumed by, if it can be and did not come to its end.
    """
    name, _, observer = objective(summary)
    say(console, "")
    for warning in warnings(summary):
        say(console, warning, "bold yellow")
    for sentence in verdict(summary):
        say(console, sentence, "bold")
    if part(summary, "incumbent"):
        console.print(_scores(summary, name, observer))
    if scores_on_test(summary):
        console.print(_test_scores(summary))
    trials, time = part(summary, "trials"), part(summary, "time")
    kinds = ("completed", "stopped", "failed", "interrupted")
    ended = ", ".join(f"{trials[kind]} {kind}" for kind in kinds if trials.get(kind))
    say(
        console,
        f"{trials.get('total', 0)} trials beside the baselines ({ended or 'none'}) "
        f"in {duration(time.get('wall_s'))}.",
    )
    say(console, f"Run folder: {run_dir}")
    say(console, f"Report:     {run_dir / 'report.html'}")
    bundle = summary.get("bundle")
    if bundle:
        say(console, f"Bundle:     {run_dir / bundle}")
        say(console, f"Next:       r2search predict {run_dir / bundle} IMAGE -o OUT")
    if resume and summary["status"] != "completed":
        say(console, f"Go on:      r2search tune --resume {resume}")


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


def _counts(state: ScreenState) -> str:
    ended = [f"{number} {outcome}" for outcome, number in state.counts.items()]
    return ", ".join([*ended, f"{len(state.running)} running"])


def _others(state: ScreenState) -> dict[str, float | None]:
    """What the incumbent is measured by."""
    observer = {"second observer": state.second_observer}
    return {**state.baselines, **(observer if state.second_observer is not None else {})}


def _yardsticks(state: ScreenState) -> Table:
    """The incumbent against baselines and second observer."""
    table = _grid()
    if state.incumbent is None:
        table.add_row("incumbent", Text("no trial has reported yet", "dim"))
    else:
        trial, value, epoch = state.incumbent
        text = Text.assemble((number(value), "bold green"), f"  {trial}, epoch {epoch}")
        table.add_row("incumbent", text)
    for name, other in _others(state).items():
        text = Text(number(other) if other is not None else "not yet")
        if other is not None and state.incumbent and name != state.incumbent[0]:
            ahead = compare(state.incumbent[1], other, state.goal)
            text.append(f"  incumbent is {ahead.removesuffix(' than').removesuffix(' to')}", "dim")
        table.add_row(name, text)
    return table


def _running(state: ScreenState) -> Table:
    table = _grid()
    for trial, epoch, planned, value in state.running[:SHOWN_RUNNING]:
        table.add_row(trial, f"epoch {epoch}/{planned}  {'' if value is None else number(value)}")
    hidden = len(state.running) - SHOWN_RUNNING
    if hidden > 0:
        table.add_row("", Text(f"and {hidden} more", "dim"))
    return table


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


def _scores(summary: Summary, name: str, observer: float | None) -> Table:
    best = summary["incumbent"]
    table = _table(name, "value", "epoch", "parameters", "trained")
    rows = {f"incumbent {best['trial']}": best}
    rows |= {f"baseline {key}": row for key, row in part(summary, "baselines").items()}
    for label, row in rows.items():
        if row:
            told = number(row["value"]), str(row["epoch"]), count(row.get("parameters"))
            table.add_row(label, *told, published(row))
        else:
            table.add_row(label, "n/a")
    if observer is not None:
        table.add_row("second observer", number(observer))
    return table


def _test_scores(summary: Summary) -> Table:
    rows = scores_on_test(summary)
    objective = summary["objective"]["name"].removeprefix("val/")
    wanted = dict.fromkeys([objective, *TEST_METRICS])
    names = [name for name in wanted if any(name in row for _, row in rows)]
    table = _table("test split", *names)
    for label, row in rows:
        table.add_row(label, *(number(row.get(name)) for name in names))
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(first, overflow="fold")
    for other in others:
        table.add_column(other, justify="right", overflow="fold")
    return table


def _encodable(console: Console, text: str) -> str:
    """The text with `?` for what the terminal cannot show."""
    encoding = console.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)
