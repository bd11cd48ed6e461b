"""The arithmetic of a config's cost, against the network itself."""

import subprocess
import sys
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from r2search.config import (
    DataConfig,
    InferenceConfig,
    ModelConfig,
    TrainConfig,
    TrialConfig,
)
from r2search.models.cost import Cost, Rate, epoch_seconds, model_cost
from r2search.models.unet import UNet

CHOICES: dict[str, list[Any]] = {
    "block": ["conv", "residual", "preact_residual", "recurrent", "recurrent_residual"],
    "norm": ["batch", "instance", "group"],
    "recurrent_norm": ["per_step", "shared"],
    "upsampling": ["transpose2", "transpose3", "nearest"],
    "downsampling": ["maxpool", "stride"],
    "skip": ["concat", "add"],
    "conv_bias": [False, True],
}

configs = st.fixed_dictionaries(
    {name: st.sampled_from(values) for name, values in CHOICES.items()}
    | {
        "depth": st.integers(1, 5),
        "base_filters": st.integers(1, 128),
        "recurrence": st.integers(0, 3),
        "dropout": st.sampled_from([0.0, 0.3]),
        "activation": st.sampled_from(["relu", "leaky_relu", "elu", "gelu", "silu"]),
        "in_channels": st.integers(1, 16),
        "classes": st.integers(1, 12),
    }
).map(ModelConfig.model_validate)


def on_meta(config: ModelConfig) -> UNet:
    with torch.device("meta"):
        return UNet(config)


def counts(model: UNet) -> tuple[int, int]:
    running = sum(b.numel() for name, b in model.named_buffers() if "running" in name)
    return sum(p.numel() for p in model.parameters()), running


class Written(TorchDispatchMode):
    """Counts the elements of the first result of every layer that writes feature maps."""

    LAYERS = (
        {"convolution", "native_batch_norm", "native_group_norm", "max_pool2d_with_indices"}
        | {"upsample_nearest2d", "cat", "add", "add_", "mul"}
        | {"relu_", "leaky_relu_", "elu_", "gelu", "silu"}
    )

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        first = out[0] if isinstance(out, tuple | list) else out
        if func.overloadpacket.__name__ in self.LAYERS and first.ndim >= 3:  # feature maps
            self.elements += first.numel()
        return out


@pytest.mark.parametrize("block", CHOICES["block"])
def test_parameters_are_the_models_for_every_combination(block: str) -> None:
    for values in product(*CHOICES.values()):
        config = ModelConfig.model_validate(
            {**dict(zip(CHOICES, values, strict=True)), "depth": 2, "base_filters": 4}
        )
        if config.block == block:
            cost = model_cost(config, 16, 16)
            found = (cost.parameters, cost.running_statistics)
            assert found == counts(on_meta(config)), config


@given(config=configs, height=st.integers(1, 130), width=st.integers(1, 130))
@settings(max_examples=12, deadline=None, phases=[Phase.reuse, Phase.generate])  # slow to shrink
def test_all_four_numbers_are_those_of_a_forward_pass(
    config: ModelConfig, height: int, width: int
) -> None:
    model = on_meta(config)
    # Two patches, so that a batch norm has two values where the bottleneck has one pixel.
    x = torch.empty(2, config.in_channels, height, width, device="meta")
    cost = model_cost(config, height, width)
    with FlopCounterMode(display=False) as flops:
        model(x)
    with Written() as written:
        model(x)
    assert (cost.parameters, cost.running_statistics) == counts(model)
    assert 2 * cost.flops == flops.get_total_flops()
    assert 2 * cost.activations == written.elements


def test_the_published_residual_unet_costs_what_was_published() -> None:
    config = ModelConfig(block="residual", depth=4, base_filters=64, conv_bias=True)
    cost = model_cost(config, 64, 64)
    assert (cost.parameters, cost.running_statistics) == (32_445_185, 17_664)


def test_the_smallest_network_costs_what_a_hand_counts() -> None:
    # conv, depth 1, 1 filter, 1 channel, 2 x 2 pixels. Kernels: 1-1, 1-1 at 4 pixels; 1-2, 2-2 at
    # 1 pixel; transposed 2-1 of 2 x 2 from 1 pixel; 2-1, 1-1 at 4 pixels; head 1-1 of 1 x 1.
    config = ModelConfig(block="conv", depth=1, base_filters=1, in_channels=1)
    macs = 4 * (9 + 9) + 1 * (18 + 36) + 1 * (2 * 4) + 4 * (18 + 9) + 4 * 1  # 246
    kernels = 9 + 9 + 18 + 36 + 18 + 9
    norms = 2 * (1 + 1 + 2 + 2 + 1 + 1)
    # Written: 3 a unit (convolution, norm, activation), two units a block; pool; up; cat; head.
    written = 4 * 6 + 1 + 2 * 6 + 4 + 8 + 4 * 6 + 4
    assert model_cost(config, 2, 2) == Cost(
        parameters=kernels + norms + (2 * 4 + 1) + 2,
        running_statistics=norms,
        flops=2 * macs,
        activations=written,
    )


def test_sides_are_rounded_up_to_what_the_network_pads_to() -> None:
    config = ModelConfig(depth=3)
    assert model_cost(config, 17, 24) == model_cost(config, 24, 24)
    assert model_cost(config, 16, 24) != model_cost(config, 24, 24)


def test_an_epoch_takes_three_forward_passes_a_patch_and_one_a_validation_pixel() -> None:
    config = TrialConfig(
        data=DataConfig(patch_size=64),
        model=ModelConfig(depth=2, base_filters=8),
        train=TrainConfig(epoch_pixels=10_000),
        inference=InferenceConfig(tile=128, overlap=64),
    )
    patch, tile = model_cost(config.model, 64, 64), model_cost(config.model, 128, 128)
    # ceil(10000 / 4096) = 3 patches; 65536 pixels, each seen (128 / 64)**2 = 4 times, are
    # 65536 * 4 / 128**2 = 16 tiles.
    flops = 3 * 3 * patch.flops + 16 * tile.flops
    elements = 3 * 3 * patch.activations + 16 * tile.activations
    seconds = epoch_seconds(config, 65_536, Rate(flops_per_s=1e9, elements_per_s=1e8))
    assert seconds == pytest.approx(flops / 1e9 + elements / 1e8)


def test_blocks_that_are_computed_again_cost_a_fourth_pass() -> None:
    rate = Rate(flops_per_s=1e9, elements_per_s=1e8)
    plain, again = (
        epoch_seconds(
            TrialConfig.model_validate({"train": {"checkpoint_activations": on}}), 0, rate
        )
        for on in (False, True)
    )
    assert again == pytest.approx(plain * 4 / 3)


@pytest.mark.parametrize(("test_time", "views"), [("flips", 4), ("symmetries", 8)])
def test_validation_costs_a_forward_pass_for_each_view_of_an_image(
    test_time: str, views: int
) -> None:
    rate = Rate(flops_per_s=1e9, elements_per_s=1e8)
    tree = {"data": {"resize": 64, "patch_size": 64}, "model": {"depth": 2, "base_filters": 8}}
    (plain, once), (_, often) = (
        [epoch_seconds(config, pixels, rate) for pixels in (0, 10 * 64**2)]
        for config in (
            TrialConfig.model_validate(tree | {"inference": {"test_time": name}})
            for name in ("none", test_time)
        )
    )
    whole = model_cost(ModelConfig(depth=2, base_filters=8), 64, 64)
    assert once - plain == pytest.approx(10 * (whole.flops / 1e9 + whole.activations / 1e8))
    assert often - plain == pytest.approx(views * (once - plain))


def test_the_cost_of_a_config_needs_no_torch() -> None:
    code = "import sys, r2search.models.cost; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
