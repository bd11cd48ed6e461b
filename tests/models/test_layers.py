"""The faster layers give what torch's give: results, gradients, running statistics, names."""

import copy

import pytest
import torch
from torch import Tensor, nn

from r2search.config import ModelConfig
from r2search.models import layers
from r2search.models.layers import BatchNorm2d, Conv2d, ConvTranspose2d
from r2search.models.unet import build_model

LAST = torch.channels_last
# A layer of ours, torch's, and an input (N, C, H, W) whose training step takes another way.
CASES = {
    "conv": (Conv2d(64, 96, 3, padding=1, bias=False), (2, 64, 4, 4)),
    "conv, bias, uneven": (Conv2d(96, 64, 3, padding=1), (3, 96, 5, 3)),
    "conv, 1 x 2": (Conv2d(64, 64, 3, padding=1), (1, 64, 1, 2)),
    "transposed": (ConvTranspose2d(8, 4, 2, stride=2), (2, 8, 3, 5)),
    "transposed3": (
        ConvTranspose2d(8, 4, 3, stride=2, padding=1, output_padding=1),
        (2, 8, 5, 3),
    ),
    "norm": (BatchNorm2d(2), (2, 2, 6, 5)),
    "norm, an odd number": (BatchNorm2d(2), (1, 2, 6, 5)),
    "norm, three": (BatchNorm2d(3), (2, 3, 2, 7)),
}


def plain(layer: nn.Module) -> nn.Module:
    """The same layer by torch."""
    twin = copy.deepcopy(layer)
    twin.__class__ = type(layer).__bases__[0]
    return twin


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def step(layer: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """All that a step through the layer leaves behind."""
    x = x.clone(memory_format=LAST).requires_grad_()
    y = layer(x)
    y.backward(noise(*y.shape, seed=1).to(y.dtype))
    assert y.is_contiguous(memory_format=LAST)
    assert x.grad is not None
    assert x.grad.is_contiguous(memory_format=LAST)
    found = {"y": y.detach(), "x": x.grad}
    found |= {f"grad {name}": p.grad for name, p in layer.named_parameters() if p.grad is not None}
    return found | {name: buffer.clone() for name, buffer in layer.named_buffers()}


@pytest.mark.parametrize("name", CASES)
def test_results_and_gradients_are_those_of_torch(name: str) -> None:
    layer, shape = CASES[name]
    layer = copy.deepcopy(layer).double().to(memory_format=LAST)
    for value in layer.parameters():
        value.data.copy_(noise(*value.shape, seed=2))
    x, twin = 3 + 2 * noise(*shape), plain(layer)
    ours, theirs = step(layer, x), step(twin, x)
    assert ours.keys() == theirs.keys()
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_in_bfloat16_they_are_as_exact_as_those_of_torch(name: str) -> None:
    layer, shape = CASES[name]
    if "norm" in name:  # autocast leaves norms alone
        layer, shape = BatchNorm2d(8), (2, 8, 16, 12)
    x = (1 + noise(*shape)).float()
    exact = step(plain(copy.deepcopy(layer).double().to(memory_format=LAST)), x.double())

    def error(layer: nn.Module) -> dict[str, float]:
        with torch.autocast("cpu", torch.bfloat16):
            found = step(layer.to(memory_format=LAST), x.bfloat16())
        return {k: _distance(v, exact[k]) for k, v in found.items() if v.is_floating_point()}

    ours, theirs = error(copy.deepcopy(layer)), error(plain(layer))
    for key in theirs:
        assert ours[key] <= 2 * theirs[key] + 1e-3, key
        assert ours[key] < 0.02, key


def _distance(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b).norm() / b.norm().clamp(min=1e-12))


@pytest.mark.parametrize("name", CASES)
def test_only_a_training_step_in_channels_last_goes_another_way(name: str) -> None:
    layer, shape = CASES[name]
    layer = copy.deepcopy(layer).double()
    x = noise(*shape)

    def by_us(y: Tensor) -> bool:
        return y.grad_fn is not None and y.grad_fn.name() in (
            "_DeepBackward",
            "_TransposedBackward",
            "_NarrowBackward",
        )

    last = x.contiguous(memory_format=LAST)
    assert by_us(layer(last))
    assert not by_us(layer(x.contiguous()))
    with torch.no_grad():
        assert not by_us(layer(last))
    if isinstance(layer, BatchNorm2d):
        assert not by_us(layer.eval()(last))


@pytest.mark.parametrize("name", CASES)
def test_parameters_have_the_names_of_torch(name: str) -> None:
    layer, _ = CASES[name]
    assert layer.state_dict().keys() == plain(layer).state_dict().keys()


def test_wide_norms_and_large_maps_are_left_to_torch() -> None:
    wide = noise(2, 16, 4, 4).to(memory_format=LAST)
    assert BatchNorm2d(16).double()(wide).grad_fn.name() == "NativeBatchNormBackward0"
    large = noise(1, 64, 8, 8).to(memory_format=LAST)
    assert Conv2d(64, 64, 3, padding=1).double()(large).grad_fn.name() == "ConvolutionBackward0"


def test_a_norm_without_momentum_keeps_its_statistics() -> None:
    norm = BatchNorm2d(2).double()
    norm.momentum, norm.num_batches_tracked = 0.0, None
    norm(noise(2, 2, 4, 4).to(memory_format=LAST))
    assert torch.equal(norm.running_mean, torch.zeros(2))
    assert torch.equal(norm.running_var, torch.ones(2))


@pytest.mark.parametrize("checkpoint_activations", [False, True])
@pytest.mark.parametrize("block", ["residual", "recurrent_residual", "preact_residual"])
def test_a_network_learns_the_same(
    block: str, checkpoint_activations: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ModelConfig.model_validate(
        {"block": block, "base_filters": 4, "depth": 4, "activation": "relu"}
    )
    x = noise(2, 3, 32, 32).to(memory_format=LAST)

    def learnt() -> dict[str, Tensor]:
        model = build_model(config, checkpoint_activations=checkpoint_activations).double()
        model.to(memory_format=LAST)  # type: ignore[call-overload]
        model(x).square().mean().backward()
        found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        return found | dict(model.named_buffers())

    ours = learnt()
    monkeypatch.setattr(layers, "_slow", lambda x: False)
    torch.testing.assert_close(ours, learnt(), rtol=1e-7, atol=1e-9)
