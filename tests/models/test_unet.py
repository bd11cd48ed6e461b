"""The assembled network: sizes, published counts, first weights."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from r2search.config import ModelConfig
from r2search.models.blocks import BLOCKS, NORMS
from r2search.models.unet import DOWNSAMPLING, INITIALIZERS, UPSAMPLING, UNet, build_model


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def small(**settings: object) -> ModelConfig:
    return ModelConfig.model_validate({"depth": 2, "base_filters": 4, **settings})


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def choices(field: str) -> set[str]:
    return set(ModelConfig.model_json_schema()["properties"][field]["enum"])


def test_the_tables_know_every_name_of_the_config() -> None:
    assert set(DOWNSAMPLING) == choices("downsampling")
    assert set(UPSAMPLING) == choices("upsampling")
    assert {"torch", *INITIALIZERS} == choices("initializer")


def test_the_residual_unet_has_the_published_counts() -> None:
    # c(i, o, k) = i*o*k*k + o. A block is c(i,o,3) + c(o,o,3) + c(i,o,1) + 3 norms of 2 o; blocks
    # 3-64-128-256-512-1024 down and 2w-w up, four c(2w,w,2) between, head c(64,1,1): 32,445,185.
    # Norms: (64+128+256+512+1024 + 512+256+128+64) channels * 3 a block * (mean, var) = 17,664.
    config = ModelConfig(block="residual", depth=4, base_filters=64, conv_bias=True)
    with torch.device("meta"):
        model = UNet(config)
    running = sum(b.numel() for name, b in model.named_buffers() if "running" in name)
    assert parameters(model) == 32_445_185
    assert running == 17_664
    assert all(p.requires_grad for p in model.parameters())


# 16 base filters, recurrence 2, one norm a step, no bias before norms, 3 channels, 1 class. By
# hand for conv, depth 1, with k(i, o) = 9 i o: k(3,16) + k(16,16) + k(16,32) + k(32,32) + k(32,16)
# + k(16,16) = 432 + 2304 + 4608 + 9216 + 4608 + 2304 = 23472 in kernels; norms
# 2 * 2 * (16 + 32 + 16) = 256; transposed 32*16*4 + 16 = 2064; head 17. Together 25809.
GOLDEN = {
    ("conv", 1): 25_809,
    ("conv", 2): 117_361,
    ("conv", 3): 482_737,
    ("conv", 4): 1_942_577,
    ("conv", 5): 7_778_609,
    ("residual", 1): 27_009,
    ("residual", 2): 122_849,
    ("residual", 3): 504_993,
    ("residual", 4): 2_031_137,
    ("residual", 5): 8_130_849,
    ("preact_residual", 1): 26_849,
    ("preact_residual", 2): 122_497,
    ("preact_residual", 3): 504_257,
    ("preact_residual", 4): 2_029_633,
    ("preact_residual", 5): 8_127_809,
    ("recurrent", 1): 31_569,
    ("recurrent", 2): 137_201,
    ("recurrent", 3): 557_361,
    ("recurrent", 4): 2_233_265,
    ("recurrent", 5): 8_927_409,
    ("recurrent_residual", 1): 31_569,
    ("recurrent_residual", 2): 137_201,
    ("recurrent_residual", 3): 557_361,
    ("recurrent_residual", 4): 2_233_265,
    ("recurrent_residual", 5): 8_927_409,
}


@pytest.mark.parametrize(("block", "depth"), GOLDEN)
def test_the_parameter_counts_stay_what_they_were(block: str, depth: int) -> None:
    config = ModelConfig.model_validate({"block": block, "depth": depth})
    with torch.device("meta"):
        assert parameters(UNet(config)) == GOLDEN[block, depth]


@given(
    block=st.sampled_from(sorted(BLOCKS)),
    norm=st.sampled_from(sorted(NORMS)),
    down=st.sampled_from(sorted(DOWNSAMPLING)),
    up=st.sampled_from(sorted(UPSAMPLING)),
    skip=st.sampled_from(["concat", "add"]),
    depth=st.integers(1, 4),
    classes=st.integers(1, 3),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
)
@settings(max_examples=60, deadline=None)
def test_any_image_gets_logits_of_its_own_size(
    block: str,
    norm: str,
    down: str,
    up: str,
    skip: str,
    depth: int,
    classes: int,
    height: int,
    width: int,
) -> None:
    config = small(
        block=block,
        norm=norm,
        downsampling=down,
        upsampling=up,
        skip=skip,
        depth=depth,
        classes=classes,
    )
    with torch.no_grad():
        logits = build_model(config).eval()(noise(1, 3, height, width))
    assert logits.shape == (1, classes, height, width)
    assert logits.isfinite().all()


def test_an_odd_size_is_continued_by_its_last_row_and_column() -> None:
    model = build_model(small()).eval()
    x = noise(1, 3, 13, 10)
    padded = F.pad(x, (0, 2, 0, 3), mode="replicate")  # to 16 x 12
    assert torch.equal(model(x), model(padded)[..., :13, :10])


def test_a_multiple_is_not_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model(small())

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("padded")

    monkeypatch.setattr(F, "pad", refuse)
    model(noise(2, 3, 8, 12))
    with pytest.raises(AssertionError, match="padded"):
        model(noise(2, 3, 8, 13))


@pytest.mark.parametrize("upsampling", UPSAMPLING)
@pytest.mark.parametrize("downsampling", DOWNSAMPLING)
@pytest.mark.parametrize("skip", ["concat", "add"])
@pytest.mark.parametrize("block", BLOCKS)
def test_a_finite_gradient_reaches_every_kernel(
    block: str, skip: str, downsampling: str, upsampling: str
) -> None:
    config = small(block=block, skip=skip, downsampling=downsampling, upsampling=upsampling)
    model = build_model(config)
    model(noise(2, 3, 16, 16)).square().mean().backward()
    for p in model.parameters():
        assert p.grad is not None
        assert p.grad.isfinite().all()
        assert p.ndim < 4 or p.grad.any()


@pytest.mark.parametrize("block", BLOCKS)
def test_a_network_trains_in_bfloat16_and_channels_last(block: str) -> None:
    model = build_model(small(block=block)).to(memory_format=torch.channels_last)
    x = noise(2, 3, 13, 16).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(x)
    assert logits.dtype == torch.bfloat16
    logits.float().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_whole_network_of_recurrence_zero_is_the_residual_one() -> None:
    r2u = build_model(small(block="recurrent_residual", recurrence=0), seed=1).eval()
    residual = build_model(small(block="residual"), seed=2).eval()
    residual.load_state_dict(r2u.state_dict())
    x = noise(1, 3, 12, 12)
    assert torch.equal(r2u(x), residual(x))


@pytest.mark.parametrize("initializer", ["torch", *INITIALIZERS])
def test_the_first_weights_depend_on_the_seed_alone(initializer: str) -> None:
    config = small(initializer=initializer)
    torch.rand(1)  # moves the caller's generator between the two
    first, again, other = (build_model(config, seed).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_building_leaves_the_callers_random_state() -> None:
    before = torch.random.get_rng_state()
    build_model(small(), seed=7)
    assert torch.equal(before, torch.random.get_rng_state())


def test_he_normal_has_the_deviation_of_its_fan_in() -> None:
    # The 3x3 kernel over 64 maps: sqrt(2 / (64 * 9)) = 0.0589; 36,864 draws know it to 0.4 %.
    model = build_model(small(block="conv", base_filters=64, depth=1, initializer="he_normal"))
    weight = model.get_parameter("encoder.0.units.2.conv.weight")
    assert weight.numel() == 36_864
    assert float(weight.detach().std()) == pytest.approx(math.sqrt(2 / 576), rel=0.02)


def test_orthogonal_kernels_have_orthogonal_rows() -> None:
    model = build_model(small(block="conv", base_filters=8, initializer="orthogonal"))
    rows = model.get_parameter("encoder.0.units.2.conv.weight").detach().flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(8), atol=1e-5, rtol=0)


def test_biases_start_at_zero() -> None:
    model = build_model(small(conv_bias=True))
    biases = [m.bias for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert all(bias is not None and not bias.any() for bias in biases)


def test_the_network_learns_a_pattern() -> None:
    # Segment the bright half of smooth noise: from log 2 = 0.69 down to under 0.2 in 60 steps.
    model = build_model(small(in_channels=1))
    x = F.avg_pool2d(noise(4, 1, 32, 32), 5, 1, 2)
    truth = (x > 0).float()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = F.binary_cross_entropy_with_logits(model(x), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("block", sorted(BLOCKS))
def test_computing_blocks_again_changes_neither_gradients_nor_statistics(
    block: str, norm: str
) -> None:
    config = small(block=block, norm=norm, recurrence=1, recurrent_norm="shared", dropout=0.4)
    found = []
    for again in (False, True):
        model = build_model(config, checkpoint_activations=again)
        torch.manual_seed(3)  # of dropout
        with torch.autocast("cpu", torch.bfloat16):
            for _ in range(2):
                model(noise(2, 3, 17, 16)).float().square().mean().backward()
        gradients = {name: p.grad for name, p in model.named_parameters()}
        assert all(gradient is not None for gradient in gradients.values())
        found.append({**gradients, **dict(model.named_buffers())})
    plain, repeated = found
    assert plain.keys() == repeated.keys()
    for name, value in plain.items():
        torch.testing.assert_close(repeated[name], value, rtol=0, atol=0, msg=name)


def test_a_block_that_is_computed_again_keeps_nothing_in_between() -> None:
    kept = {}
    for again in (False, True):
        model = build_model(small(block="conv"), checkpoint_activations=again)
        sizes: list[int] = []

        def note(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            model(noise(1, 3, 16, 16))
        kept[again] = sum(sizes)
    assert kept[True] < kept[False] / 2
