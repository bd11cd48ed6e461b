"""Whole images by overlapping tiles: the one way that validation, evaluation and prediction go."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from r2search.config import VIEWS, TrialConfig
from r2search.data.patches import Strip, strips
from r2search.data.prepare import Preparation, Scale, resize_probability
from r2search.models.folding import fold
from r2search.models.unet import UNet
from r2search.train.hardware import Hardware, autocast, place_images

Tile = tuple[Strip, Strip]  # down, across


@dataclass(frozen=True, slots=True)
class Predictor:
    """A network, already on its hardware, with all else that predicting needs."""

    model: UNet
    config: TrialConfig
    preparation: Preparation
    hardware: Hardware
    folded: nn.Module | None = None  # what predicts, in a snapshot

    @torch.inference_mode()
    def snapshot(self) -> "Predictor":
        """The same of the weights as they are now, to predict many images with."""
        return replace(self, folded=fold(self.model, getattr(torch, self.hardware.dtype)))

    def probability(
        self, image: NDArray[np.uint8], fov: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """Probability of each foreground class at every pixel, (F, H, W), of an image (H, W, C).

        F is 1 for one foreground class, else the number of classes without the background. The
        network sees the image as prepared, in tiles that are blended where they overlap. What it
        says is brought back to the image's own size. With `fov` (H, W), pixels outside it are 0;
        inside it nothing changes. An output that is not finite raises FloatingPointError. Beside
        the image and the result it takes the memory of a batch of tiles, and that of resizing.
        """
        if self.folded is None:  # the weights may change until the next call
            return self.snapshot().probability(image, fov)
        prepared = self.preparation.image(image)
        height, width = prepared.shape[:2]
        config, multiple = self.config, 2**self.config.model.depth
        down, across = (
            strips(size, config.tile, config.overlap, multiple) for size in (height, width)
        )
        tiles = [(row, column) for row in down for column in across]
        if fov is not None and fov.shape == (height, width):
            tiles = [tile for tile in tiles if fov[_place(tile)].any()]
        scale = self.preparation.scale(prepared)
        blended = self._blend(_reflected(prepared, down[-1], across[-1]), tiles, scale)
        probability = resize_probability(blended[:, :height, :width], image.shape[:2])
        if fov is not None:
            probability *= fov
        return probability

    def _blend(
        self, prepared: NDArray[np.uint8], tiles: list[Tile], scale: Scale
    ) -> NDArray[np.float32]:
        """Probabilities (F, H, W) of a prepared image; 0 where no tile lies."""
        size = self.config.tile_batch
        blended = np.zeros((max(1, self.config.model.classes - 1), *prepared.shape[:2]), np.float32)
        for first in range(0, len(tiles), size):
            batch = tiles[first : first + size]
            pixels = np.stack([prepared[_place(tile)] for tile in batch])
            predicted = self._predict(self.preparation.standardize(pixels, scale))
            for tile, probability in zip(batch, predicted, strict=True):
                (_, down), (_, across) = tile
                blended[:, *_place(tile)] += probability * np.outer(down, across)
        # Rounding can lift a mean of ones above 1.
        return np.minimum(blended, 1.0, out=blended)

    @torch.inference_mode()
    def _predict(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities (N, F, H, W) of tiles (N, H, W, C): the mean over the views of a tile."""
        images = torch.from_numpy(batch).permute(0, 3, 1, 2)
        views = VIEWS[self.config.inference.test_time]
        mean = torch.stack([self._view(images, *view) for view in views]).mean(0)
        probability: NDArray[np.float32] = mean.cpu().numpy()
        if not np.isfinite(probability).all():
            raise FloatingPointError("the network's output is not finite")
        return probability

    def _view(self, images: Tensor, turns: int, mirrored: bool) -> Tensor:
        """Probabilities (N, F, H, W) of images (N, C, H, W), seen turned and then mirrored."""
        assert self.folded is not None
        turned = images.rot90(turns, (2, 3))
        seen = place_images(turned.flip(3) if mirrored else turned, self.hardware)
        with autocast(self.hardware):
            logits: Tensor = self.folded(seen)
        logits = logits.float()
        several = logits.shape[1] > 1
        foreground = logits.softmax(1)[:, 1:] if several else logits.sigmoid()
        return (foreground.flip(3) if mirrored else foreground).rot90(-turns, (2, 3))


def _place(tile: Tile) -> tuple[slice, slice]:
    return tile[0][0], tile[1][0]


def _reflected(image: NDArray[np.uint8], lowest: Strip, rightmost: Strip) -> NDArray[np.uint8]:
    """An image (H, W, C) continued by reflection to where its last tiles end."""
    below, right = lowest[0].stop - image.shape[0], rightmost[0].stop - image.shape[1]
    if not below and not right:
        return image
    return np.pad(image, ((0, below), (0, right), (0, 0)), mode="reflect")
