"""What training minimises: one table of losses over logits, masks and the field of view.

All losses weigh pixels the same way: 0 outside the field of view, inside it the weight of the
pixel's true class. One channel of logits is the foreground by sigmoid; several are the classes,
background first, by softmax. Two channels say what one says by their difference.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

ClassWeights = float | tuple[float, ...]
Loss = Callable[[Tensor, Tensor, Tensor, ClassWeights], Tensor]

FOCUS = 2.0  # gamma of the focal loss
FALSE_POSITIVES, FALSE_NEGATIVES = 0.3, 0.7  # alpha and beta of the Tversky loss
SMOOTH = 1.0  # pixels added above and below an overlap: a batch without foreground has a loss


def bce(logits: Tensor, masks: Tensor, weights: Tensor, class_weights: ClassWeights) -> Tensor:
    """Cross-entropy, as weighted mean over pixels."""
    return _mean(_entropy(logits, masks), _weight(logits, masks, weights, class_weights))


def focal(logits: Tensor, masks: Tensor, weights: Tensor, class_weights: ClassWeights) -> Tensor:
    """Mean of (1 - p_true)^2 times cross-entropy (Lin et al. 2017, arXiv:1708.02002).

    The class weights take the place of the paper's alpha.
    """
    entropy = _entropy(logits, masks)
    missing = -torch.expm1(-entropy)  # 1 - p_true, exact near 0 too
    return _mean(missing**FOCUS * entropy, _weight(logits, masks, weights, class_weights))


def dice(logits: Tensor, masks: Tensor, weights: Tensor, class_weights: ClassWeights) -> Tensor:
    """1 - soft Dice, with squares below (Milletari et al. 2016, arXiv:1606.04797).

    Of several foreground classes the mean. Sums go over the whole batch: a patch without
    foreground would have a Dice of nothing but noise.
    """
    weight = _weight(logits, masks, weights, class_weights)
    return 1 - _mean_of([_soft_dice(p, truth, weight) for p, truth in _foregrounds(logits, masks)])


def _soft_dice(p: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    overlap = (weight * p * truth).sum()
    area = (weight * (p * p + truth)).sum()  # truth is its own square
    return (2 * overlap + SMOOTH) / (area + SMOOTH)


def tversky(logits: Tensor, masks: Tensor, weights: Tensor, class_weights: ClassWeights) -> Tensor:
    """1 - Tversky index over the batch, missed foreground costing more than false alarms.

    Of several foreground classes the mean. Salehi et al. 2017, arXiv:1706.05721, alpha 0.3 and
    beta 0.7.
    """
    weight = _weight(logits, masks, weights, class_weights)
    return 1 - _mean_of([_tversky(p, truth, weight) for p, truth in _foregrounds(logits, masks)])


def _tversky(p: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    overlap = (weight * p * truth).sum()
    alarms = (weight * p * (1 - truth)).sum()
    misses = (weight * (1 - p) * truth).sum()
    errors = FALSE_POSITIVES * alarms + FALSE_NEGATIVES * misses
    return (overlap + SMOOTH) / (overlap + errors + SMOOTH)


def bce_dice(logits: Tensor, masks: Tensor, weights: Tensor, class_weights: ClassWeights) -> Tensor:
    """Sum of `bce` and `dice`."""
    return bce(logits, masks, weights, class_weights) + dice(logits, masks, weights, class_weights)


def _entropy(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross-entropy of every pixel, float32 (N, H, W), even under autocast."""
    logits = logits.float()
    if logits.shape[1] == 1:
        return binary_cross_entropy_with_logits(logits[:, 0], masks.float(), reduction="none")
    return cross_entropy(logits, masks.long(), reduction="none")


def _foregrounds(logits: Tensor, masks: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Probability and truth (0 or 1) at every pixel, float32 (N, H, W), a foreground class each."""
    logits = logits.float()
    if logits.shape[1] == 1:
        yield torch.sigmoid(logits[:, 0]), masks.float()
        return
    for index, p in enumerate(logits.softmax(1).unbind(1)[1:], start=1):
        yield p, (masks == index).float()


def _weight(logits: Tensor, masks: Tensor, weights: Tensor, class_weights: ClassWeights) -> Tensor:
    return pixel_weights(logits.shape[1], masks, weights, class_weights)


def pixel_weights(
    channels: int, masks: Tensor, weights: Tensor, class_weights: ClassWeights
) -> Tensor:
    """Weight of every pixel, float32 (N, H, W): that of its true class, inside the view."""
    classes = max(2, channels)
    if not isinstance(class_weights, tuple):
        class_weights = (1.0, *[class_weights] * (classes - 1))
    assert len(class_weights) == classes  # TrialConfig refuses others
    if classes == 2:
        background, foreground = class_weights
        return weights.float() * (background + (foreground - background) * masks.float())
    return weights.float() * torch.tensor(class_weights, device=masks.device)[masks.long()]


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean, 0 where nothing has weight; class weights do not change its scale."""
    return (values * weight).sum() / weight.sum().clamp(min=torch.finfo(torch.float32).tiny)


def _mean_of(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()


# Name in `train.loss` -> function of logits (N, C, H, W), masks (N, H, W) of class indices,
# weights (N, H, W) with 1 inside the field of view and 0 outside, and `train.class_weights`: a
# number weighs every foreground class, a tuple has one a class, background first. Gives a float32
# scalar.
LOSSES: dict[str, Loss] = {
    "bce": bce,
    "dice": dice,
    "bce_dice": bce_dice,
    "focal": focal,
    "tversky": tversky,
}
