"""The procedural micrographs: deterministic, plausible, and no task for a threshold."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy import ndimage

from r2search.config import DataConfig
from r2search.data.readers.synthetic_nuclei import synthetic_nuclei
from r2search.data.samples import Sample


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return synthetic_nuclei(None, DataConfig(reader="synthetic_nuclei"))


def is_grey(sample: Sample) -> bool:
    return bool((sample.image == sample.image[..., :1]).all())


def test_there_are_36_pictures_each_a_subject_of_its_own(samples: list[Sample]) -> None:
    assert [s.id for s in samples] == [f"{n:02d}" for n in range(1, 37)]
    assert all(s.subject == s.id for s in samples)


def test_arrays_are_as_a_sample_promises(samples: list[Sample]) -> None:
    for s in samples:
        assert s.image.shape == (*s.mask.shape, 3)
        assert s.image.dtype == s.mask.dtype == np.uint8
        assert set(np.unique(s.mask)) == {0, 1}
        assert s.fov.all()


def test_pictures_have_several_sizes(samples: list[Sample]) -> None:
    sizes = {s.mask.shape for s in samples}
    assert len(sizes) == 4
    assert all(128 <= side <= 256 for size in sizes for side in size)


def test_three_of_four_are_fluorescent_and_the_others_stained(samples: list[Sample]) -> None:
    assert sum(map(is_grey, samples)) == 27
    for s in samples:
        grey, nuclei = s.image.mean(axis=2), s.mask > 0
        inside, outside = grey[nuclei].mean(), grey[~nuclei].mean()
        assert (inside > 1.3 * outside) if is_grey(s) else (inside < 0.8 * outside), s.id


def test_nuclei_cover_3_to_40_percent(samples: list[Sample]) -> None:
    shares = [s.mask.mean() for s in samples]
    assert min(shares) > 0.03
    assert max(shares) < 0.4
    assert max(shares) > 3 * min(shares)


def test_nuclei_touch(samples: list[Sample]) -> None:
    """In most pictures some region is far too large for one nucleus."""
    clumped = 0
    for s in samples:
        regions, number = ndimage.label(s.mask)
        sizes = np.bincount(regions.ravel(), minlength=number + 1)[1:]
        clumped += sizes.max() > 2.5 * np.median(sizes)
    assert clumped > len(samples) / 2


def test_exposures_differ(samples: list[Sample]) -> None:
    levels = [s.image[s.mask > 0].mean() for s in samples if is_grey(s)]
    assert max(levels) > 4 * min(levels)


def test_no_global_threshold_scores_over_070(
    samples: list[Sample], best_threshold: Callable[[Sequence[Sample]], float]
) -> None:
    assert 0.3 < best_threshold(samples) <= 0.70
