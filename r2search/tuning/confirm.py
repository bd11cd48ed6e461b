"""The confirmation: finalists and baselines are trained again, through the same workers.

What is trained is planned once, when the search is over, and written into the record; a study that
goes on with the same budget takes the plan up, and every training where it was.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from r2search.config import Study, TrialConfig
from r2search.data.samples import SampleSet
from r2search.records import CHECKPOINTS, TrialOutcome
from r2search.tuning.budget import Plan, search_seconds
from r2search.tuning.callback import StudyCallback
from r2search.tuning.engine import planner_for, train, tune_config
from r2search.tuning.events import ConfirmLedger, Ledger
from r2search.tuning.reruns import SPARE, Rerun, plan_reruns, queue_of
from r2search.tuning.shelf import Shelf
from r2search.tuning.slots import Slots


def is_searched(study: Study, ledger: Ledger) -> bool:
    """Whether the search is over, with this budget, and its confirmation planned."""
    plan = ledger.plan if study.confirmation else None
    return plan is not None and plan["budget"] == study.budget.model_dump()


def confirming_left(ledger: Ledger) -> float:
    """Seconds until the confirmation ends."""
    return float(ledger.plan["until"]) - ledger.elapsed() if ledger.plan else 0.0


def confirm(
    study: Study,
    samples: SampleSet,
    samples_ref: Any,
    slots: Slots,
    run_dir: Path,
    ledger: Ledger,
    refresh: Callable[[], None],
    stopping: Callable[[], bool],
    shelf: Shelf | None = None,
) -> None:
    """Train the finalists and the baselines again, until all is done, or its time is over."""
    if not is_searched(study, ledger):
        begin(study, samples, slots.workers.count, ledger)
    queue = queue_of(ledger)
    if not queue:
        return
    shelf, own = shelf or Shelf(run_dir / CHECKPOINTS), ConfirmLedger(ledger)

    def over() -> bool:
        return stopping() or confirming_left(ledger) < 0

    searcher = RerunSearcher(
        study,
        queue,
        ledger.trials,
        own,
        planner_for(study, samples, slots),
        left=lambda: confirming_left(ledger),
        gpus=slots.workers.capacity,
    )
    train(
        study,
        samples_ref,
        slots,
        run_dir,
        tune_config(searcher, FIFOScheduler(), slots),  # type: ignore[no-untyped-call]
        StudyCallback(study, own, shelf, refresh, over, kept=None),
        over,
        shelf,
    )


def begin(study: Study, samples: SampleSet, workers: int, ledger: Ledger) -> None:
    """Plan the confirmation of a study whose search is over, and write it down."""
    assert study.confirm is not None
    now = ledger.elapsed()
    seconds = min(search_seconds(study.budget) - now, study.confirm.share * study.budget.time)
    # The validation images twice: for the threshold, and at it
    images = (2 * len(samples.val) + len(samples.test)) / len(samples.val)
    planned = plan_reruns(study, list(ledger.trials.values()), workers, seconds, images)
    facts = {"budget": study.budget.model_dump(), "until": now + seconds, **asdict(planned)}
    ledger.confirm({"event": "plan", **facts})


class RerunSearcher(Searcher):
    """Proposes reruns in their order, each once; one whose worker was lost again, at once.

    One that would not end in time is not begun, and a spare one only where it surely does.
    """

    def __init__(
        self,
        study: Study,
        queue: Sequence[Rerun],
        trials: dict[str, TrialOutcome],
        ledger: ConfirmLedger,
        planner: Callable[[TrialConfig], Plan],
        left: Callable[[], float],
        gpus: float,
    ) -> None:
        """`trials`: those of the search, which are repeated; `left`: seconds until the end."""
        mode = "max" if study.metric.goal == "maximize" else "min"
        super().__init__(metric=study.metric.name, mode=mode)
        self._queue = list(queue)
        self._trials = trials
        self._ledger = ledger
        self._planner = planner
        self._left = left
        self._gpus = gpus
        self._running: dict[str, tuple[Rerun, float]] = {}  # with its GPU share, by Ray's id

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray pickles a run's parts for its own restore, which is never used

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        if sum(share for _, share in self._running.values()) >= self._gpus:
            return None  # Ray asks again
        while self._queue:
            rerun = self._queue.pop(0)
            proposal = self._proposal(rerun)
            if self._fits(rerun, proposal):
                self._running[trial_id] = rerun, proposal["gpu_share"] or 0.0
                return proposal
        return None if self._running else str(Searcher.FINISHED)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        rerun, _ = self._running.pop(trial_id)
        if error and self._ledger.trials[rerun.name].outcome is None:  # it lost its worker
            self._queue.insert(0, rerun)

    def _fits(self, rerun: Rerun, proposal: dict[str, Any]) -> bool:
        """Whether it may end in time, the plan's caution left aside unless it is a spare one."""
        part: float = 1 - proposal["reported"] / proposal["planned_epochs"]
        if rerun.after is not None:
            return part * rerun.seconds + rerun.after <= self._left()
        return part * rerun.seconds / SPARE <= self._left()

    def _proposal(self, rerun: Rerun) -> dict[str, Any]:
        trial = self._trials[rerun.trial]
        config = TrialConfig.model_validate(trial.config)
        config = config.model_copy(update={"seed": config.seed + rerun.number})
        plan = self._planner(config)
        known = self._ledger.trials.get(rerun.name)
        return {
            "name": rerun.name,
            "baseline": trial.baseline,
            "overrides": trial.overrides,
            "fold": rerun.fold,
            "config": config.model_dump(mode="json"),
            "cost": plan.cost(),
            "planned_epochs": trial.planned_epochs,
            "reported": len(known.reports) if known else 0,
            "until_epoch": trial.planned_epochs,
            "bracket": 0,
            "rungs": (),
            "micro_batch": plan.micro_batch,
            "gpu_share": plan.gpu_share,
        }
