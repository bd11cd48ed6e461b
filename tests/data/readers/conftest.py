"""What tests of several readers share."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from r2search.data.samples import Sample


def _dice_by_level(channel: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Dice of `channel <= level` and of `channel > level` for each level, (2, 256)."""
    every = np.bincount(channel.ravel(), minlength=256).cumsum()
    found = np.bincount(channel[mask > 0], minlength=256).cumsum()
    above = np.stack([every, every[-1] - every]), np.stack([found, found[-1] - found])
    whole = above[0] + found[-1]
    return np.where(whole > 0, 2 * above[1] / np.maximum(whole, 1), 1.0)


def _best_threshold(samples: Sequence[Sample]) -> float:
    def channels(sample: Sample) -> NDArray[np.uint8]:
        image = sample.image
        if image.shape[2] == 1:
            return image
        grey = np.asarray(Image.fromarray(image).convert("L"))[..., None]
        return np.concatenate([image, grey], axis=2)

    scores = [
        [_dice_by_level(channel, sample.mask) for channel in np.moveaxis(channels(sample), 2, 0)]
        for sample in samples
    ]
    return float(np.mean(scores, axis=0).max())


@pytest.fixture(scope="session")
def best_threshold() -> Callable[[Sequence[Sample]], float]:
    """`best_threshold(samples)`: mean Dice of the one grey level that serves all images best.

    In the best channel or in luma, with what is brighter or what is darker as foreground.
    """
    return _best_threshold
