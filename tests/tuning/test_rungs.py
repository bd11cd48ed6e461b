"""Who waits at a rung and who goes on: successive halving by promotion, without Ray."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2search.tuning.rungs import NOWHERE, Place, Rungs, rung_levels

LEVELS = (2, 6, 18)


class Table(Rungs):
    """Rungs at 2, 6 and 18; whoever reports has begun."""

    def report(self, trial: str, epoch: int, value: float) -> None:
        if trial not in self._trials:
            self.begin(trial, self.next_place(LEVELS))
        super().report(trial, epoch, value)


def rungs() -> Table:
    return Table(reduction_factor=3)


def come(table: Rungs, epoch: int, **values: float) -> Rungs:
    for name, value in values.items():
        table.report(name, epoch, value)
    return table


def led(table: Rungs) -> Rungs:
    """The study has a trial that is better than all that wait."""
    table.begin("leader", NOWHERE)
    table.report("leader", 1, 1.0)
    return table


@pytest.mark.parametrize(
    ("grace", "factor", "longest", "levels"),
    [
        (2, 3, 40, (2, 6, 18)),
        (1, 3, 243, (1, 3, 9, 27, 81)),  # Ray's float logarithm loses 81
        (2, 2, 16, (2, 4, 8)),  # at 16 a trial is over
        (5, 3, 3, ()),  # shorter than the grace period
    ],
)
def test_rungs_are_exact_powers_below_the_longest_training(
    grace: int, factor: int, longest: int, levels: tuple[int, ...]
) -> None:
    assert rung_levels(grace, factor, longest) == levels


def test_where_trials_meet_after_equal_seconds_a_slow_one_comes_early() -> None:
    assert rung_levels(2, 3, 40, scale=0.25) == (1, 2, 5)
    assert rung_levels(2, 3, 40, scale=0.01) == (1, 1, 1)  # every trial has an epoch
    assert rung_levels(2, 3, 40, scale=3.0) == (6, 18, 54)


def test_a_trial_trains_until_the_next_rung_below_its_own_end() -> None:
    table = rungs()
    table.begin("a", Place(0, LEVELS))
    table.begin("b", NOWHERE)
    assert [table.until("a", epoch, 40) for epoch in (0, 1, 2, 6, 18)] == [2, 2, 6, 18, 40]
    assert table.until("a", 2, 6) == 6  # its end; nothing to wait for
    assert table.until("b", 0, 40) == 40


def test_a_trial_that_reaches_several_rungs_at_once_waits_at_the_highest() -> None:
    table = rungs()
    table.begin("slow", Place(0, (1, 1, 3)))
    table.report("slow", 1, 0.9)
    come(led(table), 2, b=0.5, c=0.4)
    for name in "bc":
        assert table.has(name)
    assert table.promotable() is None  # its rung has nobody else
    come(table, 6, b=0.5)
    come(table, 6, c=0.4)
    assert table.promotable() == "slow"
    assert table.promote("slow") == 1
    assert table.until("slow", 1, 40) == 3


def test_the_first_to_come_has_no_pass() -> None:
    table = come(rungs(), 2, a=0.9, b=0.5)
    assert table.promotable() is None  # two trials say too little
    table.report("c", 2, 0.4)
    assert table.promotable() == "a"


def test_between_rungs_nobody_waits() -> None:
    assert come(rungs(), 1, a=0.9, b=0.5, c=0.4).promotable() is None
    assert come(rungs(), 5, a=0.9, b=0.5, c=0.4).promotable() is None


def test_one_in_three_leaves_a_rung() -> None:
    table = come(rungs(), 2, a=0.1, b=0.2, c=0.3, d=0.15, e=0.05)
    assert table.promote("c") == 2
    assert table.promotable() is None
    table.report("f", 2, 0.0)
    assert table.promotable() == "b"


def test_the_highest_rung_goes_first() -> None:
    table = come(led(rungs()), 2, a=0.9, b=0.8, c=0.7, d=0.6, e=0.5, f=0.4, g=0.3, h=0.2, i=0.1)
    for name in "abc":
        table.promote(name)
    come(table, 6, a=0.9, b=0.8)
    come(table, 2, j=0.95)
    assert table.promotable() == "j"  # at 6 there are two
    table.report("c", 6, 0.7)
    assert table.promotable() == "a"


def test_who_leads_the_study_does_not_wait_for_others_of_its_length() -> None:
    table = come(rungs(), 2, a=0.9, b=0.8)
    assert table.promotable() is None  # two are too few to lead
    come(table, 2, c=0.7)
    for came in (2, 6, 18):
        come(table, came, a=0.9)
        assert table.promotable() == "a"
        assert table.promote("a") == came
    assert table.promotable() is None
    come(table, 2, d=0.95)
    assert table.promotable() == "d"
    table.promote("d")
    come(table, 19, a=0.99)
    come(table, 6, d=0.97)
    assert table.promotable() is None  # now it is `a` that leads


def test_among_trials_without_a_score_nobody_leads() -> None:
    table = come(rungs(), 2, a=math.nan, b=math.nan, c=math.nan)
    table.promote("a")
    come(table, 6, a=math.nan)
    assert table.promotable() is None


def test_a_trial_is_ranked_by_its_best_epoch_so_far() -> None:
    table = rungs()
    table.report("dipping", 1, 0.8)
    assert come(table, 2, dipping=0.1, b=0.5, c=0.4).promotable() == "dipping"


def test_a_value_that_is_not_finite_is_the_worst() -> None:
    assert come(rungs(), 2, a=math.nan, b=-1.0, c=math.nan).promotable() == "b"


def test_a_trial_that_ended_waits_no_more_but_still_counts() -> None:
    table = come(rungs(), 2, a=0.9, b=0.5, c=0.4)
    table.end("a")
    assert table.promotable() is None  # the one place of three was its own


def test_an_epoch_that_comes_again_changes_nothing() -> None:
    table = come(rungs(), 2, a=0.9, b=0.5, c=0.4)
    table.promote("a")
    come(table, 2, a=0.9)
    assert table.promotable() is None


def test_when_no_trial_will_come_one_goes_on_to_the_end() -> None:
    table = come(rungs(), 2, a=0.9)
    assert table.promotable() is None
    assert table.promotable(last=True) == "a"
    table.promote("a")
    table.report("a", 6, 0.9)
    assert table.promotable(last=True) == "a"


Curves = st.lists(st.lists(st.floats(0, 1), min_size=20, max_size=20), min_size=1, max_size=25)


def replay(curves: list[list[float]], table: Table) -> list[tuple[str, int]]:
    """One worker, who takes whoever may go on before a new trial; gives (trial, epoch)s trained."""
    trained = []
    fresh = [str(n) for n in range(len(curves))]
    while True:
        name, epoch = table.promotable(last=not fresh), 0
        if name is not None:
            epoch = table.promote(name)
        elif fresh:
            name = fresh.pop(0)
            table.begin(name, table.next_place(LEVELS))
        else:
            return trained
        until = table.until(name, epoch, 20)
        for new in range(epoch + 1, until + 1):
            trained.append((name, new))
            table.report(name, new, curves[int(name)][new - 1])
        if until == 20:
            table.end(name)


@given(Curves)
def test_no_trial_ends_below_the_grace_period(curves: list[list[float]]) -> None:
    trained = replay(curves, rungs())
    assert {(str(n), 2) for n in range(len(curves))} <= set(trained)


@given(Curves)
def test_one_trial_is_always_trained_to_its_end(curves: list[list[float]]) -> None:
    assert 20 in {epoch for _, epoch in replay(curves, rungs())}


@given(Curves)
def test_who_leaves_a_rung_is_among_the_best_third_of_those_that_came(
    curves: list[list[float]],
) -> None:
    trained = replay(curves, rungs())
    for level in (2, 6, 18):
        came: list[float] = []
        for name, epoch in trained:
            best = max(curves[int(name)][:level])
            if epoch == level:
                came.append(best)
            if epoch == level + 1:
                least = 1 if len(came) < 3 else math.ceil(len(came) / 3)
                assert sum(other > best for other in came) < least


@given(Curves)
def test_no_epoch_is_trained_twice(curves: list[list[float]]) -> None:
    trained = replay(curves, rungs())
    assert len(set(trained)) == len(trained)


@given(Curves)
def test_the_same_reports_give_the_same_table(curves: list[list[float]]) -> None:
    table, again = rungs(), rungs()
    waits: set[str] = set()
    for name, epoch in replay(curves, table):
        if name in waits:  # it went on, so it had been promoted
            again.promote(name)
            waits.remove(name)
        again.report(name, epoch, curves[int(name)][epoch - 1])
        if epoch in (2, 6, 18):
            waits.add(name)
        if epoch == 20:
            again.end(name)
    assert [again.promotable(last) for last in (False, True)] == [
        table.promotable(last) for last in (False, True)
    ]


def test_brackets_get_the_same_time_and_begin_at_different_rungs() -> None:
    table, begun = Rungs(3, brackets=4), []
    for number in range(40):
        name = str(number)
        place = table.next_place(LEVELS)
        table.begin(name, place)
        begun.append(place)
        for epoch in range(1, table.until(name, 0, 20) + 1):
            table.report(name, epoch, 0.5)
    assert [place.levels for place in begun[:4]] == [(2, 6, 18), (6, 18), (18,), ()]
    trained = Counter({place.bracket: 0 for place in begun})
    for place in begun:
        trained[place.bracket] += place.levels[0] if place.levels else 20
    assert max(trained.values()) - min(trained.values()) <= 20


def test_where_epochs_have_a_cost_brackets_get_the_same_of_it() -> None:
    table, spent = Rungs(3, brackets=2), [0.0, 0.0]
    for number in range(40):
        name, cost = str(number), 1.0 + 9.0 * (number % 2)
        place = table.next_place(LEVELS)
        table.begin(name, place, epoch=cost)
        for epoch in range(1, table.until(name, 0, 20) + 1):
            table.report(name, epoch, 0.5)
            spent[place.bracket] += cost
    assert abs(spent[0] - spent[1]) <= 60  # six epochs of the dearest


def test_a_trial_is_judged_by_its_own_bracket() -> None:
    table = led(Rungs(3, brackets=2))
    for name, bracket in (("a", 0), ("b", 0), ("c", 0), ("d", 1), ("e", 1)):
        table.begin(name, Place(bracket, LEVELS[bracket:]))
    come(table, 2, a=0.9, b=0.5, c=0.4)
    come(table, 6, d=0.8, e=0.7)
    assert table.promotable() == "a"
    table.promote("a")
    come(table, 6, a=0.9)
    assert table.promotable() is None  # one came there in its bracket, two in the other


def test_a_progressive_ceiling_keeps_trials_where_longer_training_changes_nothing() -> None:
    table = Table(3, progressive=True)
    come(table, 2, a=0.9, b=0.8, c=0.7, d=0.6, e=0.5, f=0.4, g=0.3, h=0.2, i=0.1)
    for name in "abc":
        assert table.promotable() == name
        table.promote(name)
    come(table, 6, a=0.95, b=0.9, c=0.8)
    assert table.promotable() is None  # one in three might leave, and the order is the same
    assert table.promotable(last=True) == "a"  # but at last one goes on to the end


def test_a_progressive_ceiling_rises_when_the_order_changes() -> None:
    table = Table(3, progressive=True)
    come(table, 2, a=0.9, b=0.8, c=0.7, d=0.6, e=0.5, f=0.4, g=0.3, h=0.2, i=0.1)
    for name in "abc":
        table.promote(name)
    come(table, 6, a=0.95, b=0.96, c=0.8)
    assert table.promotable() == "b"


def test_a_change_of_order_within_the_noise_raises_no_ceiling() -> None:
    table = Table(3, progressive=True)
    curves = {
        "a": (0.90, 0.88, 0.91, 0.88, 0.91, 0.88),  # 0.90 at the first rung, 0.91 at the second
        "b": (0.89, 0.895, 0.88, 0.915, 0.88, 0.92),  # 0.895, and 0.92; they change to and fro
        "c": (0.5, 0.5, 0.5, 0.5, 0.5, 0.5),
    }
    for name, values in curves.items():
        for epoch, value in enumerate(values, start=1):
            table.report(name, epoch, value)
    assert table.promotable() is None
    assert table.promotable(last=True) == "b"


@given(Curves)
def test_with_a_progressive_ceiling_one_trial_is_still_trained_to_its_end(
    curves: list[list[float]],
) -> None:
    trained = replay(curves, Table(3, progressive=True))
    assert 20 in {epoch for _, epoch in trained}
    assert len(set(trained)) == len(trained)


@given(Curves)
def test_with_brackets_every_trial_comes_to_the_first_rung_of_its_own(
    curves: list[list[float]],
) -> None:
    trained = replay(curves, Table(3, brackets=4))
    assert {(str(n), 2) for n in range(len(curves))} <= set(trained)
    assert len(set(trained)) == len(trained)


def test_of_two_objectives_the_front_leaves_a_rung_first_the_best_value_before_the_others() -> None:
    table = Rungs(3)
    trials = {"good": (0.9, -9.0), "worse": (0.8, -9.5), "cheap": (0.5, -1.0), "poor": (0.4, -5.0)}
    trials |= {"twin": (0.85, -9.2), "last": (0.1, -20.0)}
    for name, (value, gain) in trials.items():
        table.begin(name, Place(0, LEVELS), (gain,))
        table.report(name, 1, value)
        table.report(name, 2, value)
    gone = []
    while (name := table.promotable()) is not None:
        gone.append(name)
        table.promote(name)
    assert gone == ["good", "cheap"]  # two of six; by value alone `twin` would be the second


@given(Curves)
def test_a_gain_that_all_have_alike_changes_nothing(curves: list[list[float]]) -> None:
    class Alike(Rungs):
        def begin(self, trial: str, place: Place, gains: tuple[float, ...] = ()) -> None:
            super().begin(trial, place, (-1.0,))

    assert replay(curves, Alike(3)) == replay(curves, Rungs(3))  # type: ignore[arg-type]
