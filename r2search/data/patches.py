"""Where patches and tiles lie, and how overlapping tiles are blended: geometry alone."""

from math import ceil
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from r2search.config import Misuse


def resized_shape(
    shape: tuple[int, int], resize: Literal["native"] | int, aspect: Literal["keep", "stretch"]
) -> tuple[int, int]:
    """Height and width of an image after `data.resize` and `data.aspect`, each at least 1."""
    height, width = shape
    if resize == "native":
        return height, width
    if aspect == "stretch":
        return resize, resize
    scale = resize / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def tile_starts(size: int, tile: int, overlap: int) -> list[int]:
    """First pixels of the tiles that cover [0, size) without a gap, ascending.

    Neighbours share `overlap` pixels; the last tile touches the end, so that it may share more.
    A `size` up to `tile` gives [0]: the caller pads to one whole tile.
    """
    if size < 1 or not 0 <= overlap < tile:
        raise Misuse(f"tiles need size >= 1 and 0 <= overlap < tile: {size=} {overlap=} {tile=}")
    last = max(size - tile, 0)
    return [*range(0, last, tile - overlap), last]


Strip = tuple[slice, NDArray[np.float32]]  # the pixels that a tile covers, and their weights


def strips(size: int, tile: int, overlap: int, multiple: int) -> list[Strip]:
    """The tiles along one side of an image, ascending: what each covers, with what weights.

    They are the fewest of at most `tile` pixels, all of one edge, no larger than it takes. They
    begin and end at multiples of `multiple`: a network that halves its maps says something else
    of an image that is shifted by less. So the last ends up to `multiple` - 1 pixels beyond
    `size`; the caller pads. Where a tile holds few multiples, it may have to be larger, or its
    overlap smaller, than asked.

    At every pixel the weights add up to 1, so that predictions times weights add up to a mean.
    """
    size, tile = ceil(size / multiple), max(1, tile // multiple)
    overlap = min(ceil(overlap / multiple), tile - 1)
    count = len(tile_starts(size, tile, overlap))
    edge = ceil((size + (count - 1) * overlap) / count)
    overlap = min(overlap, edge - 1)
    starts = tile_starts(size, edge, overlap)
    places = [slice(start * multiple, (start + edge) * multiple) for start in starts]
    profile = _bell(edge * multiple, overlap * multiple)
    total = np.zeros(places[-1].stop)
    for place in places:
        total[place] += profile
    return [(place, (profile / total[place]).astype(np.float32)) for place in places]


def _bell(edge: int, overlap: int) -> NDArray[np.float64]:
    """Weights of a tile's pixels along one side: a normal distribution, flat beyond the overlap.

    At its edge, where the network sees little context, a tile weighs exp(-8) of its neighbour. If
    tiles share half of an edge, that is nnU-Net's deviation of edge / 8 (Isensee et al. 2021).
    """
    if not overlap:
        return np.ones(edge)
    distance = np.minimum(np.arange(edge), np.arange(edge)[::-1]) + 0.5
    short = overlap - np.minimum(distance, overlap)
    exponent = 8 * short * (edge - 2 * overlap + short) / (overlap * (edge - overlap))
    return np.asarray(np.exp(-exponent))


def random_positions(
    rng: np.random.Generator, sizes: NDArray[np.int64], patch: int
) -> NDArray[np.int64]:
    """One (top, left) per row of `sizes`, (N, 2) of height and width: uniform over all that fit.

    A side smaller than the patch gives 0: the caller pads it.
    """
    return rng.integers(0, np.maximum(sizes - patch, 0) + 1)
