"""Scores of predictions: counts per image first, ratios from the counts.

Only pixels inside the field of view are counted. Areas under curves come from histograms of the
probabilities, which sorts no pixels: exact for scores rounded to a bin, otherwise within 1e-4.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

BINS = 65536  # even steps of the logit: probabilities near 0 and 1 keep their order too
LOGIT_RANGE = 17.0  # beyond it float32 probabilities are 1


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
class ImageScore:
    """What one image, or several added, contribute to every metric."""

    counts: Counts
    histogram: NDArray[np.int64]  # (2, BINS): pixels by truth and by bin of probability

    def __add__(self, other: "ImageScore") -> "ImageScore":
        return ImageScore(self.counts + other.counts, self.histogram + other.histogram)


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
) -> tuple[ImageScore, ...]:
    """Counts and histogram of one image, for each foreground class against all else.

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
) -> ImageScore:
    tp = int(np.count_nonzero(predicted & truth))
    fp = int(np.count_nonzero(predicted)) - tp
    fn = int(np.count_nonzero(truth)) - tp
    with np.errstate(divide="ignore"):  # 0 and 1 have infinite logits, clipped to the last bins
        logit = np.log(p) - np.log1p(-p)
    scaled = (logit + np.float32(LOGIT_RANGE)) * np.float32(BINS / (2 * LOGIT_RANGE))
    bins = np.clip(scaled, 0, BINS - 1).astype(np.int64)
    histogram = np.bincount(bins + BINS * truth, minlength=2 * BINS).reshape(2, BINS)
    return ImageScore(Counts(tp, fp, fn, p.size - tp - fp - fn), histogram)


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
    if not histogram.any(axis=1).all():
        return 0.5
    return float(roc_auc_score(_TRUTH, _BIN, sample_weight=histogram.ravel()))


def auc_pr(histogram: NDArray[np.int64]) -> float:
    """Average precision.

    The share of foreground, which is that of a blind ranking, when a class is absent: 0 without
    foreground, 1 without background.
    """
    if not histogram.any(axis=1).all():
        return float(histogram[1].any())
    return float(average_precision_score(_TRUTH, _BIN, sample_weight=histogram.ravel()))


# Every bin twice, once as background and once as foreground; a histogram weighs them.
_TRUTH = np.repeat([0, 1], BINS)
_BIN = np.tile(np.arange(BINS), 2)


def _mean(ratio: Callable[[Counts], float]) -> Callable[[Sequence[ImageScore]], float]:
    return lambda images: sum(ratio(s.counts) for s in images) / len(images)


# Name -> function of the scores of one image or more. `..._mean` averages over the images; all
# others add the pixels of all images first.
METRICS: dict[str, Callable[[Sequence[ImageScore]], float]] = {
    "dice_mean": _mean(dice),
    "iou_mean": _mean(iou),
    "accuracy_mean": _mean(accuracy),
    "sensitivity_mean": _mean(sensitivity),
    "precision_mean": _mean(precision),
    "dice_pooled": lambda images: dice(pooled(images).counts),
    "iou": lambda images: iou(pooled(images).counts),
    "accuracy": lambda images: accuracy(pooled(images).counts),
    "sensitivity": lambda images: sensitivity(pooled(images).counts),
    "specificity": lambda images: specificity(pooled(images).counts),
    "precision": lambda images: precision(pooled(images).counts),
    "auc_roc": lambda images: auc_roc(pooled(images).histogram),
    "auc_pr": lambda images: auc_pr(pooled(images).histogram),
}


def pooled(images: Sequence[ImageScore]) -> ImageScore:
    """All pixels of all images, at least one, as if they were one image."""
    return reduce(operator.add, images)


def summarize(images: Sequence[tuple[ImageScore, ...]]) -> dict[str, float]:
    """Every metric of METRICS over at least one image; all values are finite.

    Of several foreground classes it is the mean over them, and `NAME_classK` is that of class K.
    """
    classes = [
        {name: metric(scores) for name, metric in METRICS.items()}
        for scores in zip(*images, strict=True)
    ]
    if len(classes) == 1:
        return classes[0]
    values = {name: sum(each[name] for each in classes) / len(classes) for name in METRICS}
    for index, each in enumerate(classes, start=1):
        values |= {f"{name}_class{index}": value for name, value in each.items()}
    return values
