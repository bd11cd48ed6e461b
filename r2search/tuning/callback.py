"""Ray's callback: what happens goes into the ledger and onto the screen."""

import logging
import os
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from ray.tune import Callback

from r2search.config import Study
from r2search.records import MOST_SAID, EpochReport, TrialOutcome
from r2search.selection import ranking
from r2search.storage import StorageError
from r2search.tuning.events import Ledger
from r2search.tuning.record_file import RecordError
from r2search.tuning.shelf import Shelf
from r2search.weights import WEIGHTS

KEPT_CHECKPOINTS = 5  # of ended trials, the best ones; baselines and running trials besides
KEPT_WAITING = 10  # of trials that wait at a rung; another one that goes on begins anew
# Workers that a trial may lose within an epoch: after the last its config is to blame. The second
# number is of workers that did not come to begin it, as those that wait for a trial when their node
# is lost.
LOST, LOST_BEFORE = 2, 5
# Of a proposal, into the record: what a trial is, what it will cost, and where it waits.
FACTS = ("baseline", "overrides", "config", "cost", "planned_epochs", "bracket", "rungs")

log = logging.getLogger(__name__)


def _never_raises(method: Callable[..., None]) -> Callable[..., None]:
    """A callback that raises ends the whole search: log it instead.

    But without its record a search must not go on: it is begun again from there.
    """

    @wraps(method)
    def guarded(self: "StudyCallback", *args: Any, **kwargs: Any) -> None:
        try:
            method(self, *args, **kwargs)
        except RecordError:
            raise
        except StorageError as error:
            log.warning("%s; the search goes on", error)
        except Exception:
            log.exception("%s failed; the search goes on", method.__name__)

    return guarded


class StudyCallback(Callback):
    """Turns Ray's events into the study's."""

    def __init__(
        self,
        study: Study,
        ledger: Ledger,
        shelf: Shelf,
        refresh: Callable[[], None],
        stopping: Callable[[], bool],
        kept: int | None = KEPT_CHECKPOINTS,
    ) -> None:
        """`kept`: of how many ended trials the weights stay, the best ones; None: of all."""
        self._study = study
        self._ledger = ledger
        self._shelf = shelf
        self._refresh = refresh
        self._stopping = stopping
        self._kept = kept
        self._begun: set[str] = set()  # trials that a worker has
        self._lost: Counter[tuple[str, int, bool]] = Counter()  # by name, epochs and whether begun
        self._dropped: set[str] = set()  # waiting trials whose checkpoints were not kept
        # Ended trials to be settled: workers write the best weights of stopped ones when they take
        # up another one, and a store may not answer
        self._leaving: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray pickles a run's parts for its own restore, which is never used

    @_never_raises
    def take_up(self) -> None:
        """Settle what the driver before did not come to."""
        lying = self._shelf.listing()
        for name in lying.keys() - self._ledger.known():
            self._shelf.drop_now(name)  # begun when the record was not yet in the store
        for name, trial in list(self._ledger.trials.items()):
            if trial.outcome is None and trial.waiting and name not in lying:
                self._dropped.add(name)
            elif trial.outcome and any(file.startswith("epoch-") for file in lying.get(name, ())):
                self._settle_checkpoint(name)

    @_never_raises
    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        name = trial.config["name"]
        self._begun.add(name)
        if name in self._ledger.trials:
            if self._ledger.trials[name].waiting:
                self._dropped.discard(name)
                self._shelf.revive(name)
                self._ledger.promote(name)
        else:
            self._start(trial.config)

    @_never_raises
    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        name = trial.config["name"]
        self._settle_leaving()
        for text in result["notes"]:
            self._note(name, text)
        if "outcome" in result:  # the trainable found its end
            self._ledger.end(name, result["outcome"], result["reason"])
            return
        report = EpochReport(**result["report"])
        self._ledger.report(name, report, result["worker"])

    @_never_raises
    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        name = trial.config["name"]
        self._begun.discard(name)
        if name not in self._ledger.trials:
            return  # asked for, never started
        record = self._ledger.trials[name]
        epochs = len(record.reports)
        if record.outcome is None and trial.config["until_epoch"] <= epochs < record.planned_epochs:
            self._ledger.wait(name)
            self._prune_checkpoints()
            return
        if epochs >= record.planned_epochs:
            self._ledger.end(name, "completed")
        elif self._stopping():
            self._ledger.end(name, "interrupted", "the study ended")
        else:
            self._ledger.end(name, "stopped", f"by {self._study.early_terminate.type}")
        self._close(name)

    @_never_raises
    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial lost its worker: it goes on in another, or has failed; the record says which."""
        name, begun = trial.config["name"], trial.config["name"] in self._begun
        self._begun.discard(name)
        if name not in self._ledger.trials:
            self._start(trial.config)
        lost = (name, len(self._ledger.trials[name].reports), begun)
        self._lost[lost] += 1
        if self._lost[lost] < (LOST if begun else LOST_BEFORE):
            self._note(name, f"its worker was lost ({_last_line(trial)}); another goes on with it")
            return
        if begun:
            self._ledger.end(name, "infeasible", f"killed its worker twice: {_last_line(trial)}")
        else:
            self._ledger.end(name, "failed", f"no worker could begin it: {_last_line(trial)}")
        self._close(name)

    @_never_raises
    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._refresh()

    @_never_raises
    def end_running(self) -> None:
        """The search is over, however it ended: trials that still ran are interrupted, and those
        that waited are stopped.
        """
        for name, trial in list(self._ledger.trials.items()):
            if trial.outcome is None and trial.waiting:
                rung = f"waited at epoch {trial.reports[-1].epoch}"
                self._ledger.end(name, "stopped", f"by {self._study.early_terminate.type}: {rung}")
                self._close(name)
            elif trial.outcome is None:
                self._ledger.end(name, "interrupted", "the study ended")
                self._close(name)
        self._settle_leaving(at_last=True)
        self._prune_checkpoints()  # a worker that was stopped may have written since

    def _start(self, config: dict[str, Any]) -> None:
        fold = {"fold": config["fold"]} if "fold" in config else {}  # of a confirmation
        self._ledger.start(trial=config["name"], **{key: config[key] for key in FACTS}, **fold)

    def _note(self, name: str, text: str) -> None:
        log.warning("%s: %s", name, text)
        self._ledger.note(name, text)

    @_never_raises
    def _close(self, name: str) -> None:
        self._leaving.add(name)
        self._settle_leaving()
        self._prune_checkpoints()

    @_never_raises
    def _settle_leaving(self, *, at_last: bool = False) -> None:
        """Settle ended trials, of the stopped ones those whose best weights have come.

        `at_last` all of them. A store that does not answer is asked again later.
        """
        for name in sorted(self._leaving):
            trial = self._ledger.trials[name]
            best = self._best(trial) if trial.outcome == "stopped" and not at_last else None
            try:
                if best is None or best.epoch in self._shelf.epochs(name):
                    self._leaving.discard(name)  # what fails otherwise is not tried again
                    self._settle_checkpoint(name)
            except StorageError as error:
                self._leaving.add(name)
                log.warning("%s: %s", name, error)
                return

    def _settle_checkpoint(self, name: str) -> None:
        """Of the weights that a trial left, keep those of its best epoch in the ledger.

        Where they are missing (a worker that did not answer, a full disk), the best of the epochs
        that left theirs takes their place.
        """
        trial = self._ledger.trials[name]
        if name in self._dropped:
            return
        found = self._shelf.epochs(name)
        best = self._best(trial)
        if best is not None and best.epoch not in found and not trial.failed:
            saved = [report.epoch for report in trial.reports if report.epoch in found]
            reason = f"the weights of epoch {best.epoch}, its best, are lost"
            log.warning("%s: %s", name, reason)
            self._ledger.lose(name, saved, reason)
            best = self._best(self._ledger.trials[name])
        self._shelf.settle(name, best.epoch if best else None)

    def _best(self, trial: TrialOutcome) -> EpochReport | None:
        return trial.best(self._study.metric.name, self._study.metric.goal)

    def _prune_checkpoints(self) -> None:
        """Keep the weights of the best trials and of the baselines, and the states of trials that
        run or may be continued."""
        metric = self._study.metric
        trials = self._ledger.trials.values()
        lying = self._shelf.listing()
        held = (trial for trial in trials if trial.waiting and trial.trial not in self._dropped)
        waiting = ranking(held, metric.name, metric.goal)
        self._dropped.update(trial.trial for trial in waiting[KEPT_WAITING:])
        for name in self._dropped & lying.keys():  # a worker may have written late
            self._shelf.drop(name)
        # Of thousands of trials only these few have anything to be kept.
        there = [self._ledger.trials[name] for name in lying if name in self._ledger.trials]
        ended = [trial for trial in there if trial.outcome]
        ranked = ranking(ended, metric.name, metric.goal)
        kept = {trial.trial for trial in ranked[: self._kept]}
        kept |= {trial.trial for trial in ranked if trial.baseline}
        for trial in ended:
            name, files = trial.trial, lying[trial.trial]
            if trial.may_go_on and name not in self._dropped:
                if name not in kept and WEIGHTS in files:
                    self._shelf.drop(name, {WEIGHTS})
            elif name not in kept:
                self._shelf.drop(name)
            elif states := {file for file in files if file.startswith("state-")}:
                self._shelf.drop(name, states)


def _last_line(trial: Any) -> str:
    """What went wrong, in one line: the last of the worker's traceback, but for Ray's advice."""
    if trial.error_file and os.path.exists(trial.error_file):
        lines = Path(trial.error_file).read_text(errors="replace").strip().splitlines()
        full = [line for line in lines if "low on memory" in line]  # of a node; advice follows
        last = [*lines, *full][-1] if lines else ""
        last = last.partition(" Some common causes")[0]  # Ray guesses at them
        return last[:MOST_SAID] or "failed without a message"
    return "failed without a message"
