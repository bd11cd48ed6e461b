"""Who trains next: our own Ray `Searcher`, of baselines, trials at rungs and Optuna's proposals."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import optuna
from ray.tune.search import Searcher

from r2search.config import Study, TrialConfig
from r2search.space import as_drawn, trial_config
from r2search.tuning.budget import Plan, plan_baseline
from r2search.tuning.deadline import is_last_call, must_begin, needs, shortened, slowness
from r2search.tuning.events import Ledger
from r2search.tuning.optuna_view import OptunaView
from r2search.tuning.proposals import Instead, Proposals
from r2search.tuning.rungs import NOWHERE, Place
from r2search.tuning.scheduler import build_rungs, waiting_epochs

FINISHED = 0.1  # of the drawn trials are trained to their end, where the budget allows


@dataclass(slots=True)
class _Run:
    """A trial that a worker has, from its start or from the rung where it waited."""

    name: str
    baseline: bool
    overrides: dict[str, Any]
    plan: Plan
    asked: optuna.Trial | None  # None: not a point of the space
    place: Place = NOWHERE
    epoch: int = 0  # the last one reported
    to_its_end: bool = False  # it waits no more


class StudySearcher(Searcher):
    """Trials that may leave their rung, before what Optuna proposes.

    Baselines begin as late as they can, by name: until then the workers search. Near the end the
    best that wait are called to their end.

    What comes next follows from the study's record alone: `ledger.past` is taken up.

    `suggest` returns {name, baseline, overrides, config, cost, planned_epochs, bracket, rungs} of
    the record, and {reported, until_epoch, micro_batch, gpu_share} for the trainable; None while
    the trials that run have all of the GPUs, or decide what comes next.
    """

    def __init__(
        self,
        study: Study,
        planner: Callable[[TrialConfig], Plan],
        ledger: Ledger,
        view: OptunaView | None = None,
        gpus: float = math.inf,
        left: Callable[[], float] = lambda: math.inf,
        instead: Instead | None = None,
    ) -> None:
        """`gpus`: how many there are; `left`: seconds until the search ends.

        `instead`: the config to be run in place of what is drawn, where not all can be had.
        """
        mode = "max" if study.metric.goal == "maximize" else "min"
        super().__init__(metric=study.metric.name, mode=mode)
        self._study = study
        self._planner = planner
        self._ledger = ledger
        self._proposals = Proposals(study, planner, ledger, view, instead)
        self._baselines = {name: plan_baseline(study, name, planner) for name in study.baselines}
        self._rungs = build_rungs(study)
        self._gpus = gpus
        self._left = left
        self._running: dict[str, _Run] = {}  # by Ray's trial id
        self._waiting: dict[str, _Run] = {}  # by name
        # They lost their worker, or ran when the study that is taken up again broke off
        self._unfinished: list[_Run] = []
        self._best: dict[str, float] = {}  # by name
        self._drawn = 0
        self._finished = 0  # of the drawn ones
        self._drawn_all = False
        self._replay(tuple(ledger.past))

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray pickles a run's parts for its own restore, which is never used

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        if sum(run.plan.gpu_share or 0.0 for run in self._running.values()) >= self._gpus:
            return None  # Ray asks again
        run = (
            self._next_unfinished()
            or self._next_baseline()
            or self._next_called()
            or self._next_promoted()
            or self._next_drawn()
            or self._next_finished()
        )
        if run is None:
            return None if self._running else str(Searcher.FINISHED)
        self._running[trial_id] = run
        return self._proposal(run)

    def _replay(self, events: Iterable[dict[str, Any]]) -> None:
        """Take up a study where its record ends. Trials that ran are proposed again first."""
        for event in events:
            name, kind = event.get("trial", ""), event["event"]
            if kind == "infeasible":
                self._proposals.tell_refused(event)
            elif kind == "study":
                for trial in event.get("evidence", ()):
                    self._proposals.believe(trial)
            elif kind == "trial":
                self._running[name] = self._recall(event)
            elif kind == "promote":
                self._rungs.promote(name)
                run = self._waiting.pop(name)
                self._running[name] = replace(run, asked=self._proposals.ask(run.overrides))
            elif kind == "report":
                self._report(self._running[name], event["metrics"] | {"epoch": event["epoch"]})
            elif kind in ("wait", "end") and name in self._running:
                outcome = event.get("outcome")
                if outcome != "interrupted":
                    run = self._running.pop(name)
                    failed = outcome in ("failed", "infeasible")
                    self._leave(run, run.epoch > 0 and not failed, outcome)
        for name, run in self._running.items():
            if run.epoch >= run.plan.epochs:  # the driver ended before it could note it
                self._ledger.end(name, "completed")
            if self._ledger.trials[name].outcome:
                self._leave(run, True, None)
            elif self._rungs.has(name):
                self._ledger.wait(name)
                self._leave(run, True, None)
            else:
                self._unfinished.append(run)
        self._running.clear()

    def _recall(self, event: dict[str, Any]) -> _Run:
        """A trial as it was proposed, from the event of its start."""
        name, baseline, overrides = event["trial"], event["baseline"], event["overrides"]
        plan = self._planner(TrialConfig.model_validate(event["config"]))
        plan = replace(plan, epochs=event["planned_epochs"], refusal=None)
        place = Place(event["bracket"], tuple(event["rungs"]))
        if baseline:
            del self._baselines[name]
            drawn = as_drawn(self._study, overrides)
        else:
            self._begin(name, place, event["cost"])
            self._drawn += 1
            drawn = overrides
        asked = None if drawn is None else self._proposals.ask(drawn)
        return _Run(name, baseline, overrides, plan, asked, place)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if self._is_scored(result):
            self._report(self._running[trial_id], result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        run, last = self._running.pop(trial_id), result or {}
        if error:
            self._unfinished.append(run)
            return
        scored = self._is_scored(last)
        if scored:
            self._report(run, last)  # Ray passes the last result on at the end alone
        self._leave(run, scored, last.get("outcome"))

    def _leave(self, run: _Run, scored: bool, outcome: str | None) -> None:
        """A trial has come to its end or to a rung."""
        self._finished += not run.baseline and run.epoch >= run.plan.epochs
        if not scored or run.epoch >= run.plan.epochs:
            self._rungs.end(run.name)
        else:
            self._waiting[run.name] = run
        if run.asked is not None:
            self._proposals.tell(
                run.asked,
                outcome,
                self._best[run.name] if scored else None,
                run.plan.cost(),
                finished=run.epoch >= run.plan.epochs,
            )

    def _is_scored(self, result: dict[str, Any]) -> bool:
        return math.isfinite(result.get(self.metric, math.nan))

    def _report(self, run: _Run, result: dict[str, Any]) -> None:
        """Tell the best value so far, the one that the trial is ranked by."""
        keep = max if self.mode == "max" else min
        value, epoch = result[self.metric], result["epoch"]
        best = self._best[run.name] = keep(value, self._best.get(run.name, value))
        if epoch <= run.epoch:
            return  # after a restart epochs come again
        run.epoch = epoch
        if run.asked is not None:
            self._proposals.report(run.asked, best, epoch)
        if not run.baseline:
            self._rungs.report(run.name, epoch, value if self.mode == "max" else -value)
        if run.to_its_end:
            self._rungs.end(run.name)  # no other worker may take it from a rung that it passes

    def _next_unfinished(self) -> _Run | None:
        """The next that goes on in another worker. The record says which of them have failed."""
        while self._unfinished:
            run = self._unfinished.pop(0)
            trial = self._ledger.trials.get(run.name)
            if trial is None or trial.outcome is None:
                return run
            self._leave(run, False, trial.outcome)
        return None

    def _next_baseline(self) -> _Run | None:
        """The next one, when no later start leaves all of them the time."""
        plans = [plan for _, plan in self._baselines.values()]
        if not plans:
            return None
        if not (self._is_exhausted() or must_begin(plans, self._left(), self._slowness())):
            return None
        name = next(iter(self._baselines))
        overrides, plan = self._baselines.pop(name)
        drawn = as_drawn(self._study, overrides)
        # A point of the space is evidence for Optuna too.
        asked = None if drawn is None else self._proposals.ask(drawn)
        return _Run(name, True, overrides, self._in_the_time_left(plan), asked)

    def _next_promoted(self) -> _Run | None:
        name = self._rungs.promotable(last=self._is_exhausted())
        return None if name is None else self._go_on(name)

    def _go_on(self, name: str, *, to_its_end: bool = False) -> _Run:
        epoch, run = self._rungs.promote(name), self._waiting.pop(name)
        asked = self._proposals.ask(run.overrides)
        return replace(run, asked=asked, epoch=epoch, to_its_end=to_its_end)

    def _next_called(self) -> _Run | None:
        """The last call: the best trial that waits, when it has just the time to reach its end.

        Its rate falls to nothing there, which is worth more than another beginning.
        """
        left = self._left()
        for name in self._rungs.waiting() if math.isfinite(left) else []:
            run = self._waiting[name]
            need = needs(self._ledger.trials[name], run.plan.epochs - run.epoch)
            if need <= left:
                return self._go_on(name, to_its_end=True) if is_last_call(need, left) else None
        return None

    def _next_finished(self) -> _Run | None:
        """Nothing else is left to do: the best that waits, so that stopping can be judged."""
        on_their_way = sum(run.to_its_end for run in self._running.values())
        waiting = self._rungs.waiting()
        if not waiting or self._finished + on_their_way >= FINISHED * self._drawn:
            return None
        return self._go_on(waiting[0], to_its_end=True)

    def _next_drawn(self) -> _Run | None:
        found = None if self._is_exhausted() else self._proposals.propose(self._drawn)
        if found is None:
            self._drawn_all = True
            return None
        self._drawn += 1
        asked, overrides, plan = found
        name, plan = f"t{self._drawn:04d}", self._in_the_time_left(plan)
        place = self._rungs.next_place(waiting_epochs(self._study, plan))
        self._begin(name, place, plan.cost())
        return _Run(name, False, overrides, plan, asked, place)

    def _in_the_time_left(self, plan: Plan) -> Plan:
        return shortened(plan, self._left(), self._slowness())

    def _slowness(self) -> float:
        return slowness(self._ledger.trials)

    def _begin(self, name: str, place: Place, cost: Mapping[str, float]) -> None:
        """A drawn trial takes its place at the rungs."""
        gains = tuple(-cost[name] for name in self._study.metric.against)  # larger is better
        by_time = self._study.early_terminate.unit == "seconds"
        self._rungs.begin(name, place, gains, epoch=cost["epoch_seconds"] if by_time else 1.0)

    def _is_exhausted(self) -> bool:
        return self._drawn_all or self._drawn >= self._study.budget.trials

    def _proposal(self, run: _Run) -> dict[str, Any]:
        if run.asked is not None:
            run.asked.set_user_attr("trial", run.name)  # as in trials.jsonl
        config, planned = trial_config(self._study, run.overrides), run.plan.epochs
        return {
            "name": run.name,
            "baseline": run.baseline,
            "overrides": run.overrides,
            "config": config.model_dump(mode="json"),
            "cost": run.plan.cost(),
            "planned_epochs": planned,
            "reported": run.epoch,
            "until_epoch": planned
            if run.baseline or run.to_its_end
            else self._rungs.until(run.name, run.epoch, planned),
            "bracket": run.place.bracket,
            "rungs": run.place.levels,
            "micro_batch": run.plan.micro_batch,
            "gpu_share": run.plan.gpu_share,
        }
