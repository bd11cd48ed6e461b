"""Optimizers, learning rates over time, and the plateau rule."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, Adam, AdamW

from r2search.config import TrainConfig
from r2search.train.optim import OPTIMIZERS, Plateau, build_optimizer, lr_at

COSINE = TrainConfig(lr=1.0, lr_schedule="cosine", warmup_epochs=2, max_epochs=10)
CONSTANT = COSINE.model_copy(update={"lr_schedule": "constant"})


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (0.0, 0.0),
        (0.5, 0.25),  # linear over 2 epochs
        (2.0, 1.0),
        (6.0, 0.5),  # half of the 8 epochs after the warm-up: cos(pi / 2) = 0
        (8.0, 0.5 * (1 - math.sqrt(0.5))),  # three quarters: cos(3 pi / 4)
        (10.0, 0.0),
        (11.0, 0.0),
    ],
)
def test_cosine_rises_through_the_warm_up_and_falls_to_0(progress: float, expected: float) -> None:
    assert lr_at(COSINE, progress, 10) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("progress", "expected"), [(1.0, 0.5), (2.0, 1.0), (10.0, 1.0)])
def test_constant_stays_after_the_warm_up(progress: float, expected: float) -> None:
    assert lr_at(CONSTANT, progress, 10) == expected


@given(progress=st.floats(0, 10), horizon=st.integers(1, 10))
def test_shorter_horizon_compresses_the_whole_schedule(progress: float, horizon: int) -> None:
    compressed = lr_at(COSINE, progress * horizon / 10, horizon)
    assert compressed == pytest.approx(lr_at(COSINE, progress, 10), abs=1e-9)


@given(
    progress=st.floats(0, 20),
    warmup=st.floats(0, 20),
    schedule=st.sampled_from(["constant", "cosine", "plateau"]),
)
def test_rate_stays_between_0_and_its_peak(progress: float, warmup: float, schedule: str) -> None:
    config = TrainConfig.model_validate(
        {"lr": 0.3, "lr_schedule": schedule, "warmup_epochs": warmup, "max_epochs": 10}
    )
    assert 0 <= lr_at(config, progress, 10) <= 0.3


def test_plateau_halves_after_three_epochs_without_a_better_score() -> None:
    plateau = Plateau()
    factors = []
    for score in [0.5, 0.6, 0.6, 0.5, 0.59, 0.61, 0.6, 0.6, 0.6, 0.6]:
        plateau.observe(score)
        factors.append(plateau.factor)
    # best 0.6 at the 2nd; epochs 3, 4, 5 no better; 0.61 is; 7, 8, 9 no better
    assert factors == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_lowers_a_loss(name: str) -> None:
    model = nn.Linear(3, 1)
    nn.init.ones_(model.weight)
    optimizer = build_optimizer(
        model, TrainConfig.model_validate({"optimizer": name, "lr": 0.05, "weight_decay": 0})
    )
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        value = (model(torch.ones(1, 3)) ** 2).sum()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert losses[-1] < 0.8 * losses[0]


def test_only_kernels_are_decayed() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4))
    decay = {
        id(p): group["weight_decay"]
        for group in build_optimizer(model, TrainConfig(weight_decay=0.1)).param_groups
        for p in group["params"]
    }
    found = {name: decay[id(p)] for name, p in model.named_parameters()}
    assert found == {"0.weight": 0.1, "0.bias": 0, "1.weight": 0, "1.bias": 0}


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("adam", lambda groups, lr: Adam(groups, lr=lr, fused=True)),
        ("adamw", lambda groups, lr: AdamW(groups, lr=lr, fused=True)),
        (
            "sgd",
            lambda groups, lr: SGD(groups, lr=lr, momentum=0.9, nesterov=True, fused=True),
        ),
    ],
)
def test_steps_are_those_of_torchs_own_optimizer(name: str, own: Any) -> None:
    """To the last bit: it is theirs, without what torch wraps round its methods."""
    config = TrainConfig.model_validate({"optimizer": name, "lr": 0.05, "weight_decay": 0.1})
    models = [nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten()) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    ours = build_optimizer(models[0], config)
    decay = config.weight_decay
    weight, bias = models[1].parameters()
    groups = [{"params": [weight], "weight_decay": decay}, {"params": [bias], "weight_decay": 0.0}]
    images = torch.randn(4, 2, 5, 5)
    for model, optimizer in zip(models, (ours, own(groups, config.lr)), strict=True):
        for _ in range(5):
            optimizer.zero_grad()
            model(images).square().mean().backward()
            optimizer.step()
    for mine, theirs in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(mine, theirs)
