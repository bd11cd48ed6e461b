"""Scores of predictions: counts per image first, ratios from the counts.

Only pixels inside the field of view are counted. Areas under curves come from histograms of the
probabilities, which sorts no pixels: exact for scores rounded to a bin, otherwise within 1e-4.
"""

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

BINS = 65536  # even steps of the logit: probabilities near 0 and 1 keep their order too
LOGIT_RANGE = 17.0  # beyond it float32 probabilities are 1

Metrics = dict[str, float]  # by name


@dataclass(frozen=True, slots=True)
class Counts:
    """Pixels inside the field of view. Add across images, divide once."""

    tp: int
    fp: int
    fn: int
    tn: int

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn
        )


@dataclass(frozen=True, slots=True)
class Tally:
    """What one image, or several added, contribute to every metric of one class."""

    images: tuple[Counts, ...]  # one an image
    histogram: NDArray[np.int64]  # (2, BINS): pixels by truth and by bin of probability

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.images + other.images, self.histogram + other.histogram)

    @property
    def pooled(self) -> Counts:
        """All pixels of all images, as if they were one image."""
        return reduce(operator.add, self.images)


def classify(probability: NDArray[np.float32], threshold: float) -> NDArray[np.uint8]:
    """Class index of every pixel, (...), from the probabilities (F, ...) of foreground classes.

    One class: foreground from `threshold` on. Several: the likeliest, background included; the
    lower index of equals.
    """
    if len(probability) == 1:
        return np.asarray(probability[0] >= threshold, np.uint8)
    background = 1 - probability.sum(axis=0, keepdims=True)
    return np.asarray(np.concatenate([background, probability]).argmax(axis=0), np.uint8)


def score(
    probability: NDArray[np.float32],
    mask: NDArray[np.uint8],
    fov: NDArray[np.bool_],
    threshold: float,
) -> tuple[Tally, ...]:
    """The tally of one image, for each foreground class against all else.

    Probability (F, H, W) in 0..1 and finite, mask (H, W) of class indices 0..F, fov (H, W).
    """
    inside, truth = np.stack([each[fov] for each in probability]), mask[fov]
    predicted = classify(inside, threshold)
    return tuple(
        _score_class(p, predicted == index, truth == index)
        for index, p in enumerate(inside, start=1)
    )


def _score_class(
    p: NDArray[np.float32], predicted: NDArray[np.bool_], truth: NDArray[np.bool_]
) -> Tally:
    tp = int(np.count_nonzero(predicted & truth))
    fp = int(np.count_nonzero(predicted)) - tp
    fn = int(np.count_nonzero(truth)) - tp
    with np.errstate(divide="ignore"):  # 0 and 1 have infinite logits, clipped to the last bins
        logit = np.log(p) - np.log1p(-p)
    scaled = (logit + np.float32(LOGIT_RANGE)) * np.float32(BINS / (2 * LOGIT_RANGE))
    bins = np.clip(scaled, 0, BINS - 1).astype(np.int64)
    histogram = np.bincount(bins + BINS * truth, minlength=2 * BINS).reshape(2, BINS)
    return Tally((Counts(tp, fp, fn, p.size - tp - fp - fn),), histogram)


def _ratio(part: int, whole: int, empty: float) -> float:
    return part / whole if whole else empty


def dice(c: Counts) -> float:
    """2 TP / (2 TP + FP + FN); 1 when neither mask has foreground."""
    return _ratio(2 * c.tp, 2 * c.tp + c.fp + c.fn, empty=1.0)


def iou(c: Counts) -> float:
    """TP / (TP + FP + FN); 1 when neither mask has foreground."""
    return _ratio(c.tp, c.tp + c.fp + c.fn, empty=1.0)


def accuracy(c: Counts) -> float:
    """Share of pixels that are right; 1 when there are none."""
    return _ratio(c.tp + c.tn, c.tp + c.fp + c.fn + c.tn, empty=1.0)


def sensitivity(c: Counts) -> float:
    """Share of the foreground that is found; 1 when there is none."""
    return _ratio(c.tp, c.tp + c.fn, empty=1.0)


def specificity(c: Counts) -> float:
    """Share of the background that is left alone; 1 when there is none."""
    return _ratio(c.tn, c.tn + c.fp, empty=1.0)


def precision(c: Counts) -> float:
    """Share of the predicted foreground that is right.

    With nothing predicted: 1 when there was nothing to find, otherwise 0.
    """
    return _ratio(c.tp, c.tp + c.fp, empty=1.0 if c.fn == 0 else 0.0)


def auc_roc(histogram: NDArray[np.int64]) -> float:
    """Area under the receiver operating characteristic.

    0.5, that of a blind ranking, when a class is absent.
    """
    background, foreground = histogram.astype(np.float64)
    pairs = background.sum() * foreground.sum()
    if not pairs:
        return 0.5
    ranked_below = background.cumsum() - background / 2  # a tie counts half
    # Not `@`, which wakes threads of its own beside those of other workers.
    return float((foreground * ranked_below).sum() / pairs)


def auc_pr(histogram: NDArray[np.int64]) -> float:
    """Average precision.

    The share of foreground, which is that of a blind ranking, when a class is absent: 0 without
    foreground, 1 without background.
    """
    background, foreground = histogram[:, ::-1].astype(np.float64)
    found, alarms = foreground.cumsum(), background.cumsum()
    if not found[-1]:
        return 0.0
    precisions = found / np.maximum(found + alarms, 1)
    return float((foreground * precisions).sum() / found[-1])


def _mean(ratio: Callable[[Counts], float]) -> Callable[[Tally], float]:
    return lambda tally: sum(map(ratio, tally.images)) / len(tally.images)


# Name -> function of the tally of one image or more. `..._mean` averages over the images; all
# others add the pixels of all images first.
METRICS: dict[str, Callable[[Tally], float]] = {
    "dice_mean": _mean(dice),
    "iou_mean": _mean(iou),
    "accuracy_mean": _mean(accuracy),
    "sensitivity_mean": _mean(sensitivity),
    "precision_mean": _mean(precision),
    "dice_pooled": lambda tally: dice(tally.pooled),
    "iou": lambda tally: iou(tally.pooled),
    "accuracy": lambda tally: accuracy(tally.pooled),
    "sensitivity": lambda tally: sensitivity(tally.pooled),
    "specificity": lambda tally: specificity(tally.pooled),
    "precision": lambda tally: precision(tally.pooled),
    "auc_roc": lambda tally: auc_roc(tally.histogram),
    "auc_pr": lambda tally: auc_pr(tally.histogram),
}


def mean_of(scores: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each metric over images, or classes; at least one."""
    return {name: sum(each[name] for each in scores) / len(scores) for name in scores[0]}


def summarize(images: Iterable[tuple[Tally, ...]]) -> dict[str, float]:
    """Every metric of METRICS over at least one image, taken one by one; all values are finite.

    Of several foreground classes it is the mean over them, and `NAME_classK` is that of class K.
    """
    tallies = reduce(lambda sofar, image: tuple(map(operator.add, sofar, image)), images)
    classes = [{name: metric(tally) for name, metric in METRICS.items()} for tally in tallies]
    if len(classes) == 1:
        return classes[0]
    values = {name: sum(each[name] for each in classes) / len(classes) for name in METRICS}
    for index, each in enumerate(classes, start=1):
        values |= {f"{name}_class{index}": value for name, value in each.items()}
    return values
