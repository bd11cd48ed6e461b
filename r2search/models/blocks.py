"""The blocks of the family: what a level of a U-Net does to its feature maps.

A block maps (N, in_channels, H, W) to (N, out_channels, H, W) at any H, W >= 1. `conv_bias` says
whether its convolutions have a bias. Activations work in place where autograd allows it.
"""

from collections.abc import Callable
from functools import partial
from math import gcd

import torch
from torch import Tensor, nn

from r2search.config import ModelConfig
from r2search.models.layers import BatchNorm2d, Conv2d


class GroupNorm(nn.GroupNorm):
    """`nn.GroupNorm` that keeps channels_last, and takes a group of a single value.

    Such a group becomes about the bias; a deep network has it in the bottleneck of a small image,
    and `nn.GroupNorm` refuses it.
    """

    def forward(self, x: Tensor) -> Tensor:
        # Always by torch's (N, C, pixels) kernel. Its channels_last one on a CPU (2.13) is several
        # times slower backward in bfloat16, and ends the process when x has no gradient, as an
        # image has none; on a GPU the result would leave channels_last.
        flat = x.flatten(2).contiguous()
        y = torch.group_norm(flat, self.num_groups, self.weight, self.bias, self.eps).view(x.shape)
        last = x.is_contiguous(memory_format=torch.channels_last)
        return y.contiguous(memory_format=torch.channels_last) if last else y


# Channels -> module. Instance norm is group norm of one channel a group: nn.InstanceNorm2d is the
# same function, but leaves channels_last. gcd: 8 groups, or as many as a narrow level allows.
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": BatchNorm2d,
    "instance": lambda channels: GroupNorm(channels, channels),
    "group": lambda channels: GroupNorm(gcd(8, channels), channels),
}

# gelu and silu need their input in the backward pass, so they cannot overwrite it.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),
    "leaky_relu": partial(nn.LeakyReLU, 0.01, inplace=True),
    "elu": partial(nn.ELU, inplace=True),
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


def _conv(in_channels: int, out_channels: int, kernel: int, config: ModelConfig) -> Conv2d:
    return Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=config.conv_bias)


class Unit(nn.Module):
    """Convolution, norm, activation; with recurrence t, t+1 times with one kernel.

    h_0 = unit(x), h_k = unit(x + h_{k-1}), result h_t (Alom et al. 2018, arXiv:1802.06955), which
    needs in_channels == out_channels for t >= 1. `recurrent_norm` says whether every step has a
    norm of its own or all share one.
    """

    def __init__(
        self, in_channels: int, out_channels: int, config: ModelConfig, recurrence: int = 0
    ) -> None:
        super().__init__()
        assert in_channels == out_channels or not recurrence
        norms = recurrence + 1 if config.recurrent_norm == "per_step" else 1
        self.recurrence = recurrence
        self.conv = _conv(in_channels, out_channels, 3, config)
        self.norms = nn.ModuleList(NORMS[config.norm](out_channels) for _ in range(norms))
        self.activation = ACTIVATIONS[config.activation]()

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.conv.kernel(x)
        h: Tensor = self.activation(self.norms[0](self.conv(x, kernel)))
        for step in range(1, self.recurrence + 1):
            norm = self.norms[step % len(self.norms)]
            h = self.activation(norm(self.conv(x + h, kernel)))
        return h


def _dropout(config: ModelConfig) -> nn.Dropout2d:
    # Whole maps: neighbouring pixels tell the same, so dropping single ones removes little
    # (Tompson et al. 2015, arXiv:1411.4280); and a map needs one random number, not H * W.
    return nn.Dropout2d(config.dropout)


def _two_units(
    in_channels: int, out_channels: int, config: ModelConfig, recurrence: int = 0
) -> nn.Sequential:
    return nn.Sequential(
        Unit(in_channels, out_channels, config, recurrence),
        _dropout(config),
        Unit(out_channels, out_channels, config, recurrence),
    )


class ConvBlock(nn.Module):
    """Two units (U-Net, Ronneberger et al. 2015, arXiv:1505.04597, padded and with norms)."""

    def __init__(self, in_channels: int, out_channels: int, config: ModelConfig) -> None:
        super().__init__()
        self.units = _two_units(in_channels, out_channels, config)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.units(x)
        return h


class ResidualBlock(nn.Module):
    """Two convolutions with norms plus a 1x1 shortcut with norm, activation after the sum."""

    def __init__(self, in_channels: int, out_channels: int, config: ModelConfig) -> None:
        super().__init__()
        norm = NORMS[config.norm]
        self.body = nn.Sequential(
            Unit(in_channels, out_channels, config),
            _dropout(config),
            _conv(out_channels, out_channels, 3, config),
            norm(out_channels),
        )
        self.shortcut = nn.Sequential(
            _conv(in_channels, out_channels, 1, config), norm(out_channels)
        )
        self.activation = ACTIVATIONS[config.activation]()

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.body(x)
        h = self.activation(h.add_(self.shortcut(x)))  # no norm keeps its output for backward
        return h


class PreactResidualBlock(nn.Module):
    """Norm, activation, convolution, twice, plus a 1x1 shortcut of the untouched input.

    He et al. 2016 (arXiv:1603.05027); in a U-Net Zhang et al. 2018 (arXiv:1711.10684). Where the
    input is the image it begins with the convolution, as theirs do: an activation would cut away
    all that is darker than the mean.
    """

    def __init__(
        self, in_channels: int, out_channels: int, config: ModelConfig, *, at_image: bool = False
    ) -> None:
        super().__init__()
        norm, activation = NORMS[config.norm], ACTIVATIONS[config.activation]
        before = [] if at_image else [norm(in_channels), activation()]
        self.body = nn.Sequential(
            *before,
            _conv(in_channels, out_channels, 3, config),
            norm(out_channels),
            activation(),
            _dropout(config),
            _conv(out_channels, out_channels, 3, config),
        )
        self.shortcut = _conv(in_channels, out_channels, 1, config)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.body(x)
        return h.add_(self.shortcut(x))  # no convolution keeps its output for backward


class RecurrentBlock(nn.Module):
    """A 1x1 projection, then two recurrent units; `residual` adds the projection to the result.

    Alom et al. 2018 (arXiv:1802.06955): RU-Net, and R2U-Net with `residual`. The projection makes
    the channels equal, so that one kernel can run over x + h.
    """

    def __init__(
        self, in_channels: int, out_channels: int, config: ModelConfig, *, residual: bool
    ) -> None:
        super().__init__()
        self.residual = residual
        self.project = _conv(in_channels, out_channels, 1, config)
        self.units = _two_units(out_channels, out_channels, config, config.recurrence)

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(x)
        h: Tensor = self.units(x)
        return x + h if self.residual else h


def _recurrent(in_channels: int, out_channels: int, config: ModelConfig) -> nn.Module:
    if config.recurrence == 0:
        return ConvBlock(in_channels, out_channels, config)
    return RecurrentBlock(in_channels, out_channels, config, residual=False)


def _recurrent_residual(in_channels: int, out_channels: int, config: ModelConfig) -> nn.Module:
    if config.recurrence == 0:
        return ResidualBlock(in_channels, out_channels, config)
    return RecurrentBlock(in_channels, out_channels, config, residual=True)


# The value of `model.block` -> (in_channels, out_channels, config) -> module. A new block is a
# line here, one in models/cost.py and one in ModelConfig.
BLOCKS: dict[str, Callable[[int, int, ModelConfig], nn.Module]] = {
    "conv": ConvBlock,
    "residual": ResidualBlock,
    "preact_residual": PreactResidualBlock,
    "recurrent": _recurrent,
    "recurrent_residual": _recurrent_residual,
}

# Those that are another thing where their input is the image.
FIRST_BLOCKS = BLOCKS | {"preact_residual": partial(PreactResidualBlock, at_image=True)}
