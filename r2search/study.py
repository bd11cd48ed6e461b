"""The whole way of a study: preflight, search, test, bundle, report."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from r2search.config import Misuse, Study, hint
from r2search.data import load, resolve
from r2search.data.samples import SampleSet
from r2search.finish import Trained, finish
from r2search.interrupt import Interrupt
from r2search.records import TrialOutcome
from r2search.remote import RemoteRun
from r2search.report.screen import Screen, ScreenState, print_summary
from r2search.rundir import claim, hold, open_ledger, open_run, require_more
from r2search.selection import eligible, incumbent
from r2search.space import require_something_to_search
from r2search.summary import count_trials, second_observer
from r2search.train.metrics import METRICS
from r2search.tuning.budget import search_seconds
from r2search.tuning.engine import Slots, measure_slots, ray_session, search
from r2search.tuning.events import Ledger
from r2search.tuning.trackers import Tracker

PAUSES_S = (2.0, 10.0)  # before a search that broke goes on; after another error it has ended

Tracking = Literal["offline", "online", "disabled"]

log = logging.getLogger(__name__)


def run_study(
    study: Study,
    run_dir: Path,
    *,
    tracking: Tracking = "offline",
    command: str = "",
    console: Console | None = None,
    resume: bool = False,
    remote: RemoteRun | None = None,
) -> dict[str, Any]:
    """Search, test the best once, export it, report. Returns what summary.json holds.

    `resume`: go on with the study in `run_dir`, from its record. `remote`: where others see it.
    Raises Misuse, before anything is started, for bad data, a bad space or a run folder in use;
    StorageError when `remote` fails for long.
    """
    require_something_to_search(study)
    study, samples = prepare(study)
    run_dir = claim(run_dir, resume)
    lock = hold(run_dir)
    console = console or Console()
    ledger = open_ledger(run_dir, samples)
    if resume:
        require_more(study, run_dir, ledger)
    facts = open_run(study, run_dir, command)
    with lock, Interrupt() as interrupt, Screen(console) as screen:
        show = _shower(study, samples, ledger, screen)
        show("starting")
        mode, trackers = open_trackers(study, run_dir, tracking, screen.note)
        done = _search(study, samples, run_dir, ledger, trackers, interrupt, screen, show, remote)
        for tracker in trackers:
            tracker.close()
        unsent = list(ledger.trials) if mode == "offline" else []
        facts["tracking"] = {"mode": mode, "not_uploaded": unsent}
        facts["hardware"] |= describe_slots(done.slots)
        if remote is not None:
            remote.bring_weights(study, ledger)
        summary = finish(
            Trained(
                study=study,
                samples=samples,
                run_dir=run_dir,
                ledger=ledger,
                whole=done.whole,
                signal=interrupt.signal,
                search_seconds=done.seconds,
                workers=done.slots.workers.count if done.slots else 1,
                threads=done.slots.workers.threads if done.slots else 1,
                facts=facts,
            ),
            show,
        )
    ledger.close()
    print_summary(console, summary, run_dir)
    return summary


@dataclass(frozen=True, slots=True)
class _Searched:
    """How the search went; the trials themselves are in the ledger."""

    slots: Slots | None  # None when no worker could be had
    whole: bool  # no error ended it
    seconds: float


def _search(
    study: Study,
    samples: SampleSet,
    run_dir: Path,
    ledger: Ledger,
    trackers: list[Tracker],
    interrupt: Interrupt,
    screen: Screen,
    show: Callable[..., None],
    remote: RemoteRun | None,
) -> _Searched:
    """Run the trials through Ray, and again from the record when an error ends the search.

    After too many errors it stays ended; nothing that is finished is lost.
    """

    def stopping() -> bool:
        late = ledger.elapsed() > search_seconds(study.budget)
        return late or interrupt.signal is not None or (remote is not None and remote.lost)

    slots, began, broken = None, None, ""
    shelf = remote.shelf if remote else None
    for pause in (*PAUSES_S, None):
        try:
            with ray_session(samples) as ref:
                interrupt.arm()
                show("calibrating")
                slots = measure_slots(study, run_dir, shelf)
                note_study(study, samples, ledger, slots, broken)
                show("searching")
                began = began or ledger.elapsed()
                search(study, samples, ref, slots, run_dir, ledger, trackers, show, stopping, shelf)
            return _Searched(slots, True, ledger.elapsed() - began)
        except Misuse:
            raise
        except Exception as error:
            log.exception("the search broke")
            broken = f"{type(error).__name__}: {error}"
            if pause is None or stopping():
                screen.note(f"the search ended by an error ({error}); finishing what there is")
                break
            screen.note(f"the search broke ({error}); it goes on from its record in {pause:.0f} s")
            time.sleep(pause)
    return _Searched(slots, False, ledger.elapsed() - (began or ledger.elapsed()))


def prepare(study: Study) -> tuple[Study, SampleSet]:
    """Load the images, and fit the study to them: the reader in use, the number of channels.

    Raises Misuse for bad data, and for an objective that validation does not yield.
    """
    classes = len(study.fixed.data.labels)
    known = [f"val/{name}" for name in METRICS]
    if classes > 1:
        known += [f"{name}_class{index}" for name in known for index in range(1, classes + 1)]
    if study.metric.name not in known:
        raise Misuse(
            f"metric.name: unknown metric {study.metric.name!r}; {hint(study.metric.name, known)}"
        )
    data = resolve(study.fixed.data)
    wanted = channels_of(study)
    reading = "grey" if wanted == {"grey"} else "rgb"
    samples = load(data.model_copy(update={"channels": reading}), seed=study.search.seed)
    if samples.channels == 1 and wanted != {"grey"}:
        raise Misuse(
            f"data.channels: {', '.join(sorted(wanted - {'grey'}))} was asked for, and the images "
            f"of the reader {samples.reader} are grey; --set data.channels=grey"
        )
    return study.model_copy(
        update={"fixed": study.fixed.model_copy(update={"data": data})}
    ), samples


def channels_of(study: Study) -> set[str]:
    """Every value of `data.channels` that a trial or a baseline may have."""
    key = "data.channels"
    drawn = {str(value) for p in study.parameters if p.key == key for value in p.values}
    named = {str(b.overrides[key]) for b in study.baselines.values() if key in b.overrides}
    plain = set() if drawn else {study.fixed.data.channels}
    return drawn | named | plain


def open_trackers(
    study: Study, run_dir: Path, asked: Tracking, note: Callable[[str], None]
) -> tuple[Tracking, list[Tracker]]:
    """The trackers of a study, none or Weights & Biases, and the mode they are really in."""
    if asked == "disabled":
        return asked, []
    from r2search.tuning.trackers.wandb import WandbTracker, choose_mode

    mode, reason = choose_mode(asked)
    if reason:
        note(f"Weights & Biases stays offline: {reason}")
    return mode, [WandbTracker(study, run_dir, mode)]


def note_study(
    study: Study, samples: SampleSet, ledger: Ledger, slots: Slots, broken: str = ""
) -> None:
    """The first line of trials.jsonl: what a replay must know. Of a study that goes on, a line that
    says so; `broken` is the error that ended it before.
    """
    if ledger.past:
        budget, workers = study.budget.model_dump(), slots.workers.count
        ledger.resume(budget=budget, workers=workers, broken=broken)
        return
    ledger.begin(
        name=study.name,
        metric=study.metric.model_dump(),
        early_terminate=study.early_terminate.model_dump(),
        budget=study.budget.model_dump(),
        search=study.search.model_dump(),
        workers=slots.workers.count,
        rate={
            "flops_per_s": slots.rate.flops_per_s,
            "elements_per_s": slots.rate.elements_per_s,
        },
        data=samples.fingerprint,
    )


def describe_slots(slots: Slots | None) -> dict[str, Any]:
    """The workers of a study, for its summary."""
    if slots is None:
        return {}
    return {
        "workers": slots.workers.count,
        "threads_per_worker": slots.workers.threads,
        "gpus_per_worker": slots.workers.gpus,
        "gflops_per_worker": slots.rate.flops_per_s / 1e9,
    }


def _shower(
    study: Study, samples: SampleSet, ledger: Ledger, screen: Screen
) -> Callable[..., None]:
    """A function that shows where the study stands; with a word, a new phase of it."""
    second = second_observer(samples.val, samples.classes)
    value = second[study.metric.name.removeprefix("val/")] if second else None
    current = ""

    def show(phase: str = "") -> None:
        nonlocal current
        current = phase or current
        screen.update(screen_state(study, samples.synthetic, ledger, current, value))

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
    for trial in trials:
        own = trial.best(name, goal)
        value = own.metrics[name] if own else None
        if trial.baseline:
            baselines[trial.trial] = value
        if trial.outcome is None and not trial.waiting:
            running.append((trial.trial, len(trial.reports), trial.planned_epochs, value))
    counts = count_trials(trials, ledger.refused)
    shown = {key: counts[key] for key in ("completed", "stopped", "failed", "infeasible")}
    return ScreenState(
        name=study.name,
        metric=name,
        goal=goal,
        synthetic=synthetic,
        elapsed_s=ledger.elapsed(),
        budget_s=study.budget.time,
        running=running,
        counts={"waiting": sum(trial.waiting and trial.outcome is None for trial in trials)}
        | shown,
        incumbent=(best.trial, report.metrics[name], report.epoch) if best and report else None,
        baselines=baselines,
        second_observer=second,
        sparkline=best_so_far(trials, name, goal),
        phase=phase,
    )


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
