"""One definition of best. Pure."""

from collections.abc import Iterable

from r2search.records import TrialOutcome


def eligible(trials: Iterable[TrialOutcome]) -> list[TrialOutcome]:
    """Trials whose best checkpoint may be ranked: at least one report, and no failure."""
    return [trial for trial in trials if trial.eligible]


def ranking(trials: Iterable[TrialOutcome], metric: str, goal: str) -> list[TrialOutcome]:
    """Eligible trials, best first, each by the value of its own best epoch.

    That value belongs to the saved checkpoint: what is ranked is what is exported. Ties go to
    the trial that began first.
    """
    sign = -1.0 if goal == "maximize" else 1.0

    def key(trial: TrialOutcome) -> tuple[float, float, str]:
        best = trial.best(metric, goal)
        assert best is not None
        return sign * best.metrics[metric], trial.started, trial.trial

    return sorted(eligible(trials), key=key)


def incumbent(trials: Iterable[TrialOutcome], metric: str, goal: str) -> TrialOutcome | None:
    """The best trial, baselines included; None while nothing can be ranked."""
    return next(iter(ranking(trials, metric, goal)), None)
