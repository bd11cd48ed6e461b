"""Optuna proposes: our own Ray `Searcher` over ask and tell.

Ray's OptunaSearch tells stopped trials as complete and leaves NaN trials running for ever; here
stopped trials are PRUNED with their intermediate values, and failed ones FAIL.
"""

import json
import logging
import math
from collections.abc import Callable
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

STARTUP_TRIALS = 10  # drawn at random before TPE has evidence to model
MOST_PROPOSALS = 20  # of TPE, refused in a row; then a random draw is taken
MOST_DRAWS = 100  # refused in a row; then the cheapest of them that fits into memory is run

optuna.logging.set_verbosity(optuna.logging.WARNING)
log = logging.getLogger(__name__)


class StudySearcher(Searcher):
    """Baselines first, by name; then what Optuna proposes within the limits of cost and memory.

    `suggest` returns {name, baseline, overrides, config, cost, planned_epochs, micro_batch,
    gpu_share} for the trainable; None while the trials that run have all of the GPUs.
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
        self._asked: dict[str, optuna.Trial] = {}  # Ray's trial id -> Optuna's trial
        self._best: dict[str, float] = {}
        self._told: dict[str, int] = {}  # the last epoch that Optuna heard of
        self._planned: dict[str, int] = {}
        self._gpus = gpus
        self._shares: dict[str, float] = {}  # of GPUs, of the trials that run
        self._drawn = 0
        self._nothing_fits = False  # as the last draws had it

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray pickles a run's parts for its own restore, which is never used

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        if sum(self._shares.values()) >= self._gpus:
            return None  # Ray asks again
        if self._baselines:
            return self._suggest_baseline(trial_id)
        if self._drawn >= self._study.budget.trials:
            return str(Searcher.FINISHED)
        self._drawn += 1
        found = self._ask_feasible()
        if found is None:
            return str(Searcher.FINISHED)
        self._asked[trial_id], overrides, plan = found
        return self._proposal(trial_id, f"t{self._drawn:04d}", False, overrides, plan)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if trial_id in self._asked and self._is_scored(result):
            self._report(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        self._shares.pop(trial_id, None)
        if trial_id not in self._asked:
            return  # a baseline outside the space
        if result and result.get("outcome") == "infeasible":
            state, value = TrialState.PRUNED, None
            self._asked[trial_id].set_constraint("too_large", 1.0)  # by how much, nobody knows
        elif error or not result or not self._is_scored(result):
            state, value = TrialState.FAIL, None
        else:
            # Ray does not pass the last result of a trial on before its end.
            best = self._report(trial_id, result)
            finished = result["epoch"] >= self._planned[trial_id]
            state = TrialState.COMPLETE if finished else TrialState.PRUNED
            value = best if finished else None
        told = self._optuna.tell(self._asked.pop(trial_id), value, state=state)
        if self._journal is not None:
            self._journal.add_trial(told)

    def _is_scored(self, result: dict[str, Any]) -> bool:
        return math.isfinite(result.get(self.metric, math.nan))

    def _report(self, trial_id: str, result: dict[str, Any]) -> float:
        """Tell the best value so far, the one that the trial is ranked by, and return it."""
        keep = max if self.mode == "max" else min
        value = result[self.metric]
        best = self._best[trial_id] = keep(value, self._best.get(trial_id, value))
        if result["epoch"] > self._told.get(trial_id, 0):  # after a restart epochs come again
            self._told[trial_id] = result["epoch"]
            self._asked[trial_id].report(best, step=result["epoch"])
        return float(best)

    def _suggest_baseline(self, trial_id: str) -> dict[str, Any]:
        name = self._baselines.pop(0)
        overrides = self._study.baselines[name].overrides
        plan = self._planner(trial_config(self._study, overrides))
        drawn = as_drawn(self._study, overrides)
        if drawn is not None:  # a point of the space is evidence for Optuna too
            self._asked[trial_id] = self._ask(drawn)
        return self._proposal(trial_id, name, True, overrides, plan)

    def _proposal(
        self, trial_id: str, name: str, baseline: bool, overrides: dict[str, Any], plan: Plan
    ) -> dict[str, Any]:
        self._planned[trial_id] = plan.epochs
        self._shares[trial_id] = plan.gpu_share or 0.0
        if trial_id in self._asked:
            self._asked[trial_id].set_user_attr("trial", name)  # as in trials.jsonl
        config = trial_config(self._study, overrides)
        return {
            "name": name,
            "baseline": baseline,
            "overrides": overrides,
            "config": config.model_dump(mode="json"),
            "cost": plan.cost(),
            "planned_epochs": plan.epochs,
            "micro_batch": plan.micro_batch,
            "gpu_share": plan.gpu_share,
        }

    def _ask_feasible(self) -> tuple[optuna.Trial, dict[str, Any], Plan] | None:
        """What Optuna proposes, or a random draw, that is not refused; None if there is nothing.

        TPE learns of what it proposes in vain: left untold, the refused part of a space looks
        unexplored and draws it for ever.
        """
        random = self._study.search.searcher == "random" or self._drawn <= STARTUP_TRIALS
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
