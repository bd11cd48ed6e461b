"""Where a study stands: plain values, as a line of text and as an object for a machine."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from r2search.report.wording import duration, number


class Running(NamedTuple):
    """What a worker does: the trial, its epochs so far, and since when it trains the next one."""

    trial: str
    epoch: int
    planned: int
    value: float | None  # its best
    worker: str = ""  # node:process; empty until it has told of an epoch
    since_s: float = 0.0


class Rung(NamedTuple):
    """How many of the search's own trials came to an epoch, and wait there now."""

    epoch: int
    reached: int
    waiting: int


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
    running: Sequence[Running] = ()
    workers: int | None = None  # how many there are; None before that is known
    rungs: Sequence[Rung] = ()
    counts: Mapping[str, int] = field(default_factory=dict)  # outcome -> trials
    incumbent: tuple[str, float, int] | None = None  # trial, value, epoch
    baselines: Mapping[str, float | None] = field(default_factory=dict)
    second_observer: float | None = None
    sparkline: Sequence[float] = ()  # best value so far, in order of time
    curve: Sequence[float] = ()  # of the incumbent, epoch by epoch

    @property
    def left_s(self) -> float:
        return max(0.0, self.budget_s - self.elapsed_s)


def plain_line(state: ScreenState) -> str:
    """The same in one line, for a log file."""
    best = "no value yet"
    if state.incumbent:
        trial, value, epoch = state.incumbent
        best = f"best {trial} {number(value)} (epoch {epoch})"
        known = [f"{name} {number(v)}" for name, v in others(state).items() if v is not None]
        best += f" against {', '.join(known)}" if known else ""
    clock = f"[{duration(state.elapsed_s)}, {duration(state.left_s)} left]"
    return f"{clock} {state.phase}: {counts_line(state)}; {best}"


def as_object(state: ScreenState) -> dict[str, Any]:
    """The same as plain values that survive a JSON round trip."""
    found = {"event": "progress"} | asdict(state) | {"left_s": state.left_s}
    found["running"] = [each._asdict() for each in state.running]
    found["rungs"] = [each._asdict() for each in state.rungs]
    if state.incumbent:
        found["incumbent"] = dict(zip(("trial", "value", "epoch"), state.incumbent, strict=True))
    del found["sparkline"]
    return found


def counts_line(state: ScreenState) -> str:
    """How the trials ended; what was drawn and not tried at the end, since it is no trial."""
    ended = {kind: number for kind, number in state.counts.items() if kind != "infeasible"}
    parts = [f"{number} {kind}" for kind, number in ended.items()]
    parts.append(f"{len(state.running)} running")
    if refused := state.counts.get("infeasible"):
        parts.append(f"{refused} configs refused")
    return ", ".join(parts)


def others(state: ScreenState) -> dict[str, float | None]:
    """What the incumbent is measured by."""
    observer = {"second observer": state.second_observer}
    return {**state.baselines, **(observer if state.second_observer is not None else {})}
