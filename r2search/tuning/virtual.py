"""A search without Ray: some workers, and a clock that jumps from one epoch's end to the next.

Searcher, scheduler and record are those of a real search, asked and told in Ray's order; only
training is taken from elsewhere. Deciding takes no time here.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from r2search.config import Study
from r2search.records import EpochReport
from r2search.tuning.budget import search_seconds
from r2search.tuning.callback import FACTS, KEPT_WAITING
from r2search.tuning.curves import Failure
from r2search.tuning.events import Ledger

SWITCH_S = 0.5  # a worker's from one trial to another; real ones took 0.2 to 0.7 (`setup`)

# (proposal, epoch) -> what that epoch of it yields. Reports need `train` and `validate` seconds.
Train = Callable[[dict[str, Any], int], EpochReport | Failure]


@dataclass
class Clock:
    """What time it is, in seconds."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True)
class _Stretch:
    """What a worker does: a trial from its start, or from a rung, to its next rung or its end."""

    proposal: dict[str, Any]
    trial: Any  # as much of Ray's Trial as its schedulers look at
    coming: EpochReport | Failure  # what the present epoch will yield

    @property
    def name(self) -> str:
        return str(self.proposal["name"])


@dataclass
class VirtualSearch:
    """The search of a study by `workers` that only wait.

    Never more trials at a time than workers; the clock never goes back. `ledger` must have been
    made with `clock`. What the callback does of files is left out, but a trial that goes on
    although its state was not kept trains its epochs again.
    """

    study: Study
    searcher: Searcher  # ours, or another of Ray's that proposes in the same form
    scheduler: TrialScheduler
    train: Train
    ledger: Ledger
    clock: Clock
    workers: int = 1
    _ends: list[tuple[float, int, _Stretch]] = field(default_factory=list)  # a heap, by time
    _numbers: count = field(default_factory=count)  # type: ignore[type-arg]
    # Of trials that wait: the best values (larger is better) of those whose states are kept, and
    # the names of those whose are gone
    _waiting: dict[str, float] = field(default_factory=dict)
    _dropped: set[str] = field(default_factory=set)

    def run(self) -> None:
        """Search until nothing is left to do, or the time is over; then end what is open."""
        self.search()
        self.end_open()

    def search(self) -> None:
        """Search until nothing is left to do, or the time is over."""
        begun = self.clock.now - self.ledger.elapsed()
        deadline = begun + search_seconds(self.study.search_budget)
        self._begin_trials()
        while self._ends and self._ends[0][0] <= deadline:
            self.clock.now, _, stretch = heapq.heappop(self._ends)
            self._end_epoch(stretch)
            if self.ledger.left(self.study.search_budget) < 0:
                return
            self._begin_trials()
        if self._ends:
            self.clock.now = deadline

    def end_open(self) -> None:
        """The search is over: trials that still run are interrupted, those that wait stopped."""
        self._ends.clear()
        for name, trial in list(self.ledger.trials.items()):
            if trial.outcome is None and not trial.waiting:
                self.ledger.end(name, "interrupted", "the study ended")
        for name, trial in list(self.ledger.trials.items()):
            if trial.outcome is None:
                rung = f"waited at epoch {trial.reports[-1].epoch}"
                self.ledger.end(name, "stopped", f"{self._by}: {rung}")

    @property
    def _by(self) -> str:
        return f"by {self.study.early_terminate.type}"

    def _begin_trials(self) -> None:
        """Give every free worker a trial, if the searcher has one."""
        while len(self._ends) < self.workers:
            number = next(self._numbers)
            proposal = self.searcher.suggest(f"ray{number}")
            if not isinstance(proposal, dict):
                return  # finished, or to be asked again when a trial has ended
            self._begin(f"ray{number}", proposal)

    def _begin(self, ray_id: str, proposal: dict[str, Any]) -> None:
        name, lost = proposal["name"], 0.0
        trial = SimpleNamespace(trial_id=ray_id, config=proposal)
        self.scheduler.on_trial_add(None, trial)  # type: ignore[arg-type]
        record = self.ledger.trials.get(name)
        if record is None:
            facts = {key: proposal[key] for key in FACTS}
            self.ledger.start(trial=name, **facts)
        elif record.waiting:
            self._waiting.pop(name, None)
            if name in self._dropped:
                self._dropped.remove(name)
                lost = sum(map(_seconds, record.reports))
            self.ledger.promote(name)
        self._go_on(_Stretch(proposal, trial, self._next(proposal)), SWITCH_S + lost)

    def _next(self, proposal: dict[str, Any]) -> EpochReport | Failure:
        return self.train(proposal, len(self.ledger.trials[proposal["name"]].reports) + 1)

    def _go_on(self, stretch: _Stretch, more: float = 0.0) -> None:
        end = self.clock.now + more + _seconds(stretch.coming)
        heapq.heappush(self._ends, (end, next(self._numbers), stretch))

    def _end_epoch(self, stretch: _Stretch) -> None:
        """Pass on what an epoch yields, as Ray's controller does, and do what is decided."""
        came, trial = stretch.coming, stretch.trial
        if isinstance(came, Failure):
            result: dict[str, Any] = {"outcome": "failed", "reason": came.reason}
            over = True
            self.ledger.end(stretch.name, "failed", came.reason)
        else:
            result = {**came.metrics, "epoch": came.epoch}
            over = self._is_over(stretch, result)
            self.ledger.report(stretch.name, came, "")
        if over:
            self.scheduler.on_trial_complete(None, trial, result)  # type: ignore[arg-type]
            self.searcher.on_trial_complete(trial.trial_id, result)
            self._leave(stretch)
        else:
            stretch.coming = self._next(stretch.proposal)
            self._go_on(stretch)

    def _is_over(self, stretch: _Stretch, result: dict[str, Any]) -> bool:
        """Whether a trial has come to its rung or its end, or the scheduler stops it."""
        if result["epoch"] >= stretch.proposal["until_epoch"]:
            return True
        decision = self.scheduler.on_trial_result(None, stretch.trial, result)  # type: ignore[arg-type]
        if decision != TrialScheduler.CONTINUE:
            return True
        self.searcher.on_trial_result(stretch.trial.trial_id, result)
        return False

    def _leave(self, stretch: _Stretch) -> None:
        """Write down what became of a trial whose worker is free again."""
        name, until = stretch.name, stretch.proposal["until_epoch"]
        record = self.ledger.trials[name]
        epochs = len(record.reports)
        if epochs >= record.planned_epochs:
            self.ledger.end(name, "completed")
        elif record.outcome is None and epochs >= until:
            self.ledger.wait(name)
            self._keep_states(name)
        else:
            self.ledger.end(name, "stopped", self._by)

    def _keep_states(self, name: str) -> None:
        """Of all that wait, only the best keep their states, as the callback has it."""
        metric = self.study.metric
        best = self.ledger.trials[name].best(metric.name, metric.goal)
        assert best is not None
        sign = 1 if metric.goal == "maximize" else -1
        self._waiting[name] = sign * best.metrics[metric.name]
        if len(self._waiting) > KEPT_WAITING:
            worst = min(self._waiting, key=lambda other: self._waiting[other])
            del self._waiting[worst]
            self._dropped.add(worst)


def _seconds(came: EpochReport | Failure) -> float:
    return came.seconds["train"] + came.seconds["validate"]
