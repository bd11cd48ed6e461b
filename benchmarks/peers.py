"""Searches as others have them, run on recorded curves: for search_efficiency.py to compare with.

Every one is its own library's code; what is added here is the form of a proposal. What a peer
proposes is replaced by the nearest recorded config that its study has not had, and it is told of
that one as if it had proposed it: just as r2search's own searcher is in a simulation. Trials of
peers are planned at the full length of their curves, and they have no baselines.

Rungs are those of the study's settings (`early_terminate`), for all alike.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

import optuna
from optuna.trial import TrialState
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from r2search.config import Parameter, Study
from r2search.data.samples import rng_for
from r2search.space import draw, suggest_randomly, trial_config
from r2search.tuning.events import Ledger
from r2search.tuning.proposals import label, suggest_by
from r2search.tuning.simulate import Method, Table

SCREENING = 0.25  # of the time, which one epoch of many configs may take


class Source(Protocol):
    """Where the configs of a peer come from."""

    def propose(self, trial_id: str) -> dict[str, Any]:
        """Overrides that it would run."""
        ...

    def begin(self, trial_id: str, overrides: Mapping[str, Any]) -> None:
        """What is run in their place."""
        ...

    def report(self, trial_id: str, epoch: int, value: float) -> None: ...

    def end(self, trial_id: str, epoch: int, value: float | None) -> None:
        """`value`: of the last epoch; None: the trial failed."""
        ...


class Proposer(Searcher):
    """A source in the form that VirtualSearch asks."""

    def __init__(self, table: Table, study: Study, source: Source) -> None:
        mode = "max" if study.metric.goal == "maximize" else "min"
        super().__init__(metric=study.metric.name, mode=mode)
        self._table, self._study, self._source = table, study, source
        self._take = table.taker()
        self._drawn = 0

    def suggest(self, trial_id: str) -> dict[str, Any] | None:  # type: ignore[override]
        if self._drawn == self._study.budget.trials:
            return None
        self._drawn += 1
        overrides = self._take(self._source.propose(trial_id))
        self._source.begin(trial_id, overrides)
        config = trial_config(self._study, overrides)
        plan = self._table.planner(config)
        epochs = self._study.budget.max_epochs
        return {
            "name": f"t{self._drawn:04d}",
            "baseline": False,
            "overrides": overrides,
            "config": config.model_dump(mode="json"),
            "cost": plan.cost(),
            "planned_epochs": epochs,
            "reported": 0,
            "until_epoch": epochs,
            "bracket": 0,
            "rungs": (),
            "micro_batch": plan.micro_batch,
            "gpu_share": plan.gpu_share,
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._source.report(trial_id, result["epoch"], result[self.metric])

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        last = result or {}
        self._source.end(trial_id, last.get("epoch", 0), last.get(self.metric))


class Random:
    """Draws that learn nothing."""

    def __init__(self, study: Study) -> None:
        self._study, self._drawn = study, 0

    def propose(self, trial_id: str) -> dict[str, Any]:
        self._drawn += 1
        rng = rng_for(self._study.search.seed, "peer", self._drawn)
        return draw(self._study, suggest_randomly(rng))

    def begin(self, trial_id: str, overrides: Mapping[str, Any]) -> None: ...
    def report(self, trial_id: str, epoch: int, value: float) -> None: ...
    def end(self, trial_id: str, epoch: int, value: float | None) -> None: ...


class RayOptuna:
    """Ray's OptunaSearch with a define-by-run space."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._drawn: dict[str, Any] = {}
        mode = "max" if study.metric.goal == "maximize" else "min"
        self._searcher = OptunaSearch(
            self._define, metric="value", mode=mode, seed=study.search.seed
        )

    def _define(self, trial: Any) -> None:
        self._drawn = draw(self._study, suggest_by(trial))

    def propose(self, trial_id: str) -> dict[str, Any]:
        self._searcher.suggest(f"{trial_id} as proposed")
        return self._drawn

    def begin(self, trial_id: str, overrides: Mapping[str, Any]) -> None:
        """A failed trial is no evidence to TPE."""
        self._searcher.on_trial_complete(f"{trial_id} as proposed", error=True)
        point = {key: label(value) for key, value in overrides.items()}
        self._searcher._ot_study.enqueue_trial(point)
        self._searcher.suggest(trial_id)

    def report(self, trial_id: str, epoch: int, value: float) -> None:
        self._searcher.on_trial_result(trial_id, {"training_iteration": epoch, "value": value})

    def end(self, trial_id: str, epoch: int, value: float | None) -> None:
        result = None if value is None else {"training_iteration": epoch, "value": value}
        self._searcher.on_trial_complete(trial_id, result, error=value is None)


class OptunaHyperband(FIFOScheduler):  # type: ignore[misc]
    """Optuna's own loop: TPE, and its Hyperband pruner asked after every epoch."""

    def __init__(self, study: Study) -> None:
        super().__init__()
        self._study = study
        self._optuna = optuna.create_study(
            direction=study.metric.goal,
            study_name=f"peer-{study.search.seed}",  # brackets are drawn from it
            sampler=optuna.samplers.TPESampler(seed=study.search.seed),
            pruner=optuna.pruners.HyperbandPruner(
                min_resource=study.early_terminate.grace_period,
                max_resource=study.budget.max_epochs,
                reduction_factor=study.early_terminate.reduction_factor,
            ),
        )
        self._trials: dict[str, optuna.Trial] = {}
        self._pruned: set[str] = set()

    def propose(self, trial_id: str) -> dict[str, Any]:
        self._trials[trial_id] = trial = self._optuna.ask()
        return draw(self._study, suggest_by(trial))

    def begin(self, trial_id: str, overrides: Mapping[str, Any]) -> None:
        self._optuna.tell(self._trials[trial_id], state=TrialState.FAIL)
        self._optuna.enqueue_trial({key: label(value) for key, value in overrides.items()})
        self.propose(trial_id)

    def report(self, trial_id: str, epoch: int, value: float) -> None: ...

    def end(self, trial_id: str, epoch: int, value: float | None) -> None:
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        if trial_id in self._pruned:
            state, value = TrialState.PRUNED, None
        self._optuna.tell(self._trials[trial_id], value, state=state)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        asked = self._trials[trial.trial_id]
        asked.report(result[self._study.metric.name], result["epoch"])
        if not asked.should_prune():
            return str(TrialScheduler.CONTINUE)
        self._pruned.add(trial.trial_id)
        return str(TrialScheduler.STOP)


class OneEpoch(Proposer):
    """One epoch of as many random configs as a quarter of the time allows; then the best of them.

    As many of the best as the time is left for are trained to their end, one after the other.
    """

    def __init__(self, table: Table, study: Study, ledger: Ledger) -> None:
        super().__init__(table, study, Random(study))
        self._ledger = ledger
        self._screening = SCREENING * ledger.left(study.search_budget)
        self._screened: dict[str, dict[str, Any]] = {}  # what is to go on, by name
        self._running: dict[str, dict[str, Any]] = {}
        self._sign = 1 if study.metric.goal == "maximize" else -1

    def suggest(self, trial_id: str) -> dict[str, Any] | None:  # type: ignore[override]
        proposal = None
        if self._ledger.elapsed() < self._screening:
            proposal = super().suggest(trial_id)
        if proposal is not None:
            proposal["until_epoch"] = 1
        elif not any(other["until_epoch"] == 1 for other in self._running.values()):
            name = max(self._screened, key=self._first, default=None)
            if name is None:
                return None
            longest = self._study.budget.max_epochs
            proposal = self._screened.pop(name) | {"reported": 1, "until_epoch": longest}
        if proposal is not None:
            self._running[trial_id] = proposal
        return proposal

    def _first(self, name: str) -> float:
        return self._sign * float(self._ledger.trials[name].reports[0].metrics[self.metric])

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        proposal = self._running.pop(trial_id)
        if proposal["until_epoch"] == 1 and math.isfinite(
            (result or {}).get(self.metric, math.nan)
        ):
            self._screened[proposal["name"]] = proposal


class SyneTune(FIFOScheduler):  # type: ignore[misc]
    """Syne Tune's ASHA over conformal quantile regression. A parameter always has a value there."""

    def __init__(self, study: Study) -> None:
        from syne_tune.backend.trial_status import Trial
        from syne_tune.optimizer.baselines import ASHACQR

        super().__init__()
        self._study, self._metric, self._trial = study, study.metric.name, Trial
        self._scheduler = ASHACQR(
            {p.key: _domain(p) for p in study.parameters},
            metric="value",
            time_attr="epoch",
            max_t=study.budget.max_epochs,
            do_minimize=study.metric.goal == "minimize",
            random_seed=study.search.seed,
            grace_period=study.early_terminate.grace_period,
            reduction_factor=study.early_terminate.reduction_factor,
        )
        self._proposed: dict[str, Any] = {}
        self._trials: dict[str, Any] = {}
        self._stopped: set[str] = set()

    def propose(self, trial_id: str) -> dict[str, Any]:
        self._proposed = self._scheduler.suggest().config
        return draw(self._study, partial(_value, self._proposed))

    def begin(self, trial_id: str, overrides: Mapping[str, Any]) -> None:
        config = self._proposed | {key: label(value) for key, value in overrides.items()}
        self._trials[trial_id] = self._trial(len(self._trials), config, None)
        self._scheduler.on_trial_add(self._trials[trial_id])

    def report(self, trial_id: str, epoch: int, value: float) -> None: ...

    def end(self, trial_id: str, epoch: int, value: float | None) -> None:
        trial = self._trials.pop(trial_id)
        if value is None:
            self._scheduler.on_trial_error(trial)
        elif trial_id not in self._stopped:
            self._scheduler.on_trial_complete(trial, {"value": value, "epoch": epoch})

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        told = {"value": result[self._metric], "epoch": result["epoch"]}
        if self._scheduler.on_trial_result(self._trials[trial.trial_id], told) != "STOP":
            return str(TrialScheduler.CONTINUE)
        self._stopped.add(trial.trial_id)
        return str(TrialScheduler.STOP)


def _domain(p: Parameter) -> Any:
    from syne_tune import config_space

    if p.kind == "choice":
        return config_space.choice([label(value) for value in p.values])
    if p.step:
        values = [p.low + n * p.step for n in range(int((p.high - p.low) / p.step + 1e-9) + 1)]
        return config_space.ordinal([int(v) if p.kind == "int" else v for v in values])
    if p.kind == "int":
        make = config_space.lograndint if p.log else config_space.randint
        return make(int(p.low), int(p.high))
    return (config_space.loguniform if p.log else config_space.uniform)(p.low, p.high)


def _value(config: Mapping[str, Any], p: Parameter) -> Any:
    """A parameter's value in a config whose values are labels."""
    if p.kind == "choice":
        return next(value for value in p.values if label(value) == config[p.key])
    return config[p.key]


def _ray_asha(study: Study) -> TrialScheduler:
    return AsyncHyperBandScheduler(
        time_attr="epoch",
        metric=study.metric.name,
        mode="max" if study.metric.goal == "maximize" else "min",
        max_t=study.budget.max_epochs,
        grace_period=study.early_terminate.grace_period,
        reduction_factor=study.early_terminate.reduction_factor,
    )


def _random(table: Table, study: Study, ledger: Ledger) -> tuple[Searcher, TrialScheduler]:
    return Proposer(table, study, Random(study)), FIFOScheduler()


def _random_ray_asha(table: Table, study: Study, ledger: Ledger) -> tuple[Searcher, TrialScheduler]:
    return Proposer(table, study, Random(study)), _ray_asha(study)


def _ray_optuna_asha(table: Table, study: Study, ledger: Ledger) -> tuple[Searcher, TrialScheduler]:
    return Proposer(table, study, RayOptuna(study)), _ray_asha(study)


def _optuna_hyperband(
    table: Table, study: Study, ledger: Ledger
) -> tuple[Searcher, TrialScheduler]:
    both = OptunaHyperband(study)
    return Proposer(table, study, both), both


def _one_epoch_topk(table: Table, study: Study, ledger: Ledger) -> tuple[Searcher, TrialScheduler]:
    return OneEpoch(table, study, ledger), FIFOScheduler()


def _syne_tune(table: Table, study: Study, ledger: Ledger) -> tuple[Searcher, TrialScheduler]:
    both = SyneTune(study)
    return Proposer(table, study, both), both


PEERS: dict[str, Method] = {
    "random": _random,
    "random_ray_asha": _random_ray_asha,
    "ray_optuna_asha": _ray_optuna_asha,
    "optuna_hyperband": _optuna_hyperband,
    "one_epoch_topk": _one_epoch_topk,
    "syne_tune": _syne_tune,
}
