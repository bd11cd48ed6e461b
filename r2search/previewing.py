"""A study looked at before it is begun: what it will train, and what it will take."""

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from r2search.config import ConfirmConfig, Study
from r2search.data.samples import SampleSet
from r2search.report.screen import say
from r2search.report.wording import duration
from r2search.space import require_something_to_search
from r2search.study import prepare
from r2search.tuning.budget import Plan
from r2search.tuning.disk import disk_needed
from r2search.tuning.engine import planner_for, ray_session
from r2search.tuning.foresight import DRAWS, Foresight, foresee
from r2search.tuning.slots import Slots, find_slots

CAUSES = {"too_slow": "an epoch takes too long", "too_large": "more memory than a worker has"}


def preview_study(study: Study, console: Console) -> int:
    """Show what a study would do on this machine, or on the cluster that RAY_ADDRESS names.

    The speed of a worker is measured, nothing is trained. The result is the exit code: 1 when no
    config of the space fits. Misuse for bad data and a bad space.
    """
    require_something_to_search(study)
    study, samples = prepare(study)
    with ray_session(samples):
        slots = find_slots(study)
    planner = planner_for(study, samples, slots)
    seen = foresee(study, planner, slots.workers.largest)
    say(console, _headline(study, samples, slots, seen))
    console.print(_configs(seen))
    if seen.trials:
        console.print(_rungs(seen))
    for cause, count in seen.refused.items():
        say(
            console,
            f"{count / DRAWS:.0%} of the space is refused: {CAUSES[cause]} (one of them "
            f"{seen.reasons[cause]})",
        )
    if study.confirmation:
        say(console, _confirmation(study.confirmation, seen))
    disk = disk_needed(study, planner, slots.workers.count)
    say(console, f"disk: at most {decimal(disk)} in the run folder")
    if not seen.fitting:
        say(console, "no config of the space fits: give it more time, or smaller networks")
    return 0 if seen.fitting else 1


def _headline(study: Study, samples: SampleSet, slots: Slots, seen: Foresight) -> str:
    workers = slots.workers
    synthetic = " (synthetic)" if samples.synthetic else ""
    ends = "" if seen.seconds >= 0.9 * study.budget.time else " (the trials end it)"
    return (
        f"{study.name}: {len(samples.train)} training and {len(samples.val)} validation "
        f"images{synthetic}; {workers.count} trials at a time, {workers.threads} threads each; "
        f"about {seen.trials:.0f} trials in {duration(seen.seconds)}{ends}, after the baselines"
    )


def _confirmation(settings: ConfirmConfig, seen: Foresight) -> str:
    if seen.wanted <= seen.kept:
        short = "fit"
    else:
        short = "fewer seeds, then fewer finalists, where they are as slow as that"
    folds = f" on {settings.folds} folds" if settings.folds > 1 else ""
    return (
        f"confirmation: {duration(seen.kept)} are kept for it; {settings.finalists} finalists and "
        f"the baselines with {settings.seeds} seeds{folds} take {duration(seen.wanted)} at most: "
        f"{short}"
    )


def _configs(seen: Foresight) -> Table:
    table = Table("", "parameters", "epoch", "epochs at most", "memory", "GFLOP a patch")

    def add(name: str, plan: Plan) -> None:
        table.add_row(
            name,
            f"{plan.parameters:,}",
            f"{plan.epoch_seconds:.1f} s",
            str(plan.epochs),
            decimal(plan.memory),
            f"{plan.flops / 1e9:.2f}",
        )

    for name, plan in seen.baselines.items():
        add(f"baseline {name}", plan)
    if seen.fitting:
        add("the fastest config", seen.fitting[0])
        add("one in the middle", seen.fitting[len(seen.fitting) // 2])
        add("the slowest config", seen.fitting[-1])
    return table


def _rungs(seen: Foresight) -> Table:
    table = Table("epoch", "trials expected to come there")
    for level, count in seen.rungs:
        table.add_row(str(level), f"{count:.1f}" if count < 10 else f"{count:.0f}")
    return table
