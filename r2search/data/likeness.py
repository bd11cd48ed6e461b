"""Which samples are alike, and whose mask fits whose image: all pairs, by matrix products."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from r2search.data.prepare import resize
from r2search.data.samples import Sample

SIDE = 128  # pixels of a thumbnail, whatever the shape of the image
RIM = 2  # pixels inside a field of view that are left out: its edge is a matter of opinion
NUM_THREADS = 4  # OpenCV releases the GIL

# Near duplicates. Copies saved as poor JPEGs, rescaled, brightened or mirrored correlate by 0.92
# and more in five public sets (retina, nuclei, skin, CT), other pictures by 0.75 and less.
PATTERN_SIDE = 64
COARSE = 3.0  # pixels: what is smoother is left out, since light and vignettes are all alike
ALIKE = 0.9
FLAT = 0.3  # grey levels: a picture of less detail is like any other
BLOCK = 1024  # rows of pairs in memory at once

# Swapped masks. A gain is measured by what a swap gains where it is needed, as the rest of the set
# tells. By chance, the best of M pairs gains the more, the more there are: as the largest of M
# normal numbers does, about sqrt(2 ln M). The same sets, which have no swaps, gain 0.12 of that at
# most, and random parts of them 0.16 once in 150.
CHUNK = 1500  # samples compared with each other at once, in the reader's order
FEWEST = 6  # samples, to say what is usual
TELLABLE = (0.002, 0.98)  # share of the foreground: other masks have no shape to go by
CLEAR = 0.16  # gain by that root
SEPARATE = 3.0  # deviations between own and foreign masks; below, no swap can be told

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A sample in SIDE x SIDE pixels; the outside of its field of view shows its mean colour."""

    image: NDArray[np.uint8]  # (SIDE, SIDE, C)
    mask: Floats  # (SIDE, SIDE), share of the foreground, 0..1


@dataclass(frozen=True, slots=True)
class Pair:
    """Two samples, by their places; `first` comes before `second`."""

    first: int
    second: int
    value: float
    turned: bool = False  # alike only when one is mirrored or turned


def thumbnails(samples: Sequence[Sample]) -> list[Thumbnail]:
    """One of each sample, in their order."""
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        return list(pool.map(_thumbnail, samples))


def _thumbnail(sample: Sample) -> Thumbnail:
    image = resize(sample.image, (SIDE, SIDE))
    inside = _reduced(sample.fov) > 0.99
    if not inside.all():
        inside = ndimage.binary_erosion(inside, iterations=RIM, border_value=1)
    if inside.any() and not inside.all():
        image = np.where(inside[..., None], image, image[inside].mean(axis=0))
    return Thumbnail(image.astype(np.uint8), _reduced(sample.mask > 0))


def _reduced(region: NDArray[np.bool_]) -> Floats:
    shown = cv2.resize(region.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(shown, np.float32)


def near_duplicates(thumbs: Sequence[Thumbnail], groups: Sequence[str]) -> list[Pair]:
    """Pictures that are one another saved again, rescaled, brightened, mirrored or turned.

    For each picture at most one pair, with the earlier one that is most like it; `value` is their
    correlation. Members of one of `groups`, such as slices of a volume, are not compared. It
    does not see a crop, nor what lies in a turn by anything but a right angle.
    """
    patterns = np.stack([_pattern(thumb.image) for thumb in thumbs])
    flat = patterns.std(axis=(1, 2)) < FLAT
    group = np.unique(np.asarray(groups), return_inverse=True)[1]
    base, best = _units(patterns), dict[int, Pair]()
    for number, turned in enumerate(_symmetries(patterns)):
        others = _units(turned)
        for start in range(0, len(thumbs), BLOCK):
            rows = slice(start, start + BLOCK)
            alike = base[rows] @ others.T
            alike[(group[rows, None] == group) | flat[rows, None] | flat] = 0
            for row, second in np.argwhere(alike > ALIKE):
                first, value = start + int(row), float(alike[row, second])
                if first < second and (second not in best or value > best[second].value):
                    best[int(second)] = Pair(first, int(second), value, turned=number > 0)
    return [best[second] for second in sorted(best)]


def _pattern(image: NDArray[np.uint8]) -> Floats:
    grey = image.astype(np.float32).mean(axis=2)
    small = cv2.resize(grey, (PATTERN_SIDE, PATTERN_SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small - cv2.GaussianBlur(small, (0, 0), COARSE), np.float32)


def _symmetries(maps: Floats) -> Iterator[Floats]:
    """Maps (N, S, S) in the eight ways to lay down a square, first as they are."""
    for turns in range(4):
        turned = np.rot90(maps, turns, (1, 2))
        yield turned
        yield turned[:, :, ::-1]


def _units(maps: Floats) -> Floats:
    """Each map as one row, (N, S * S), of mean 0 and length 1; a flat one is all 0."""
    rows = maps.reshape(len(maps), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6))


def swapped_masks(
    thumbs: Sequence[Thumbnail], shapes: Sequence[tuple[int, int]]
) -> list[Pair] | None:
    """Pairs of images of one shape whose masks fit better the other way round.

    An image and a mask fit where the edges of one are the edges of the other, and where colour
    tells the mask's inside from its outside, whichever is brighter. What all images and all masks
    share, as a place in the middle, cancels out. `value` is the gain, in units of what a needed
    swap gains in this set. None when own masks fit hardly better than foreign ones, so that no
    swap could be told, or when there are too few images.

    It does not see masks that are alike, as of neighbouring slices or of two spots in the middle;
    nearly empty or full ones; masks gone round among three images; a mask that belongs to no image
    here; pairs further apart than CHUNK; and classes mixed up within the foreground.
    """
    share = np.array([thumb.mask.mean() for thumb in thumbs])
    usable = np.flatnonzero((share > TELLABLE[0]) & (share < TELLABLE[1]))
    found: list[Pair] = []
    told = False
    for start in range(0, len(usable), CHUNK):
        places = usable[start : start + CHUNK]
        if len(places) < FEWEST:
            continue
        pairs = _swaps([thumbs[i] for i in places], [shapes[i] for i in places])
        if pairs is not None:
            told = True
            found += [Pair(int(places[p.first]), int(places[p.second]), p.value) for p in pairs]
    return found if told else None


def _swaps(thumbs: list[Thumbnail], shapes: list[tuple[int, int]]) -> list[Pair] | None:
    fit = _fits(thumbs)
    fit -= np.median(fit, axis=1, keepdims=True)  # images that fit any mask,
    fit -= np.median(fit, axis=0, keepdims=True)  # and masks that fit any image
    own = np.diag(fit)
    gain = fit + fit.T - own[:, None] - own
    better = fit > own[:, None]
    foreign = fit[~np.eye(len(fit), dtype=bool)]
    noise = 2 * 1.4826 * float(np.median(np.abs(foreign)))  # of a gain, a sum of four
    usual = -float(np.median(gain[~np.eye(len(fit), dtype=bool)]))
    if usual <= SEPARATE * noise:
        return None
    kinds = np.unique(np.array(shapes), axis=0, return_inverse=True)[1].ravel()
    fitting = np.triu(kinds[:, None] == kinds, 1)
    chance = math.sqrt(2 * math.log(max(2, int(fitting.sum()))))
    clear = better & better.T & (gain > CLEAR * chance * usual)
    pairs: list[Pair] = []
    taken: set[int] = set()
    candidates = [(int(i), int(j)) for i, j in np.argwhere(fitting & clear)]
    for i, j in sorted(candidates, key=lambda pair: -gain[pair]):
        if not taken & {i, j}:
            taken |= {i, j}
            pairs.append(Pair(i, j, float(gain[i, j]) / usual))
    return pairs


def _fits(thumbs: list[Thumbnail]) -> Floats:
    """How well mask j fits image i, (N, N): two correlations of 0..1, added."""
    areas = _units(np.stack([thumb.mask for thumb in thumbs]))
    borders = _units(np.stack([_steepness(thumb.mask[..., None]) for thumb in thumbs]))
    edges = _units(np.stack([np.sqrt(_steepness(thumb.image)) for thumb in thumbs]))
    fit = edges @ borders.T
    # The multiple correlation of a mask with all channels: its squared shares in a basis of them.
    colours = np.stack([_basis(thumb) for thumb in thumbs])
    shares = sum((colours[:, k] @ areas.T) ** 2 for k in range(colours.shape[1]))
    return np.asarray(fit + np.sqrt(shares), np.float32)


def _steepness(picture: NDArray[np.uint8] | Floats) -> Floats:
    """The length of the gradient of a smoothed picture (H, W, C), added over channels, (H, W)."""
    smooth = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 1.0).reshape(picture.shape)
    down, across = (cv2.Sobel(smooth, cv2.CV_32F, *way) for way in ((0, 1), (1, 0)))
    return np.asarray(np.hypot(down, across).reshape(picture.shape).sum(axis=2), np.float32)


def _basis(thumb: Thumbnail) -> Floats:
    """An orthonormal basis of the channels, (C, SIDE * SIDE), without their means.

    Directions with hardly any of the variance, such as the colours of a grey picture, are 0.
    """
    pixels = thumb.image.reshape(SIDE * SIDE, -1).astype(np.float32)
    pixels -= pixels.mean(axis=0)
    variances, directions = np.linalg.eigh(pixels.T @ pixels)
    kept = variances > max(1e-3 * float(variances[-1]), 1.0)
    scale = np.where(kept, 1 / np.sqrt(np.maximum(variances, 1.0)), 0.0)
    return np.asarray((pixels @ (directions * scale)).T, np.float32)
