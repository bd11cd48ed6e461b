"""A folded network says what the network says in evaluation, with fewer layers."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from r2search.config import ModelConfig, TrainConfig
from r2search.models.blocks import ACTIVATIONS, BLOCKS, NORMS
from r2search.models.folding import FoldedUnit, fold
from r2search.models.unet import UNet, build_model
from r2search.train.hardware import Hardware, autocast, detect, place_images, place_model

FLOAT = Hardware("cpu", "float32", "contiguous", 1)
BFLOAT = detect(TrainConfig(dtype="bfloat16", memory_format="channels_last"), threads=1)


def used(hardware: Hardware = FLOAT, **config: Any) -> UNet:
    """A network whose norms have seen some images: no statistic, scale or shift is the first."""
    model = build_model(ModelConfig.model_validate({"depth": 2, "base_filters": 4} | config))
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, std=0.3, generator=generator)
    with torch.no_grad():
        for _ in range(20):
            model(1.5 * torch.randn(2, 3, 32, 32, generator=generator) + 0.5)
    place_model(model, hardware)
    return model.eval()


def images(*shape: int) -> Tensor:
    return 1.5 * torch.randn(shape, generator=torch.Generator().manual_seed(1)) + 0.5


@torch.inference_mode()
def both(model: UNet, x: Tensor, hardware: Hardware) -> tuple[Tensor, Tensor]:
    """Probabilities of the network, and of the folded one."""
    folded = fold(model, getattr(torch, hardware.dtype))
    with autocast(hardware):
        seen = place_images(x, hardware)
        return model(seen).float().sigmoid(), folded(seen).float().sigmoid()


@settings(deadline=None, max_examples=15)
@given(
    st.fixed_dictionaries(
        {
            "block": st.sampled_from(sorted(BLOCKS)),
            "norm": st.sampled_from(sorted(NORMS)),
            "activation": st.sampled_from(sorted(ACTIVATIONS)),
            "recurrence": st.integers(0, 3),
            "recurrent_norm": st.sampled_from(["per_step", "shared"]),
            "conv_bias": st.booleans(),
            "dropout": st.sampled_from([0.0, 0.5]),
            "upsampling": st.sampled_from(["transpose2", "nearest"]),
            "skip": st.sampled_from(["concat", "add"]),
        }
    )
)
def test_folding_changes_no_probability(config: dict[str, Any]) -> None:
    expected, found = both(used(**config), images(2, 3, 24, 20), FLOAT)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("recurrent_norm", ["per_step", "shared"])
@pytest.mark.parametrize("block", sorted(BLOCKS))
def test_in_bfloat16_folding_changes_probabilities_by_rounding_alone(
    block: str, recurrent_norm: str
) -> None:
    model = used(BFLOAT, block=block, recurrent_norm=recurrent_norm)
    expected, found = both(model, images(4, 3, 48, 48), BFLOAT)
    exact, _ = both(used(block=block, recurrent_norm=recurrent_norm), images(4, 3, 48, 48), FLOAT)
    rounding = (expected - exact).abs().mean()
    assert (found - exact).abs().mean() < 1.5 * rounding


@pytest.mark.parametrize(
    ("block", "left"),
    # Each of the five blocks of depth 2 but the first begins with a norm and an activation.
    [(block, 4 if block == "preact_residual" else 0) for block in sorted(BLOCKS)],
)
def test_only_norms_without_a_convolution_before_them_are_left(block: str, left: int) -> None:
    folded = fold(used(block=block), torch.float32)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules()) == left


@pytest.mark.parametrize("recurrent_norm", ["per_step", "shared"])
def test_a_unit_has_a_kernel_for_each_of_its_norms(recurrent_norm: str) -> None:
    folded = fold(used(recurrence=2, recurrent_norm=recurrent_norm), torch.float32)
    kernels = {len(m.convs) for m in folded.modules() if isinstance(m, FoldedUnit)}
    assert kernels == {3 if recurrent_norm == "per_step" else 1}


def test_convolutions_hold_their_weights_in_the_type_asked_and_keep_their_layout() -> None:
    folded = fold(used(BFLOAT, norm="group"), torch.bfloat16)
    kinds: dict[type, set[torch.dtype]] = {}
    for module in folded.modules():
        for value in module.parameters(recurse=False):
            kinds.setdefault(type(module), set()).add(value.dtype)
            if value.dim() == 4:
                assert value.is_contiguous(memory_format=torch.channels_last)
    norms = {dtype for kind, dtypes in kinds.items() if "Norm" in kind.__name__ for dtype in dtypes}
    convs = {dtype for kind, dtypes in kinds.items() if "Conv" in kind.__name__ for dtype in dtypes}
    assert convs == {torch.bfloat16}
    assert norms == {torch.float32}


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(training: bool) -> None:
    model = used().train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = images(1, 3, 16, 16)
    with torch.inference_mode():
        folded = fold(model, torch.float32)
        expected = folded(x)
        nn.init.zeros_(model.head.weight)
        torch.testing.assert_close(folded(x), expected)
    del before["head.weight"]
    assert model.training == training
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
