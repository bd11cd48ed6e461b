"""trials.jsonl: every report and every ending, appended and flushed. The record of truth.

Writing and reading go through the same `apply`, so what is shown live is what a reader gets.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from r2search.config import BudgetConfig
from r2search.records import FORMAT, EpochReport, Outcome, TrialOutcome
from r2search.tuning.budget import Refusal, seconds_left
from r2search.tuning.record_file import RecordFile


class Searched(NamedTuple):
    """The time of a search, and that of all its workers together."""

    seconds: float
    worker_seconds: float


class Ledger:
    """The trials of one study, in memory and on disk. Used by one thread of one driver.

    What writes an event raises RecordError when it cannot; the record then ends with the event
    before it.
    """

    def __init__(self, path: Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin a record, or take up the one at `path`; its time goes on where it stood.

        None: in memory alone. Raises ValueError when a line before the last is damaged.
        """
        self.trials: dict[str, TrialOutcome] = {}
        self.confirmed: dict[str, TrialOutcome] = {}  # trainings of the confirmation, by name
        self.plan: dict[str, Any] | None = None  # of the confirmation, once the search is over
        self.refused: Counter[str] = Counter()  # configs that were drawn but not run, by cause
        self.tested: dict[tuple[str, int], dict[str, Any]] = {}  # by trial and epoch
        self.openings = 0  # of the test split
        self.flops = 0.0  # of the training of all epochs of the search
        self._confirming = 0.0  # seconds of confirmations, up to their event at `_confirmed_to`
        self._confirmed_to = 0.0
        if path and path.exists():
            os.truncate(path, _whole(path))
        self.past = list(read_events(path)) if path and path.exists() else []  # all events so far
        for event in self.past:
            self._apply(event)
        self._clock = clock
        self._began = clock() - (self.past[-1]["t"] if self.past else 0.0)
        self._file = RecordFile(path) if path else None

    @property
    def infeasible(self) -> int:
        """How many drawn configs were not run."""
        return self.refused.total()

    def known(self) -> set[str]:
        """The names of all trainings."""
        return {*self.trials, *self.confirmed}

    def left(self, budget: BudgetConfig) -> float:
        """Seconds until the search ends; negative when it should have.

        Confirmations of before, of a study that was given more, are no time of the search.
        """
        return seconds_left(budget, self.elapsed() - self._confirming, self.flops)

    def elapsed(self) -> float:
        """Seconds since the study began."""
        return self._clock() - self._began

    def searched(self) -> Searched:
        """How long trials were run, in all sessions: of each up to its last event."""
        seconds = worker_seconds = 0.0
        workers, last = 0, None
        for event in self.past:
            if event["event"] in ("study", "workers", "resume"):
                workers, last = event.get("workers", 1), event["t"]
            elif event["event"] in ("test", "finish"):
                last = None
            elif last is not None:
                seconds += event["t"] - last
                worker_seconds += workers * (event["t"] - last)
                last = event["t"]
        return Searched(seconds, worker_seconds)

    def begin(self, **facts: Any) -> None:
        """Note what a replay must know of the study itself."""
        self._write({"event": "study", "format": FORMAT, "unix_time": time.time(), **facts})

    def found_workers(self, **facts: Any) -> None:
        """From here on trials are run, by these workers: workers, measured."""
        self._write({"event": "workers", **facts})

    def resume(self, **facts: Any) -> None:
        """The study goes on: so may the trials that were interrupted, and those that waited.

        `searched=True`: only its confirmation does.
        """
        self._write({"event": "resume", "unix_time": time.time(), **facts})

    def confirm(self, event: dict[str, Any]) -> None:
        """Something happened in the confirmation: an event of a search within one of our own.

        So a reader of the search passes it over. `{"event": "plan", ...}` begins it.
        """
        self._write({"event": "confirm", "what": event})

    def start(self, **facts: Any) -> None:
        """A trial begins: trial, baseline, overrides, config, cost, planned_epochs."""
        self._write({"event": "trial", **facts})

    def report(self, trial: str, report: EpochReport, worker: str) -> bool:
        """An epoch is done; False, and nothing is written, when it was reported before.

        A trial that goes on from a checkpoint trains its last epochs again.
        """
        reports = self.trials[trial].reports
        if reports and report.epoch <= reports[-1].epoch:
            return False
        self._write({"event": "report", "trial": trial, "worker": worker, **report.to_dict()})
        return True

    def wait(self, trial: str) -> None:
        """A trial has come to a rung; it may go on later."""
        self._write({"event": "wait", "trial": trial})

    def promote(self, trial: str) -> None:
        """A trial that waited goes on."""
        self._write({"event": "promote", "trial": trial})

    def note(self, trial: str, text: str) -> None:
        """Something happened to a trial that changes nothing of it."""
        self._write({"event": "note", "trial": trial, "text": text})

    def lose(self, trial: str, saved: list[int], reason: str) -> None:
        """The weights of a trial's best epoch are lost; those of the epochs `saved` are left."""
        self._write({"event": "lost", "trial": trial, "saved": saved, "reason": reason})

    def end(self, trial: str, outcome: Outcome, reason: str = "") -> None:
        """A trial ends; only its first ending counts."""
        if self.trials[trial].outcome is None:
            self._write({"event": "end", "trial": trial, "outcome": outcome, "reason": reason})

    def refuse(self, overrides: dict[str, Any], refusal: Refusal, *, proposed: bool) -> None:
        """A drawn config is not run. `proposed`: it was Optuna's, which is to learn of it."""
        facts = {"overrides": overrides, "proposed": proposed, **asdict(refusal)}
        self._write({"event": "infeasible", **facts})

    def test(self, scores: dict[tuple[str, int], dict[str, Any]]) -> None:
        """The test split was opened, for the weights of these trials and epochs."""
        listed = [
            {"trial": trial, "epoch": epoch, **facts} for (trial, epoch), facts in scores.items()
        ]
        self._write({"event": "test", "scores": listed})

    def finish(self) -> None:
        """The study is over: it was tested, exported and reported."""
        self._write({"event": "finish"})

    @property
    def finished(self) -> bool:
        """Whether nothing has happened since the study was over."""
        return bool(self.past) and self.past[-1]["event"] == "finish"

    def close(self) -> None:
        if self._file:
            self._file.close()

    def _write(self, event: dict[str, Any]) -> None:
        line = json.dumps({"t": round(self.elapsed(), 3), **event}, allow_nan=False)
        if self._file:
            self._file.append(line)
        self.past.append(json.loads(line))  # what a reader gets: lists for tuples
        self._apply(self.past[-1])

    def _apply(self, event: dict[str, Any]) -> None:
        if event["event"] == "infeasible":
            self.refused[event["cause"]] += 1
        elif event["event"] == "report":
            self.flops += self.trials[event["trial"]].cost.get("epoch_flops", 0.0)
        elif event["event"] == "test":
            self.openings += 1
            for score in event["scores"]:
                self.tested[score["trial"], score["epoch"]] = score
        elif event["event"] == "confirm":
            if event["what"]["event"] == "plan":
                self.plan = event["what"] | {"t": event["t"]}
            else:
                self._confirming += event["t"] - self._confirmed_to
            self._confirmed_to = event["t"]
        elif event["event"] == "resume":
            self._confirmed_to = event["t"]
        apply(self.trials, event)
        apply_confirmed(self.confirmed, event)


class ConfirmLedger(Ledger):
    """The confirmation's part of a study's record, as if it were a search of its own."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(None)
        self.trials = ledger.confirmed
        self._study = ledger

    def known(self) -> set[str]:
        return self._study.known()

    def elapsed(self) -> float:
        return self._study.elapsed()

    def _write(self, event: dict[str, Any]) -> None:
        self._study.confirm(event)


def apply(trials: dict[str, TrialOutcome], event: dict[str, Any]) -> None:
    """Change `trials` as one event says. Events of other kinds change nothing."""
    kind, t = event["event"], event["t"]
    if kind == "trial":
        facts = {key: event[key] for key in _TRIAL_FACTS}
        facts |= {"bracket": event.get("bracket", 0), "rungs": tuple(event.get("rungs", ()))}
        facts |= {"fold": tuple(event["fold"])} if "fold" in event else {}
        trials[event["trial"]] = TrialOutcome(**facts, started=t)
    elif kind == "report":
        facts = {key: event[key] for key in ("epoch", "metrics", "pixels", "seconds")}
        trial = replace(trials[event["trial"]], worker=event["worker"])
        if trial.saved is not None:
            trial = replace(trial, saved=[*trial.saved, event["epoch"]])
        trial.reports.append(EpochReport(**facts))
        trial.report_times.append(t)
        trials[event["trial"]] = trial
    elif kind in ("wait", "promote"):
        trials[event["trial"]] = replace(trials[event["trial"]], waiting=kind == "wait")
    elif kind == "lost":
        trials[event["trial"]] = replace(trials[event["trial"]], saved=event["saved"])
    elif kind == "end":
        trials[event["trial"]] = replace(
            trials[event["trial"]],
            ended=t,
            outcome=event["outcome"],
            reason=event["reason"],
        )
    elif kind == "resume" and not event.get("searched"):
        for name, trial in trials.items():
            if trial.may_go_on:
                trials[name] = replace(trial, ended=None, outcome=None, reason="")


def apply_confirmed(trainings: dict[str, TrialOutcome], event: dict[str, Any]) -> None:
    """Change the trainings of a confirmation as one event of a study's record says."""
    if event["event"] == "confirm":
        apply(trainings, event["what"] | {"t": event["t"]})
    elif event["event"] == "resume":
        apply(trainings, event | {"searched": False})


_TRIAL_FACTS = ("trial", "baseline", "overrides", "config", "cost", "planned_epochs")


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a trials.jsonl. A torn last line, as a kill leaves it, is passed over."""
    lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            yield json.loads(line)
        except ValueError:  # not JSON, or not even text
            if number < len(lines):
                raise ValueError(f"{path}:{number}: not JSON; the file was damaged") from None


def _whole(path: Path) -> int:
    """Bytes up to the end of the last whole line."""
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    last = data.rfind(b"\n", 0, max(end - 1, 0)) + 1
    try:
        json.loads(data[last:end] or b"0")
    except ValueError:
        return last
    return end


def read_trials(path: Path) -> list[TrialOutcome]:
    """The trials of a study, in the order in which they began."""
    return _read(path, apply)


def read_confirmed(path: Path) -> list[TrialOutcome]:
    """The trainings of a study's confirmation, in the order in which they began."""
    return _read(path, apply_confirmed)


def _read(
    path: Path, apply_to: Callable[[dict[str, TrialOutcome], dict[str, Any]], None]
) -> list[TrialOutcome]:
    trainings: dict[str, TrialOutcome] = {}
    for event in read_events(path):
        apply_to(trainings, event)
    return list(trainings.values())
