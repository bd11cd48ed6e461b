"""Whole images by overlapping tiles: the one way that validation, evaluation and prediction go."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from r2search.config import InferenceConfig
from r2search.data.patches import blend_weights, tiles
from r2search.data.samples import standardize
from r2search.train.hardware import Hardware, autocast, place_images


@torch.inference_mode()
def predict_probability(
    model: nn.Module,
    image: NDArray[np.uint8],
    config: InferenceConfig,
    hardware: Hardware,
    fov: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Probability of foreground at every pixel, (H, W), of an image (H, W, C) of any size.

    The model, already on `hardware`, predicts in evaluation mode and is left in the mode it was
    in. Overlaps of tiles are blended; a side shorter than a tile is continued by reflection.
    With `fov` (H, W), pixels outside it are 0, and tiles wholly outside it are skipped: inside
    the field of view nothing changes. A network whose output is not finite raises
    FloatingPointError.
    """
    height, width, _ = image.shape
    tile = config.tile
    below, right = max(tile - height, 0), max(tile - width, 0)
    padded = np.pad(standardize(image), ((0, below), (0, right), (0, 0)), mode="reflect")
    places = [
        (slice(top, top + tile), slice(left, left + tile))
        for top, left in tiles(max(height, tile), max(width, tile), tile, config.overlap)
    ]
    if fov is not None:
        places = [place for place in places if fov[place].any()]
    blend = blend_weights(tile, config.overlap)
    total = np.zeros(padded.shape[:2], np.float32)
    weight = np.zeros_like(total)
    was_training = model.training
    model.eval()
    try:
        for first in range(0, len(places), config.batch_size):
            batch = places[first : first + config.batch_size]
            predicted = _predict_tiles(
                model, np.stack([padded[place] for place in batch]), hardware
            )
            for place, probability in zip(batch, predicted, strict=True):
                total[place] += probability * blend
                weight[place] += blend
    finally:
        model.train(was_training)
    if not np.isfinite(total).all():
        raise FloatingPointError("the network's output is not finite")
    covered = np.maximum(weight, np.finfo(np.float32).tiny)  # pixels of skipped tiles stay 0
    # Rounding can lift a mean of ones above 1.
    probability = np.minimum(total / covered, 1.0, dtype=np.float32)[:height, :width]
    return probability if fov is None else probability * fov


def _predict_tiles(
    model: nn.Module, batch: NDArray[np.float32], hardware: Hardware
) -> NDArray[np.float32]:
    """Probabilities (N, H, W) of tiles (N, H, W, C)."""
    images = place_images(torch.from_numpy(batch).permute(0, 3, 1, 2), hardware)
    with autocast(hardware):
        logits = model(images)
    probability: NDArray[np.float32] = torch.sigmoid(logits[:, 0].float()).cpu().numpy()
    return probability
