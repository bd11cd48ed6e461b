"""The whole way of a study: preflight, search, confirmation, test, bundle, report."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from r2search.config import Misuse, Study, hint
from r2search.data import load, resolve
from r2search.data.folds import require_folds
from r2search.data.samples import SampleSet
from r2search.finish import Trained, finish
from r2search.interrupt import Interrupt
from r2search.progress import shower
from r2search.records import MOST_SAID
from r2search.remote import RemoteRun
from r2search.report.ending import tell_end
from r2search.report.screen import Progress, Screen
from r2search.report.wording import class_names
from r2search.rundir import abandon, claim, hold, open_ledger, open_run, require_more
from r2search.space import require_something_to_search
from r2search.tracking import Tracking, Untracked, amend, showing
from r2search.train.metrics import METRICS
from r2search.tuning.confirm import confirm, is_searched
from r2search.tuning.disk import disk_needed, free_note
from r2search.tuning.engine import planner_for, ray_session, search
from r2search.tuning.events import Ledger
from r2search.tuning.evidence import Evidence, gather
from r2search.tuning.predictions import begin_predictions
from r2search.tuning.slots import Slots, measure_slots

PAUSES_S = (2.0, 10.0)  # before a search that broke goes on; after another error it has ended
LOOK_S = 0.1  # meanwhile, between looks whether it is interrupted

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
    warm_start: Sequence[str] = (),
    progress: Progress = "auto",
    trackers: Sequence[str] = (),
) -> dict[str, Any]:
    """Search, confirm the best, test it once, export it, report. Returns what summary.json holds.

    `resume`: go on with the study in `run_dir`, from its record. `remote`: where others see it.
    `warm_start`: run folders of earlier studies, whose trials are evidence. `progress`: how it is
    shown, as `Screen` has it. `trackers`: what shows it beside W&B, names of TRACKERS.
    Raises Misuse, before anything is started, for bad data, a bad space or a run folder in use;
    StorageError when `remote` fails for long.
    """
    require_something_to_search(study)
    study, samples = prepare(study)
    evidence, remarks = gather(study, warm_start, samples.fingerprint)
    run_dir = claim(run_dir, resume, remote=remote is not None)
    with hold(run_dir):
        try:
            with closing(open_ledger(run_dir, samples)) as ledger:
                if resume:
                    require_more(study, run_dir, ledger)
                facts = open_run(study, run_dir, command)
                begin(study, samples, ledger, evidence)
                screen = Screen(console, progress)
                for remark in remarks:
                    screen.note(remark)
                follower = showing(run_dir, tracking, trackers, screen.note)
                return _run(study, samples, run_dir, ledger, facts, follower, screen, remote)
        except Misuse as error:
            if not resume:
                abandon(run_dir)
            if remote is None:
                raise
            # A folder in a store is known by its URL; of the local copy nobody has heard.
            raise Misuse(str(error).replace(str(run_dir), remote.url)) from None


def _run(
    study: Study,
    samples: SampleSet,
    run_dir: Path,
    ledger: Ledger,
    facts: dict[str, Any],
    follower: AbstractContextManager[Untracked],
    screen: Screen,
    remote: RemoteRun | None,
) -> dict[str, Any]:
    """The study in its folder, from the first event to the summary."""
    with Interrupt() as interrupt, screen, follower as shown:
        show = shower(study, samples, ledger, screen)
        show("starting")
        if shown.anywhere and samples.val:
            names = class_names(study.fixed.data.labels, samples.classes)
            begin_predictions(run_dir, samples.val[0], names)
        done = _search(study, samples, run_dir, ledger, interrupt, screen, show, remote)
        facts["tracking"] = shown.facts(list(ledger.trials))
        facts["hardware"] |= describe_slots(done.slots)
        searched = ledger.searched()
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
                search_seconds=searched.seconds,
                worker_seconds=searched.worker_seconds,
                threads=done.slots.workers.threads if done.slots else 1,
                facts=facts,
            ),
            show,
        )
        shown.leave()
        amend(run_dir, summary, shown.facts(list(ledger.trials)))
    tell_end(screen, summary, run_dir, resume=remote.url if remote else str(run_dir))
    return summary


@dataclass(frozen=True, slots=True)
class _Searched:
    """How the search went; the trials themselves are in the ledger."""

    slots: Slots | None  # None when no worker could be had
    whole: bool  # no error ended it


def _search(
    study: Study,
    samples: SampleSet,
    run_dir: Path,
    ledger: Ledger,
    interrupt: Interrupt,
    screen: Screen,
    show: Callable[..., None],
    remote: RemoteRun | None,
) -> _Searched:
    """Run the trials through Ray, then train finalists again; and again from the record when an
    error ends that.

    After too many errors it stays ended; nothing that is finished is lost.
    """

    def cut_off() -> bool:
        return interrupt.signal is not None or (remote is not None and remote.lost)

    def stopping() -> bool:
        return cut_off() or ledger.left(study.search_budget) < 0

    def over() -> bool:
        return cut_off() if study.confirmation else stopping()

    slots, broken = None, ""
    shelf = remote.shelf if remote else None
    for pause in (*PAUSES_S, None):
        try:
            with ray_session(samples) as ref:
                interrupt.arm()
                show("calibrating")
                slots = measure_slots(study, run_dir, ledger.past, shelf, screen.note)
                if not broken:
                    note_disk(study, samples, run_dir, slots, screen.note)
                note_workers(study, ledger, slots, broken)
                if not is_searched(study, ledger):
                    show("searching")
                    search(study, samples, ref, slots, run_dir, ledger, show, stopping, shelf)
                if study.confirmation and not cut_off():
                    show("confirming")
                    confirm(study, samples, ref, slots, run_dir, ledger, show, cut_off, shelf)
            return _Searched(slots, whole=True)
        except Misuse:
            raise
        except Exception as error:
            log.exception("the search broke")
            said = " ".join(str(error).split())[:MOST_SAID]
            broken = f"{type(error).__name__}: {said}"
            if pause is None or over():
                screen.note(f"the search ended by an error ({said}); finishing what there is")
                break
            screen.note(f"the search broke ({said}); it goes on from its record in {pause:.0f} s")
            if _ended_within(pause, cut_off):
                break
    return _Searched(slots, whole=False)


def _ended_within(seconds: float, ended: Callable[[], bool]) -> bool:
    """Wait so long, or until `ended`; whether it has."""
    until = time.monotonic() + seconds
    while not ended() and time.monotonic() < until:
        time.sleep(LOOK_S)
    return ended()


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
    if study.confirmation:
        require_folds(samples, study.confirmation.folds)
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


def begin(study: Study, samples: SampleSet, ledger: Ledger, evidence: Evidence) -> None:
    """The first line of trials.jsonl, of a study that begins: what a replay must know."""
    if not ledger.past:
        ledger.begin(
            name=study.name,
            metric=study.metric.model_dump(),
            early_terminate=study.early_terminate.model_dump(),
            search=study.search.model_dump(),
            budget=study.budget.model_dump(),
            data=samples.fingerprint,
            evidence=list(evidence),
        )


def note_workers(study: Study, ledger: Ledger, slots: Slots, broken: str = "") -> None:
    """By whom the trials are run. Of a study that goes on, a line that says so; `broken` is the
    error that ended it before.
    """
    facts = {"workers": slots.workers.count, "measured": slots.measured}
    if [event["event"] for event in ledger.past] == ["study"]:
        ledger.found_workers(**facts)
    else:
        searched = is_searched(study, ledger)
        ledger.resume(broken=broken, searched=searched, budget=study.budget.model_dump(), **facts)


def note_disk(
    study: Study, samples: SampleSet, run_dir: Path, slots: Slots, note: Callable[[str], None]
) -> None:
    """Tell, before anything is trained, when the disk may become full."""
    planner = planner_for(study, samples, slots)
    text = free_note(run_dir, disk_needed(study, planner, slots.workers.count))
    if text:
        note(text)


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
