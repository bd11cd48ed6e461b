"""Training patches per second: the float32 reference step against r2search's own, in one run.

`python benchmarks/throughput.py --out throughput.json` times R2U-Net (16 base filters, depth 4,
t=2, 64 px patches, batch 16, 3 channels) on one thread and on two. The ways take turns (A B C,
A B C, ...), so that a slow minute of the machine hits all; medians are compared.

- reference: float32, contiguous, plain Adam; data resident.
- r2search:  precision and layout as detected, fused AdamW; data resident.
- with feed: the same, batches cut and augmented by PatchSampler as in a training.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.optim import Adam, Optimizer

from r2search.config import DataConfig, ModelConfig, TrainConfig, TrialConfig
from r2search.data.prepare import Preparation
from r2search.data.sampler import Batch, PatchSampler
from r2search.data.samples import Sample
from r2search.models.unet import UNet, build_model
from r2search.train.hardware import (
    Hardware,
    apply,
    detect,
    place_images,
    place_model,
    training_step,
)
from r2search.train.losses import LOSSES
from r2search.train.optim import build_optimizer

CONFIG = TrialConfig(
    data=DataConfig(patch_size=64),
    model=ModelConfig(block="recurrent_residual", base_filters=16, depth=4, recurrence=2),
    train=TrainConfig(batch_size=16, epoch_pixels=100 * 16 * 64**2),
)
THREADS = (1, 2)
REFERENCE, OWN, FED = "reference", "r2search", "with feed"


def noise_patches() -> PatchSampler:
    return PatchSampler([noise_sample()], CONFIG, Preparation(CONFIG.data))


def noise_sample() -> Sample:
    """An image of noise, the size of a small fundus photograph: what it shows costs no time."""
    rng = np.random.default_rng(0)
    return Sample(
        image=rng.integers(0, 256, (512, 512, 3), np.uint8),
        mask=(rng.random((512, 512)) < 0.1).astype(np.uint8),
        fov=np.ones((512, 512), np.bool_),
        subject="noise",
        id="noise",
    )


def forever(sampler: PatchSampler) -> Iterator[Batch]:
    epoch = 0
    while True:
        epoch += 1
        yield from sampler.batches(epoch)


def stepper(
    hardware: Hardware, build: Callable[[UNet], Optimizer], batches: Iterator[Batch] | None
) -> Callable[[], None]:
    """A function that does one training step; without `batches` always on the same data."""
    model = build_model(CONFIG.model)
    place_model(model, hardware)
    model.train()
    optimizer = build(model)

    def tensors(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        return (
            place_images(torch.from_numpy(batch.images), hardware),
            torch.from_numpy(batch.masks).to(hardware.device),
            torch.from_numpy(batch.fovs).to(hardware.device),
        )

    resident = tensors(next(noise_patches().batches(1)))

    def step() -> None:
        images, masks, fovs = tensors(next(batches)) if batches else resident
        training_step(
            model,
            optimizer,
            images,
            lambda logits: LOSSES[CONFIG.train.loss](logits, masks, fovs, 1.0),
            hardware,
        ).item()

    return step


def measure(threads: int, repeats: int, steps: int) -> dict[str, list[float]]:
    """Patches per second of every way, one value a repeat."""
    own = detect(CONFIG.train, threads=threads)
    reference = Hardware(own.device, "float32", "contiguous", threads)
    apply(own)

    def own_optimizer(model: UNet) -> Optimizer:
        return build_optimizer(model, CONFIG.train)

    ways = {
        REFERENCE: stepper(reference, lambda model: Adam(model.parameters()), None),
        OWN: stepper(own, own_optimizer, None),
        FED: stepper(
            own,
            own_optimizer,
            forever(noise_patches()),
        ),
    }
    for step in ways.values():  # the first steps allocate and choose kernels
        step()
        step()
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, step in ways.items():
            start = time.perf_counter()
            for _ in range(steps):
                step()
            seconds = time.perf_counter() - start
            rates[name].append(steps * CONFIG.train.batch_size / seconds)
    return rates


def summary(rates: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
    """Median, range and ratio to the reference, by way."""
    base = statistics.median(rates[REFERENCE])
    return {
        name: {
            "median": statistics.median(values),
            "lowest": min(values),
            "highest": max(values),
            "ratio": statistics.median(values) / base,
            "repeats": values,
        }
        for name, values in rates.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="write the numbers to this JSON file")
    parser.add_argument("--repeats", type=int, default=7, help="turns of each way (7)")
    parser.add_argument("--steps", type=int, default=5, help="training steps a turn (5)")
    given = parser.parse_args()

    table = Table(title="R2U-Net, 16 base filters, depth 4, t=2, 64 px, batch 16: patches/s")
    for heading in ("threads", "way", "median", "lowest", "highest", "ratio"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    results = {}
    for threads in THREADS:
        results[str(threads)] = summary(measure(threads, given.repeats, given.steps))
        for name, row in results[str(threads)].items():
            numbers = [f"{row[key]:.1f}" for key in ("median", "lowest", "highest")]
            table.add_row(str(threads), name, *numbers, f"{row['ratio']:.2f}")
    Console().print(table)
    own = detect(CONFIG.train)
    print(
        f"{platform.processor() or platform.machine()}, {own.device}, {own.dtype}, torch", end=" "
    )
    print(torch.__version__)
    if given.out:
        facts = {
            "torch": torch.__version__,
            "device": own.device,
            "dtype": own.dtype,
            "memory_format": own.memory_format,
            "config": CONFIG.model_dump(mode="json"),
            "patches_per_second": results,
        }
        given.out.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
