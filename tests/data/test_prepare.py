"""What is done to an image before the network sees it."""

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from r2search.config import DataConfig
from r2search.data.patches import resized_shape
from r2search.data.prepare import (
    Preparation,
    at_most,
    fit_preparation,
    mask_at_most,
    resize,
    resize_probability,
)
from r2search.data.samples import MIN_STD, Sample

edges = st.integers(1, 90)


def preparation(**data: Any) -> Preparation:
    return Preparation(DataConfig(**data))


def noise(height: int = 40, width: int = 50, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """Random grey levels, read-only as they come from shared memory."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    image.flags.writeable = False
    return image


def waves(height: int = 120, width: int = 150) -> NDArray[np.uint8]:
    """Smooth muted colours under a shadow: no CLAHE drives them out of what RGB can show."""
    rows, columns = np.mgrid[:height, :width]
    light = 110 + 25 * np.sin(rows / 9) * np.cos(columns / 7) + 30 * columns / width
    return np.stack([light * 1.1, light, light * 0.9], axis=2).astype(np.uint8)


def sample(image: NDArray[np.uint8], classes: int = 2, seed: int = 0) -> Sample:
    rng = np.random.default_rng(seed)
    shape = image.shape[:2]
    return Sample(
        image=image,
        mask=rng.integers(0, classes, shape, dtype=np.uint8),
        fov=rng.random(shape) < 0.5,
        subject="s",
        id="s",
    )


# Size


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"resize": 50},
        {"resize": 50, "channels": "green"},
        {"resize": "native", "channels": "grey"},
    ],
)
def test_what_needs_no_change_is_the_very_same_array(data: dict[str, Any]) -> None:
    image = noise(channels=1 if "channels" in data else 3)
    given = sample(image)
    prepared = preparation(**data).sample(given)
    assert prepared[0] is given.image
    assert prepared[1] is given.mask
    assert prepared[2] is given.fov


def test_a_square_at_its_size_is_not_stretched() -> None:
    image = noise(64, 64)
    assert preparation(resize=64, aspect="stretch").image(image) is image


@settings(deadline=None)
@given(edges, edges, st.integers(32, 100), st.sampled_from(["keep", "stretch"]), st.booleans())
def test_image_mask_and_view_get_the_size_and_the_masks_keep_their_values(
    height: int, width: int, edge: int, aspect: Any, coloured: bool
) -> None:
    given = sample(noise(height, width, 3 if coloured else 1), classes=4)
    chosen = preparation(resize=edge, aspect=aspect)
    image, mask, fov = chosen.sample(given)
    expected = resized_shape((height, width), edge, aspect)
    assert chosen.shape(given.image) == image.shape[:2] == mask.shape == fov.shape == expected
    assert image.shape[2] == given.image.shape[2]
    assert (image.dtype, mask.dtype, fov.dtype) == (np.uint8, np.uint8, np.bool_)
    assert set(np.unique(mask)) <= set(np.unique(given.mask))
    assert set(np.unique(fov)) <= set(np.unique(given.fov))


def test_keep_keeps_a_disc_round_and_stretch_does_not() -> None:
    rows, columns = np.mgrid[:60, :120]
    disc = ((rows - 30) ** 2 + (columns - 60) ** 2 < 20**2).astype(np.uint8)
    given = Sample(image=disc[..., None], mask=disc, fov=disc > 0, subject="s", id="s")

    def extent(aspect: Any) -> tuple[int, int]:
        mask = preparation(resize=240, aspect=aspect).sample(given)[1]
        return int(mask.any(axis=1).sum()), int(mask.any(axis=0).sum())

    assert extent("keep") == (78, 78)  # 39 pixels, twice as large
    assert extent("stretch") == (156, 78)  # four times and twice


@settings(deadline=None)
@given(edges, edges, st.integers(2, 4))
def test_a_mask_made_larger_and_small_again_is_the_same(
    height: int, width: int, times: int
) -> None:
    mask = np.random.default_rng(height).integers(0, 5, (height, width), dtype=np.uint8)
    larger = np.repeat(np.repeat(mask, times, axis=0), times, axis=1)
    np.testing.assert_array_equal(mask_at_most(larger, max(height, width)), mask)


def test_image_and_mask_stay_on_each_other() -> None:
    # A disc, drawn alike in both; half a pixel of shift would show at its rim.
    rows, columns = np.mgrid[:200, :300]
    disc = ((rows - 90) ** 2 + (columns - 140) ** 2 < 60**2).astype(np.uint8)
    given = Sample(image=disc[..., None] * 255, mask=disc, fov=disc > 0, subject="s", id="s")
    for edge in (77, 128, 480):
        image, mask, fov = preparation(resize=edge).sample(given)
        bright = image[..., 0] > 127
        assert (bright != mask).mean() < 0.003
        assert (fov == mask).all()


def test_reducing_averages_and_enlarging_interpolates() -> None:
    stripes = np.tile(np.array([0, 200], np.uint8), (4, 4))[..., None]
    assert (resize(stripes, (2, 4)) == 100).all()
    ramp = np.array([[0, 100]], np.uint8)[..., None]
    assert resize(ramp, (1, 4))[0, :, 0].tolist() == [0, 25, 75, 100]


def test_an_axis_that_shrinks_is_averaged_whatever_the_other_does() -> None:
    # Stretched to more pixels and to fewer; a look at single columns would give 0 or 200.
    stripes = np.tile(np.array([0, 200], np.uint8), (10, 60))[..., None]
    for height in (20, 200):
        assert (resize(stripes, (height, 30)) == 100).all()


@settings(deadline=None)
@given(edges, edges, edges, edges, st.sampled_from([1, 3]), st.integers(0, 255))
def test_an_even_image_stays_even_at_any_size(
    height: int, width: int, new_height: int, new_width: int, channels: int, level: int
) -> None:
    image = np.full((height, width, channels), level, np.uint8)
    resized = resize(image, (new_height, new_width))
    assert resized.shape == (new_height, new_width, channels)
    assert (resized == level).all()


@settings(deadline=None)
@given(edges, edges, st.one_of(st.none(), st.integers(1, 100)))
def test_at_most_reduces_what_is_larger_and_leaves_the_rest(
    height: int, width: int, side: int | None
) -> None:
    image, mask = noise(height, width), noise(height, width, 1)[..., 0]
    made, made_mask = at_most(image, side), mask_at_most(mask, side)
    if side is None or max(height, width) <= side:
        assert made is image
        assert made_mask is mask
    else:
        assert max(made.shape[:2]) == side
        assert made.shape[:2] == made_mask.shape == resized_shape((height, width), side, "keep")
        assert set(np.unique(made_mask)) <= set(np.unique(mask))


@settings(deadline=None)
@given(edges, edges, st.integers(32, 100), st.sampled_from(["keep", "stretch"]))
def test_probabilities_come_back_to_the_size_of_the_image(
    height: int, width: int, edge: int, aspect: Any
) -> None:
    shape = resized_shape((height, width), edge, aspect)
    probability = np.random.default_rng(0).random((2, *shape), dtype=np.float32)
    back = resize_probability(probability, (height, width))
    assert back.shape == (2, height, width)
    assert back.dtype == np.float32
    assert 0 <= back.min() <= back.max() <= 1


def test_probabilities_at_their_size_are_the_same_array_and_even_ones_stay_even() -> None:
    even = np.stack([np.full((20, 30), p, np.float32) for p in (0.25, 0.75)])
    assert resize_probability(even, (20, 30)) is even
    back = resize_probability(even, (41, 13))
    np.testing.assert_allclose(back[0], 0.25)
    np.testing.assert_allclose(back[1], 0.75)


# Colour and contrast


def test_green_and_grey_are_one_channel_of_the_picture() -> None:
    image = noise()
    green, grey = (preparation(channels=name).image(image) for name in ("green", "grey"))
    np.testing.assert_array_equal(green, image[..., 1:2])
    luma = image @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    assert grey.shape == (40, 50, 1)
    assert np.abs(grey[..., 0] - luma).max() <= 1


def test_green_and_grey_survive_a_resize() -> None:
    image = noise()
    for name in ("green", "grey"):
        picked = preparation(channels=name).image(image)
        resized = preparation(channels=name, resize=32).image(image)
        np.testing.assert_array_equal(resized, resize(picked, resized.shape[:2]))


@pytest.mark.parametrize("channels", ["rgb", "grey", "green"])
@pytest.mark.parametrize("shape", [(120, 150), (5, 3), (1, 1), (1, 70)])
def test_clahe_keeps_shape_and_type(channels: str, shape: tuple[int, int]) -> None:
    plain = preparation(channels=channels).image(noise(*shape))
    enhanced = preparation(channels=channels, enhance="clahe").image(noise(*shape))
    assert enhanced.shape == plain.shape
    assert enhanced.dtype == np.uint8


def test_clahe_widens_the_contrast_of_lightness_and_leaves_the_colours() -> None:
    image = waves()
    enhanced = preparation(enhance="clahe").image(image)
    before, after = (cv2.cvtColor(i, cv2.COLOR_RGB2LAB).astype(int) for i in (image, enhanced))
    assert after[..., 0].std() > 1.2 * before[..., 0].std()
    assert np.abs(after[..., 1:] - before[..., 1:]).max() <= 3  # of 255: rounding to whole levels


def test_clahe_of_grey_is_that_of_the_lightness_alone() -> None:
    grey = waves()[..., :1]
    enhanced = preparation(enhance="clahe", channels="grey").image(grey)
    assert enhanced.std() > 1.2 * grey.std()


def test_images_are_neither_changed_nor_written_to() -> None:
    image = noise()
    before = image.copy()
    for channels in ("rgb", "grey", "green"):
        preparation(channels=channels, enhance="clahe", resize=33).image(image)
    np.testing.assert_array_equal(image, before)


# Standardisation


@settings(deadline=None)
@given(edges, edges, st.sampled_from([1, 3]), st.integers(0, 99))
def test_by_image_each_channel_gets_mean_0_and_deviation_1(
    height: int, width: int, channels: int, seed: int
) -> None:
    image = noise(height, width, channels, seed)
    made = preparation(standardize="image").standardize(image)
    assert made.dtype == np.float32
    assert made.shape == image.shape
    pixels = image.reshape(-1, channels).astype(np.float64)
    expected = (pixels - pixels.mean(axis=0)) / np.maximum(pixels.std(axis=0), MIN_STD)
    np.testing.assert_allclose(made.reshape(-1, channels), expected, atol=1e-4)


def test_an_even_image_becomes_zero() -> None:
    assert (preparation().standardize(np.full((4, 4, 3), 200, np.uint8)) == 0).all()


def test_by_unit_grey_levels_lie_between_0_and_1() -> None:
    image = np.array([[[0], [51], [255]]], np.uint8)
    made = preparation(standardize="unit").standardize(image)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made[0, :, 0], [0, 0.2, 1])


@settings(deadline=None)
@given(st.lists(st.tuples(edges, edges), min_size=1, max_size=5))
def test_by_data_set_the_moments_are_those_of_all_pixels_together(
    shapes: list[tuple[int, int]],
) -> None:
    images = [noise(*shape, seed=n) // (n + 1) for n, shape in enumerate(shapes)]
    fitted = fit_preparation(DataConfig(standardize="dataset"), [sample(i) for i in images])
    pixels = np.concatenate([i.reshape(-1, 3) for i in images]).astype(np.float64)
    assert fitted.mean == pytest.approx(pixels.mean(axis=0))
    assert fitted.std == pytest.approx(np.maximum(pixels.std(axis=0), MIN_STD))
    made = [fitted.standardize(image).reshape(-1, 3) for image in images]
    whole = np.concatenate(made).astype(np.float64)
    np.testing.assert_allclose(whole.mean(axis=0), 0, atol=1e-4)
    assert (whole.std(axis=0) <= 1 + 1e-4).all()


def test_by_data_set_the_images_are_counted_as_the_network_sees_them() -> None:
    config = DataConfig(standardize="dataset", channels="green", enhance="clahe", resize=64)
    image = noise(100, 80)
    fitted = fit_preparation(config, [sample(image)])
    prepared = fitted.image(image)
    assert prepared.shape == (64, 51, 1)
    assert fitted.mean == pytest.approx([prepared.mean()])
    assert fitted.std == pytest.approx([prepared.std()])


@pytest.mark.parametrize("standardize", ["image", "unit"])
def test_only_the_data_sets_moments_are_kept(standardize: Any) -> None:
    fitted = fit_preparation(DataConfig(standardize=standardize), [sample(noise())])
    assert (fitted.mean, fitted.std) == ((), ())
