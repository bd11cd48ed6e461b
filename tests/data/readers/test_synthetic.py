"""The procedural fundus photographs: deterministic, plausible, and no task for a threshold."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from r2search.config import DataConfig
from r2search.data.readers.synthetic import synthetic_retina
from r2search.data.samples import Sample


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return synthetic_retina(None, DataConfig(reader="synthetic_retina"))


@pytest.fixture(scope="module")
def grey_samples() -> list[Sample]:
    return synthetic_retina(None, DataConfig(reader="synthetic_retina", channels="grey"))


def dice(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float(2 * (predicted & truth).sum() / (predicted.sum() + truth.sum()))


def test_there_are_two_eyes_of_eight_subjects(samples: list[Sample]) -> None:
    assert [s.id for s in samples] == [f"{n:02d}{eye}" for n in range(1, 9) for eye in "LR"]
    assert all(s.subject == s.id[:2] for s in samples)


def test_arrays_are_as_a_sample_promises(samples: list[Sample]) -> None:
    for s in samples:
        assert s.second_mask is not None
        assert s.image.shape == (384, 400, 3)
        assert s.image.dtype == np.uint8
        for mask in (s.mask, s.second_mask):
            assert mask.shape == (384, 400)
            assert mask.dtype == np.uint8
            assert set(np.unique(mask)) == {0, 1}
            assert not mask[~s.fov].any()


def test_the_masks_are_the_same_every_time(
    samples: list[Sample], grey_samples: list[Sample]
) -> None:
    for first, again in zip(samples, grey_samples, strict=True):
        np.testing.assert_array_equal(first.mask, again.mask)
        np.testing.assert_array_equal(first.second_mask, again.second_mask)


def test_no_two_pictures_share_their_vessels(samples: list[Sample]) -> None:
    overlaps = [dice(a.mask > 0, b.mask > 0) for a in samples for b in samples if a.id < b.id]
    assert max(overlaps) < 0.5


def test_grey_pictures_are_the_luma_of_the_coloured(
    samples: list[Sample], grey_samples: list[Sample]
) -> None:
    # Were the pictures drawn otherwise the second time, grain alone would differ by more.
    for coloured, grey in zip(samples, grey_samples, strict=True):
        assert grey.image.shape == (384, 400, 1)
        luma = coloured.image @ np.array([0.299, 0.587, 0.114])
        assert np.abs(grey.image[..., 0] - luma).max() <= 1


def test_vessels_cover_6_to_13_percent_of_the_field_of_view(samples: list[Sample]) -> None:
    shares = [s.mask[s.fov].mean() for s in samples]
    assert min(shares) > 0.06
    assert max(shares) < 0.13


def test_vessels_are_from_one_to_several_pixels_wide(samples: list[Sample]) -> None:
    for s in samples:
        depth = ndimage.distance_transform_edt(s.mask)
        assert depth.max() > 2.5  # half the width of the widest
        # An opening by 2 x 2 takes out what is one pixel wide.
        thin = (s.mask > 0) & ~ndimage.binary_opening(s.mask, np.ones((2, 2), np.bool_))
        assert thin.sum() > 0.03 * s.mask.sum()


def test_vessels_are_darker_than_what_lies_beside_them(samples: list[Sample]) -> None:
    for s in samples:
        vessel = s.mask > 0
        beside = ndimage.binary_dilation(vessel, iterations=4) & ~vessel & s.fov
        assert s.image[vessel, 1].mean() < 0.95 * s.image[beside, 1].mean()


def test_no_global_threshold_scores_over_045(samples: list[Sample]) -> None:
    greens = [s.image[s.fov][:, 1] for s in samples]
    truths = [s.mask[s.fov] > 0 for s in samples]
    best = max(
        np.mean([dice(g <= grey, t) for g, t in zip(greens, truths, strict=True)])
        for grey in range(0, 256, 2)
    )
    assert best <= 0.45


def test_the_second_observer_agrees_as_observers_do(samples: list[Sample]) -> None:
    # On CHASE_DB1's 20 images here the observers' Dice is 0.77.
    agreement = [dice(s.mask > 0, s.second_mask > 0) for s in samples if s.second_mask is not None]
    assert len(agreement) == 16
    assert 0.7 < np.mean(agreement) < 0.85
