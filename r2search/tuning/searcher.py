"""Optuna proposes: our own Ray `Searcher` over ask and tell.

Ray's OptunaSearch tells stopped trials as complete and leaves NaN trials running for ever; here
stopped trials are PRUNED with their intermediate values, and failed ones FAIL.
"""

import json
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from ray.tune.search import Searcher

from r2search.config import Parameter, Study, TrialConfig, Value
from r2search.space import as_drawn, draw, suggest_randomly, trial_config
from r2search.tuning.budget import Plan
from r2search.tuning.events import Ledger
from r2search.tuning.scheduler import build_rungs

STARTUP_TRIALS = 10  # drawn at random before TPE has evidence to model
MOST_PROPOSALS = 20  # of TPE, refused in a row; then a random draw is taken
MOST_DRAWS = 100  # refused in a row; then the cheapest of them that fits into memory is run

optuna.logging.set_verbosity(optuna.logging.WARNING)
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Run:
    """A trial that a worker has, from its start or from the rung where it waited."""

    name: str
    baseline: bool
    overrides: dict[str, Any]
    plan: Plan
    asked: optuna.Trial | None  # None: not a point of the space
    epoch: int = 0  # the last one reported


class StudySearcher(Searcher):
    """Baselines first, by name; then trials that may leave their rung; then what Optuna proposes.

    `suggest` returns {name, baseline, overrides, config, cost, planned_epochs, until_epoch,
    micro_batch, gpu_share} for the trainable; None while the trials that run have all of the GPUs,
    or decide what comes next.
    """

    def __init__(
        self,
        study: Study,
        planner: Callable[[TrialConfig], Plan],
        ledger: Ledger,
        journal: Path | None = None,
        gpus: float = math.inf,
    ) -> None:
        mode = "max" if study.metric.goal == "maximize" else "min"
        super().__init__(metric=study.metric.name, mode=mode)
        self._study = study
        self._planner = planner
        self._ledger = ledger
        self._rng = np.random.default_rng([study.search.seed, 1])
        self._optuna = optuna.create_study(
            direction=study.metric.goal, sampler=_sampler(study), study_name=study.name
        )
        self._journal = _journal_study(study, journal) if journal else None
        self._baselines = list(study.baselines)
        self._rungs = build_rungs(study)
        self._gpus = gpus
        self._running: dict[str, _Run] = {}  # by Ray's trial id
        self._waiting: dict[str, _Run] = {}  # by name
        self._best: dict[str, float] = {}  # by name
        self._drawn = 0
        self._drawn_all = False
        self._nothing_fits = False  # as the last draws had it

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray pickles a run's parts for its own restore, which is never used

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        if sum(run.plan.gpu_share or 0.0 for run in self._running.values()) >= self._gpus:
            return None  # Ray asks again
        run = self._next_baseline() or self._next_promoted() or self._next_drawn()
        if run is None:
            return None if self._running else str(Searcher.FINISHED)
        self._running[trial_id] = run
        return self._proposal(run)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if self._is_scored(result):
            self._report(self._running[trial_id], result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        run = self._running.pop(trial_id)
        scored = not error and result is not None and self._is_scored(result)
        if scored:
            assert result is not None
            self._report(run, result)  # Ray passes the last result on at the end alone
        else:
            self._rungs.end(run.name)
        if run.epoch >= run.plan.epochs:
            self._rungs.end(run.name)
        elif scored:
            self._waiting[run.name] = run
        if run.asked is not None:
            self._tell(run, run.asked, scored, result or {})

    def _tell(self, run: _Run, asked: optuna.Trial, scored: bool, result: dict[str, Any]) -> None:
        """Tell Optuna how a trial ended. One that waits is PRUNED too: it would else be evidence
        against its own neighbourhood; when it goes on it is told as another trial of its config.
        """
        state, value = TrialState.FAIL, None
        if result.get("outcome") == "infeasible":
            state = TrialState.PRUNED
            asked.set_constraint("too_large", 1.0)  # over the limit, who knows how far
        elif scored and run.epoch >= run.plan.epochs:
            state, value = TrialState.COMPLETE, self._best[run.name]
        elif scored:
            state = TrialState.PRUNED
        told = self._optuna.tell(asked, value, state=state)
        if self._journal is not None:
            self._journal.add_trial(told)

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
            run.asked.report(best, step=epoch)
        if not run.baseline:
            self._rungs.report(run.name, epoch, value if self.mode == "max" else -value)

    def _next_baseline(self) -> _Run | None:
        if not self._baselines:
            return None
        name = self._baselines.pop(0)
        overrides = self._study.baselines[name].overrides
        plan = self._planner(trial_config(self._study, overrides))
        drawn = as_drawn(self._study, overrides)
        # A point of the space is evidence for Optuna too.
        return _Run(name, True, overrides, plan, None if drawn is None else self._ask(drawn))

    def _next_promoted(self) -> _Run | None:
        name = self._rungs.promotable(last=self._is_exhausted())
        if name is None:
            return None
        epoch, run = self._rungs.promote(name), self._waiting.pop(name)
        return replace(run, asked=self._ask(run.overrides), epoch=epoch)

    def _next_drawn(self) -> _Run | None:
        found = None if self._is_exhausted() else self._ask_feasible()
        if found is None:
            self._drawn_all = True
            return None
        self._drawn += 1
        asked, overrides, plan = found
        return _Run(f"t{self._drawn:04d}", False, overrides, plan, asked)

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
            "until_epoch": planned if run.baseline else self._rungs.until(run.epoch, planned),
            "micro_batch": run.plan.micro_batch,
            "gpu_share": run.plan.gpu_share,
        }

    def _ask_feasible(self) -> tuple[optuna.Trial, dict[str, Any], Plan] | None:
        """What Optuna proposes, or a random draw, that is not refused; None if there is nothing.

        TPE learns of what it proposes in vain: left untold, the refused part of a space looks
        unexplored and draws it for ever.
        """
        random = self._study.search.searcher == "random" or self._drawn < STARTUP_TRIALS
        for _ in range(0 if random or self._nothing_fits else MOST_PROPOSALS):
            trial = self._optuna.ask()
            overrides = draw(self._study, _suggest_by(trial))
            plan = self._plan(overrides)
            if plan.refusal is None:
                return trial, overrides, plan
            trial.set_constraint(plan.refusal.cause, plan.refusal.excess)
            self._optuna.tell(trial, state=TrialState.PRUNED)
        drawn = self._draw_feasible()
        return drawn and (self._ask(drawn[0]), *drawn)

    def _draw_feasible(self) -> tuple[dict[str, Any], Plan] | None:
        """A random draw that is not refused; failing that, the cheapest that fits into memory."""
        cheapest: tuple[dict[str, Any], Plan] | None = None
        for _ in range(MOST_DRAWS):
            overrides = draw(self._study, suggest_randomly(self._rng))
            plan = self._plan(overrides)
            if plan.refusal is None:
                self._nothing_fits = False
                return overrides, plan
            if plan.refusal.cause == "too_large":
                too_large = plan.refusal.reason
            elif cheapest is None or plan.epoch_seconds < cheapest[1].epoch_seconds:
                cheapest = overrides, plan
        if cheapest is None:
            log.warning(
                "none of %d draws fits into memory (the last one %s); the search ends",
                MOST_DRAWS,
                too_large,
            )
        elif not self._nothing_fits:
            assert cheapest[1].refusal
            log.warning(
                "none of %d draws fits the budget; running the cheapest of them (%s)",
                MOST_DRAWS,
                cheapest[1].refusal.reason,
            )
        self._nothing_fits = True
        return cheapest

    def _plan(self, overrides: dict[str, Any]) -> Plan:
        """The plan of a draw; a refusal is written down."""
        plan = self._planner(trial_config(self._study, overrides))
        if plan.refusal:
            self._ledger.refuse(overrides, plan.refusal.cause, plan.refusal.reason)
        return plan

    def _ask(self, overrides: dict[str, Any]) -> optuna.Trial:
        """A trial of Optuna's with just these values."""
        self._optuna.enqueue_trial({key: _label(value) for key, value in overrides.items()})
        trial = self._optuna.ask()
        draw(self._study, _suggest_by(trial))
        return trial


def _sampler(study: Study) -> optuna.samplers.BaseSampler:
    # Its own start-up draws are never used: ours weigh choices by their probabilities.
    return optuna.samplers.TPESampler(
        n_startup_trials=1, multivariate=False, constant_liar=True, seed=study.search.seed
    )


def _journal_study(study: Study, path: Path) -> optuna.Study:
    """A study on disk beside ours, for optuna-dashboard; asking from it would be slow."""
    backend = JournalFileBackend(str(path))
    storage = optuna.storages.JournalStorage(backend)
    return optuna.create_study(
        direction=study.metric.goal, study_name=study.name, storage=storage, load_if_exists=True
    )


def _suggest_by(trial: optuna.Trial) -> Callable[[Parameter], Value]:
    """Draws by Optuna for `draw`; both ends of ranges are included."""

    def suggest(p: Parameter) -> Value:
        if p.kind == "choice":
            values = {_label(value): value for value in p.values}
            return values[trial.suggest_categorical(p.key, list(values))]
        if p.kind == "int":
            step = int(p.step or 1)
            return trial.suggest_int(p.key, int(p.low), int(p.high), step=step, log=p.log)
        return trial.suggest_float(p.key, p.low, p.high, step=p.step, log=p.log)

    return suggest


def _label(value: Any) -> Any:
    """Optuna stores plain scalars only; a tuple is named by its JSON."""
    return json.dumps(value) if isinstance(value, tuple | list) else value
