"""One definition of best."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2search.records import EpochReport, Outcome, TrialOutcome
from r2search.selection import eligible, front, incumbent, pareto_ranks, ranking

METRIC = "val/dice_mean"


def trial_of(
    name: str, values: list[float], outcome: Outcome | None = "completed", **facts: Any
) -> TrialOutcome:
    """A trial whose epochs have these values of the objective."""
    reports = [
        EpochReport(epoch=epoch, metrics={METRIC: value}, pixels=1, seconds={})
        for epoch, value in enumerate(values, start=1)
    ]
    given: dict[str, Any] = {
        "trial": name,
        "baseline": False,
        "overrides": {},
        "config": {},
        "cost": {},
        "planned_epochs": 4,
        "started": 0.0,
        "outcome": outcome,
        "reports": reports,
    }
    return TrialOutcome(**given | facts)


def names(trials: list[TrialOutcome]) -> list[str]:
    return [trial.trial for trial in trials]


def test_a_trial_counts_by_its_best_epoch_and_not_by_its_last() -> None:
    trials = [trial_of("a", [0.7, 0.72, 0.71]), trial_of("b", [0.5, 0.8, 0.2])]
    assert names(ranking(trials, METRIC, "maximize")) == ["b", "a"]


def test_the_smallest_value_is_best_when_the_goal_is_to_minimize() -> None:
    trials = [trial_of("a", [0.7, 0.72]), trial_of("b", [0.5, 0.8])]
    assert names(ranking(trials, METRIC, "minimize")) == ["b", "a"]
    best = incumbent(trials, METRIC, "minimize")
    assert best is not None
    report = best.best(METRIC, "minimize")
    assert report is not None
    assert report.epoch == 1


def test_a_failed_trial_is_not_ranked_however_good_it_was() -> None:
    trials = [trial_of("a", [0.9], "failed"), trial_of("b", [0.1])]
    assert names(ranking(trials, METRIC, "maximize")) == ["b"]


def test_a_trial_without_a_report_is_not_ranked() -> None:
    assert eligible([trial_of("a", []), trial_of("b", [], None)]) == []


@pytest.mark.parametrize("outcome", ["completed", "stopped", "interrupted", None])
def test_every_trial_with_a_checkpoint_is_ranked_whatever_ended_it(outcome: Outcome | None) -> None:
    assert names(eligible([trial_of("a", [0.5], outcome)])) == ["a"]


def test_a_baseline_can_be_the_incumbent() -> None:
    trials = [trial_of("B1", [0.8], baseline=True), trial_of("t0001", [0.7])]
    best = incumbent(trials, METRIC, "maximize")
    assert best is not None
    assert best.trial == "B1"


def test_of_equals_the_one_that_began_first_is_best() -> None:
    late, early = trial_of("a", [0.5], started=2.0), trial_of("b", [0.5], started=1.0)
    assert names(ranking([late, early], METRIC, "maximize")) == ["b", "a"]


def test_of_equal_epochs_the_earlier_one_is_best() -> None:
    report = trial_of("a", [0.1, 0.5, 0.5]).best(METRIC, "maximize")
    assert report is not None
    assert report.epoch == 2


def test_nothing_is_the_incumbent_of_nothing() -> None:
    assert incumbent([], METRIC, "maximize") is None
    assert incumbent([trial_of("a", [0.5], "failed")], METRIC, "maximize") is None


@given(
    st.lists(st.lists(st.floats(-1, 1), min_size=1, max_size=4), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
)
def test_the_ranking_depends_on_no_order_and_mirrors_with_the_goal(
    values: list[list[float]], random: Any
) -> None:
    trials = [trial_of(f"t{i}", v, started=float(i)) for i, v in enumerate(values)]
    mirrored = [trial_of(f"t{i}", [-x for x in v], started=float(i)) for i, v in enumerate(values)]
    expected = names(ranking(trials, METRIC, "maximize"))
    assert names(ranking(mirrored, METRIC, "minimize")) == expected
    random.shuffle(trials)
    assert names(ranking(trials, METRIC, "maximize")) == expected
    best = incumbent(trials, METRIC, "maximize")
    assert best is not None
    assert max(r.metrics[METRIC] for r in best.reports) == max(max(v) for v in values)


def test_a_config_that_memory_did_not_hold_is_not_ranked() -> None:
    trials = [trial_of("a", [0.9], "infeasible"), trial_of("b", [0.5])]
    assert names(ranking(trials, METRIC, "maximize")) == ["b"]


def test_an_epoch_whose_weights_were_lost_does_not_count() -> None:
    trials = [
        trial_of("lost", [0.5, 0.6, 0.9], saved=[2]),
        trial_of("whole", [0.7]),
        trial_of("nothing left", [0.8], saved=[]),
    ]
    assert names(ranking(trials, METRIC, "maximize")) == ["whole", "lost"]
    best = trials[0].best(METRIC, "maximize")
    assert best is not None
    assert best.epoch == 2


Points = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=25)


def dominates(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))


@given(Points)
def test_a_point_has_the_rank_after_the_worst_of_those_that_dominate_it(
    points: list[tuple[int, int]],
) -> None:
    ranks = pareto_ranks(points)
    for point, rank in zip(points, ranks, strict=True):
        above = [r for other, r in zip(points, ranks, strict=True) if dominates(other, point)]
        assert rank == max(above, default=-1) + 1


@given(Points, st.sampled_from(["maximize", "minimize"]))
def test_no_trial_of_the_front_is_dominated_and_every_other_one_is(
    points: list[tuple[int, int]], goal: str
) -> None:
    sign = 1 if goal == "maximize" else -1
    trials = [
        trial_of(str(n), [sign * value], cost={"flops": cost})
        for n, (value, cost) in enumerate(points)
    ]
    found = {int(trial.trial) for trial in front(trials, METRIC, goal, ["flops"])}
    gains = [(value, -cost) for value, cost in points]
    for n, one in enumerate(gains):
        assert (n in found) == (not any(dominates(gains[m], one) for m in found))
    assert bool(found) == bool(points)
