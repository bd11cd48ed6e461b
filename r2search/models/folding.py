"""A copy of a network that predicts with less work: norms become part of the convolutions."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from r2search.models.blocks import Unit


class FoldedUnit(nn.Module):
    """What a `Unit` computes in evaluation: the norm of each step is in that step's kernel."""

    def __init__(self, unit: Unit, norms: list[nn.BatchNorm2d]) -> None:
        super().__init__()
        self.recurrence = unit.recurrence
        self.convs = nn.ModuleList(fuse_conv_bn_eval(unit.conv, norm) for norm in norms)
        self.activation = unit.activation

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.activation(self.convs[0](x))
        for step in range(1, self.recurrence + 1):
            conv = self.convs[step % len(self.convs)]
            h = self.activation(conv(h.add_(x)))  # nothing is kept for a backward pass
        return h


def fold(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy in evaluation mode, of the weights as they are now, for use without gradients.

    A batch norm right after a convolution is folded into it. Other norms stay: group and instance
    norm depend on the image, and nothing linear stands before the first norm of a pre-activation
    block. Convolutions hold their weights in `dtype`, so that autocast need not cast them at every
    call. The result is that of `model.eval()` but for rounding.
    """
    folded = _folded(copy.deepcopy(model).eval())
    for module in folded.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.to(dtype)
    return folded


def _folded(module: nn.Module) -> nn.Module:
    if isinstance(module, Unit):
        norms = [norm for norm in module.norms if isinstance(norm, nn.BatchNorm2d)]
        return FoldedUnit(module, norms) if norms else module
    for name, child in module.named_children():
        setattr(module, name, _folded(child))
    if not isinstance(module, nn.Sequential):
        return module
    layers: list[nn.Module] = []
    for layer in module:
        before = layers[-1] if layers else None
        if isinstance(layer, nn.BatchNorm2d) and isinstance(before, nn.Conv2d):
            layers[-1] = fuse_conv_bn_eval(before, layer)
        else:
            layers.append(layer)
    return nn.Sequential(*layers)
