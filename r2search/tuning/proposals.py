"""Optuna's side of a search: what is tried next, and what became of it.

Ray's OptunaSearch tells stopped trials as complete and leaves NaN trials running for ever; here
stopped trials are PRUNED with their intermediate values, and failed ones FAIL. Every draw has a
random stream of its own, named by how many came before, so that a study that is taken up again
from its record draws what it would have drawn.
"""

import json
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import optuna
from optuna.trial import TrialState

from r2search.config import Parameter, Study, TrialConfig, Value
from r2search.data.samples import rng_for
from r2search.grammar import setting
from r2search.space import draw, suggest_near, suggest_randomly, trial_config
from r2search.tuning.budget import Plan, Refusal
from r2search.tuning.events import Ledger
from r2search.tuning.excerpt import ExcerptStorage
from r2search.tuning.optuna_view import OptunaView, directions

STARTUP_TRIALS = 10  # drawn at random before TPE has evidence to model
MOST_PROPOSALS = 20  # of TPE, refused in a row; then a random draw is taken
MOST_DRAWS = 100  # refused in a row; then the cheapest of them that fits into memory is run

Instead = Callable[[dict[str, Any]], dict[str, Any]]  # of overrides

optuna.logging.set_verbosity(optuna.logging.WARNING)
log = logging.getLogger(__name__)


class Proposals:
    """One Optuna study in memory, and where others see it: asking from a storage would be slow."""

    def __init__(
        self,
        study: Study,
        planner: Callable[[TrialConfig], Plan],
        ledger: Ledger,
        view: OptunaView | None = None,
        instead: Instead | None = None,
    ) -> None:
        self._study = study
        self._planner = planner
        self._ledger = ledger
        self._instead = instead
        aims = directions(study)
        self._trials = ExcerptStorage(aims, study.search.seed)
        self._optuna = optuna.create_study(directions=aims, storage=self._trials)
        self._view = view
        self._nothing_fits = False  # as the last draws had it
        self._evidence = 0  # trials of earlier studies
        self._begun: set[str] = set()  # configs, by their key
        self._passed: set[str] = set()  # refused draws of the record and starts, by their key

    def report(self, asked: optuna.Trial, best: float, epoch: int) -> None:
        """The best value of a trial so far. Of several objectives Optuna takes no reports."""
        if not self._study.metric.against:
            asked.report(best, step=epoch)

    def tell(
        self,
        asked: optuna.Trial,
        outcome: str | None,
        value: float | None,
        cost: Mapping[str, float],
        *,
        finished: bool,
    ) -> None:
        """How a trial ended, with its best value (None: no score).

        One that was stopped or waits is PRUNED: left RUNNING it would be evidence against its own
        neighbourhood. When it goes on it is told as another trial of its config. Where a cost is an
        objective, too, it is COMPLETE with what it reached: Optuna prunes one objective alone.
        """
        against = self._study.metric.against
        state = TrialState.FAIL
        if outcome == "infeasible":
            state, value = TrialState.PRUNED, None
            asked.set_constraint("too_large", 1.0)  # over the limit, who knows how far
        elif value is not None:
            state = TrialState.COMPLETE if finished or against else TrialState.PRUNED
        values = None
        if state == TrialState.COMPLETE and value is not None:
            values = [value, *(cost[name] for name in against)]
        told = self._optuna.tell(asked, values, state=state)
        if self._view is not None:
            self._view.add(told)

    def believe(self, trial: Mapping[str, Any]) -> None:
        """A trial of an earlier study, as `evidence.gather` gives it."""
        asked = ask(self._optuna, self._study, trial["overrides"])
        for step, value in enumerate(trial["values"], start=1):
            self.report(asked, value, step)
        asked.set_user_attr("trial", f"{trial['run']}/{trial['trial']}")
        value, cost = trial["values"][-1], trial.get("cost", {})
        self.tell(asked, None, value, cost, finished=trial["finished"])
        self._evidence += 1

    def tell_refused(self, event: dict[str, Any]) -> None:
        """A refused draw of the record: Optuna learns of those that it had proposed."""
        self._passed.add(_key(event["overrides"]))
        if event["proposed"]:
            asked = ask(self._optuna, self._study, event["overrides"])
            self._refuse(asked, event["cause"], event["excess"])

    def propose(self, drawn: int) -> tuple[optuna.Trial, dict[str, Any], Plan] | None:
        """A start of the space file, what Optuna proposes, or a random draw, that is not refused.

        None if there is nothing. `drawn`: how many trials were drawn before.

        TPE learns of what it proposes in vain: left untold, the refused part of a space looks
        unexplored and draws it for ever.
        """
        if (start := self._next_start()) is not None:
            return self._asked(*start)
        random = self._study.search.searcher == "random" or drawn + self._evidence < STARTUP_TRIALS
        random = random or self._center(drawn) is not None
        for _ in range(0 if random or self._nothing_fits else MOST_PROPOSALS):
            self._optuna.sampler = _sampler(self._study, self._trials.created)
            trial = self._optuna.ask()
            overrides = draw(self._study, suggest_by(trial))
            plan = self._plan(overrides, proposed=True)
            if plan.refusal is None:
                return self._asked(overrides, plan, trial)
            self._refuse(trial, plan.refusal.cause, plan.refusal.excess)
        found = self._draw_feasible(drawn)
        return found and self._asked(*found)

    def _asked(
        self, overrides: dict[str, Any], plan: Plan, trial: optuna.Trial | None = None
    ) -> tuple[optuna.Trial, dict[str, Any], Plan]:
        """What is run: `trial` if Optuna proposed it, or `instead` of it another config.

        The other one is told as if it had been proposed; TPE passes over trials that failed.
        """
        if self._instead is not None:
            if trial is not None:
                self._optuna.tell(trial, state=TrialState.FAIL)
            overrides, trial = self._instead(overrides), None
            plan = self._planner(trial_config(self._study, overrides))
        if trial is None:
            return self.ask(overrides), overrides, plan
        self._begun.add(_key(overrides))
        return trial, overrides, plan

    def ask(self, overrides: Mapping[str, Any]) -> optuna.Trial:
        """A trial of Optuna's with just these values, which is run."""
        self._begun.add(_key(overrides))
        return ask(self._optuna, self._study, overrides)

    def _refuse(self, trial: optuna.Trial, cause: str, excess: float) -> None:
        if cause == "repeated":  # that says nothing against its neighbourhood
            self._optuna.tell(trial, state=TrialState.FAIL)
            return
        trial.set_constraint(cause, excess)
        self._optuna.tell(trial, state=TrialState.PRUNED)

    def _next_start(self) -> tuple[dict[str, Any], Plan] | None:
        for start in self._study.starts.values():
            if (key := _key(start)) not in self._begun | self._passed:
                self._passed.add(key)
                plan = self._plan(overrides := dict(start), proposed=False)
                if plan.refusal is None:
                    return overrides, plan
        return None

    def _draw_feasible(self, drawn: int) -> tuple[dict[str, Any], Plan] | None:
        """A random draw that is not refused; failing that, the cheapest that fits into memory."""
        center = self._center(drawn)
        cheapest: tuple[dict[str, Any], Plan] | None = None
        reason = ""
        for _ in range(MOST_DRAWS):
            rng = rng_for(self._study.search.seed, "draw", drawn + self._ledger.infeasible)
            suggest = suggest_randomly(rng) if center is None else suggest_near(rng, center)
            overrides = draw(self._study, suggest)
            plan = self._plan(overrides, proposed=False)
            if plan.refusal is None:
                self._nothing_fits = False
                return overrides, plan
            if plan.refusal.cause != "too_slow":
                reason = plan.refusal.reason
            elif cheapest is None or plan.epoch_seconds < cheapest[1].epoch_seconds:
                cheapest = overrides, plan
        if cheapest is None:
            log.warning(
                "none of %d draws can be run (the last one %s); the search ends",
                MOST_DRAWS,
                reason,
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

    def _center(self, drawn: int) -> dict[str, Any] | None:
        """The settings of the baseline near which the next trial is drawn, if it is.

        A prior that is wrong costs little: what is known of the trials takes its place, and no more
        than STARTUP_TRIALS are drawn near baselines in all, on average.
        """
        search, baselines = self._study.search, list(self._study.baselines.values())
        rng = rng_for(search.seed, "prior", drawn)
        fading = STARTUP_TRIALS / (STARTUP_TRIALS + drawn + self._evidence)
        if not baselines or rng.random() >= search.prior * fading**2:
            return None
        config = trial_config(self._study, baselines[rng.integers(len(baselines))].overrides)
        return {p.key: setting(config, p.key) for p in self._study.parameters}

    def _plan(self, overrides: dict[str, Any], *, proposed: bool) -> Plan:
        """The plan of a draw; a refusal is written down. `proposed`: by Optuna."""
        plan = self._planner(trial_config(self._study, overrides))
        if _key(overrides) in self._begun:  # the same seed: it would give the same result
            plan = replace(plan, refusal=Refusal("repeated", "was tried before", 0.0))
        if plan.refusal:
            self._ledger.refuse(overrides, plan.refusal, proposed=proposed)
        return plan


def _key(overrides: Mapping[str, Any]) -> str:
    return json.dumps(overrides, sort_keys=True)


def ask(evidence: optuna.Study, study: Study, overrides: Mapping[str, Any]) -> optuna.Trial:
    """A trial of Optuna's study `evidence` with the values `overrides` of our study's space."""
    evidence.enqueue_trial({key: label(value) for key, value in overrides.items()})
    trial = evidence.ask()
    draw(study, suggest_by(trial))
    return trial


def _sampler(study: Study, proposals: int) -> optuna.samplers.BaseSampler:
    """For the proposal that comes after so many."""
    seed = int(rng_for(study.search.seed, "tpe", proposals).integers(2**32))
    # Its own start-up draws are never used: ours weigh choices by their probabilities. Parameters
    # modelled together take a quarter of the time that they take one by one.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of `group`
        return optuna.samplers.TPESampler(
            n_startup_trials=1, multivariate=True, group=True, constant_liar=True, seed=seed
        )


def suggest_by(trial: optuna.Trial) -> Callable[[Parameter], Value]:
    """Draws by Optuna for `space.draw`; both ends of ranges are included."""

    def suggest(p: Parameter) -> Value:
        if p.kind == "choice":
            values = {label(value): value for value in p.values}
            return values[trial.suggest_categorical(p.key, list(values))]
        if p.kind == "int":
            step = int(p.step or 1)
            return trial.suggest_int(p.key, int(p.low), int(p.high), step=step, log=p.log)
        return trial.suggest_float(p.key, p.low, p.high, step=p.step, log=p.log)

    return suggest


def label(value: Any) -> Any:
    """Optuna stores plain scalars only; a tuple is named by its JSON."""
    return json.dumps(value) if isinstance(value, tuple | list) else value
