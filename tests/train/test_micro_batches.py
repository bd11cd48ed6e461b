"""A batch in parts has the gradient of the whole; running out of memory is recognised."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from r2search.config import TrialConfig
from r2search.data.sampler import Batch
from r2search.models.unet import build_model
from r2search.train.hardware import Hardware, training_step
from r2search.train.losses import LOSSES
from r2search.train.micro_batches import halved, is_out_of_memory, micro_batches

FLOAT = Hardware("cpu", "float32", "contiguous", 1)


def config_of(loss: str, class_weights: Any = (1.0, 3.0), batch_size: int = 6) -> TrialConfig:
    return TrialConfig.model_validate(
        {
            # An instance norm sees one patch at a time, so parts change nothing for it.
            "model": {"block": "conv", "depth": 1, "base_filters": 2, "norm": "instance"},
            "train": {"loss": loss, "class_weights": class_weights, "batch_size": batch_size},
        }
    )


def batch_of(count: int, seed: int = 0) -> Batch:
    """Patches whose foreground and fields of view are of very different sizes."""
    rng = np.random.default_rng(seed)
    masks = rng.random((count, 8, 8)) < np.linspace(0, 0.9, count)[:, None, None]
    fovs = rng.random((count, 8, 8)) < np.linspace(1, 0.1, count)[:, None, None]
    images = rng.normal(size=(count, 8, 8, 3)).astype(np.float32).transpose(0, 3, 1, 2)
    return Batch(images, masks.astype(np.uint8), fovs)


def gradient_of(batch: Batch, micro_batch: int | None, config: TrialConfig) -> tuple[float, Any]:
    """The loss of one step, and the gradient that it took."""
    model = build_model(config.model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    loss = training_step(
        model, optimizer, micro_batches(batch, micro_batch, config, FLOAT), FLOAT
    ).item()
    return loss, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("loss", ["bce", "focal"])
@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_parts_have_the_loss_and_the_gradient_of_the_batch(loss: str, micro_batch: int) -> None:
    config, batch = config_of(loss), batch_of(6)
    whole, expected = gradient_of(batch, None, config)
    parts, gradient = gradient_of(batch, micro_batch, config)
    assert parts == pytest.approx(whole, rel=1e-5)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)
    assert expected.abs().max() > 1e-3


def test_a_loss_of_sums_is_the_mean_of_its_parts_by_the_weights_of_their_pixels() -> None:
    config, batch = config_of("dice"), batch_of(4)
    losses, weights = [], []
    model = build_model(config.model)
    for part in (slice(0, 2), slice(2, 4)):
        images, masks, fovs = (torch.from_numpy(whole[part]) for whole in batch)
        losses.append(LOSSES["dice"](model(images), masks, fovs, (1.0, 3.0)).item())
        weights.append(float((fovs * (1 + 2 * masks)).sum()))
    expected = np.average(losses, weights=weights)
    assert gradient_of(batch, 2, config)[0] == pytest.approx(expected, rel=1e-5)


@settings(max_examples=30)
@given(count=st.integers(1, 20), micro_batch=st.integers(1, 24))
def test_parts_hold_every_patch_once_and_no_more_than_they_may(
    count: int, micro_batch: int
) -> None:
    batch = batch_of(count)
    parts = [images for images, _ in micro_batches(batch, micro_batch, config_of("bce"), FLOAT)]
    sizes = [len(images) for images in parts]
    assert max(sizes) <= micro_batch
    assert max(sizes) - min(sizes) <= 1
    np.testing.assert_array_equal(torch.cat(parts).numpy(), batch.images)


def test_a_batch_outside_the_field_of_view_has_no_gradient() -> None:
    batch = batch_of(4)._replace(fovs=np.zeros((4, 8, 8), np.bool_))
    loss, gradient = gradient_of(batch, 2, config_of("bce"))
    assert loss == 0
    assert not gradient.any()


@pytest.mark.parametrize(
    ("micro_batch", "batch_size", "half"),
    [(None, 6, 3), (None, 7, 3), (4, 6, 2), (100, 6, 3), (2, 6, 1), (1, 6, 0), (None, 1, 0)],
)
def test_half_a_micro_batch_is_smaller_than_the_batch(
    micro_batch: int | None, batch_size: int, half: int
) -> None:
    assert halved(micro_batch, config_of("bce", batch_size=batch_size)) == half


@pytest.mark.parametrize(
    "allocate",
    [
        lambda: torch.empty(2**47, dtype=torch.uint8),  # more than any address space
        lambda: np.empty(2**60, np.uint8),
    ],
)
def test_an_allocation_that_fails_is_recognised(allocate: Callable[[], object]) -> None:
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        allocate()
    assert is_out_of_memory(caught.value)


def test_a_gpu_that_is_full_is_recognised_and_a_mistake_is_not() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("not enough memory of the past"))
