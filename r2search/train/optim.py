"""Optimizers and learning rates over time."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from r2search.config import TrainConfig

PLATEAU_FACTOR = 0.5
PLATEAU_PATIENCE = 3  # epochs without a better score before the rate falls


def _eager(kind: Callable[..., Optimizer]) -> Callable[..., Optimizer]:
    """`kind` without what torch wraps round its methods for `torch.compile`.

    The wrappers import torch's compiler at the first call, which takes a worker longer than to make
    its network and the first step (docs/experiments.md). An update is never compiled here.
    """
    wrapped = "add_param_group", "load_state_dict", "state_dict", "zero_grad"
    bare = {name: inspect.unwrap(getattr(kind, name)) for name in wrapped}
    bare["step"] = torch.no_grad()(inspect.unwrap(kind.step))  # type: ignore[attr-defined]
    made: Callable[..., Optimizer] = type(kind.__name__, (kind,), bare)  # type: ignore[arg-type]
    return made


_Adam, _AdamW, _SGD = map(_eager, (Adam, AdamW, SGD))

OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], float], Optimizer]] = {
    "adam": lambda groups, lr: _Adam(groups, lr=lr, fused=True),
    "adamw": lambda groups, lr: _AdamW(groups, lr=lr, fused=True),
    "sgd": lambda groups, lr: _SGD(groups, lr=lr, momentum=0.9, nesterov=True, fused=True),
}


def build_optimizer(model: nn.Module, config: TrainConfig) -> Optimizer:
    """The optimizer of `config`; norms and biases (vectors) are not decayed.

    Decaying a norm's scale or a bias does not simplify the network, only shifts it.
    """
    kernels = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": kernels, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return OPTIMIZERS[config.optimizer]([g for g in groups if g["params"]], config.lr)


def lr_at(config: TrainConfig, progress_epochs: float, horizon_epochs: int) -> float:
    """Learning rate after `progress_epochs` of a training of `horizon_epochs`.

    Linear from 0 through the warm-up, then constant or half a cosine down to 0 at the horizon
    (Loshchilov and Hutter 2017, arXiv:1608.03983). `max_epochs` is the length of the whole
    schedule: a shorter horizon compresses all of it, warm-up included. `plateau` is constant
    here; `Plateau` gives the factor on it.
    """
    position = min(progress_epochs / horizon_epochs, 1.0)
    warmup = min(config.warmup_epochs / config.max_epochs, 1.0)
    if position < warmup:
        return config.lr * position / warmup
    if config.lr_schedule != "cosine" or warmup == 1.0:
        return config.lr
    return config.lr * 0.5 * (1 + math.cos(math.pi * (position - warmup) / (1 - warmup)))


@dataclass(slots=True)
class Plateau:
    """A factor on the rate: halved when 3 epochs in a row brought no better score."""

    factor: float = 1.0
    best: float | None = None
    waited: int = 0

    def observe(self, score: float) -> None:
        """Take note of an epoch's validation score (higher is better)."""
        if self.best is None or score > self.best:
            self.best, self.waited = score, 0
            return
        self.waited += 1
        if self.waited == PLATEAU_PATIENCE:
            self.factor *= PLATEAU_FACTOR
            self.waited = 0
