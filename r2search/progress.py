"""Where a study stands, for the screen, from its record alone."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from r2search.config import Study
from r2search.data.samples import SampleSet
from r2search.records import TrialOutcome
from r2search.report.screen import Screen
from r2search.report.state import Rung, Running, ScreenState
from r2search.selection import eligible, incumbent
from r2search.summary import count_trials, second_observer
from r2search.tuning.events import Ledger
from r2search.tuning.reruns import planned_by, queue_of
from r2search.tuning.rungs import describe_search


def shower(study: Study, samples: SampleSet, ledger: Ledger, screen: Screen) -> Callable[..., None]:
    """A function that shows where the study stands; with a word, a new phase of it."""
    second = second_observer(samples.val, samples.classes)
    value = second[study.metric.name.removeprefix("val/")] if second else None
    current, workers = "", None

    def show(phase: str = "") -> None:
        nonlocal current, workers
        if phase:
            current, workers = phase, _workers(ledger)
        state = screen_state(study, samples.synthetic, ledger, current, value)
        screen.update(replace(state, workers=workers))

    return show


def screen_state(
    study: Study, synthetic: bool, ledger: Ledger, phase: str, second: float | None
) -> ScreenState:
    """What the screen shows, from the ledger alone."""
    name, goal = study.metric.name, study.metric.goal
    trials = list(ledger.trials.values())
    best = incumbent(trials, name, goal)
    report = best.best(name, goal) if best else None
    baselines: dict[str, float | None] = dict.fromkeys(study.baselines)
    running = []
    for trial in (*trials, *ledger.confirmed.values()):
        own = trial.best(name, goal)
        value = own.metrics[name] if own else None
        if trial.baseline and trial.trial in study.baselines:
            baselines[trial.trial] = value
        if trial.outcome is None and not trial.waiting:
            running.append(Running(trial.trial, len(trial.reports), trial.planned_epochs, value))
    counts = count_trials(trials, ledger.refused)
    shown = {key: counts[key] for key in ("completed", "stopped", "failed", "infeasible")}
    return ScreenState(
        name=study.name,
        metric=name,
        goal=goal,
        synthetic=synthetic,
        elapsed_s=ledger.elapsed(),
        budget_s=study.budget.time,
        running=_timed(running, ledger),
        counts={"waiting": sum(trial.waiting and trial.outcome is None for trial in trials)}
        | shown,
        incumbent=(best.trial, report.metrics[name], report.epoch) if best and report else None,
        baselines=baselines,
        second_observer=second,
        sparkline=best_so_far(trials, name, goal),
        curve=[each.metrics[name] for each in best.reports] if best else [],
        rungs=rungs(study, trials),
        phase=f"confirming {_confirmed(ledger)}" if phase == "confirming" else phase,
    )


def _confirmed(ledger: Ledger) -> str:
    """How many of the planned trainings have ended: `3 of 9`; spare ones count once they begin."""
    queue = [r.name for r in planned_by(ledger) if r.after is None or r.name in ledger.confirmed]
    left = {rerun.name for rerun in queue_of(ledger)}
    return f"{len(set(queue) - left)} of {len(queue)}"


def _timed(running: list[Running], ledger: Ledger) -> list[Running]:
    """The same with their workers, and since when each trains its next epoch."""
    names, last = {each.trial for each in running}, dict[str, dict[str, Any]]()
    for event in reversed(ledger.past):
        if len(last) == len(names):
            break
        event = event.get("what", event) | {"t": event["t"]}  # of a confirmation, what is within it
        if event["event"] in ("trial", "report", "promote") and event["trial"] in names:
            last.setdefault(event["trial"], event)
    now = ledger.elapsed()
    return [
        each._replace(worker=event.get("worker", ""), since_s=now - event["t"])
        for each in running
        for event in [last[each.trial]]
    ]


def rungs(study: Study, trials: list[TrialOutcome]) -> list[Rung]:
    """Who came to each rung, and waits there; none where trials meet by another measure."""
    own = [trial for trial in trials if not trial.baseline]
    return [
        Rung(
            epoch,
            reached=sum(len(trial.reports) >= epoch for trial in own),
            waiting=sum(
                trial.waiting and trial.outcome is None and len(trial.reports) == epoch
                for trial in own
            ),
        )
        for epoch in describe_search(study)["rungs"]
    ]


def _workers(ledger: Ledger) -> int | None:
    """How many workers the search has, as its record says at its beginning."""
    found = (event["workers"] for event in reversed(ledger.past) if "workers" in event)
    return next(found, None)


def best_so_far(trials: list[TrialOutcome], metric: str, goal: str) -> list[float]:
    """The best value of the objective after every report, in order of time."""
    points = sorted(
        (t, report.metrics[metric])
        for trial in eligible(trials)
        for t, report in zip(trial.report_times, trial.reports, strict=True)
    )
    keep: Callable[[float, float], float] = max if goal == "maximize" else min
    values: list[float] = []
    for _, value in points:
        values.append(keep(value, values[-1]) if values else value)
    return values
