"""Where patches and tiles lie, and how overlapping tiles are blended: geometry alone."""

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


def tiles(height: int, width: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    """(top, left) of the square tiles that cover an image, row by row.

    All lie inside the image if it is at least one tile high and wide; a smaller side starts at
    0 and the caller pads it to `tile`.
    """
    rows, columns = tile_starts(height, tile, overlap), tile_starts(width, tile, overlap)
    return [(top, left) for top in rows for left in columns]


def blend_weights(tile: int, overlap: int) -> NDArray[np.float32]:
    """Weights of a tile's pixels, (tile, tile), in (0, 1]: a linear ramp over each overlap.

    Sum predictions times weights, and weights, over the tiles and divide: a pixel near the edge
    of one tile, where the network sees little context, is decided by its neighbour.
    """
    distance = np.minimum(np.arange(tile), np.arange(tile)[::-1]) + 0.5
    ramp = np.minimum(distance / max(overlap, 0.5), 1.0)
    return np.outer(ramp, ramp).astype(np.float32)


def random_positions(
    rng: np.random.Generator, sizes: NDArray[np.int64], patch: int
) -> NDArray[np.int64]:
    """One (top, left) per row of `sizes`, (N, 2) of height and width: uniform over all that fit.

    A side smaller than the patch gives 0: the caller pads it.
    """
    return rng.integers(0, np.maximum(sizes - patch, 0) + 1)
