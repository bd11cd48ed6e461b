"""Scores of one image as a whole: shape, connections, boundaries, and how sure a network may be.

They need the masks themselves, not only counts, and take longer than those of `metrics`: nothing
computes them in every epoch. Arrays have any number of dimensions; nothing lies outside the
field of view.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from r2search.data.samples import Sample
from r2search.train.metrics import Metrics, classify, mean_of

BINS = 15  # of equal width, of a calibration (Guo et al. 2017, arXiv:1706.04599)
FAR = 95.0  # percentile of the distances that counts as the largest

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class View:
    """One image and one foreground class, as a metric sees them."""

    predicted: Mask  # False outside the field of view, as is `truth`
    truth: Mask
    probability: NDArray[np.float32]  # 0..1
    fov: Mask
    spacing: tuple[float, ...]  # from pixel to pixel along each axis, in the unit of the distances


def cldice(view: View) -> float:
    """Centreline Dice: how much of each skeleton lies in the other mask, as their harmonic mean.

    Shit et al. 2021, arXiv:2003.07311. 1 when neither mask has foreground, 0 when one has none.
    """
    if not view.predicted.any() or not view.truth.any():
        return float(view.predicted.any() == view.truth.any())
    precision = _inside(skeleton(view.predicted), view.truth)
    sensitivity = _inside(skeleton(view.truth), view.predicted)
    both = precision + sensitivity
    return 2 * precision * sensitivity / both if both else 0.0


def betti0_error(view: View) -> float:
    """How many connected pieces there are too many or too few; corners connect.

    The error of the Betti number of dimension 0, as Hu et al. 2019, arXiv:1906.05404, of the image
    as a whole.
    """
    return float(abs(_pieces(view.predicted) - _pieces(view.truth)))


def hd95(view: View) -> float:
    """The larger of the 95th percentiles of the distances from each boundary to the other.

    0 when neither mask has foreground; the diagonal of the image when one has none.
    """
    return max(float(np.percentile(each, FAR)) for each in _distances(view))


def assd(view: View) -> float:
    """Average symmetric surface distance: the mean over the pixels of both boundaries.

    Heimann et al. 2009, doi:10.1109/TMI.2009.2013851. Empty masks as of `hd95`.
    """
    return float(np.concatenate(_distances(view)).mean())


def ece(view: View) -> float:
    """Expected calibration error: how far shares of foreground are from their probabilities.

    The mean over the pixels of the gap in their bin. 0 when there are none.
    """
    bins = calibration(view)
    return float(np.abs(bins[:, 1] - bins[:, 2]).sum() / max(1.0, bins[:, 0].sum()))


def brier(view: View) -> float:
    """Mean squared difference of probability and truth (Brier 1950); 0 when there are no pixels."""
    gaps = view.probability[view.fov] - view.truth[view.fov]
    return float(np.square(gaps, dtype=np.float64).mean()) if gaps.size else 0.0


IMAGE_METRICS: dict[str, Callable[[View], float]] = {
    "cldice": cldice,
    "betti0_error": betti0_error,
    "hd95": hd95,
    "assd": assd,
    "ece": ece,
    "brier": brier,
}
LENGTHS = frozenset({"hd95", "assd"})  # their names end in the unit: hd95_mm, or hd95_px
SURENESS = frozenset({"ece", "brier"})  # they judge the probabilities, not the mask


def image_scores(
    probability: NDArray[np.float32],
    mask: NDArray[np.uint8],
    fov: Mask,
    threshold: float,
    spacing: tuple[float, ...] | None = None,
) -> Metrics:
    """Every metric of IMAGE_METRICS of one image; all values are finite.

    Probability (F, ...), mask of class indices 0..F and fov as of `metrics.score`. `spacing` is in
    millimetres along each axis; without it distances are in pixels. Of several classes it is the
    mean over them, and `NAME_classK` is that of class K.
    """
    views = _views(probability, mask, fov, threshold, spacing)
    unit = "_px" if spacing is None else "_mm"
    names = {name: name + unit * (name in LENGTHS) for name in IMAGE_METRICS}
    classes = [
        {names[name]: metric(view) for name, metric in IMAGE_METRICS.items()} for view in views
    ]
    found = mean_of(classes)
    for index, each in enumerate(classes if len(classes) > 1 else (), start=1):
        found |= {f"{name}_class{index}": value for name, value in each.items()}
    return found


class ImageScorer:
    """`image_scores` of samples, one by one; it adds up their calibration on the way.

    Distances are in millimetres where the spacing of all samples is known.
    """

    def __init__(self, samples: Iterable[Sample], threshold: float) -> None:
        self.calibration = np.zeros((BINS, 3))  # as of `calibration`, all classes and images
        self._threshold = threshold
        self._spaced = all(sample.spacing for sample in samples)

    def __call__(self, sample: Sample, probability: NDArray[np.float32]) -> Metrics:
        given = probability, sample.mask, sample.fov, self._threshold
        spacing = sample.spacing if self._spaced else None
        for view in _views(*given, spacing):
            self.calibration += calibration(view)
        return image_scores(*given, spacing)

    def reliability(self) -> list[dict[str, float]]:
        """Of each bin that has pixels: how many, their mean probability, their share of foreground.

        With one class, what a well calibrated network says of foreground is what is found.
        """
        return [
            {"pixels": pixels, "predicted": predicted / pixels, "observed": observed / pixels}
            for pixels, predicted, observed in self.calibration.tolist()
            if pixels
        ]


def calibration(view: View) -> NDArray[np.float64]:
    """(BINS, 3): pixels by their probability, the sum of it, and those that are foreground."""
    p, truth = view.probability[view.fov].astype(np.float64), view.truth[view.fov]
    place = np.minimum((p * BINS).astype(np.intp), BINS - 1)
    return np.stack([np.bincount(place, each, BINS) for each in (np.ones_like(p), p, truth)], 1)


def skeleton(mask: Mask) -> Mask:
    """The centrelines of a mask of two or three dimensions."""
    from skimage.morphology import skeletonize  # slow to load, and predicting needs none

    return np.asarray(skeletonize(mask), np.bool_)


def surface_distances(
    one: Mask, other: Mask, spacing: tuple[float, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """From each boundary pixel of either mask to the nearest one of the other; neither is empty.

    Boundary pixels are those of a mask that have a side in common with what is not of it; beyond
    the image nothing is.
    """
    (both,) = ndimage.find_objects((one | other).astype(np.uint8))
    edges = [mask[both] & ~ndimage.binary_erosion(mask[both]) for mask in (one, other)]
    fields = [ndimage.distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    return fields[1][edges[0]], fields[0][edges[1]]


def _views(
    probability: NDArray[np.float32],
    mask: NDArray[np.uint8],
    fov: Mask,
    threshold: float,
    spacing: tuple[float, ...] | None,
) -> list[View]:
    """One a foreground class."""
    predicted, steps = classify(probability, threshold), spacing or (1.0,) * mask.ndim
    return [
        View((predicted == index) & fov, (mask == index) & fov, each, fov, steps)
        for index, each in enumerate(probability, start=1)
    ]


def _inside(part: Mask, whole: Mask) -> float:
    return float(whole[part].mean())


def _pieces(mask: Mask) -> int:
    touching = np.ones((3,) * mask.ndim, np.uint8)
    return int(ndimage.label(mask, touching)[1])


def _distances(view: View) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """As `surface_distances`, and one distance each way where a mask is empty."""
    found = view.predicted.any(), view.truth.any()
    if all(found):
        return surface_distances(view.predicted, view.truth, view.spacing)
    diagonal = float(np.linalg.norm(np.multiply(view.truth.shape, view.spacing)))
    only = np.array([diagonal if any(found) else 0.0])
    return only, only
