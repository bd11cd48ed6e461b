"""Torch's layers with the same parameters and results, faster where its CPU kernels are slow.

Each differs from its base class only in a training step on a CPU in channels_last, the layout that
bfloat16 has there (train/hardware.py). What it is worth stands in docs/experiments.md.
"""

from math import gcd
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

aten = torch.ops.aten
CHANNELS_LAST = torch.channels_last

# At most so many pixels, at least so many channels: there a kernel's gradient is a matrix product.
DEEP_PIXELS, DEEP_CHANNELS = 16, 64

# Fewer channels than fill a register are normed number by number. Several pixels side by side, up
# to ROW numbers, fill it; that pays below half a register.
NARROW = 32  # bytes
ROW = 128


def _slow(x: Tensor) -> bool:
    """Whether x takes part in a training step in the layout that some kernels are slow in."""
    last = x.is_contiguous(memory_format=CHANNELS_LAST) and not x.is_contiguous()
    return last and x.device.type == "cpu" and torch.is_grad_enabled()


def _cast(value: Tensor) -> Tensor:
    """As autocast gives it to a convolution on a CPU."""
    return value.to(torch.get_autocast_dtype("cpu")) if torch.is_autocast_enabled("cpu") else value


class Conv2d(nn.Conv2d):
    """3x3, padded, on small maps of many channels: the gradient of the kernel is one product.

    oneDNN takes twice as long for it on 4 x 4 pixels, and nine times on 2 x 2.
    """

    def kernel(self, x: Tensor) -> Tensor:
        """To be run over maps like x, however often: cast once, where autocast does not keep it."""
        return _cast(self.weight) if self._deep(x) else self.weight

    def forward(self, x: Tensor, kernel: Tensor | None = None) -> Tensor:
        """`kernel`: that for maps like x, where there is one already."""
        if not self._deep(x):
            return super().forward(x)
        kernel = self.kernel(x) if kernel is None else kernel
        y: Tensor = _Deep.apply(  # type: ignore[no-untyped-call]
            _cast(x), kernel, None if self.bias is None else _cast(self.bias)
        )
        return y

    def _deep(self, x: Tensor) -> bool:
        small = x.shape[-2] * x.shape[-1] <= DEEP_PIXELS and self.kernel_size == (3, 3)
        return small and min(self.weight.shape[:2]) >= DEEP_CHANNELS and _slow(x)


class _Deep(Function):
    """x (N, C, H, W), kernel (D, C, 3, 3), bias (D) or None -> (N, D, H, W)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, kernel)
        return F.conv2d(x, kernel, bias, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, kernel = ctx.saved_tensors
        grad = grad.contiguous(memory_format=CHANNELS_LAST)
        by_x, by_kernel, by_bias = ctx.needs_input_grad
        return (
            _convolution_backward(grad, x, kernel) if by_x else None,
            _by_kernel(grad, x) if by_kernel else None,
            grad.sum((0, 2, 3)) if by_bias else None,
        )


def _convolution_backward(grad: Tensor, x: Tensor, kernel: Tensor) -> Tensor:
    ones, only_x = [1, 1], [True, False, False]
    found = aten.convolution_backward(
        grad, x, kernel, None, ones, ones, ones, False, [0, 0], 1, only_x
    )
    return found[0]  # type: ignore[no-any-return]


def _by_kernel(grad: Tensor, x: Tensor) -> Tensor:
    """Gradient of a padded 3x3 kernel: what came out by the nine shifted copies of what went in."""
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    (n, channels, height, width), (image, row, pixel, one) = x.shape, padded.stride()
    around = padded.as_strided(
        (n, height, width, 3, 3, channels), (image, row, pixel, row, pixel, one)
    )
    left = grad.permute(0, 2, 3, 1).reshape(-1, grad.shape[1])
    product = left.t() @ around.reshape(len(left), 9 * channels)
    return product.view(-1, 3, 3, channels).permute(0, 3, 1, 2)


class ConvTranspose2d(nn.ConvTranspose2d):
    """The gradient of the bias is a sum of its own: oneDNN takes ten times as long for both."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if self.bias is None or not _slow(x):
            return super().forward(x, output_size)
        settings = self.stride, self.padding, self.output_padding
        y: Tensor = _Transposed.apply(  # type: ignore[no-untyped-call]
            *map(_cast, (x, self.weight, self.bias)), settings
        )
        return y


class _Transposed(Function):
    """A transposed convolution; `settings`: its stride, padding and output padding."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, bias: Tensor, settings: Any) -> Tensor:
        ctx.save_for_backward(x, kernel)
        ctx.settings = settings
        return F.conv_transpose2d(x, kernel, bias, *settings)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, kernel = ctx.saved_tensors
        stride, padding, output_padding = ctx.settings
        by_x, by_kernel, by_bias, _ = ctx.needs_input_grad
        of_x, of_kernel, _ = aten.convolution_backward(
            *(grad, x, kernel, None, stride, padding, [1, 1], True, output_padding, 1),
            [by_x, by_kernel, False],
        )
        return of_x, of_kernel, grad.sum((0, 2, 3)) if by_bias else None, None


class BatchNorm2d(nn.BatchNorm2d):
    """Of few channels: several pixels are normed as if they were one of more channels."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():  # it writes a kernel of its own, and cannot read ours
            return super().forward(x)
        pixels = self._side_by_side(x)
        if pixels == 1 or not (self.training and _slow(x)):
            return super().forward(x)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        y, mean, variance = _Narrow.apply(  # type: ignore[no-untyped-call]
            x, self.weight, self.bias, self.eps, pixels
        )
        count = x.numel() // x.shape[1]
        assert self.momentum is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance.mul_(count / (count - 1)), self.momentum)
        return y  # type: ignore[no-any-return]

    def _side_by_side(self, x: Tensor) -> int:
        """How many pixels; a power of two that divides their number."""
        channels = x.shape[1]
        if channels * x.element_size() >= NARROW:
            return 1
        return gcd(x.numel() // channels, 2 ** ((ROW // channels).bit_length() - 1))


class _Narrow(Function):
    """x (N, C, H, W), weight (C), bias (C) -> normed x, mean and variance of the batch."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, pixels: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        wide = _widened(x, pixels)
        nothing = torch.zeros(wide.shape[1], dtype=weight.dtype)  # says the type of what is found
        each, within = aten.batch_norm_update_stats(wide, nothing, nothing.clone(), 0.0)
        variance, mean = torch.var_mean(each.view(pixels, -1), 0, correction=0)
        variance += within.view(pixels, -1).mean(0)
        y = _affine(x, pixels, weight, bias, mean, variance, eps)
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt())
        ctx.eps, ctx.pixels = eps, pixels
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, invstd = ctx.saved_tensors
        pixels, channels = ctx.pixels, x.shape[1]
        grad = grad.contiguous(memory_format=CHANNELS_LAST)
        wide = _widened(grad, pixels), _widened(x, pixels)
        repeated = [value.repeat(pixels) for value in (weight, mean, invstd)]
        _, *sums = aten.native_batch_norm_backward(
            *(*wide, repeated[0], None, None, *repeated[1:], True, 0.0, [False, True, True])
        )
        by_weight, by_bias = (each.view(pixels, channels).sum(0) for each in sums)
        # The gradient of x is, in each channel, of_grad * grad + of_x * x + rest.
        of_grad = weight * invstd
        of_x = of_grad * invstd * by_weight * (-channels / x.numel())
        rest = of_grad * by_bias * (-channels / x.numel()) - of_x * mean
        by_x = _affine(x, pixels, of_x, rest).add_(_affine(grad, pixels, of_grad))
        return by_x, by_weight, by_bias, None, None


def _affine(
    x: Tensor,
    pixels: int,
    scale: Tensor,
    shift: Tensor | None = None,
    mean: Tensor | None = None,
    variance: Tensor | None = None,
    eps: float = 0.0,
) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * scale + shift, by channel, in one pass."""
    zeros = torch.zeros_like(scale)
    shift, mean = (zeros if value is None else value for value in (shift, mean))
    variance = torch.ones_like(scale) if variance is None else variance
    rows = torch.stack((scale, shift, mean, variance)).repeat(1, pixels)
    y = torch.empty_like(x)  # not a view, so that an activation may overwrite it
    unused = scale.new_empty(0)
    aten.native_batch_norm.out(
        *(_widened(x, pixels), *rows.unbind(), False, 0.0, eps),
        out=_widened(y, pixels),
        save_mean=unused,
        save_invstd=unused,
    )
    return y


def _widened(x: Tensor, pixels: int) -> Tensor:
    """(N, C, H, W) in channels_last, seen as (1, C * pixels, N * H * W / pixels, 1)."""
    return x.permute(0, 2, 3, 1).reshape(1, -1, 1, x.shape[1] * pixels).permute(0, 3, 1, 2)
