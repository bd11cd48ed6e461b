"""Was early stopping right, and what mattered? Asked of the record of a study.

Trials are compared by the best that they had reached with the same epochs, or the same seconds
where they meet after those (`early_terminate.unit`). What stopped trials
would have become is estimated by what those trained to their end still gained from the same epoch
on. Those were chosen for being good, so that this is an estimate, and is called one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from r2search.config import WAITING, Study
from r2search.data.samples import rng_for
from r2search.records import TrialOutcome
from r2search.selection import eligible, incumbent
from r2search.tuning.importance import importance
from r2search.tuning.rungs import rung_levels

LEAST = 3  # trials, to say anything of an order or of a gain
FUTURES = 2000  # drawn, of all trials that were stopped

# Of a trial, the best that it had reached after each of its epochs; larger is better.
Reached = Mapping[str, NDArray[np.float64]]


def audit(study: Study, trials: Sequence[TrialOutcome]) -> dict[str, Any]:
    """What summary.json holds under `audit`. A part that too few trials can tell is None.

    - `unit`: whether `epochs` or `seconds` are the same; with seconds, the epochs named below are
      those of a config that can just afford `max_epochs`;
    - `order`, a list of {from, to, trials, tau}: Kendall's tau between the order of the trials at
      the epoch of a rung and at the next (`to` None: at their end), of those that came so far;
    - `stopping`, {stopped, finished, chance, regret}: the estimated chance that one of the trials
      that were stopped would have beaten the incumbent, and by how much they would on average;
    - `half`, {trial, value, loss}: the best after half of the time, and what it lacks;
    - `importance`, {trials, epoch, shares}: which settings decided who was among the best after
      that epoch, in shares of one.
    """
    own = [trial for trial in eligible(trials) if not trial.baseline]
    reached = {trial.trial: _reached(study, trial) for trial in own}
    settings = study.early_terminate
    return {
        "unit": settings.unit if settings.type in WAITING else "epochs",
        "order": _order(study, own, reached),
        "stopping": _stopping(study, trials, own, reached),
        "half": _half(study, trials),
        "importance": _importance(study, own, reached),
    }


def _sign(study: Study) -> int:
    return 1 if study.metric.goal == "maximize" else -1


def _reached(study: Study, trial: TrialOutcome) -> NDArray[np.float64]:
    values = [report.metrics[study.metric.name] for report in trial.reports]
    return np.maximum.accumulate(_sign(study) * np.array(values, dtype=float))


def _order(study: Study, own: Sequence[TrialOutcome], reached: Reached) -> list[dict[str, Any]]:
    levels = _levels(study)
    rows = []
    for rung, (level, then) in enumerate(zip(levels, [*levels, None][1:], strict=True)):
        later = []
        for trial in own:
            curve, now = reached[trial.trial], _epoch_of(trial, rung, levels)
            end = len(curve) if then is None else _epoch_of(trial, rung + 1, levels)
            if now < len(curve) >= end and (then is not None or trial.outcome == "completed"):
                later.append((curve[now - 1], curve[end - 1]))
        rows.append({"from": level, "to": then, "trials": len(later), "tau": _tau(later)})
    return rows


def _levels(study: Study) -> tuple[int, ...]:
    """The epochs of all rungs, of a trial that has no rungs of its own."""
    settings = study.early_terminate
    return rung_levels(settings.grace_period, settings.reduction_factor, study.budget.max_epochs)


def _epoch_of(trial: TrialOutcome, rung: int, levels: Sequence[int]) -> int:
    """The epoch at which a trial comes to a rung, counted from 0."""
    own = rung - trial.bracket
    return trial.rungs[own] if 0 <= own < len(trial.rungs) else levels[rung]


def _tau(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Kendall's tau-b; None of few pairs, and of values that are all the same."""
    if len(pairs) < LEAST or any(len(set(side)) == 1 for side in zip(*pairs, strict=True)):
        return None
    return float(kendalltau(*zip(*pairs, strict=True)).statistic)


def _stopping(
    study: Study, trials: Sequence[TrialOutcome], own: Sequence[TrialOutcome], reached: Reached
) -> dict[str, Any] | None:
    """Every stopped trial gains what one drawn from those trained to their end gained."""
    best = incumbent(trials, study.metric.name, study.metric.goal)
    stopped = [trial for trial in own if trial.outcome == "stopped"]
    finished = [reached[trial.trial] for trial in own if trial.outcome == "completed"]
    if best is None or len(finished) < LEAST:
        return None
    bar = _reached(study, best)[-1]
    rng = rng_for(study.search.seed, "audit", len(stopped))
    futures = np.full(FUTURES, -np.inf)  # the best of all that were stopped
    for trial in stopped:
        epoch = len(trial.reports)
        gains = [curve[-1] - curve[epoch - 1] for curve in finished if len(curve) > epoch]
        if gains:
            end = reached[trial.trial][-1] + rng.choice(gains, size=FUTURES)
            futures = np.maximum(futures, end)
    return {
        "stopped": len(stopped),
        "finished": len(finished),
        "chance": float(np.mean(futures > bar)),
        "regret": float(np.mean(np.maximum(futures - bar, 0.0))),
    }


def _half(study: Study, trials: Sequence[TrialOutcome]) -> dict[str, Any] | None:
    name, sign = study.metric.name, _sign(study)
    told = [
        (t, trial.trial, sign * report.metrics[name])
        for trial in eligible(trials)
        for t, report in zip(trial.report_times, trial.reports, strict=True)
    ]
    end = max((t for t, _, _ in told), default=0.0)
    early = [(value, trial) for t, trial, value in told if t <= end / 2]
    if not early or len({trial for _, trial, _ in told}) == 1:
        return None
    value, trial = max(early, key=lambda item: item[0])
    loss = max(found for _, _, found in told) - value
    return {"trial": trial, "value": sign * value, "loss": loss}


def _importance(
    study: Study, own: Sequence[TrialOutcome], reached: Reached
) -> dict[str, Any] | None:
    levels = _levels(study) or (study.budget.max_epochs,)
    comparable = [
        (trial.overrides, reached[trial.trial][epoch - 1])
        for trial in own
        if len(trial.reports) >= (epoch := _epoch_of(trial, 0, levels))
    ]
    shares = importance(study, comparable)
    return shares and {"trials": len(comparable), "epoch": levels[0], "shares": shares}
