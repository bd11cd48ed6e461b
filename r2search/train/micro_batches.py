"""Batches in parts, where memory does not hold the work on a whole one."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from r2search.config import TrialConfig
from r2search.data.sampler import Batch
from r2search.train.hardware import Hardware, MicroBatch, place_images
from r2search.train.losses import LOSSES, pixel_weights

# What torch says where it has no error of its own for it: of a CPU, of cuBLAS and cuDNN.
NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of the machine or of the GPU did not suffice."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)
    )


def halved(micro_batch: int | None, config: TrialConfig) -> int:
    """Half a micro-batch (None: the whole batch); 0 when it cannot be halved."""
    whole = config.train.batch_size
    return min(micro_batch or whole, whole) // 2


def micro_batches(
    batch: Batch, micro_batch: int | None, config: TrialConfig, hardware: Hardware
) -> Iterator[MicroBatch]:
    """A batch in parts of at most `micro_batch` patches, whose sizes differ by one at most.

    Their losses add up to that of the batch where it is a mean over pixels (bce, focal): each part
    has the share that its pixels have in the weights of the batch. Of losses that are sums over the
    batch (dice, tversky) it is the mean of those of the parts, by the same shares.
    """
    images = torch.from_numpy(batch.images)
    masks = torch.from_numpy(batch.masks).to(hardware.device, non_blocking=True)
    fovs = torch.from_numpy(batch.fovs).to(hardware.device, non_blocking=True)
    count = -(-len(images) // micro_batch) if micro_batch else 1
    if count == 1:
        yield place_images(images, hardware), _loss(config, masks, fovs)
        return
    weights = pixel_weights(config.model.classes, masks, fovs, config.train.class_weights)
    shares = weights.sum((1, 2)) / weights.sum().clamp(min=torch.finfo(torch.float32).tiny)
    parts = (whole.tensor_split(count) for whole in (images, masks, fovs, shares))
    for some, mask, fov, share in zip(*parts, strict=True):
        yield place_images(some, hardware), _part(_loss(config, mask, fov), share.sum())


def _loss(config: TrialConfig, masks: Tensor, fovs: Tensor) -> Callable[[Tensor], Tensor]:
    loss, class_weights = LOSSES[config.train.loss], config.train.class_weights
    return lambda logits: loss(logits, masks, fovs, class_weights)


def _part(loss: Callable[[Tensor], Tensor], share: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda logits: loss(logits) * share
