"""How sure a score is, and which network is taken: against SciPy, and by properties."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from r2search.intervals import MARGIN, Choice, choose, holm, interval, middle

RNG = np.random.default_rng(7)
REPETITIONS = 2000
IMAGES = np.linspace(0.70, 0.84, 8)  # how hard the images are: the same for all networks


def scores(mean: float, trainings: int = 3, noise: float = 0.001, seed: int = 0) -> Any:
    """(trainings, 8 images) of one network."""
    rng = np.random.default_rng(seed)
    drawn = rng.standard_normal((trainings, len(IMAGES)))
    return mean - IMAGES.mean() + IMAGES + noise * (drawn - drawn.mean())


def taken(means: dict[str, float], costs: dict[str, float], **how: Any) -> Choice:
    given = {name: scores(mean, seed=i) for i, (name, mean) in enumerate(means.items())}
    finalists = how.pop("finalists", list(means))
    return choose(given, costs, how.pop("goal", "maximize"), finalists)


def test_the_interval_of_one_training_is_students_over_images() -> None:
    values = RNG.random(6)
    low, high = stats.t.interval(0.95, 5, values.mean(), stats.sem(values))
    assert interval([values]) == pytest.approx((values.mean(), low, high))


def test_the_interval_of_one_image_is_students_over_trainings() -> None:
    values = RNG.random(4)
    low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    assert interval(values[:, None]) == pytest.approx((values.mean(), low, high))


def test_one_training_on_one_image_tells_nothing() -> None:
    assert interval([[0.5]]) == (0.5, None, None)


def test_an_interval_of_what_never_differs_has_no_width() -> None:
    assert interval(np.full((3, 4), 0.75)) == (0.75, 0.75, 0.75)


def test_images_and_trainings_both_widen_an_interval() -> None:
    images = np.tile(RNG.random(5), (3, 1))
    seeds = images + np.array([[-0.1], [0.0], [0.1]])
    _, low, high = interval(images)
    _, lower, higher = interval(seeds)
    assert low is not None
    assert high is not None
    assert lower is not None
    assert higher is not None
    assert lower < low < high < higher


@pytest.mark.parametrize(("images", "trainings"), [(4, 3), (4, 1), (20, 3)])
@pytest.mark.parametrize(("image", "seed"), [(0.025, 0.002), (0.02, 0.004)])
def test_the_interval_covers_the_truth(
    images: int, trainings: int, image: float, seed: float
) -> None:
    rng, covered = np.random.default_rng(3), 0
    for _ in range(REPETITIONS):
        drawn = 0.77 + image * rng.standard_normal((1, images))
        drawn = drawn + seed * rng.standard_normal((trainings, 1))
        drawn = drawn + 0.003 * rng.standard_normal((trainings, images))
        _, low, high = interval(drawn)
        covered += low <= 0.77 <= high  # type: ignore[operator]
    assert covered >= 0.93 * REPETITIONS


def test_p_values_are_corrected_as_holm_did() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.randoms())
def test_correction_keeps_the_order_and_never_lowers_a_p(ps: list[float], random: Any) -> None:
    corrected = holm(ps)
    assert all(p <= found <= 1 for p, found in zip(ps, corrected, strict=True))
    by_p = [found for _, found in sorted(zip(ps, corrected, strict=True))]
    assert by_p == sorted(by_p)
    order = list(range(len(ps)))
    random.shuffle(order)
    assert holm([ps[i] for i in order]) == [corrected[i] for i in order]


def test_single_trainings_are_compared_by_the_paired_t_test() -> None:
    one, other = RNG.random((1, 9)), RNG.random((1, 9))
    lead, rest = (one, other) if one.mean() > other.mean() else (other, one)
    found = choose({"a": lead, "b": rest}, {"a": 1, "b": 1}, "maximize", "ab").others[0]
    rank = stats.wilcoxon(lead[0], rest[0]).pvalue
    assert found.p == pytest.approx(max(stats.ttest_rel(lead[0], rest[0]).pvalue, rank))
    assert found.wilcoxon == pytest.approx(rank)
    assert found.behind == pytest.approx(lead.mean() - rest.mean())


def test_of_tied_finalists_the_cheapest_is_taken() -> None:
    means = {"dear": 0.7802, "cheap": 0.78, "cheaper": 0.7801}
    choice = taken(means, {"dear": 9.0, "cheap": 3.0, "cheaper": 1.0})
    assert (choice.leader, choice.chosen) == ("dear", "cheaper")
    assert all(other.tied for other in choice.others)


def test_a_network_that_is_surely_worse_is_not_tied_however_cheap() -> None:
    choice = taken({"dear": 0.784, "cheap": 0.78}, {"dear": 9.0, "cheap": 1.0})
    (other,) = choice.others
    assert other.behind < MARGIN
    assert other.p is not None
    assert other.p < 0.05
    assert (choice.chosen, other.tied) == ("dear", False)


def test_who_is_behind_by_the_margin_is_not_tied_however_little_is_known() -> None:
    given = {"dear": [[0.9, 0.5]], "cheap": [[0.6, 0.78]]}
    choice = choose(given, {"dear": 9.0, "cheap": 1.0}, "maximize", list(given))
    (other,) = choice.others
    assert other.p is not None
    assert other.p > 0.05
    assert choice.chosen == "dear"


def test_a_baseline_is_taken_only_when_it_leads() -> None:
    costs = {"t1": 9.0, "B": 1.0}
    tied = taken({"t1": 0.7801, "B": 0.78}, costs, finalists=["t1"])
    assert (tied.chosen, tied.others[0].tied) == ("t1", True)
    assert taken({"t1": 0.77, "B": 0.78}, costs, finalists=["t1"]).chosen == "B"


def test_what_is_minimized_is_chosen_alike() -> None:
    means, costs = {"a": 0.2, "b": 0.21}, {"a": 1.0, "b": 1.0}
    choice = taken(means, costs, goal="minimize")
    assert choice.leader == choice.chosen == "a"
    assert choice.others[0].behind == pytest.approx(0.01)


@pytest.mark.parametrize(("images", "few"), [(4, True), (5, True), (6, False)])
def test_few_images_are_said_to_be_few(images: int, few: bool) -> None:
    given = {name: RNG.random((3, images)) for name in "ab"}
    choice = choose(given, {"a": 1.0, "b": 1.0}, "maximize", "ab")
    assert choice.few_images is few
    assert (choice.others[0].wilcoxon is None) is few


def test_one_training_of_one_image_each_is_judged_by_the_margin_alone() -> None:
    costs = {"a": 2.0, "b": 1.0}
    assert choose({"a": [[0.80]], "b": [[0.799]]}, costs, "maximize", "ab").chosen == "b"
    assert choose({"a": [[0.80]], "b": [[0.78]]}, costs, "maximize", "ab").chosen == "a"


def test_the_training_that_is_shown_is_neither_the_luckiest_nor_the_worst() -> None:
    assert middle({"a": 0.7, "b": 0.9, "c": 0.8}) == "c"
    assert middle({"a": 0.7, "b": 0.9}) == "a"  # the worse of two
    assert middle({"a": 0.7}) == "a"
