"""What photographs of the retina have in common: a lit disc on a dark surround."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

RIM = 0.15  # of the retina's brightness: the border with its JPEG noise is darker


def field_of_view(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The lit disc of a fundus photograph, (H, W): the largest bright region, its holes filled.

    Bright is what exceeds RIM of the upper quartile of brightness (the largest channel), so that
    a darker exposure gives the same disc. An image without a bright region is all inside.
    """
    brightness = image.max(axis=2)
    regions, num_regions = ndimage.label(brightness > RIM * np.percentile(brightness, 75))
    if num_regions == 0:
        return np.ones(brightness.shape, dtype=np.bool_)
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0  # the dark
    return np.asarray(ndimage.binary_fill_holes(regions == sizes.argmax()), dtype=np.bool_)
