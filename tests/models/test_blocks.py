"""One conformance suite over the table of blocks, then what each of them means."""

import copy

import pytest
import torch
from torch import nn

from r2search.config import ModelConfig
from r2search.models.blocks import ACTIVATIONS, BLOCKS, FIRST_BLOCKS, NORMS, Unit

RECURRENT = {"recurrent": "conv", "recurrent_residual": "residual"}  # and what t = 0 makes of them


def build(block: str, in_channels: int = 3, out_channels: int = 8, **settings: object) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = ModelConfig.model_validate({"block": block, **settings})
        return BLOCKS[block](in_channels, out_channels, config)


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_table_knows_every_block_of_the_config() -> None:
    assert set(BLOCKS) == set(ModelConfig.model_json_schema()["properties"]["block"]["enum"])


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (16, 16)])
@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_keeps_any_size_and_sets_the_channels(block: str, size: tuple[int, int]) -> None:
    assert build(block)(noise(2, 3, *size)).shape == (2, 8, *size)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("block", BLOCKS)
def test_a_finite_gradient_reaches_every_parameter_and_the_input(
    block: str, norm: str, activation: str
) -> None:
    x = noise(2, 3, 9, 7).requires_grad_()
    built = build(block, norm=norm, activation=activation, dropout=0.2)
    built(x).square().mean().backward()
    for value in [x, *built.parameters()]:
        assert value.grad is not None
        assert value.grad.isfinite().all()
    # A shift before a norm of its own channel changes nothing; kernels always do.
    assert all(p.grad is not None and p.grad.any() for p in built.parameters() if p.ndim == 4)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_in_evaluation_repeats_itself_and_drops_nothing(block: str) -> None:
    x, plain, dropping = noise(2, 3, 8, 8), build(block), build(block, dropout=0.5)
    plain.eval()
    dropping.eval()
    assert torch.equal(dropping(x), dropping(x))
    assert torch.equal(dropping(x), plain(x))


@pytest.mark.parametrize("block", BLOCKS)
def test_dropout_changes_what_a_block_gives_in_training(block: str) -> None:
    built, x = build(block, dropout=0.5), noise(2, 3, 8, 8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert not torch.equal(built(x), built(x))


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_survives_its_state_dict(block: str) -> None:
    first, x = build(block), noise(2, 3, 8, 8)
    first(x)  # moves the running statistics
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        second = BLOCKS[block](3, 8, ModelConfig.model_validate({"block": block}))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.eval()(x), second.eval()(x))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_trains_in_bfloat16_and_channels_last(block: str, norm: str) -> None:
    built = build(block, norm=norm).to(memory_format=torch.channels_last)
    x = noise(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    expected = copy.deepcopy(built)(x)
    with torch.autocast("cpu", torch.bfloat16):
        out = built(x)
    assert out.dtype == torch.bfloat16
    assert out.is_contiguous(memory_format=torch.channels_last)
    out.float().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in built.parameters())
    # bfloat16 has 8 bits: a few roundings of 2**-9 of values of about 1 to 4.
    assert (out.float() - expected).abs().mean() < 0.05


@pytest.mark.parametrize("block", BLOCKS)
def test_conv_bias_adds_one_bias_a_convolution_and_nothing_else(block: str) -> None:
    with_bias, without = build(block, conv_bias=True), build(block, conv_bias=False)
    convs = {n for n, m in with_bias.named_modules() if isinstance(m, nn.Conv2d)}
    assert set(with_bias.state_dict()) - set(without.state_dict()) == {f"{n}.bias" for n in convs}


@pytest.mark.parametrize("recurrence", [0, 1, 2, 5])
def test_recurrence_t_runs_one_kernel_t_plus_one_times(recurrence: int) -> None:
    unit = Unit(4, 4, ModelConfig(), recurrence)
    calls = []
    unit.conv.register_forward_hook(lambda *_: calls.append(1))
    unit(noise(2, 4, 6, 6))
    assert len(calls) == recurrence + 1
    assert sum(isinstance(m, nn.Conv2d) for m in unit.modules()) == 1


def test_a_recurrent_unit_feeds_back_its_input_plus_its_last_state() -> None:
    # With kernel 1 in the middle, no bias, an evaluated fresh norm (divides by sqrt(1 + 1e-5)) and
    # a positive input, a unit is the identity, so t = 2 gives
    # h0 = x, h1 = x + h0 = 2 x, h2 = x + h1 = 3 x.
    unit = Unit(1, 1, ModelConfig(), recurrence=2).eval()
    with torch.no_grad():
        unit.conv.weight.zero_()[0, 0, 1, 1] = 1.0
    x = noise(1, 1, 5, 5).abs()
    torch.testing.assert_close(unit(x), 3 * x, rtol=1e-4, atol=1e-6)


def test_r2u_adds_the_projected_input_to_the_result_of_its_units() -> None:
    recurrent, residual = (build(name, recurrence=2).eval() for name in RECURRENT)
    x = noise(2, 3, 6, 6)
    residual.load_state_dict(recurrent.state_dict())
    assert isinstance(recurrent.project, nn.Conv2d)
    torch.testing.assert_close(residual(x), recurrent(x) + recurrent.project(x))


@pytest.mark.parametrize(("block", "plain"), RECURRENT.items())
def test_recurrence_zero_is_the_plain_block_parameter_for_parameter(block: str, plain: str) -> None:
    recurrent, reference = build(block, recurrence=0), build(plain)
    x = noise(2, 3, 7, 5)
    shapes = {name: value.shape for name, value in recurrent.state_dict().items()}
    assert shapes == {name: value.shape for name, value in reference.state_dict().items()}
    reference.load_state_dict(recurrent.state_dict())
    assert torch.equal(recurrent(x), reference(x))


def test_only_recurrence_projects_the_input_first() -> None:
    assert "project.weight" in build("recurrent", recurrence=1).state_dict()
    assert "project.weight" not in build("recurrent", recurrence=0).state_dict()


@pytest.mark.parametrize(("kind", "norms"), [("per_step", 3), ("shared", 1)])
def test_recurrent_norm_is_one_a_step_or_one_for_all(kind: str, norms: int) -> None:
    built = build("recurrent", recurrence=2, recurrent_norm=kind)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in built.modules()) == 2 * norms  # two units


def test_per_step_norms_keep_the_statistics_of_their_own_step() -> None:
    unit = Unit(4, 4, ModelConfig(recurrence=2), recurrence=2)
    unit(noise(2, 4, 6, 6))
    means = [norm.running_mean for norm in unit.norms]
    assert all(mean.any() for mean in means)
    assert not torch.equal(means[0], means[1])
    assert not torch.equal(means[1], means[2])


def test_the_shared_norm_sees_every_step() -> None:
    unit = Unit(4, 4, ModelConfig(recurrent_norm="shared"), recurrence=2)
    unit(noise(2, 4, 6, 6))
    assert int(unit.norms[0].num_batches_tracked) == 3


@pytest.mark.parametrize(("channels", "groups"), [(3, 1), (4, 4), (6, 2), (8, 8), (12, 4), (64, 8)])
def test_group_norm_has_eight_groups_or_the_largest_power_of_two_that_divides(
    channels: int, groups: int
) -> None:
    assert NORMS["group"](channels).num_groups == groups


@pytest.mark.parametrize(("channels", "size"), [(4, 6), (1, 6), (4, 1)])
def test_a_norm_of_the_image_itself_can_be_trained_in_channels_last(
    channels: int, size: int
) -> None:
    # torch 2.13's own GroupNorm ends the process here: the image has no gradient.
    norm, reference = NORMS["group"](channels), nn.GroupNorm(channels, channels)
    image = noise(2, channels, size, size)
    weights = noise(2, channels, size, size, seed=2)
    (norm(image.contiguous(memory_format=torch.channels_last)) * weights).sum().backward()
    (reference(image) * weights).sum().backward()
    torch.testing.assert_close(norm.weight.grad, reference.weight.grad)


def test_instance_norm_is_torchs() -> None:
    x = noise(2, 6, 5, 4)
    torch.testing.assert_close(NORMS["instance"](6)(x), nn.InstanceNorm2d(6)(x))


def test_a_norm_within_the_image_takes_a_single_pixel() -> None:
    # One value is its own mean: nothing is left but the shift, up to rounding of value / sqrt(eps).
    norm = NORMS["instance"](8)
    nn.init.constant_(norm.bias, 2.0)
    torch.testing.assert_close(
        norm(noise(1, 8, 1, 1)), torch.full((1, 8, 1, 1), 2.0), atol=1e-3, rtol=0
    )


def test_a_preact_network_sees_what_is_darker_than_the_mean() -> None:
    config = ModelConfig(block="preact_residual", depth=1, base_filters=4)
    first = FIRST_BLOCKS["preact_residual"](3, 4, config).eval()
    dark = -torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        of_body = first.body(dark) - first.body(torch.zeros_like(dark))
    assert of_body.abs().max() > 1e-3  # an activation before the convolution would give 0
