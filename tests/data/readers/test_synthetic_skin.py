"""The procedural dermoscopic photographs: deterministic, plausible, and no task for a threshold."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from r2search.config import DataConfig
from r2search.data.readers.synthetic_skin import synthetic_skin
from r2search.data.samples import Sample

SHAPE = (192, 256)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return synthetic_skin(None, DataConfig(reader="synthetic_skin"))


def beside(mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The skin from 8 to 20 pixels off the lesion, clear of its blurred border."""
    off = ndimage.distance_transform_edt(mask == 0)
    return (off > 8) & (off < 20)


def test_there_are_two_lesions_of_twenty_subjects(samples: list[Sample]) -> None:
    assert [s.id for s in samples] == [f"{n:02d}{which}" for n in range(1, 21) for which in "ab"]
    assert all(s.subject == s.id[:2] for s in samples)


def test_arrays_are_as_a_sample_promises(samples: list[Sample]) -> None:
    for s in samples:
        assert s.image.shape == (*SHAPE, 3)
        assert s.image.dtype == s.mask.dtype == np.uint8
        assert s.mask.shape == SHAPE
        assert set(np.unique(s.mask)) == {0, 1}
        assert s.fov.all()


def test_a_lesion_is_one_region_without_holes(samples: list[Sample]) -> None:
    for s in samples:
        assert ndimage.label(s.mask)[1] == 1
        np.testing.assert_array_equal(ndimage.binary_fill_holes(s.mask), s.mask > 0)


def test_lesions_cover_3_to_60_percent_and_differ_in_size(samples: list[Sample]) -> None:
    shares = [s.mask.mean() for s in samples]
    assert min(shares) > 0.03
    assert max(shares) < 0.6
    assert max(shares) > 5 * min(shares)


def test_no_two_pictures_share_their_lesion(samples: list[Sample]) -> None:
    outlines = {s.mask.tobytes() for s in samples}
    assert len(outlines) == len(samples)


def test_a_lesion_is_darker_than_the_skin_beside_it(samples: list[Sample]) -> None:
    for s in samples:
        inside, outside = np.median(s.image[s.mask > 0, 1]), np.median(s.image[beside(s.mask), 1])
        assert inside < 0.97 * outside, s.id


def test_skin_tone_is_the_subjects(samples: list[Sample]) -> None:
    """Blue against red: it does not depend on how bright the lamp was."""
    tones = [np.median(s.image[beside(s.mask)] / 255, axis=0) for s in samples]
    blueness = np.log([tone[2] / tone[0] for tone in tones])
    within = np.abs(blueness[::2] - blueness[1::2]).mean()
    between = np.abs(blueness[:, None] - blueness).mean()
    assert within < 0.6 * between


def test_borders_are_sharp_on_some_and_blurred_on_others(samples: list[Sample]) -> None:
    def steepness(s: Sample) -> float:
        """Steps of grey across the border, as a share of the whole step."""
        grey = ndimage.gaussian_filter(s.image[..., 1].astype(float), 1)
        rim = ndimage.binary_dilation(s.mask) & ~ndimage.binary_erosion(s.mask)
        height = np.median(grey[beside(s.mask)]) - np.median(grey[s.mask > 0])
        return float(np.median(ndimage.gaussian_gradient_magnitude(grey, 1)[rim]) / height)

    values = [steepness(s) for s in samples]
    assert np.quantile(values, 0.9) > 1.5 * np.quantile(values, 0.1)


def test_no_global_threshold_scores_over_075(
    samples: list[Sample], best_threshold: Callable[[Sequence[Sample]], float]
) -> None:
    assert 0.3 < best_threshold(samples) <= 0.75
