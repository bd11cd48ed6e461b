"""Batches of random patches, cut from images in memory."""

from collections.abc import Generator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from r2search.config import TrialConfig
from r2search.data.augment import build_augmentation, light_tables
from r2search.data.patches import random_positions
from r2search.data.prepare import Arrays, Preparation
from r2search.data.samples import Sample, rng_for

TRIES = 10  # to find a patch with a pixel inside the field of view
LIGHTS = 256  # changes of light drawn for an epoch, at most; more patches share them evenly


class Batch(NamedTuple):
    """Patches of one step, new arrays that may be written to.

    `images` is a view of memory in the order N, P, P, C: torch takes it as channels_last.
    """

    images: NDArray[np.float32]  # (N, C, P, P), standardised as the preparation says
    masks: NDArray[np.uint8]  # (N, P, P), class index
    fovs: NDArray[np.bool_]  # (N, P, P), True where the loss counts


class PatchSampler:
    """The training patches of each epoch, the same for the same config and epoch.

    An epoch is n = ceil(epoch_pixels / patch^2) patches, so `epoch_pixels` to within one
    patch for every config. They are dealt evenly over `steps` = ceil(n / batch_size) batches,
    whose sizes differ by one at most: no step rests on a small remainder.
    """

    def __init__(
        self, samples: Sequence[Sample], config: TrialConfig, preparation: Preparation
    ) -> None:
        """Prepare the samples; kept uncopied where nothing is changed or added."""
        self._patch = config.patch
        self._seed = config.seed
        self._augment = build_augmentation(config.data.augmentation)
        prepared = [preparation.sample(sample) for sample in samples]
        self._scales = [preparation.scale(image) for image, _, _ in prepared]
        self._sources = [_at_least(self._patch, arrays) for arrays in prepared]
        self._sizes = np.array([image.shape[:2] for image, _, _ in self._sources], np.int64)
        areas = np.array([mask.size for _, mask, _ in prepared], np.float64)
        self._shares = areas / areas.sum()
        self.patches = -(-config.train.epoch_pixels // self._patch**2)
        self.steps = -(-self.patches // config.train.batch_size)

    def positions(self, epoch: int) -> NDArray[np.int64]:
        """(image, top, left) of every patch of an epoch, (patches, 3).

        An image is drawn by its area, so that every pixel is as likely. A patch without a pixel
        of the field of view is drawn again, `TRIES` times at most.
        """
        rng = rng_for(self._seed, "patches", epoch)
        places = self._draw(rng, self.patches)
        for _ in range(TRIES):
            blind = [n for n, place in enumerate(places) if not self._cut(place)[2].any()]
            if not blind:
                break
            places[blind] = self._draw(rng, len(blind))
        return places

    def batches(self, epoch: int, start: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of an epoch from step `start` on; `epoch` only names random streams.

        Each batch is the same whatever the start.
        """
        places, lights = self.positions(epoch), self._lights(epoch)
        parts = np.array_split(np.arange(self.patches), self.steps)
        for step, part in list(enumerate(parts))[start:]:
            self._augment.pixels.set_random_seed(self._stream("augment", epoch, step))
            yield self._batch(places[part], lights[part % LIGHTS])

    def _lights(self, epoch: int) -> NDArray[np.uint8]:
        """New grey levels for the old ones, (up to LIGHTS, 256, C)."""
        self._augment.light.set_random_seed(self._stream("light", epoch))
        count, channels = min(LIGHTS, self.patches), self._sources[0][0].shape[2]
        return light_tables(self._augment.light, count, channels)

    def _stream(self, *name: str | int) -> int:
        """The seed of a named stream, as albumentations takes it."""
        return int(rng_for(self._seed, *name).integers(2**32))

    def _batch(self, places: NDArray[np.int64], lights: NDArray[np.uint8]) -> Batch:
        """Fill new arrays: those of the samples may be read-only and shared.

        Light and standardisation are one table of 256 values: each pixel is read and written once.
        """
        shape = (len(places), self._patch, self._patch)
        images = np.empty((*shape, lights.shape[-1]), np.float32)
        masks, fovs = np.empty(shape, np.uint8), np.empty(shape, np.bool_)
        for n, place in enumerate(places):
            image, mask, fov = self._cut(place)
            new = self._augment.pixels(image=image, mask=mask, fov=fov.view(np.uint8))
            mean, std = self._scales[place[0]]
            table = (lights[n] - mean) / std
            cv2.LUT(new["image"], table[:, None], dst=images[n])
            masks[n], fovs[n] = new["mask"], new["fov"]
        return Batch(images.transpose(0, 3, 1, 2), masks, fovs)

    def _draw(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        chosen = rng.choice(len(self._sources), count, p=self._shares)
        return np.column_stack([chosen, random_positions(rng, self._sizes[chosen], self._patch)])

    def _cut(self, place: NDArray[np.int64]) -> Arrays:
        index, top, left = place
        window = np.s_[top : top + self._patch, left : left + self._patch]
        image, mask, fov = self._sources[index]
        return image[window], mask[window], fov[window]


def _at_least(patch: int, arrays: Arrays) -> Arrays:
    """Arrays reflected at the bottom and right up to the patch; fov False there."""
    image, mask, fov = arrays
    missing = [(0, max(patch - size, 0)) for size in mask.shape]
    if not any(after for _, after in missing):
        return arrays
    return (
        np.pad(image, [*missing, (0, 0)], mode="reflect"),
        np.pad(mask, missing, mode="reflect"),
        np.pad(fov, missing),
    )
