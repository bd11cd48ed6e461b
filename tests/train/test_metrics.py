"""Counts and ratios by hand, areas under curves against scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from r2search.train.metrics import BINS, METRICS, Counts, ImageScore, score, summarize

Probability = NDArray[np.float32]


def scored(
    probability: list[float], mask: list[int], fov: list[int] | None = None, threshold: float = 0.5
) -> ImageScore:
    """The score of an image of one row."""
    return score(
        np.array([probability], np.float32),
        np.array([mask], np.uint8),
        np.array([fov or [1] * len(mask)], np.bool_),
        threshold,
    )


def test_counts_see_only_the_field_of_view_and_the_threshold_is_foreground() -> None:
    image = scored(
        [0.9, 0.5, 0.49, 0.1, 0.2, 0.9, 0.1], [1, 0, 1, 0, 0, 1, 1], [1, 1, 1, 1, 1, 0, 0]
    )
    assert image.counts == Counts(tp=1, fp=1, fn=1, tn=2)


def test_ratios_equal_the_values_worked_out_by_hand() -> None:
    # tp 1, fp 1, fn 1, tn 2: dice 2/4, iou 1/3, accuracy 3/5, sensitivity 1/2, specificity 2/3
    metrics = summarize([scored([0.9, 0.5, 0.49, 0.1, 0.2], [1, 0, 1, 0, 0])])
    # ranking 1 0 1 0 0: of 6 pairs 5 are in order; precision 1 at recall 1/2, 2/3 at recall 1
    expected = {
        "dice_mean": 1 / 2,
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


def test_dice_mean_weighs_images_and_dice_pooled_weighs_pixels() -> None:
    large = ImageScore(Counts(90, 10, 10, 0), np.zeros((2, BINS), np.int64))
    small = ImageScore(Counts(1, 9, 9, 0), np.zeros((2, BINS), np.int64))
    metrics = summarize([large, small])
    assert metrics["dice_mean"] == pytest.approx(0.5)  # (0.9 + 0.1) / 2
    assert metrics["dice_pooled"] == pytest.approx(182 / 220)  # 2 * 91 / (2 * 91 + 38)


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
    metrics = summarize([score(probability, mask, np.ones_like(mask, np.bool_), 0.5)])
    exact_roc = roc_auc_score(mask.ravel(), probability.ravel())
    exact_pr = average_precision_score(mask.ravel(), probability.ravel())
    assert metrics["auc_roc"] == pytest.approx(exact_roc, abs=1e-5)
    assert metrics["auc_pr"] == pytest.approx(exact_pr, abs=1e-4)


def test_certain_probabilities_are_counted_in_the_last_bins() -> None:
    metrics = summarize([scored([0.0, 1.0, 0.0, 1.0], [0, 1, 0, 1])])
    assert metrics["auc_roc"] == 1
    assert metrics["auc_pr"] == 1


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
        [scored(*(list(column) for column in zip(*image, strict=True))) for image in images]
    )
    assert all(math.isfinite(value) and 0 <= value <= 1 for value in metrics.values())
