"""The one network of the family: a U-Net whose parts are named by its `ModelConfig`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from r2search.config import ModelConfig
from r2search.models.blocks import BLOCKS, FIRST_BLOCKS
from r2search.models.layers import ConvTranspose2d

# Channels -> module that halves height and width.
DOWNSAMPLING: dict[str, Callable[[int], nn.Module]] = {
    "maxpool": lambda channels: nn.MaxPool2d(2),
    "stride": lambda channels: nn.Conv2d(channels, channels, 3, stride=2, padding=1),
}

# Channels -> module that doubles height and width and halves the channels. A 1x1 convolution
# commutes with nearest upsampling, so it runs before it, at a quarter of the work; the block that
# follows has the 3x3 convolutions that smooth the steps.
UPSAMPLING: dict[str, Callable[[int], nn.Module]] = {
    "transpose2": lambda channels: ConvTranspose2d(channels, channels // 2, 2, stride=2),
    "transpose3": lambda channels: ConvTranspose2d(
        channels, channels // 2, 3, stride=2, padding=1, output_padding=1
    ),
    "nearest": lambda channels: nn.Sequential(
        nn.Conv2d(channels, channels // 2, 1), nn.Upsample(scale_factor=2, mode="nearest")
    ),
}

# Fills the weight of a convolution; `torch` is what torch's constructors leave.
INITIALIZERS: dict[str, Callable[[Tensor], Any]] = {
    "he_normal": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
    "he_uniform": partial(nn.init.kaiming_uniform_, nonlinearity="relu"),
    "xavier_normal": nn.init.xavier_normal_,
    "orthogonal": nn.init.orthogonal_,
}


class UNet(nn.Module):
    """(N, in_channels, H, W) to logits (N, classes, H, W), at any H, W >= 1.

    `depth` downsamplings, level l has base_filters * 2**l channels. Convolutions outside the
    blocks (up, down, head) always have a bias, because no norm follows them. An image whose sides
    are no multiples of 2**depth is continued by its last row and column, and the logits are cut.
    In training a batch norm needs more than one value a channel: a batch of one patch of 2**depth
    pixels is torch's ValueError. `checkpoint_activations`: in training, what a block computes is
    dropped and computed again for the backward pass, with the same result.
    """

    def __init__(self, config: ModelConfig, *, checkpoint_activations: bool = False) -> None:
        super().__init__()
        self.checkpoint_activations = checkpoint_activations
        first, block = FIRST_BLOCKS[config.block], BLOCKS[config.block]
        widths = [config.base_filters * 2**level for level in range(config.depth + 1)]
        self.config = config
        self.encoder = nn.ModuleList([first(config.in_channels, widths[0], config)])
        self.encoder.extend(block(before, width, config) for before, width in pairwise(widths))
        self.down = nn.ModuleList(DOWNSAMPLING[config.downsampling](width) for width in widths[:-1])
        self.up = nn.ModuleList(UPSAMPLING[config.upsampling](width) for width in widths[:0:-1])
        self.decoder = nn.ModuleList(
            block(width * 2 if config.skip == "concat" else width, width, config)
            for width in widths[-2::-1]
        )
        self.head = nn.Conv2d(config.base_filters, config.classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        multiple = 2**self.config.depth
        below, right = -height % multiple, -width % multiple
        if below or right:
            x = F.pad(x, (0, right, 0, below), mode="replicate")
        skips = []
        for block, down in zip(self.encoder, self.down, strict=False):  # the last block stays
            skips.append(self._run(block, x))
            x = down(skips[-1])
        x = self._run(self.encoder[-1], x)
        for up, block in zip(self.up, self.decoder, strict=True):
            if self.config.skip == "concat":
                x = torch.cat((skips.pop(), up(x)), dim=1)
            else:  # in place is safe: no upsampling keeps its output for the backward pass
                x = up(x).add_(skips.pop())
            x = self._run(block, x)
        logits: Tensor = self.head(x)
        return logits[..., :height, :width]

    def _run(self, block: nn.Module, x: Tensor) -> Tensor:
        if not (self.checkpoint_activations and self.training and torch.is_grad_enabled()):
            return block(x)  # type: ignore[no-any-return]
        return checkpoint(  # type: ignore[no-any-return]
            block,
            x,
            use_reentrant=False,
            preserve_rng_state=self.config.dropout > 0,
            context_fn=lambda: (nullcontext(), _keeping_statistics(block)),
        )


@contextmanager
def _keeping_statistics(block: nn.Module) -> Iterator[None]:
    """Let batch norms see a batch for the second time without counting it twice."""
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, counted) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, counted


def build_model(
    config: ModelConfig, seed: int = 0, *, checkpoint_activations: bool = False
) -> UNet:
    """The network with its first weights: equal for equal config and seed, on the CPU.

    Biases start at 0 unless `initializer` is `torch`. The caller's random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would also seed the GPUs, whose state is not restored here.
        torch.default_generator.manual_seed(seed)
        model = UNet(config, checkpoint_activations=checkpoint_activations)
        if config.initializer != "torch":
            for module in model.modules():
                if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                    INITIALIZERS[config.initializer](module.weight)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
    return model
