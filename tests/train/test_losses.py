"""Losses against values worked out by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from r2search.train.losses import LOSSES, ClassWeights

# One row of three pixels inside the field of view and one outside.
# probability  1/2  3/4  1/4 | 3/4      logit of 3/4 is ln 3, of 1/4 is -ln 3
# truth         1    1    0  |  0
LOGITS = torch.tensor([0.0, math.log(3), -math.log(3), math.log(3)]).reshape(1, 1, 1, 4)
MASKS = torch.tensor([1, 1, 0, 0], dtype=torch.uint8).reshape(1, 1, 4)
FOV = torch.tensor([1.0, 1.0, 1.0, 0.0]).reshape(1, 1, 4)


# The same of three classes, each pixel's probabilities, background first:
# (1/2 1/4 1/4)  (1/4 1/2 1/4)  (1/2 1/4 1/4) | (1/4 1/4 1/2)
# truth 1              2              0       |       2
THREE_LOGITS = (
    torch.tensor([[2.0, 1.0, 2.0, 1.0], [1.0, 2.0, 1.0, 1.0], [1.0, 1.0, 1.0, 2.0]])
    .log()
    .reshape(1, 3, 1, 4)
)
THREE_MASKS = torch.tensor([1, 2, 0, 2], dtype=torch.uint8).reshape(1, 1, 4)

# Both heads, for what holds of either: logits and masks.
HEADS = {"sigmoid": (LOGITS, MASKS), "softmax": (THREE_LOGITS, THREE_MASKS)}
either_head = pytest.mark.parametrize("head", HEADS)
every_loss = pytest.mark.parametrize("name", LOSSES)


def loss(
    name: str, logits: Tensor = LOGITS, masks: Tensor = MASKS, weights: ClassWeights = 1.0
) -> float:
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

LN2 = math.log(2)
THREE_GOLDENS = {
    # cross-entropies: 2 ln 2, 2 ln 2, ln 2
    "bce": 5 * LN2 / 3,
    # class 1: overlap 1/4; squares 1/16 + 1/4 + 1/16; truth 1: index 1.5 / 2.375
    # class 2: overlap 1/4; squares 3/16; truth 1: index 1.5 / 2.1875
    "dice": 1 - (1.5 / 2.375 + 1.5 / 2.1875) / 2,
    "bce_dice": 5 * LN2 / 3 + 1 - (1.5 / 2.375 + 1.5 / 2.1875) / 2,
    # (1 - p_true)^2: 9/16, 9/16, 1/4
    "focal": (9 / 8 + 9 / 8 + 1 / 4) * LN2 / 3,
    # class 1: overlap 1/4; alarms 3/4; misses 3/4: errors 3/4
    # class 2: overlap 1/4; alarms 1/2; misses 3/4: errors 0.3 / 2 + 0.7 * 3/4
    "tversky": 1 - (1.25 / 2 + 1.25 / 1.925) / 2,
}

# Class weights 1, 2 and 3: the pixels count 2, 3 and 1 times.
THREE_WEIGHTED_GOLDENS = {
    "bce": (2 * 2 + 3 * 2 + 1) * LN2 / 6,
    # class 1: overlap 1/2; squares 2/16 + 3/4 + 1/16; truth 2: index 2 / 3.9375
    # class 2: overlap 3/4; squares 6/16; truth 3: index 2.5 / 4.375
    "dice": 1 - (2 / 3.9375 + 2.5 / 4.375) / 2,
    "bce_dice": 11 * LN2 / 6 + 1 - (2 / 3.9375 + 2.5 / 4.375) / 2,
    "focal": (2 * 9 / 8 + 3 * 9 / 8 + 1 / 4) * LN2 / 6,
    # class 1: overlap 1/2; alarms 3/2 + 1/4; misses 3/2: errors 0.525 + 1.05
    # class 2: overlap 3/4; alarms 1/2 + 1/4; misses 9/4: errors 0.225 + 1.575
    "tversky": 1 - (1.5 / 3.075 + 1.75 / 3.55) / 2,
}


@every_loss
def test_loss_equals_the_value_worked_out_by_hand(name: str) -> None:
    assert loss(name) == pytest.approx(GOLDENS[name], rel=1e-5)


@every_loss
def test_class_weight_counts_foreground_pixels_several_times(name: str) -> None:
    assert loss(name, weights=3.0) == pytest.approx(WEIGHTED_GOLDENS[name], rel=1e-5)


@every_loss
def test_losses_of_three_classes_equal_the_values_worked_out_by_hand(name: str) -> None:
    plain = loss(name, THREE_LOGITS, THREE_MASKS)
    assert plain == pytest.approx(THREE_GOLDENS[name], rel=1e-5)
    weighted = loss(name, THREE_LOGITS, THREE_MASKS, (1.0, 2.0, 3.0))
    assert weighted == pytest.approx(THREE_WEIGHTED_GOLDENS[name], rel=1e-5)


@every_loss
@settings(deadline=None)
@given(
    differences=st.lists(st.floats(-12, 12), min_size=4, max_size=4),
    common=st.lists(st.floats(-20, 20), min_size=4, max_size=4),
    truth=st.lists(st.integers(0, 1), min_size=4, max_size=4),
    weights=st.one_of(st.floats(0.1, 20), st.tuples(st.floats(0.1, 20), st.floats(0.1, 20))),
)
def test_two_channels_by_softmax_are_one_by_sigmoid(
    name: str,
    differences: list[float],
    common: list[float],
    truth: list[int],
    weights: ClassWeights,
) -> None:
    one = torch.tensor(differences).reshape(1, 1, 1, 4).requires_grad_()
    below = torch.tensor(common).reshape(1, 1, 1, 4)
    two = torch.cat([below, below + one.detach()], dim=1).requires_grad_()
    masks = torch.tensor(truth, dtype=torch.uint8).reshape(1, 1, 4)
    values = [LOSSES[name](logits, masks, FOV, weights) for logits in (one, two)]
    assert values[1].item() == pytest.approx(values[0].item(), rel=1e-4, abs=1e-5)
    for value in values:
        value.backward()  # type: ignore[no-untyped-call]
    assert one.grad is not None
    assert two.grad is not None
    for channel, sign in ((1, 1), (0, -1)):
        torch.testing.assert_close(
            sign * two.grad[:, channel], one.grad[:, 0], rtol=1e-3, atol=1e-5
        )


@every_loss
def test_a_number_weighs_every_foreground_class(name: str) -> None:
    for logits, masks, alone in (
        (LOGITS, MASKS, (1.0, 3.0)),
        (THREE_LOGITS, THREE_MASKS, (1.0, 3.0, 3.0)),
    ):
        assert loss(name, logits, masks, 3.0) == loss(name, logits, masks, alone)
        turned = (3.0, *[1.0] * (len(alone) - 1))
        assert loss(name, logits, masks, turned) != loss(name, logits, masks, alone)


@every_loss
def test_foreground_classes_are_equals(name: str) -> None:
    swapped = torch.tensor([0, 2, 1])
    there = loss(name, THREE_LOGITS, THREE_MASKS, (1.0, 2.0, 3.0))
    back = loss(name, THREE_LOGITS[:, swapped], swapped[THREE_MASKS.long()], (1.0, 3.0, 2.0))
    assert back == pytest.approx(there, rel=1e-6)


@either_head
@every_loss
def test_pixels_outside_the_field_of_view_contribute_nothing(name: str, head: str) -> None:
    given_logits, given_masks = HEADS[head]
    other_logits, other_masks = given_logits.clone(), given_masks.clone()
    other_logits[..., 3], other_masks[..., 3] = -7.0, 1
    logits = other_logits.requires_grad_()
    value = LOSSES[name](logits, other_masks, FOV, 1.0)
    value.backward()  # type: ignore[no-untyped-call]
    assert value.item() == loss(name, given_logits, given_masks)
    assert logits.grad is not None
    assert not logits.grad[..., 3].any()
    assert logits.grad[..., :3].all()


@either_head
@every_loss
def test_batch_outside_the_field_of_view_has_loss_0_and_no_gradient(name: str, head: str) -> None:
    given_logits, masks = HEADS[head]
    logits = given_logits.clone().requires_grad_()
    value = LOSSES[name](logits, masks, torch.zeros_like(FOV), 1.0)
    value.backward()  # type: ignore[no-untyped-call]
    assert value.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@every_loss
def test_confident_and_right_costs_almost_nothing_and_wrong_a_lot(name: str) -> None:
    right = torch.where(MASKS[:, None] > 0, 30.0, -30.0)
    assert loss(name, right) == pytest.approx(0.0, abs=1e-5)
    assert loss(name, -right) > 0.5
    one_hot = torch.nn.functional.one_hot(THREE_MASKS.long(), 3).movedim(3, 1) * 30.0
    assert loss(name, one_hot, THREE_MASKS) == pytest.approx(0.0, abs=1e-5)
    assert loss(name, one_hot.roll(1, dims=1), THREE_MASKS) > 0.45


@either_head
@every_loss
def test_patches_without_foreground_are_taught_to_stay_empty(name: str, head: str) -> None:
    logits, masks = HEADS[head]
    empty, doubtful = torch.zeros_like(masks), logits.clone()
    doubtful[:, -1] -= 5  # less of a foreground class
    assert loss(name, doubtful, empty) < loss(name, logits, empty)


@either_head
@every_loss
def test_loss_of_bfloat16_logits_is_computed_in_float32(name: str, head: str) -> None:
    logits, masks = HEADS[head]
    rounded = logits.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        value = LOSSES[name](rounded, masks, FOV, 1.0)
    assert value.dtype == torch.float32
    assert value.item() == loss(name, rounded.float(), masks)


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
