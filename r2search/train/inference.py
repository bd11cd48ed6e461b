"""Whole images by overlapping tiles: the one way that validation, evaluation and prediction go."""

import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from r2search.config import VIEWS, TrialConfig
from r2search.data.patches import Strip, strips
from r2search.data.prepare import Preparation, PreparedRows, Rows, resize_probability
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
        shape = prepared.shape[:2]
        inside = fov if fov is not None and fov.shape == shape else None
        blended, top = np.empty((self.foregrounds, *shape), np.float32), 0
        for band in self.bands(prepared, inside):
            blended[:, top : top + band.shape[1]] = band
            top += band.shape[1]
        probability = resize_probability(blended, image.shape[:2])
        if fov is not None:
            probability *= fov
        return probability

    def rows(self, image: Rows) -> Iterator[NDArray[np.float32]]:
        """As `bands`, of an image (H, W, C) that is prepared when its rows are asked for."""
        return self.bands(PreparedRows(image, self.preparation))

    @property
    def pointwise(self) -> bool:
        """Whether an image is prepared pixel by pixel: only then has it `rows`."""
        return self.preparation.pointwise

    @property
    def foregrounds(self) -> int:
        """Foreground classes: the F of a probability."""
        return max(1, self.config.model.classes - 1)

    def bands(
        self, prepared: Rows, fov: NDArray[np.bool_] | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """Probabilities (F, rows, W) of a prepared image (H, W, C), some rows after the other.

        Beside them it takes the memory of the rows that a batch of tiles lies in, however many
        the image has. Where all of a tile is outside `fov` (H, W), they are 0. Of a snapshot only.
        """
        height, width = prepared.shape[:2]
        config, multiple = self.config, 2**self.config.model.depth
        down, across = (
            strips(size, config.tile, config.overlap, multiple) for size in (height, width)
        )
        tiles = [(row, column) for row in down for column in across]
        if fov is not None:
            tiles = [tile for tile in tiles if fov[_place(tile)].any()]
        scale = self.preparation.scale(prepared)
        top, held = 0, np.zeros((self.foregrounds, 0, across[-1][0].stop), np.float32)
        for first in range(0, len(tiles), config.tile_batch):
            batch = tiles[first : first + config.tile_batch]
            begin, end = batch[0][0][0].start, batch[-1][0][0].stop
            held = _grown(held, end - top)
            if begin > top:  # no tile that is left reaches further up
                yield _finished(held[:, : begin - top], width)
                top, held = begin, held[:, begin - top :]
            rows = _continued(prepared, begin, end, held.shape[2])
            pixels = np.stack([rows[_place(tile, begin)] for tile in batch])
            predicted = self._predict(self.preparation.standardize(pixels, scale))
            for tile, probability in zip(batch, predicted, strict=True):
                (_, weights_down), (_, weights_across) = tile
                weights = np.outer(weights_down, weights_across)
                held[:, *_place(tile, begin)] += probability * weights
        yield _finished(_grown(held, height - top)[:, : height - top], width)

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


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Several networks that predict as one: the mean of their probabilities."""

    members: tuple[Predictor, ...]  # of the same images and classes, two or more

    def snapshot(self) -> "Ensemble":
        """The same of the weights as they are now, to predict many images with."""
        return Ensemble(tuple(member.snapshot() for member in self.members))

    def probability(
        self, image: NDArray[np.uint8], fov: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """As of a `Predictor`; each member prepares the image in its own way."""
        return self._mean(member.probability(image, fov) for member in self.members)

    def rows(self, image: Rows) -> Iterator[NDArray[np.float32]]:
        """As of a `Predictor`; rows that one member has said wait for the others."""
        bands = [member.rows(image) for member in self.members]
        held = [next(each) for each in bands]
        while True:
            ready = min(each.shape[1] for each in held)
            yield self._mean(each[:, :ready] for each in held)
            held = [each[:, ready:] for each in held]
            for number, each in enumerate(held):
                if not each.shape[1]:
                    following = next(bands[number], None)
                    if following is None:
                        return  # all end with the image
                    held[number] = following

    @property
    def pointwise(self) -> bool:
        return all(member.pointwise for member in self.members)

    @property
    def config(self) -> TrialConfig:
        """That of the first member, whose threshold is the ensemble's."""
        return self.members[0].config

    @property
    def hardware(self) -> Hardware:
        return self.members[0].hardware

    def _mean(self, of_each: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
        total = reduce(operator.add, of_each)
        total /= np.float32(len(self.members))
        return np.minimum(total, 1.0, out=total)  # rounding can lift a mean of ones above 1


def _place(tile: Tile, top: int = 0) -> tuple[slice, slice]:
    """Rows and columns of a tile, the rows counted from `top`."""
    (rows, _), (columns, _) = tile
    return slice(rows.start - top, rows.stop - top), columns


def _grown(held: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    """Probabilities (F, rows, W) with zeros below, of so many rows at least."""
    missing = rows - held.shape[1]
    return np.pad(held, ((0, 0), (0, missing), (0, 0))) if missing > 0 else held


def _finished(blended: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Blended probabilities to which nothing is added any more, without what lies right of them."""
    # Rounding can lift a mean of ones above 1.
    return np.minimum(blended[:, :, :width], 1.0, out=blended[:, :, :width])


def _continued(image: Rows, begin: int, end: int, width: int) -> NDArray[np.uint8]:
    """Rows `begin` to `end` of an image (H, W, C), continued by reflection to `width` columns.

    So are its rows, where `end` lies below it.
    """
    below, right = max(0, end - image.shape[0]), width - image.shape[1]
    if not below and not right:
        return image[begin:end]
    source = np.pad(np.arange(image.shape[0]), (0, below), mode="reflect")[begin:end]
    rows = image[source.min() : source.max() + 1][source - source.min()]
    return np.pad(rows, ((0, 0), (0, right), (0, 0)), mode="reflect")
