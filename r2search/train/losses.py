"""What training minimises: one table of losses over logits, masks and the field of view.

All losses weigh pixels the same way: 0 outside the field of view, inside it the weight of the
pixel's true class. Segmentation is binary so far: one foreground class, by sigmoid.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from r2search.config import Misuse

ClassWeights = float | tuple[float, ...]
Loss = Callable[[Tensor, Tensor, Tensor, ClassWeights], Tensor]

FOCUS = 2.0  # gamma of the focal loss
FALSE_POSITIVES, FALSE_NEGATIVES = 0.3, 0.7  # alpha and beta of the Tversky loss
SMOOTH = 1.0  # pixels added above and below an overlap: a batch without foreground has a loss


def _pixels(
    logits: Tensor, masks: Tensor, weights: Tensor, class_weights: ClassWeights
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, truth (0 or 1) and weight of every pixel, float32 (N, H, W)."""
    if logits.shape[1] != 1:
        raise Misuse(
            f"model.classes is {logits.shape[1]}, but the losses know one foreground class only; "
            "set model.classes to 1"
        )
    if isinstance(class_weights, tuple):
        if len(class_weights) != 2:
            raise Misuse(
                f"train.class_weights has {len(class_weights)} values; give one number (weight of "
                "the foreground) or two (background, foreground)"
            )
        background, foreground = class_weights
    else:
        background, foreground = 1.0, class_weights
    truth = masks.float()
    weight = weights.float() * torch.lerp(
        torch.full_like(truth, background), torch.full_like(truth, foreground), truth
    )
    return logits[:, 0].float(), truth, weight  # float32 even under autocast


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean, 0 where nothing has weight; class weights do not change its scale."""
    return (values * weight).sum() / weight.sum().clamp(min=torch.finfo(torch.float32).tiny)


def bce(logits: Tensor, masks: Tensor, weights: Tensor, class_weights: ClassWeights) -> Tensor:
    """Binary cross-entropy, as weighted mean over pixels."""
    score, truth, weight = _pixels(logits, masks, weights, class_weights)
    return _mean(binary_cross_entropy_with_logits(score, truth, reduction="none"), weight)


def focal(logits: Tensor, masks: Tensor, weights: Tensor, class_weights: ClassWeights) -> Tensor:
    """Mean of (1 - p_true)^2 times cross-entropy (Lin et al. 2017, arXiv:1708.02002).

    The class weights take the place of the paper's alpha.
    """
    score, truth, weight = _pixels(logits, masks, weights, class_weights)
    entropy = binary_cross_entropy_with_logits(score, truth, reduction="none")
    missing = torch.sigmoid(torch.where(truth > 0, -score, score))  # 1 - p_true
    return _mean(missing**FOCUS * entropy, weight)


def dice(logits: Tensor, masks: Tensor, weights: Tensor, class_weights: ClassWeights) -> Tensor:
    """1 - soft Dice, with squares below (Milletari et al. 2016, arXiv:1606.04797).

    Sums go over the whole batch: a patch without foreground would have a Dice of nothing but noise.
    """
    score, truth, weight = _pixels(logits, masks, weights, class_weights)
    p = torch.sigmoid(score)
    overlap = (weight * p * truth).sum()
    area = (weight * (p * p + truth)).sum()  # truth is its own square
    return 1 - (2 * overlap + SMOOTH) / (area + SMOOTH)


def tversky(logits: Tensor, masks: Tensor, weights: Tensor, class_weights: ClassWeights) -> Tensor:
    """1 - Tversky index over the batch, missed foreground costing more than false alarms.

    Salehi et al. 2017, arXiv:1706.05721, alpha 0.3 and beta 0.7.
    """
    score, truth, weight = _pixels(logits, masks, weights, class_weights)
    p = torch.sigmoid(score)
    overlap = (weight * p * truth).sum()
    alarms = (weight * p * (1 - truth)).sum()
    misses = (weight * (1 - p) * truth).sum()
    errors = FALSE_POSITIVES * alarms + FALSE_NEGATIVES * misses
    return 1 - (overlap + SMOOTH) / (overlap + errors + SMOOTH)


def bce_dice(logits: Tensor, masks: Tensor, weights: Tensor, class_weights: ClassWeights) -> Tensor:
    """Sum of `bce` and `dice`."""
    return bce(logits, masks, weights, class_weights) + dice(logits, masks, weights, class_weights)


# Name in `train.loss` -> function of logits (N, 1, H, W), masks (N, H, W) of 0 and 1,
# weights (N, H, W) with 1 inside the field of view and 0 outside, and `train.class_weights`;
# gives a float32 scalar.
LOSSES: dict[str, Loss] = {
    "bce": bce,
    "dice": dice,
    "bce_dice": bce_dice,
    "focal": focal,
    "tversky": tversky,
}
