"""What the procedural data sets draw with: smooth noise, bumps, ellipses and strokes."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from r2search.config import DataConfig
from r2search.data.prepare import at_most, mask_at_most
from r2search.data.samples import Sample

MARGIN = 12  # around the canvas, so that a stroke may cross its edge

Floats = NDArray[np.float64]
Place = tuple[float, float]  # y, x
Shape = tuple[int, int]  # height, width
Grid = tuple[Floats, Floats]  # y and x of every pixel


def clouds(rng: np.random.Generator, cells: int, *, shape: Shape) -> Floats:
    """Smooth noise, mean 0 and deviation about 1, with some `cells` blobs across the picture."""
    knots = np.arange(-1, cells + 2)
    down, across = (
        np.exp(-((np.linspace(0, cells, size)[:, None] - knots) ** 2)) for size in shape
    )
    smooth: Floats = down @ rng.normal(0, 1, (len(knots), len(knots))) @ across.T
    smooth -= smooth.mean()
    smooth /= smooth.std()
    return smooth


def blob(centre: Place, size: float, stretch: float = 1.0, *, shape: Shape) -> Floats:
    """A Gaussian bump of height 1, `stretch` times as tall as wide."""
    down = np.exp(-0.5 * ((np.arange(shape[0]) - centre[0]) / (size * stretch)) ** 2)
    across = np.exp(-0.5 * ((np.arange(shape[1]) - centre[1]) / size) ** 2)
    return np.outer(down, across)


def pixel_grid(shape: Shape) -> Grid:
    """Row and column of every pixel."""
    rows, columns = np.indices(shape, np.float64)
    return rows, columns


def ellipse(grid: Grid, centre: Place, axes: Place, turn: float = 0.0) -> Floats:
    """How far out every point lies: 0 in the centre, 1 on the rim of the ellipse.

    `axes` are half its height and width, in the unit of `grid`, before it is turned by `turn`.
    """
    dy, dx = grid[0] - centre[0], grid[1] - centre[1]
    sine, cosine = np.sin(turn), np.cos(turn)
    far: Floats = np.hypot((cosine * dy - sine * dx) / axes[0], (sine * dy + cosine * dx) / axes[1])
    return far


def soft(depth: Floats) -> Floats:
    """From 0 outside to 1 inside, by how many widths of its edge a point lies inside."""
    return 1 / (1 + np.exp(-np.clip(depth, -40, 40)))


def walk(start: Place, heading: float, bends: Floats, step: float = 0.5) -> Floats:
    """The points (y, x) of a path that turns by one of `bends`, in radians, before every step."""
    headings = heading + np.cumsum(bends)
    moves = step * np.column_stack([np.sin(headings), np.cos(headings)])
    return start + np.cumsum(moves, axis=0)


def stroke(points: Floats, weights: Floats, *, shape: Shape) -> Floats:
    """Discs at (y, x, radius, ...) with edges one pixel soft; the highest weight wins."""
    height, width = shape
    canvas = np.zeros((height + 2 * MARGIN, width + 2 * MARGIN))
    reach = np.ceil(points[:, 2] + 0.5).astype(int)
    for size in np.unique(reach):
        chosen = reach == size
        y, x, radius = points[chosen, :3].T
        row, column = np.rint(y).astype(int), np.rint(x).astype(int)
        room = MARGIN - size
        inside = (row >= -room) & (row < height + room)
        inside &= (column >= -room) & (column < width + room)
        dy, dx = np.mgrid[-size : size + 1, -size : size + 1].reshape(2, -1, 1)
        distance = np.hypot(row + dy - y, column + dx - x)
        value = np.clip(radius + 0.5 - distance, 0, 1) * weights[chosen]
        place = (row + dy + MARGIN) * canvas.shape[1] + column + dx + MARGIN
        # Flat: numpy takes two to four times as long for two indices.
        np.maximum.at(canvas.reshape(-1), place[:, inside].ravel(), value[:, inside].ravel())
    return canvas[MARGIN:-MARGIN, MARGIN:-MARGIN]


def as_read(sample: Sample, config: DataConfig) -> Sample:
    """A drawn sample as a file of it would be read: perhaps as luma, and no larger than asked."""
    image, side = sample.image, config.max_side
    if config.reading == "grey" and image.shape[2] == 3:
        image = np.asarray(Image.fromarray(image).convert("L"))[..., None]
    image, second = at_most(image, side), sample.second_mask
    shrunk = sample.image.shape[0] / image.shape[0], sample.image.shape[1] / image.shape[1]
    return replace(
        sample,
        image=image,
        mask=mask_at_most(sample.mask, side),
        fov=mask_at_most(sample.fov.view(np.uint8), side).astype(np.bool_),
        second_mask=None if second is None else mask_at_most(second, side),
        spacing=sample.spacing and (sample.spacing[0] * shrunk[0], sample.spacing[1] * shrunk[1]),
    )
