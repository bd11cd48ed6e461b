"""What is done to an image before the network sees it. A bundle repeats it exactly."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from r2search.config import DataConfig
from r2search.data.patches import resized_shape
from r2search.data.samples import MIN_STD, Sample, histograms, moments

CLAHE_LIMIT = 2.0  # times the mean of a histogram bin; more is cut off and dealt out
CLAHE_TILES = 8  # down and across
UNIT = 255.0  # grey levels
COUNTED = 1024  # rows whose grey levels are counted at a time

Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]  # image, mask, fov
Pixels = NDArray[np.float32]
Scale = tuple[Pixels, Pixels]  # what to subtract and to divide by, one a channel


class Rows(Protocol):
    """An image (H, W, C) of which some rows are taken at a time: an array, or a large file."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: slice, /) -> NDArray[np.uint8]: ...


@dataclass(frozen=True, slots=True)
class Preparation:
    """Resizing, colour, contrast and standardisation, as `config` has them.

    `mean` and `std` are those of the training images, one a channel; empty unless `standardize`
    is `dataset`.
    """

    config: DataConfig
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image (H, W, C) in the network's size and channels, still of grey levels 0..255.

        The same array where nothing is to be done. Reducing averages areas, enlarging is linear.
        CLAHE (Zuiderveld 1994, Graphics Gems IV) changes the lightness of a colour picture only.
        """
        picked = _pick(image, self.config.channels)
        shape = self.shape(image)
        if shape != image.shape[:2]:
            picked = resize(picked, shape)
        return _clahe(picked) if self.config.enhance == "clahe" else picked

    def sample(self, sample: Sample) -> Arrays:
        """Image, mask and field of view of a sample as they are trained on."""
        image, shape = self.image(sample.image), self.shape(sample.image)
        if shape == sample.mask.shape:
            return image, sample.mask, sample.fov
        size = shape[::-1]
        mask = cv2.resize(sample.mask, size, interpolation=cv2.INTER_NEAREST_EXACT)
        fov = cv2.resize(sample.fov.view(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT)
        return image, np.asarray(mask, np.uint8), np.asarray(fov, np.uint8).view(np.bool_)

    def shape(self, image: NDArray[np.uint8]) -> tuple[int, int]:
        """Height and width after resizing."""
        return resized_shape(image.shape[:2], self.config.resize, self.config.aspect)

    @property
    def pointwise(self) -> bool:
        """Whether every pixel is prepared by itself, whatever the others are like."""
        return self.config.resize == "native" and self.config.enhance == "none"

    def scale(self, prepared: Rows) -> Scale:
        """What to subtract from a prepared image, then to divide by: float32, one a channel."""
        if self.config.standardize == "image":
            starts = range(0, prepared.shape[0], COUNTED)
            counts = [histograms(prepared[start : start + COUNTED]) for start in starts]
            return _shift_and_scale(np.sum(counts, axis=0))
        if self.config.standardize == "dataset":
            return np.array(self.mean, np.float32), np.array(self.std, np.float32)
        channels = prepared.shape[2]
        return np.zeros(channels, np.float32), np.full(channels, UNIT, np.float32)

    def standardize(self, prepared: NDArray[np.uint8], scale: Scale | None = None) -> Pixels:
        """A prepared image as the network takes it, (..., H, W, C) float32.

        `scale`, where it is given, is that of the image of which `prepared` has parts.
        """
        mean, std = scale or self.scale(prepared)
        return (prepared.astype(np.float32) - mean) / std


@dataclass(frozen=True, slots=True)
class PreparedRows:
    """The rows of an image (H, W, C) as a pointwise preparation makes them, when they are asked."""

    rows: Rows
    preparation: Preparation

    @property
    def shape(self) -> tuple[int, ...]:
        return *self.rows.shape[:2], self[0:1].shape[2]

    def __getitem__(self, rows: slice, /) -> NDArray[np.uint8]:
        assert self.preparation.pointwise
        return self.preparation.image(self.rows[rows])


def fit_preparation(config: DataConfig, samples: Iterable[Sample]) -> Preparation:
    """The preparation by `config`, with what it needs to know of the training images."""
    bare = Preparation(config)
    if config.standardize != "dataset":
        return bare
    counts = [histograms(bare.image(sample.image)) for sample in samples]
    mean, std = _shift_and_scale(np.sum(counts, axis=0))
    return Preparation(config, tuple(mean.tolist()), tuple(std.tolist()))


def _shift_and_scale(counts: NDArray[np.int64]) -> Scale:
    """Mean and deviation of histograms; the noise of an almost constant image is not blown up."""
    mean, std = moments(counts)
    return mean, np.maximum(std, MIN_STD)


def resize(image: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """An image (H, W, C) in another height and width.

    An axis that shrinks is averaged, one that grows is interpolated: areas first, where a stretch
    does both.
    """
    smaller = min(shape[0], image.shape[0]), min(shape[1], image.shape[1])
    for size, way in ((smaller, cv2.INTER_AREA), (shape, cv2.INTER_LINEAR)):
        if image.shape[:2] != size:
            resized = cv2.resize(image, size[::-1], interpolation=way)
            image = np.asarray(resized, np.uint8).reshape(*size, image.shape[2])
    return image


def at_most(image: NDArray[np.uint8], side: int | None) -> NDArray[np.uint8]:
    """An image (H, W, C) whose longer edge is at most `side` pixels; None leaves it."""
    longer = max(image.shape[:2])
    if side is None or longer <= side:
        return image
    return resize(image, resized_shape(image.shape[:2], side, "keep"))


def mask_at_most(mask: NDArray[np.uint8], side: int | None) -> NDArray[np.uint8]:
    """A mask (H, W) as `at_most` has it; class indices are not mixed."""
    if side is None or max(mask.shape) <= side:
        return mask
    shape = resized_shape(mask.shape, side, "keep")
    smaller = cv2.resize(mask, shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(smaller, np.uint8)


def resize_probability(
    probability: NDArray[np.float32], shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Probabilities (F, H, W) in another height and width, by linear interpolation."""
    if probability.shape[1:] == shape:
        return probability
    maps = [cv2.resize(each, shape[::-1], interpolation=cv2.INTER_LINEAR) for each in probability]
    return np.stack(maps)


def _pick(image: NDArray[np.uint8], channels: str) -> NDArray[np.uint8]:
    if image.shape[2] == 1 or channels == "rgb":
        return image
    if channels == "green":
        return image[:, :, 1:2]
    return np.asarray(Image.fromarray(image).convert("L"))[:, :, None]  # as `read_image` does


def _clahe(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    equalize = cv2.createCLAHE(CLAHE_LIMIT, (CLAHE_TILES, CLAHE_TILES)).apply
    if image.shape[2] == 1:
        return np.asarray(equalize(np.ascontiguousarray(image[:, :, 0])), np.uint8)[:, :, None]
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lab[:, :, 0] = equalize(np.ascontiguousarray(lab[:, :, 0]))
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.uint8)
