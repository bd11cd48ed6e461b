"""What a network costs, computed from its config without building it. Needs no torch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil
from typing import Literal

from r2search.config import VIEWS, ModelConfig, TrialConfig


@dataclass(frozen=True, slots=True)
class Cost:
    """Size of a network, and the work of one forward pass over one patch.

    `flops` are two for each multiply-add of the convolutions (transposed ones too), by kernel
    size: also where a kernel hangs over the edge; biases, norms and all else count none.
    `activations` are the elements written by every layer (convolution, norm, activation, addition,
    pooling, upsampling, concatenation, dropout), in place or not: what all but convolutions cost.
    """

    parameters: int = 0
    running_statistics: int = 0  # means and variances of batch norms
    flops: int = 0
    activations: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.parameters + other.parameters,
            self.running_statistics + other.running_statistics,
            self.flops + other.flops,
            self.activations + other.activations,
        )


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast one worker trains: a convolution's flops and all elements written, per second."""

    flops_per_s: float
    elements_per_s: float


@dataclass(frozen=True, slots=True)
class _Level:
    """Costs of the layers at one resolution."""

    config: ModelConfig
    pixels: int

    def write(self, channels: int, times: int = 1) -> Cost:
        return Cost(activations=channels * self.pixels * times)

    def conv(
        self, inputs: int, outputs: int, kernel: int, bias: bool | None = None, runs: int = 1
    ) -> Cost:
        weights = inputs * outputs * kernel**2
        biases = outputs * (self.config.conv_bias if bias is None else bias)
        flops = 2 * weights * self.pixels * runs
        return Cost(weights + biases, flops=flops) + self.write(outputs, runs)

    def norm(self, channels: int, copies: int = 1, runs: int = 1) -> Cost:
        weights = 2 * channels * copies  # scale and shift; running mean and variance
        running = weights if self.config.norm == "batch" else 0
        return Cost(weights, running) + self.write(channels, runs)

    def unit(self, inputs: int, outputs: int, recurrence: int = 0) -> Cost:
        runs = recurrence + 1
        return (
            self.conv(inputs, outputs, 3, runs=runs)
            + self.norm(outputs, runs if self.config.recurrent_norm == "per_step" else 1, runs)
            + self.write(outputs, runs)  # activations
            + self.write(outputs, recurrence)  # x + h
        )

    def dropout(self, channels: int) -> Cost:
        return self.write(channels) if self.config.dropout else Cost()

    def up(self, channels: int) -> Cost:
        """From the level below, of `channels`, to half of them here."""
        below = _Level(self.config, self.pixels // 4)
        half = channels // 2
        if self.config.upsampling == "nearest":
            return below.conv(channels, half, 1, bias=True) + self.write(half)
        kernel = {"transpose2": 2, "transpose3": 3}[self.config.upsampling]
        weights = channels * half * kernel**2
        return Cost(weights + half, flops=2 * weights * below.pixels) + self.write(half)

    def down(self, channels: int) -> Cost:
        """To this level, of the level above, of `channels`."""
        if self.config.downsampling == "maxpool":
            return self.write(channels)
        return self.conv(channels, channels, 3, bias=True)


def _conv(at: _Level, inputs: int, outputs: int) -> Cost:
    return at.unit(inputs, outputs) + at.dropout(outputs) + at.unit(outputs, outputs)


def _residual(at: _Level, inputs: int, outputs: int) -> Cost:
    shortcut = at.conv(inputs, outputs, 1) + at.norm(outputs)
    return _conv(at, inputs, outputs) + shortcut + at.write(outputs)


def _preact_residual(at: _Level, inputs: int, outputs: int) -> Cost:
    return at.norm(inputs) + at.write(inputs) + _preact_at_image(at, inputs, outputs)


def _preact_at_image(at: _Level, inputs: int, outputs: int) -> Cost:
    first = at.conv(inputs, outputs, 3)
    second = at.norm(outputs) + at.write(outputs) + at.conv(outputs, outputs, 3)
    shortcut = at.conv(inputs, outputs, 1) + at.write(outputs)
    return first + at.dropout(outputs) + second + shortcut


def _recurrent(at: _Level, inputs: int, outputs: int) -> Cost:
    t = at.config.recurrence
    if t == 0:
        return _conv(at, inputs, outputs)
    unit = at.unit(outputs, outputs, t)
    return at.conv(inputs, outputs, 1) + unit + at.dropout(outputs) + unit


def _recurrent_residual(at: _Level, inputs: int, outputs: int) -> Cost:
    if at.config.recurrence == 0:
        return _residual(at, inputs, outputs)
    return _recurrent(at, inputs, outputs) + at.write(outputs)


_BLOCKS: dict[str, Callable[[_Level, int, int], Cost]] = {
    "conv": _conv,
    "residual": _residual,
    "preact_residual": _preact_residual,
    "recurrent": _recurrent,
    "recurrent_residual": _recurrent_residual,
}
_FIRST_BLOCKS = _BLOCKS | {"preact_residual": _preact_at_image}


@dataclass(frozen=True, slots=True)
class Stage:
    """A block of the network with the way to it, or the head."""

    way: Literal["image", "down", "up", "head"]  # where from; up: joined with the skip
    level: int  # 0 is the resolution of the patch
    pixels: int  # of its feature maps
    inputs: int  # channels that the block sees
    outputs: int
    cost: Cost


def stages(config: ModelConfig, height: int, width: int) -> Iterator[Stage]:
    """The network as data flows through it: `depth` + 1 stages down, `depth` up, then the head.

    `height` and `width` of the patch are rounded up to multiples of 2**depth.
    """
    multiple = 2**config.depth
    pixels = ceil(height / multiple) * ceil(width / multiple) * multiple**2
    block, first = _BLOCKS[config.block], _FIRST_BLOCKS[config.block]
    before = config.in_channels
    for level in range(config.depth + 1):
        at, outputs = _Level(config, pixels // 4**level), config.base_filters * 2**level
        cost = at.down(before) + block(at, before, outputs) if level else first(at, before, outputs)
        yield Stage("down" if level else "image", level, at.pixels, before, outputs, cost)
        before = outputs
    for level in reversed(range(config.depth)):
        at, outputs = _Level(config, pixels // 4**level), config.base_filters * 2**level
        joined = 2 * outputs if config.skip == "concat" else outputs
        cost = at.up(before) + at.write(joined) + block(at, joined, outputs)
        yield Stage("up", level, at.pixels, joined, outputs, cost)
        before = outputs
    head = _Level(config, pixels).conv(before, config.classes, 1, bias=True)
    yield Stage("head", 0, pixels, before, config.classes, head)


def model_cost(config: ModelConfig, height: int, width: int) -> Cost:
    """The cost of `build_model(config)` on one patch, sides rounded up to multiples of 2**depth.

    Parameters are exact; so are flops and activations of a forward pass in training.
    """
    return sum((stage.cost for stage in stages(config, height, width)), Cost())


def epoch_seconds(config: TrialConfig, validation_pixels: int, rate: Rate) -> float:
    """Predicted seconds of one epoch on one worker: training, then validation by tiles.

    A training step is three forward passes (one forward; backward is one for the inputs and one
    for the weights), or four where blocks are computed again for it. `validation_pixels` are
    those of the images as prepared. Overlapping tiles see a pixel (tile / (tile - overlap))**2
    times, and each so often as there are views. Norms count also where predicting folds them
    away: the rate is that of training.
    """
    patch, tile = config.patch, config.tile
    trained = _seconds(model_cost(config.model, patch, patch), rate)
    predicted = _seconds(model_cost(config.model, tile, tile), rate)
    patches = ceil(config.train.epoch_pixels / patch**2)
    whole = config.data.resize != "native" and config.data.resize <= tile
    tiles = validation_pixels / (tile - (0 if whole else config.overlap)) ** 2
    passes = 4 if config.train.checkpoint_activations else 3
    return passes * patches * trained + tiles * len(VIEWS[config.inference.test_time]) * predicted


def _seconds(cost: Cost, rate: Rate) -> float:
    return cost.flops / rate.flops_per_s + cost.activations / rate.elements_per_s
