"""Losses against values worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from r2search.config import Misuse
from r2search.train.losses import LOSSES

# One row of three pixels inside the field of view and one outside.
# probability  1/2  3/4  1/4 | 3/4      logit of 3/4 is ln 3, of 1/4 is -ln 3
# truth         1    1    0  |  0
LOGITS = torch.tensor([0.0, math.log(3), -math.log(3), math.log(3)]).reshape(1, 1, 1, 4)
MASKS = torch.tensor([1, 1, 0, 0], dtype=torch.uint8).reshape(1, 1, 4)
FOV = torch.tensor([1.0, 1.0, 1.0, 0.0]).reshape(1, 1, 4)


def loss(name: str, logits: Tensor = LOGITS, masks: Tensor = MASKS, weights: float = 1.0) -> float:
    return LOSSES[name](logits, masks, FOV, weights).item()


GOLDENS = {
    # cross-entropies: ln 2, ln 4/3, ln 4/3
    "bce": (math.log(2) + 2 * math.log(4 / 3)) / 3,
    # overlap 1/2 + 3/4 = 5/4; squares 1/4 + 9/16 + 1/16 = 7/8; truth 2; smoothing 1:
    # 1 - (5/2 + 1) / (7/8 + 2 + 1) = 1 - 28/31
    "dice": 3 / 31,
    "bce_dice": (math.log(2) + 2 * math.log(4 / 3)) / 3 + 3 / 31,
    # (1 - p_true)^2: 1/4, 1/16, 1/16
    "focal": (math.log(2) / 4 + 2 * math.log(4 / 3) / 16) / 3,
    # overlap 5/4; alarms 1/4; misses 1/2 + 1/4 = 3/4; smoothing 1:
    # 1 - (9/4) / (9/4 + 0.3 / 4 + 0.7 * 3/4) = 1 - 2.25 / 2.85
    "tversky": 0.6 / 2.85,
}

WEIGHTED_GOLDENS = {
    # foreground counts 3 times: (3 ln 2 + 3 ln 4/3 + ln 4/3) / (3 + 3 + 1)
    "bce": (3 * math.log(2) + 4 * math.log(4 / 3)) / 7,
    # overlap 15/4; squares 3/4 + 27/16 + 1/16 = 5/2; truth 6: 1 - 8.5 / 9.5
    "dice": 1 / 9.5,
    "bce_dice": (3 * math.log(2) + 4 * math.log(4 / 3)) / 7 + 1 / 9.5,
    "focal": (3 * math.log(2) / 4 + 4 * math.log(4 / 3) / 16) / 7,
    # overlap 15/4; alarms 1/4; misses 9/4: errors 0.3 / 4 + 0.7 * 9/4 = 1.65
    "tversky": 1.65 / (4.75 + 1.65),
}


@pytest.mark.parametrize("name", LOSSES)
def test_loss_equals_the_value_worked_out_by_hand(name: str) -> None:
    assert loss(name) == pytest.approx(GOLDENS[name], rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_class_weight_counts_foreground_pixels_several_times(name: str) -> None:
    assert loss(name, weights=3.0) == pytest.approx(WEIGHTED_GOLDENS[name], rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_two_class_weights_are_background_and_foreground(name: str) -> None:
    assert LOSSES[name](LOGITS, MASKS, FOV, (1.0, 3.0)).item() == loss(name, weights=3.0)
    assert LOSSES[name](LOGITS, MASKS, FOV, (3.0, 1.0)).item() != loss(name, weights=3.0)


@pytest.mark.parametrize("name", LOSSES)
def test_pixels_outside_the_field_of_view_contribute_nothing(name: str) -> None:
    other_logits, other_masks = LOGITS.clone(), MASKS.clone()
    other_logits[..., 3], other_masks[..., 3] = -7.0, 1
    logits = other_logits.requires_grad_()
    value = LOSSES[name](logits, other_masks, FOV, 1.0)
    value.backward()
    assert value.item() == loss(name)
    assert logits.grad is not None
    assert logits.grad[..., 3].item() == 0
    assert logits.grad[..., :3].all()


@pytest.mark.parametrize("name", LOSSES)
def test_batch_outside_the_field_of_view_has_loss_0_and_no_gradient(name: str) -> None:
    logits = LOGITS.clone().requires_grad_()
    value = LOSSES[name](logits, MASKS, torch.zeros_like(FOV), 1.0)
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("name", LOSSES)
def test_confident_and_right_costs_almost_nothing_and_wrong_a_lot(name: str) -> None:
    right = torch.where(MASKS[:, None] > 0, 30.0, -30.0)
    assert loss(name, right) == pytest.approx(0.0, abs=1e-5)
    assert loss(name, -right) > 0.5


@pytest.mark.parametrize("name", LOSSES)
def test_patches_without_foreground_are_taught_to_stay_empty(name: str) -> None:
    empty = torch.zeros_like(MASKS)
    assert loss(name, LOGITS - 5, empty) < loss(name, LOGITS, empty)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_of_bfloat16_logits_is_computed_in_float32(name: str) -> None:
    rounded = LOGITS.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        value = LOSSES[name](rounded, MASKS, FOV, 1.0)
    assert value.dtype == torch.float32
    assert value.item() == loss(name, rounded.float())


@pytest.mark.parametrize("name", ["dice", "tversky"])
def test_overlap_losses_sum_over_the_batch_before_they_divide(name: str) -> None:
    logits = torch.cat([LOGITS, LOGITS - 2])
    empty_second = torch.cat([MASKS, torch.zeros_like(MASKS)])
    batch = LOSSES[name](logits, empty_second, FOV.expand(2, 1, 4), 1.0).item()
    alone = loss(name, LOGITS - 2, torch.zeros_like(MASKS))
    assert batch != pytest.approx((loss(name) + alone) / 2, rel=1e-3)
    side_by_side = LOSSES[name](
        logits.transpose(0, 2), empty_second.transpose(0, 1), FOV.expand(1, 2, 4), 1.0
    ).item()
    assert batch == pytest.approx(side_by_side, rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_more_than_one_foreground_class_is_refused(name: str) -> None:
    with pytest.raises(Misuse, match=r"model\.classes is 3"):
        loss(name, LOGITS.expand(1, 3, 1, 4))


def test_wrong_number_of_class_weights_is_refused() -> None:
    with pytest.raises(Misuse, match=r"train\.class_weights has 3 values"):
        LOSSES["bce"](LOGITS, MASKS, FOV, (1.0, 2.0, 3.0))
