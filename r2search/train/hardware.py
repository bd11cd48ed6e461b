"""How a network runs on this machine: device, precision, memory layout, threads, and how fast."""

import ctypes
import gc
import platform
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache, reduce
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from r2search.config import ModelConfig, TrainConfig
from r2search.data.sampler import Batch
from r2search.models.cost import Rate, model_cost
from r2search.models.unet import build_model
from r2search.train.losses import LOSSES
from r2search.train.optim import build_optimizer

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a network runs on and how; plain values, written beside results."""

    device: str  # as torch names it: `cpu`, `cuda`
    dtype: Literal["float32", "bfloat16"]  # bfloat16: autocast; weights and loss stay float32
    memory_format: Literal["contiguous", "channels_last"]
    threads: int  # of one process


def detect(
    config: TrainConfig, threads: int | None = None, device: Literal["cpu", "cuda"] | None = None
) -> Hardware:
    """The hardware to train on; `auto` is bfloat16 and channels_last where bfloat16 is native.

    Native: AVX512-BF16 or AMX on a CPU, Ampere or later on a GPU. Elsewhere bfloat16 is emulated
    and slower than float32. `threads` None leaves torch's own number, `device` None takes the GPU
    where there is one.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    native = _native_bfloat16(device)
    dtype, memory_format = config.dtype, config.memory_format
    return Hardware(
        device=device,
        dtype=("bfloat16" if native else "float32") if dtype == "auto" else dtype,
        memory_format=("channels_last" if native else "contiguous")
        if memory_format == "auto"
        else memory_format,
        threads=threads or torch.get_num_threads(),
    )


def _native_bfloat16(device: str) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def apply(hardware: Hardware) -> None:
    """Set this process's number of threads, and let it keep the memory that tensors free."""
    torch.set_num_threads(hardware.threads)
    keep_freed_memory()


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> None:
    """Tell glibc's malloc to reuse freed memory instead of returning it to the system.

    Every step frees and allocates the same tensors. As it is, malloc maps each large one anew,
    and the kernel fills its pages with zeros at the first touch: about a tenth of a step.
    Elsewhere (another C library, another system) nothing happens.
    """
    if libc := _glibc():
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_INT)
        libc.mallopt(M_TRIM_THRESHOLD, LARGEST_INT)


def return_freed_memory() -> None:
    """Give freed memory back to the system and to the GPU, between two trainings."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if libc := _glibc():
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


def autocast(hardware: Hardware) -> AbstractContextManager[None]:
    """The context of a forward pass; does nothing for float32."""
    return torch.autocast(hardware.device, torch.bfloat16, enabled=hardware.dtype == "bfloat16")


def place_model(model: nn.Module, hardware: Hardware) -> None:
    """Move a network to the device, its kernels in the memory format (in place)."""
    model.to(hardware.device, memory_format=FORMATS[hardware.memory_format])  # type: ignore[call-overload]


def place_images(images: Tensor, hardware: Hardware) -> Tensor:
    """Images (N, C, H, W) on the device, in the memory format."""
    return images.to(
        hardware.device, memory_format=FORMATS[hardware.memory_format], non_blocking=True
    )


def pinned(batch: Batch) -> Batch:
    """The batch in page-locked memory, which a GPU fetches by itself, its layout kept."""
    return Batch(*(torch.from_numpy(part).pin_memory().numpy() for part in batch))


def compiled(model: nn.Module, hardware: Hardware) -> nn.Module:
    """The same network, sharing all tensors, for training steps: compiled at its first batch.

    That takes a minute or more, and again for batches of another size. What goes wrong there, such
    as that there is no C++ compiler, is raised by the first step (`is_compiler_error`).
    """
    import torch._inductor.config as settings  # takes two seconds, and few trainings compile

    settings.compile_threads = hardware.threads
    torch._dynamo.reset()  # it would keep every network that it compiled
    return torch.compile(model, dynamic=False)  # type: ignore[return-value]


def is_compiler_error(error: BaseException) -> bool:
    """Whether an error says that a network could not be compiled."""
    from torch._dynamo.exc import TorchDynamoException

    return isinstance(error, TorchDynamoException)


# Of one micro-batch: images as placed, and the loss of their logits. The gradient of a step is that
# of the sum of these losses.
MicroBatch = tuple[Tensor, Callable[[Tensor], Tensor]]


def training_step(
    model: nn.Module,
    optimizer: Optimizer,
    micro_batches: Iterable[MicroBatch],
    hardware: Hardware,
) -> Tensor:
    """One update by the sum of the losses, one forward and backward pass for each micro-batch.

    Gives that sum, still on the device.
    """
    optimizer.zero_grad(set_to_none=True)
    losses = []
    for images, loss in micro_batches:
        with autocast(hardware):
            logits = model(images)
        value = loss(logits)
        value.backward()  # type: ignore[no-untyped-call]
        losses.append(value.detach())
    optimizer.step()
    return reduce(torch.add, losses)


# Networks whose steps are timed: convolutions take most of the time of the wide one, everything
# between them most of the narrow one, and the third is a typical R2U-Net.
CALIBRATION = (
    (ModelConfig(block="conv", depth=2, base_filters=8), 96),
    (ModelConfig(block="recurrent_residual", depth=4, base_filters=16, recurrence=2), 64),
    (ModelConfig(block="residual", depth=3, base_filters=64), 64),
)
CALIBRATION_BATCH = 8
CALIBRATION_STEPS = 4  # at most, of each network; the first one allocates and chooses kernels
CALIBRATION_S = 1.5  # with two steps behind it a network is not timed for longer


def measure_rate(hardware: Hardware) -> Rate:
    """Time a few training steps on this machine, and solve for its rate; some seconds.

    A training step is taken for three forward passes, as `models.cost.epoch_seconds` does. Uses
    the process's present number of threads.
    """
    works: list[list[float]] = []
    seconds: list[float] = []
    for config, patch in CALIBRATION:
        cost = model_cost(config, patch, patch)
        works.append([3 * cost.flops, 3 * cost.activations])
        seconds.append(_step_seconds(config, patch, hardware) / CALIBRATION_BATCH)
    return solve_rate(works, seconds)


def solve_rate(works: list[list[float]], seconds: list[float]) -> Rate:
    """The rate that explains `seconds` by works (flops, elements), with least relative error.

    Work that explains nothing costs nothing: its rate is huge.
    """
    from scipy.optimize import nnls  # takes half a second, and few processes solve for a rate

    relative = np.array(works) / np.array(seconds)[:, None]
    scale = relative.max(axis=0)  # flops and elements differ by orders of magnitude
    cost, _ = nnls(relative / scale, np.ones(len(seconds)))
    flops, elements = (float(1 / max(c, 1e-20)) for c in cost / scale)
    return Rate(flops_per_s=flops, elements_per_s=elements)


def _step_seconds(config: ModelConfig, patch: int, hardware: Hardware) -> float:
    generator = torch.Generator().manual_seed(0)
    shape = (CALIBRATION_BATCH, patch, patch)
    images = torch.randn((CALIBRATION_BATCH, config.in_channels, patch, patch), generator=generator)
    images = place_images(images, hardware)
    masks = (torch.rand(shape, generator=generator) < 0.1).to(hardware.device, torch.uint8)
    weights = torch.ones(shape, device=hardware.device)
    model = build_model(config)
    place_model(model, hardware)
    optimizer = build_optimizer(model, TrainConfig())

    def loss(logits: Tensor) -> Tensor:
        return LOSSES["bce_dice"](logits, masks, weights, 1.0)

    def timed_step() -> float:
        start = time.perf_counter()
        training_step(model, optimizer, [(images, loss)], hardware).item()  # waits for the device
        return time.perf_counter() - start

    timed = [timed_step(), timed_step()]
    while len(timed) < CALIBRATION_STEPS and sum(timed) < CALIBRATION_S:
        timed.append(timed_step())
    return min(timed)  # what else runs only makes a step slower
