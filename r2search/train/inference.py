"""Whole images by overlapping tiles: the one way that validation, evaluation and prediction go."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from r2search.config import TrialConfig
from r2search.data.patches import blend_weights, tiles
from r2search.data.prepare import Preparation, resize_probability
from r2search.models.unet import UNet
from r2search.train.hardware import Hardware, autocast, place_images

Places = list[tuple[slice, slice]]


@dataclass(frozen=True, slots=True)
class Predictor:
    """A network, already on its hardware, with all else that predicting needs."""

    model: UNet
    config: TrialConfig
    preparation: Preparation
    hardware: Hardware

    @torch.inference_mode()
    def probability(
        self, image: NDArray[np.uint8], fov: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """Probability of each foreground class at every pixel, (F, H, W), of an image (H, W, C).

        F is 1 for one foreground class, else the number of classes without the background. The
        network sees the image as prepared, in tiles that are blended where they overlap; a side
        shorter than a tile is continued by reflection. What it says is brought back to the
        image's own size. With `fov` (H, W), pixels outside it are 0; inside it nothing changes.
        The network is left in the mode it was in. An output that is not finite raises
        FloatingPointError.
        """
        prepared = self.preparation.image(image)
        (height, width), edge = prepared.shape[:2], self.config.tile
        below, right = max(edge - height, 0), max(edge - width, 0)
        padded = np.pad(
            self.preparation.standardize(prepared), ((0, below), (0, right), (0, 0)), mode="reflect"
        )
        overlap = self.config.inference.overlap
        places = [
            (slice(top, top + edge), slice(left, left + edge))
            for top, left in tiles(height + below, width + right, edge, overlap)
        ]
        if fov is not None and fov.shape == (height, width):
            places = [place for place in places if fov[place].any()]
        was_training = self.model.training
        self.model.eval()
        try:
            blended = self._blend(padded, places)
        finally:
            self.model.train(was_training)
        if not np.isfinite(blended).all():
            raise FloatingPointError("the network's output is not finite")
        probability = resize_probability(blended[:, :height, :width], image.shape[:2])
        return probability if fov is None else probability * fov

    def _blend(self, padded: NDArray[np.float32], places: Places) -> NDArray[np.float32]:
        """Probabilities (F, H, W) of a standardised image; 0 where no tile lies."""
        inference = self.config.inference
        weights = blend_weights(self.config.tile, inference.overlap)
        total = np.zeros((max(1, self.config.model.classes - 1), *padded.shape[:2]), np.float32)
        weight = np.zeros(padded.shape[:2], np.float32)
        for first in range(0, len(places), inference.batch_size):
            batch = places[first : first + inference.batch_size]
            predicted = self._predict(np.stack([padded[place] for place in batch]))
            for place, probability in zip(batch, predicted, strict=True):
                total[:, *place] += probability * weights
                weight[place] += weights
        # Rounding can lift a mean of ones above 1.
        covered = np.maximum(weight, np.finfo(np.float32).tiny)
        return np.minimum(total / covered, 1.0, dtype=np.float32)

    def _predict(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities (N, F, H, W) of tiles (N, H, W, C)."""
        images = place_images(torch.from_numpy(batch).permute(0, 3, 1, 2), self.hardware)
        with autocast(self.hardware):
            logits: torch.Tensor = self.model(images)
        logits = logits.float()
        several = logits.shape[1] > 1
        foreground = logits.softmax(1)[:, 1:] if several else logits.sigmoid()
        probability: NDArray[np.float32] = foreground.cpu().numpy()
        return probability
