"""What a network needs of memory, computed from its config without building it. Needs no torch.

Counted are the bytes of tensors that live at once, as autograd holds them. Not counted is what
the kernels of a library take for themselves, and what a process takes before its first tensor.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil, inf
from typing import Literal

from r2search.config import ModelConfig, TrialConfig
from r2search.models.cost import Stage, stages

Dtype = Literal["float32", "bfloat16"]

FLOAT = 4  # bytes: weights, gradients, optimizer states, images, losses, whatever the dtype
SIZES: dict[Dtype, int] = {"float32": FLOAT, "bfloat16": 2}  # of feature maps
INDEX = 8  # of max pooling, bytes a pixel
MASKS = 2  # a mask and a field of view, bytes a pixel

# What an optimizer holds beside each parameter and its gradient, in numbers.
STATES = {"adam": 2, "adamw": 2, "sgd": 1}

# What a loss needs at its worst moment, forward or backward, in bytes a pixel: of one channel of
# logits, and of each further one. Counted, as benchmarks/cost_model.py does.
LOSSES = {
    "bce": (24, 10),
    "dice": (24, 11),
    "bce_dice": (36, 16),
    "focal": (40, 7),
    "tversky": (28, 14),
}


@dataclass(frozen=True, slots=True)
class Maps:
    """Feature maps of a block, in numbers of its output."""

    kept: float  # for backward; the output is one of them, what comes in is not
    backward: float = 2  # gradients at once, beside all that is kept
    predicting: float = 2  # alive at once beside what comes in, when nothing is kept
    readers: int = 1  # convolutions that see what comes in; each has its own copy of an image


def _unit(model: ModelConfig, runs: int = 1) -> int:
    """Two results a run (convolution, and activation or norm), and the sums x + h between them.

    An activation that works out of place keeps its input; what then keeps its last result is the
    convolution that reads it, and nothing keeps the others.
    """
    return 2 * runs + runs - 1 + _out_of_place(model)


def _out_of_place(model: ModelConfig) -> int:
    """1 where an activation does not overwrite its input."""
    return int(model.activation in ("gelu", "silu"))


def _dropout(model: ModelConfig) -> int:
    """1 where a map is kept on both sides of dropout; it does not keep what it reads itself."""
    return int(model.dropout > 0 and not _out_of_place(model))


def _copies(model: ModelConfig) -> int:
    """1 where a norm works on a copy in another memory format."""
    return int(model.norm != "batch")


def _predicting(model: ModelConfig, maps: int) -> int:
    """So many, and those of a norm that is not folded into the convolution before it."""
    return maps + (3 if _copies(model) else _out_of_place(model))


def _conv(model: ModelConfig, entering: float) -> Maps:
    return Maps(
        kept=2 * _unit(model) + _dropout(model),
        backward=2 - _out_of_place(model),
        predicting=_predicting(model, 2),
    )


def _residual(model: ModelConfig, entering: float) -> Maps:
    added = 3 + _out_of_place(model)  # results of two convolutions, and their sum activated
    return Maps(
        kept=_unit(model) + _dropout(model) + added,
        backward=2 - _out_of_place(model) + _copies(model),
        predicting=2 + 3 * _copies(model),
        readers=2,
    )


def _preact_residual(model: ModelConfig, entering: float) -> Maps:
    before = 1 + _out_of_place(model) + _copies(model)  # norm and activation of what comes in
    most = 1 + max(_out_of_place(model), 2 * _copies(model))
    return Maps(
        kept=_preact_at_image(model, entering).kept + before * entering,
        backward=1 + entering,
        predicting=max(2 + 2 * _copies(model), 1 + entering, most * entering),
    )


def _preact_at_image(model: ModelConfig, entering: float) -> Maps:
    return Maps(kept=_unit(model) + _dropout(model) + 1, readers=2)


def _recurrent(model: ModelConfig, entering: float) -> Maps:
    if model.recurrence == 0:
        return _conv(model, entering)
    return Maps(
        kept=1 + 2 * _unit(model, model.recurrence + 1) + _dropout(model),
        backward=2 - _out_of_place(model),
        predicting=_predicting(model, 4),
    )


def _recurrent_residual(model: ModelConfig, entering: float) -> Maps:
    if model.recurrence == 0:
        return _residual(model, entering)
    plain = _recurrent(model, entering)
    return Maps(
        kept=plain.kept + 1 - _out_of_place(model),  # an addition keeps nothing that it reads
        backward=1 + _copies(model),
        predicting=plain.predicting,
    )


# Of a config, and the channels that come in over those that leave. In parallel to models/cost.py.
_BLOCKS: dict[str, Callable[[ModelConfig, float], Maps]] = {
    "conv": _conv,
    "residual": _residual,
    "preact_residual": _preact_residual,
    "recurrent": _recurrent,
    "recurrent_residual": _recurrent_residual,
}
_FIRST_BLOCKS = _BLOCKS | {"preact_residual": _preact_at_image}


def _maps(model: ModelConfig, stage: Stage) -> Maps:
    table = _FIRST_BLOCKS if stage.way == "image" else _BLOCKS
    return table[model.block](model, stage.inputs / stage.outputs)


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes at one moment: some whatever the batch, and some for each of its patches."""

    fixed: int
    patch: int

    def of(self, patches: int) -> int:
        return self.fixed + self.patch * patches

    def most(self, limit: float) -> int:
        """How many patches the limit holds."""
        return max(0, int((limit - self.fixed) // self.patch))


@dataclass(frozen=True, slots=True)
class _Held:
    """Bytes a patch of one stage in training."""

    kept: int  # from its forward pass to its backward pass
    again: int = 0  # kept by what is computed once more for backward
    backward: int = 0  # gradients at once


def _held(config: TrialConfig, stage: Stage, size: int) -> _Held:
    if stage.way == "head":
        return _Held(0)
    model, maps = config.model, _maps(config.model, stage)
    # What comes in is kept by the block's convolutions.
    between = size * stage.inputs * stage.pixels
    if stage.way == "image":
        between = 0 if size == FLOAT else between * maps.readers
    elif stage.way == "down" and model.downsampling == "maxpool":
        between += INDEX * stage.inputs * stage.pixels
    output = size * stage.outputs * stage.pixels
    within, backward = int(maps.kept * output), int(maps.backward * output)
    if config.train.checkpoint_activations:  # all but the output is dropped
        return _Held(between + output, within, backward)
    return _Held(between + within, 0, backward)


def step_moments(config: TrialConfig, dtype: Dtype, accumulating: bool) -> Iterator[Need]:
    """The moments of a training step at which most may be needed, from the loss backwards.

    Backward frees what each stage kept, while the gradients of weights come. `accumulating`: those
    of earlier micro-batches are there from the beginning.
    """
    model, size = config.model, SIZES[dtype]
    network = list(stages(model, config.patch, config.patch))
    held = [_held(config, stage, size) for stage in network]
    weights = _weights(network, 1 + STATES[config.train.optimizer] + accumulating)
    copies = [0 if size == FLOAT else size * stage.cost.parameters for stage in network]
    batch = config.patch**2 * (FLOAT * model.in_channels + MASKS + size * model.classes)
    one, further = LOSSES[config.train.loss]
    loss = config.patch**2 * (one + further * (model.classes - 1))
    fixed, kept = weights + sum(copies), batch + sum(stage.kept for stage in held)
    yield Need(fixed, kept + loss)
    waiting: dict[int, int] = {}  # gradients of skips, by level
    for stage, own, copy in reversed(list(zip(network, held, copies, strict=True))):
        gradients = FLOAT * stage.cost.parameters
        now = kept + own.again + own.backward + sum(waiting.values())
        yield Need(fixed + gradients, now)
        fixed += (0 if accumulating else gradients) - copy
        kept -= own.kept
        if stage.way == "up":  # the gradient of all that was joined
            waiting[stage.level] = size * stage.inputs * stage.pixels
        else:
            waiting.pop(stage.level, 0)


def _weights(network: list[Stage], numbers: int) -> int:
    """Bytes of so many float32 numbers a parameter, and of the running statistics."""
    parameters = sum(stage.cost.parameters for stage in network)
    running = sum(stage.cost.running_statistics for stage in network)
    return FLOAT * (numbers * parameters + running)


def step_memory(config: TrialConfig, dtype: Dtype, micro_batch: int) -> int:
    """Bytes at the worst moment of a training step, `micro_batch` patches a forward pass."""
    accumulating = micro_batch < config.train.batch_size
    return max(need.of(micro_batch) for need in step_moments(config, dtype, accumulating))


def inference_memory(
    config: TrialConfig, dtype: Dtype, edge: float = inf, *, training: bool = False
) -> int:
    """Bytes at the worst moment of predicting a batch of tiles, by a folded copy of the network.

    Both networks are counted. `edge`: longest one of the images, which are taken as square.
    `training`: between two steps, with gradients and the state of the optimizer.
    """
    model, size = config.model, SIZES[dtype]
    tile = int(min(config.tile, edge))
    network = list(stages(model, tile, tile))
    worst = skips = 0
    for stage in network:
        leaving, entering = (size * stage.pixels * c for c in (stage.outputs, stage.inputs))
        if stage.way == "up":
            skips -= leaving
        if stage.way == "head":  # then logits and probabilities in float32
            alive = leaving + max(entering, 2 * FLOAT * stage.outputs * stage.pixels)
        else:
            alive = entering + int(_maps(model, stage).predicting * leaving)
            if stage.way == "up" and model.skip == "concat":  # while it is joined
                alive = max(alive, entering + leaving * 5 // 2)
            alive += skips
        worst = max(worst, alive)
        if stage.way != "up" and stage.level < model.depth:
            skips += leaving
    image = FLOAT * model.in_channels * tile**2
    numbers = 2 + STATES[config.train.optimizer] if training else 1
    folded = size * sum(stage.cost.parameters + _repeated(model, stage) for stage in network)
    batch = min(config.tile_batch, max(1.0, edge / max(tile - config.overlap, 1)) ** 2)
    return _weights(network, numbers) + folded + ceil(batch) * (image + worst)


def _repeated(model: ModelConfig, stage: Stage) -> int:
    """Weights that a folded block has more: a kernel for each step whose norm is its own."""
    recurrent = "recurrent" in model.block and stage.way != "head"
    differ = recurrent and model.norm == "batch" and model.recurrent_norm == "per_step"
    return 2 * model.recurrence * 9 * stage.outputs**2 if differ else 0


def trial_memory(config: TrialConfig, dtype: Dtype, micro_batch: int, edge: float = inf) -> int:
    """Bytes at the worst moment of a trial: a step, or validation on images up to `edge`."""
    validating = inference_memory(config, dtype, edge, training=True)
    return max(step_memory(config, dtype, micro_batch), validating)


def choose_micro_batch(config: TrialConfig, dtype: Dtype, limit: float) -> int:
    """The most patches a forward pass whose step stays below `limit` bytes; 0 if not one does.

    `batch_size` where all fit; fewer leave room for the gradients of earlier passes too.
    """
    batch_size = config.train.batch_size
    if step_memory(config, dtype, batch_size) <= limit:
        return batch_size
    moments = step_moments(config, dtype, accumulating=True)
    return min(batch_size - 1, *(need.most(limit) for need in moments))
