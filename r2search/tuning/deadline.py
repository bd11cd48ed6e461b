"""What still fits before a search ends, by what epochs took so far. Pure arithmetic."""

import math
import statistics
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

from r2search.records import EpochReport, TrialOutcome
from r2search.tuning.budget import Plan

LAST_CALL = 1.3  # of the time that the best trial still needs; less is too risky
RECENT = 50  # trials tell how busy the machine is; all of thousands would have to be read each time
BASELINE_CALL = 1.3  # of the time that all baselines still need on one worker, one after the other


def slowness(trials: dict[str, TrialOutcome]) -> float:
    """How long epochs take over what was predicted: median, by the last one of each trial.

    Of the RECENT trials that began last. 1 before the first report.
    """
    taken = [
        _seconds(trial.reports[-1]) / trial.cost["epoch_seconds"]
        for trial in islice(reversed(trials.values()), RECENT)
        if trial.reports
    ]
    return statistics.median(taken) if taken else 1.0


def needs(trial: TrialOutcome, epochs: int) -> float:
    """Seconds for so many further epochs of a trial that has reported."""
    return epochs * statistics.median(map(_seconds, trial.reports))


def is_last_call(need: float, left: float) -> bool:
    """Whether what takes `need` seconds must begin, with so many left."""
    return left < LAST_CALL * need


def must_begin(baselines: Iterable[Plan], left: float, slow: float) -> bool:
    """Whether no later start leaves all of them the time.

    So it is at once where nothing but the number of trials ends the search.
    """
    need = slow * sum(plan.epochs * plan.epoch_seconds for plan in baselines)
    return not BASELINE_CALL * need < left < math.inf


def shortened(plan: Plan, left: float, slow: float) -> Plan:
    """A late trial's plan: compressed, since its rate is to fall to nothing in time.

    One epoch at least.
    """
    epochs = min(plan.epochs, left / (slow * plan.epoch_seconds))
    return replace(plan, epochs=max(1, int(epochs)))


def _seconds(report: EpochReport) -> float:
    """Of an epoch, its validation included."""
    return report.seconds["train"] + report.seconds["validate"]
