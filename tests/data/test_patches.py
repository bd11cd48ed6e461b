"""Patch positions, tiles and blending."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2search.config import Misuse
from r2search.data.patches import (
    random_positions,
    resized_shape,
    strips,
    tile_starts,
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


@pytest.mark.parametrize(("size", "tile", "overlap"), [(0, 4, 1), (9, 4, 4), (9, 4, -1), (9, 0, 0)])
def test_tiles_that_do_not_advance_are_refused(size: int, tile: int, overlap: int) -> None:
    with pytest.raises(Misuse, match="0 <= overlap < tile"):
        tile_starts(size, tile, overlap)


# Strips: the tiles along one side, as a network takes them

multiples = st.sampled_from([1, 2, 8])


@given(sizes, tilings(), multiples)
def test_weights_add_up_to_1_at_every_pixel(
    size: int, tiling: tuple[int, int], multiple: int
) -> None:
    tile, overlap = tiling
    found = strips(size, tile, overlap, multiple)
    total = np.zeros(found[-1][0].stop)
    for place, weights in found:
        assert weights.dtype == np.float32
        assert (weights > 0).all()
        total[place] += weights
    np.testing.assert_allclose(total, 1, rtol=1e-6)
    assert size <= len(total) < size + multiple


@given(sizes, tilings(), multiples)
def test_tiles_begin_and_end_at_multiples(
    size: int, tiling: tuple[int, int], multiple: int
) -> None:
    places = [place for place, _ in strips(size, *tiling, multiple)]
    assert all(place.start % multiple == place.stop % multiple == 0 for place in places)


@given(sizes, st.integers(2, 5), st.integers(0, 16), multiples)
def test_tiles_are_as_few_and_as_small_as_will_do(
    size: int, units: int, overlap: int, multiple: int
) -> None:
    tile = units * 16
    overlap -= overlap % multiple
    found = [place for place, _ in strips(size, tile, overlap, multiple)]
    assert len(found) == len(tile_starts(size, tile, overlap))
    (edge,) = {place.stop - place.start for place in found}
    assert edge <= tile
    assert all(a.stop - b.start >= overlap for a, b in pairwise(found))
    if edge > multiple:  # of a smaller edge as many would not do
        assert len(found) * (edge - multiple) - (len(found) - 1) * overlap < size


def test_the_sides_of_an_image_are_shared_out_evenly() -> None:
    # 100 pixels in two tiles that share 8 are 54 each, rounded up to 56.
    places = [place for place, _ in strips(100, 80, 8, 8)]
    assert places == [slice(0, 56), slice(48, 104)]


def test_a_tile_too_small_for_its_network_is_one_multiple_without_an_overlap() -> None:
    assert [place for place, _ in strips(20, 6, 2, 8)] == [slice(0, 8), slice(8, 16), slice(16, 24)]


def test_at_its_edge_a_tile_counts_for_little_beside_its_neighbour() -> None:
    # Of half an edge shared it is a normal distribution with a deviation of edge / 8.
    (_, first), (_, second) = strips(96, 64, 32, 1)
    bell = np.exp(-0.5 * ((np.arange(64) + 0.5 - 32) / 8) ** 2)
    expected = bell[32:] / (bell[32:] + bell[:32])
    np.testing.assert_allclose(first[32:], expected, rtol=1e-4)
    np.testing.assert_allclose(second[:32], expected[::-1], rtol=1e-4)
    (_, first), _ = strips(1000, 504, 8, 1)
    assert first[-1] < 1e-3 < 0.5 < first[-5]


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
