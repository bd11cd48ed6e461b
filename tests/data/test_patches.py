"""Patch positions, tiles and blending."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2search.config import Misuse
from r2search.data.patches import (
    blend_weights,
    random_positions,
    resized_shape,
    tile_starts,
    tiles,
)


@st.composite
def tilings(draw: st.DrawFn) -> tuple[int, int]:
    tile = draw(st.integers(1, 40))
    return tile, draw(st.integers(0, tile - 1))


sizes = st.integers(1, 120)
large = st.integers(1, 5000)


@given(large, large)
def test_native_leaves_a_shape_as_it_is(height: int, width: int) -> None:
    assert resized_shape((height, width), "native", "keep") == (height, width)
    assert resized_shape((height, width), "native", "stretch") == (height, width)


@given(large, large, st.integers(32, 4096))
def test_stretching_gives_a_square(height: int, width: int, edge: int) -> None:
    assert resized_shape((height, width), edge, "stretch") == (edge, edge)


@given(large, large, st.integers(32, 4096))
def test_keeping_the_shape_sets_the_longer_edge_and_rounds_the_other(
    height: int, width: int, edge: int
) -> None:
    new_height, new_width = resized_shape((height, width), edge, "keep")
    assert max(new_height, new_width) == edge
    scale = edge / max(height, width)
    assert abs(new_height - max(1, height * scale)) <= 0.5
    assert abs(new_width - max(1, width * scale)) <= 0.5
    assert resized_shape((new_height, new_width), edge, "keep") == (new_height, new_width)
    assert resized_shape((width, height), edge, "keep") == (new_width, new_height)


def test_the_last_tile_touches_the_end() -> None:
    # Steps of 4 - 1 = 3: 0, 3, and then 10 - 4 = 6.
    assert tile_starts(10, 4, 1) == [0, 3, 6]
    # 9 would pass the end at 12, so the last tile starts at 12 - 4 = 8.
    assert tile_starts(12, 4, 1) == [0, 3, 6, 8]


@pytest.mark.parametrize("size", [1, 3, 4])
def test_an_image_no_larger_than_a_tile_has_one_tile(size: int) -> None:
    assert tile_starts(size, 4, 2) == [0]


@given(sizes, tilings())
def test_tiles_cover_every_pixel_and_stay_inside(size: int, tiling: tuple[int, int]) -> None:
    tile, overlap = tiling
    starts = tile_starts(size, tile, overlap)
    padded = max(size, tile)
    assert {p for start in starts for p in range(start, start + tile)} == set(range(padded))


@given(sizes, tilings())
def test_neighbouring_tiles_share_the_overlap_at_least(size: int, tiling: tuple[int, int]) -> None:
    tile, overlap = tiling
    steps = np.diff(tile_starts(size, tile, overlap))
    assert (steps > 0).all()
    assert (steps <= tile - overlap).all()


def test_tiles_of_an_image_come_row_by_row() -> None:
    assert tiles(6, 7, 4, 0) == [(0, 0), (0, 3), (2, 0), (2, 3)]


@pytest.mark.parametrize(("size", "tile", "overlap"), [(0, 4, 1), (9, 4, 4), (9, 4, -1), (9, 0, 0)])
def test_tiles_that_do_not_advance_are_refused(size: int, tile: int, overlap: int) -> None:
    with pytest.raises(Misuse, match="0 <= overlap < tile"):
        tile_starts(size, tile, overlap)


def test_weights_rise_over_the_overlap() -> None:
    # Distances from the edge 0.5, 1.5, 2.5, ... over an overlap of 2, at most 1.
    ramp = np.array([0.25, 0.75, 1.0, 0.75, 0.25], np.float32)
    weights = blend_weights(5, 2)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, np.outer(ramp, ramp))


def test_weights_are_flat_without_an_overlap() -> None:
    assert (blend_weights(4, 0) == 1).all()


@given(sizes, sizes, tilings())
def test_blending_a_constant_gives_the_constant(
    height: int, width: int, tiling: tuple[int, int]
) -> None:
    tile, overlap = tiling
    weights = blend_weights(tile, overlap)
    total, weight = np.zeros((2, max(height, tile), max(width, tile)), np.float32)
    for top, left in tiles(height, width, tile, overlap):
        window = np.s_[top : top + tile, left : left + tile]
        total[window] += weights * np.float32(0.3)
        weight[window] += weights
    np.testing.assert_allclose(total / weight, 0.3, rtol=1e-5)


@given(st.lists(st.tuples(sizes, sizes), min_size=1), st.integers(1, 60), st.integers(0, 99))
def test_random_patches_lie_inside(shapes: list[tuple[int, int]], patch: int, seed: int) -> None:
    places = random_positions(np.random.default_rng(seed), np.array(shapes), patch)
    assert places.shape == (len(shapes), 2)
    assert (places >= 0).all()
    assert (places + patch <= np.maximum(shapes, patch)).all()


def test_random_patches_reach_every_position() -> None:
    places = random_positions(np.random.default_rng(0), np.tile([6, 4], (500, 1)), 3)
    # Tops 0..3 and lefts 0..1: 8 positions.
    assert len(np.unique(places, axis=0)) == 8
