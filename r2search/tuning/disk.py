"""How much disk a study may take, before it begins. Arithmetic, but for `free_note`."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from r2search.config import WAITING, Study, TrialConfig
from r2search.data.samples import rng_for
from r2search.space import draw, suggest_randomly, trial_config
from r2search.tuning.budget import Plan
from r2search.tuning.callback import KEPT_CHECKPOINTS, KEPT_WAITING
from r2search.tuning.checkpoints import KEPT_STATES, ROOM
from r2search.tuning.record_file import RESERVE

DRAWS = 64  # of the space, to find how large its networks are
BYTES = 4  # of a parameter
STATE = 4  # weights, two moments of the optimizer, the best weights: in weights of the network
BEST = 2  # weights of a trial that runs: its best epoch, and the best before it


def disk_needed(study: Study, planner: Callable[[TrialConfig], Plan], workers: int) -> int:
    """Bytes that the run folder may take at its worst moment, by the largest network drawn.

    One more state a trial is counted: the newest is written before the oldest is deleted.
    """
    baselines = [
        planner(trial_config(study, baseline.overrides)).parameters
        for baseline in study.baselines.values()
    ]
    largest = max([*baselines, *_drawn(study, planner)], default=0)
    running = (KEPT_STATES + 1) * STATE + BEST
    waiting = KEPT_STATES * STATE + 1 if study.early_terminate.type in WAITING else 0
    bundle, again = 1, 0
    if study.confirmation:  # the weights of every training
        each = study.confirmation.seeds * study.confirmation.folds
        again = each * (study.confirmation.finalists + len(baselines))
    weights = workers * running + KEPT_WAITING * waiting + KEPT_CHECKPOINTS + again + bundle
    return BYTES * (weights * largest + sum(baselines)) + RESERVE + ROOM


def _drawn(study: Study, planner: Callable[[TrialConfig], Plan]) -> Iterator[int]:
    """The parameters of networks of the space that would be trained."""
    for number in range(DRAWS):
        suggest = suggest_randomly(rng_for(study.search.seed, "disk", number))
        plan = planner(trial_config(study, draw(study, suggest)))
        if plan.refusal is None:
            yield plan.parameters


def free_note(run_dir: Path, needed: int) -> str:
    """What to tell where the disk may become full; nothing where it may not."""
    free = shutil.disk_usage(run_dir).free
    if free >= needed:
        return ""
    return (
        f"{run_dir}: {free / 1e9:.1f} GB are free and the study may take {needed / 1e9:.1f} GB; "
        "when the disk is full it goes on without writing checkpoints: make room"
    )
