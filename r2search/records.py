"""What is written down and passed on: plain values that survive a JSON round trip."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

RECORD = "trials.jsonl"  # of a run folder
CHECKPOINTS = "checkpoints"  # of a run folder: one folder a trial
RESUMED = "resumed"  # status of a summary.json whose study goes on since
MOST_SAID = 500  # characters of an error that are written down
FORMAT = 2  # of trials.jsonl; raised when a reader must know the difference
# Stands in no name of a trial: `t0007@2` is t0007 trained again, for the second time, and
# `t0007@2.1` the same on fold 1
AGAIN = "@"

Outcome = Literal["completed", "stopped", "failed", "infeasible", "interrupted"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochReport:
    """What one epoch of one trial yields."""

    epoch: int  # counts from 1
    metrics: dict[str, float]  # `val/dice_mean`, `train/loss`, ...; finite
    pixels: int  # training pixels seen in this epoch
    # `train`, `feed` (part of train), `validate`; of a search also `checkpoint` (its work waited
    # for) and, with the first epoch of a worker, `setup` (since the last one of the trial before)
    seconds: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialOutcome:
    """One trial as the record tells it: its settings, every report, and how it ended."""

    trial: str  # `t0007`, or the name of a baseline; with AGAIN in a confirmation
    baseline: bool
    overrides: dict[str, Any]  # dotted key -> value drawn
    config: dict[str, Any]  # the whole TrialConfig
    cost: dict[str, float]  # parameters, flops (one patch, forward), epoch_seconds (predicted)
    planned_epochs: int
    started: float  # seconds since the study began
    ended: float | None = None
    outcome: Outcome | None = None  # None while it runs
    reason: str = ""
    worker: str = ""
    bracket: int = 0  # also the number of its first rung, and
    rungs: tuple[int, ...] = ()  # the epochs at which it waits, from that one on
    fold: tuple[int, int] = (0, 1)  # of a confirmation: which split of the images, of how many
    reports: list[EpochReport] = field(default_factory=list)
    report_times: list[float] = field(default_factory=list)  # seconds since the study began

    # At a rung, until it is among the best that came there; still so when the study has ended
    waiting: bool = False
    # Epochs whose weights are left, where those of the best one were lost
    saved: list[int] | None = None

    @property
    def repeats(self) -> str:
        """The trial that this training repeats; its own name, of one of the search."""
        return self.trial.partition(AGAIN)[0]

    @property
    def may_go_on(self) -> bool:
        """It was cut off, or waited at a rung, when the study ended."""
        return self.outcome == "interrupted" or (self.outcome == "stopped" and self.waiting)

    @property
    def failed(self) -> bool:
        """It has no result: it broke, or did not fit into memory."""
        return self.outcome in ("failed", "infeasible")

    @property
    def eligible(self) -> bool:
        """Whether it may be ranked: an epoch with its weights, and no failure."""
        return bool(self._epochs()) and not self.failed

    def best(self, metric: str, goal: str) -> EpochReport | None:
        """The best epoch by `metric`, the earlier one of equals; None without a report.

        Epochs whose weights were lost do not count.
        """
        sign = -1.0 if goal == "maximize" else 1.0
        return min(self._epochs(), key=lambda r: (sign * r.metrics[metric], r.epoch), default=None)

    def _epochs(self) -> list[EpochReport]:
        return [r for r in self.reports if self.saved is None or r.epoch in self.saved]
