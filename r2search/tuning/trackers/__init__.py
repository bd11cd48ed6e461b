"""Where trials are shown; trials.jsonl remains the record."""

from typing import Protocol

from r2search.records import EpochReport, TrialOutcome


class Tracker(Protocol):
    """Shows a study somewhere. No method blocks or raises: a view never costs the search."""

    def start(self, trial: TrialOutcome) -> None:
        """A trial begins."""

    def report(self, trial: str, report: EpochReport) -> None:
        """An epoch of a trial is done."""

    def end(self, trial: TrialOutcome) -> None:
        """A trial has ended; `trial.outcome` says how."""

    def close(self) -> None:
        """The study is over; wait a bounded time for what is under way."""
