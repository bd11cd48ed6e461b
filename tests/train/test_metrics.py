"""Counts and ratios by hand, areas under curves against scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from r2search.train.metrics import BINS, METRICS, Counts, Tally, classify, mean_of, score, summarize

Probability = NDArray[np.float32]


def scored(
    probability: list[float], mask: list[int], fov: list[int] | None = None, threshold: float = 0.5
) -> tuple[Tally, ...]:
    """The score of an image of one row and one foreground class."""
    return score(
        np.array([[probability]], np.float32),
        np.array([mask], np.uint8),
        np.array([fov or [1] * len(mask)], np.bool_),
        threshold,
    )


def test_counts_see_only_the_field_of_view_and_the_threshold_is_foreground() -> None:
    (tally,) = scored(
        [0.9, 0.5, 0.49, 0.1, 0.2, 0.9, 0.1], [1, 0, 1, 0, 0, 1, 1], [1, 1, 1, 1, 1, 0, 0]
    )
    assert tally.images == (Counts(tp=1, fp=1, fn=1, tn=2),)


def test_ratios_equal_the_values_worked_out_by_hand() -> None:
    # tp 1, fp 1, fn 1, tn 2: dice 2/4, iou 1/3, accuracy 3/5, sensitivity 1/2, specificity 2/3
    metrics = summarize([scored([0.9, 0.5, 0.49, 0.1, 0.2], [1, 0, 1, 0, 0])])
    # ranking 1 0 1 0 0: of 6 pairs 5 are in order; precision 1 at recall 1/2, 2/3 at recall 1
    expected = {
        "dice_mean": 1 / 2,
        "iou_mean": 1 / 3,
        "accuracy_mean": 3 / 5,
        "sensitivity_mean": 1 / 2,
        "precision_mean": 1 / 2,
        "dice_pooled": 1 / 2,
        "iou": 1 / 3,
        "accuracy": 3 / 5,
        "sensitivity": 1 / 2,
        "specificity": 2 / 3,
        "precision": 1 / 2,
        "auc_roc": 5 / 6,
        "auc_pr": 1 / 2 * 1 + 1 / 2 * 2 / 3,
    }
    assert metrics == pytest.approx(expected)
    assert list(metrics) == list(METRICS)


def test_means_weigh_images_and_all_others_weigh_pixels() -> None:
    large = Tally((Counts(90, 10, 30, 70),), np.zeros((2, BINS), np.int64))
    small = Tally((Counts(1, 9, 4, 6),), np.zeros((2, BINS), np.int64))
    metrics = summarize([(large,), (small,)])
    expected = {
        "dice_mean": (180 / 220 + 2 / 15) / 2,
        "dice_pooled": 182 / 235,  # 2 * 91 / (2 * 91 + 19 + 34)
        "iou_mean": (90 / 130 + 1 / 14) / 2,
        "iou": 91 / 144,
        "accuracy_mean": (160 / 200 + 7 / 20) / 2,
        "accuracy": 167 / 220,
        "sensitivity_mean": (90 / 120 + 1 / 5) / 2,
        "sensitivity": 91 / 125,
        "precision_mean": (90 / 100 + 1 / 10) / 2,
        "precision": 91 / 110,
        "specificity": 76 / 95,
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)


ABSENT = {
    "nothing to find, nothing predicted": ([0.1, 0.2], [0, 0], [1, 1], (1, 1, 1, 1, 0.5, 0)),
    "nothing to find, all predicted": ([0.8, 0.9], [0, 0], [1, 1], (0, 1, 0, 0, 0.5, 0)),
    "all to find, nothing predicted": ([0.1, 0.2], [1, 1], [1, 1], (0, 0, 1, 0, 0.5, 1)),
    "all to find, all predicted": ([0.8, 0.9], [1, 1], [1, 1], (1, 1, 1, 1, 0.5, 1)),
    "no pixel in the field of view": ([0.8, 0.9], [1, 1], [0, 0], (1, 1, 1, 1, 0.5, 0)),
}


@pytest.mark.parametrize("case", ABSENT)
def test_empty_cases_have_the_written_down_values(case: str) -> None:
    probability, mask, fov, expected = ABSENT[case]
    metrics = summarize([scored(probability, mask, [*fov, 0][:2])])
    names = ("dice_mean", "sensitivity", "specificity", "precision", "auc_roc", "auc_pr")
    assert tuple(metrics[name] for name in names) == expected
    assert metrics["iou_mean"] == metrics["dice_mean"]


def cases() -> dict[str, tuple[Probability, NDArray[np.uint8]]]:
    """Rankings of 40,000 pixels: blind, fair, nearly perfect and very sure, and coarse."""
    rng = np.random.default_rng(0)
    mask = (rng.random((200, 200)) < 0.1).astype(np.uint8)
    noise = rng.normal(size=mask.shape)

    def sigmoid(x: NDArray[np.float64]) -> Probability:
        return (1 / (1 + np.exp(-x))).astype(np.float32)

    return {
        "blind": (sigmoid(noise), mask),
        "fair": (sigmoid(noise + 2 * mask - 2), mask),
        "sure": (sigmoid(4 * noise + 14 * mask - 9), mask),
        "coarse": (np.round(sigmoid(noise + mask), 1), mask),
    }


@pytest.mark.parametrize("case", ["blind", "fair", "sure", "coarse"])
def test_areas_under_curves_agree_with_exact_sorting(case: str) -> None:
    probability, mask = cases()[case]
    metrics = summarize([score(probability[None], mask, np.ones_like(mask, np.bool_), 0.5)])
    exact_roc = roc_auc_score(mask.ravel(), probability.ravel())
    exact_pr = average_precision_score(mask.ravel(), probability.ravel())
    assert metrics["auc_roc"] == pytest.approx(exact_roc, abs=1e-5)
    assert metrics["auc_pr"] == pytest.approx(exact_pr, abs=1e-4)


def test_areas_of_billions_of_pixels_do_not_overflow() -> None:
    histogram = np.zeros((2, BINS), np.int64)
    histogram[0, 10], histogram[1, 20] = 2**40, 2**40
    metrics = summarize([(Tally((Counts(1, 0, 0, 1),), histogram),)])
    assert (metrics["auc_roc"], metrics["auc_pr"]) == (1.0, 1.0)


def test_images_are_taken_one_by_one_and_add_up_to_all_at_once() -> None:
    probability, mask = cases()["fair"]
    fov = np.ones_like(mask, np.bool_)
    halves = [np.s_[:80], np.s_[80:]]
    whole = summarize([score(probability[None], mask, fov, 0.5)])
    parts = summarize(score(probability[None, h], mask[h], fov[h], 0.5) for h in halves)
    pooled = [name for name in METRICS if not name.endswith("_mean")]
    assert [parts[name] for name in pooled] == [whole[name] for name in pooled]


def test_certain_probabilities_are_counted_in_the_last_bins() -> None:
    metrics = summarize([scored([0.0, 1.0, 0.0, 1.0], [0, 1, 0, 1])])
    assert metrics["auc_roc"] == 1
    assert metrics["auc_pr"] == 1


@settings(deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(st.floats(0, 1, width=32), st.integers(0, 1), st.booleans()), min_size=1
        ),
        min_size=1,
        max_size=3,
    )
)
def test_metrics_are_always_finite_and_between_0_and_1(
    images: list[list[tuple[float, int, bool]]],
) -> None:
    metrics = summarize(
        scored([p for p, _, _ in image], [m for _, m, _ in image], [f for _, _, f in image])
        for image in images
    )
    assert all(math.isfinite(value) and 0 <= value <= 1 for value in metrics.values())


# Several classes

# One row of six pixels, the last one out of view; probabilities of two foreground classes.
# background 0.1  0.2  0.4  0.8  0.2  0.0
P1 =        [0.6, 0.5, 0.3, 0.1, 0.3, 1.0]  # fmt: skip
P2 =        [0.3, 0.3, 0.3, 0.1, 0.5, 0.0]  # fmt: skip
# predicted   1    1    0    0    2  | 1
TRUTH =     [1,   2,   1,   0,   2,   2]  # fmt: skip
INSIDE = [1, 1, 1, 1, 1, 0]


def of_two_classes() -> tuple[Tally, ...]:
    return score(
        np.array([[P1], [P2]], np.float32),
        np.array([TRUTH], np.uint8),
        np.array([INSIDE], np.bool_),
        0.9,
    )


def test_of_several_classes_a_pixel_is_of_the_likeliest_background_included() -> None:
    probability = np.array([[P1], [P2]], np.float32)
    for threshold in (0.1, 0.5, 0.9):  # plays no part
        np.testing.assert_array_equal(classify(probability, threshold), [[1, 1, 0, 0, 2, 1]])
    assert classify(probability, 0.5).dtype == np.uint8


def test_of_one_class_the_threshold_itself_is_foreground() -> None:
    np.testing.assert_array_equal(
        classify(np.array([[0.3, 0.29, 0.9]], np.float32), float(np.float32(0.3))), [1, 0, 1]
    )


def test_where_nothing_was_predicted_is_background() -> None:
    assert not classify(np.zeros((3, 2, 2), np.float32), 0.5).any()


def test_each_class_is_counted_against_all_else() -> None:
    first, second = of_two_classes()
    assert first.images == (Counts(tp=1, fp=1, fn=1, tn=2),)
    assert second.images == (Counts(tp=1, fp=0, fn=1, tn=3),)


def test_metrics_of_several_classes_are_their_mean_and_one_a_class() -> None:
    metrics = summarize([of_two_classes()])
    own = [f"{name}_class{index}" for index in (1, 2) for name in METRICS]
    assert list(metrics) == [*METRICS, *own]
    expected = {
        "dice_mean_class1": 1 / 2,
        "dice_mean_class2": 2 / 3,
        "dice_mean": (1 / 2 + 2 / 3) / 2,
        "specificity_class1": 2 / 3,
        "specificity_class2": 1.0,
        "specificity": 5 / 6,
        # class 1 ranks 1 2 {1 2} 0: of its 6 pairs 4 are in order and one is a tie
        "auc_roc_class1": 4.5 / 6,
        # class 2 ranks 2 {1 2 1} 0: of its 6 pairs 4 are in order and two are ties
        "auc_roc_class2": 5 / 6,
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)


def test_a_class_that_is_absent_is_scored_as_of_one_class() -> None:
    # Class 2 is nowhere in the mask: not predicted, then predicted in one pixel.
    mask, fov = np.array([[1, 0]], np.uint8), np.ones((1, 2), np.bool_)
    none = score(np.array([[[0.9, 0.1]], [[0.1, 0.1]]], np.float32), mask, fov, 0.5)
    some = score(np.array([[[0.9, 0.1]], [[0.1, 0.8]]], np.float32), mask, fov, 0.5)
    absent, false = summarize([none]), summarize([some])
    assert (absent["dice_mean_class2"], false["dice_mean_class2"]) == (1.0, 0.0)
    assert (absent["dice_mean"], false["dice_mean"]) == (1.0, 0.5)
    assert absent["auc_roc_class2"] == false["auc_roc_class2"] == 0.5
    assert absent["auc_pr_class2"] == 0.0


@settings(max_examples=12, deadline=None)
@given(st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_metrics_of_any_classes_are_finite_and_between_0_and_1(classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    probability = rng.dirichlet(np.ones(classes + 1), (3, 4)).transpose(2, 0, 1)[1:]
    mask = rng.integers(0, classes + 1, (3, 4)).astype(np.uint8)
    metrics = summarize(
        [score(probability.astype(np.float32), mask, rng.random((3, 4)) < 0.7, 0.5)]
    )
    assert len(metrics) == len(METRICS) * (classes + 1)
    assert all(math.isfinite(value) and 0 <= value <= 1 for value in metrics.values())


def test_means_weigh_images_alike() -> None:
    assert mean_of([{"a": 1.0}, {"a": 2.0}]) == {"a": 1.5}
