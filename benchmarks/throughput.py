"""Training patches per second: the float32 reference step against r2search's own, in one run.

    python benchmarks/throughput.py --json throughput.json

R2U-Net (depth 4, t=2, 64 px patches, batch 16, 3 channels), on one thread and on two. Every way
is a process of its own, and they take turns (A B C, A B C, ...), so that a slow minute of the
machine hits all; medians are compared.

- reference: float32, contiguous, plain Adam, memory as the C library has it; data resident.
- r2search:  precision, layout, layers and memory as a trial has them, fused AdamW; data resident.
- compiled:  the same with `train.compile` (with --compile; compiling is not counted, its seconds
  are told).
- with feed: as r2search, batches cut and augmented by PatchSampler as in a training.
- together:  as many processes of one thread (on a GPU: 4, 8, 16 processes) with feed, all at
  once, as the workers of a study; patches per second of all.

`share_of_matmul_rate` is what the convolutions of r2search's step achieve (forward and backward,
3 x the forward flops of models/cost.py; all else counts as nothing) over the rate of a large
matrix product in the same precision, measured in the same turns.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.optim import Adam

from r2search.config import DataConfig, ModelConfig, TrainConfig, TrialConfig
from r2search.data.prepare import Preparation
from r2search.data.sampler import Batch, PatchSampler
from r2search.data.samples import Sample
from r2search.environment import PROCESS_SETTINGS, machine, versions
from r2search.models.cost import model_cost
from r2search.models.unet import build_model
from r2search.train.hardware import (
    Hardware,
    apply,
    compiled,
    detect,
    place_images,
    place_model,
    training_step,
)
from r2search.train.losses import LOSSES
from r2search.train.optim import build_optimizer

REFERENCE, OWN, FED, MATMUL = "reference", "r2search", "with feed", "matrix product"
COMPILED = "compiled"
MEMORY = "GLIBC_TUNABLES"  # the setting of workers that concerns it
MATMUL_SIZES = (1024, 2048)  # edges; the faster counts
GPU_WORKERS = (4, 8, 16)


def trial_config(filters: int) -> TrialConfig:
    return TrialConfig(
        data=DataConfig(patch_size=64),
        model=ModelConfig(block="recurrent_residual", base_filters=filters, depth=4, recurrence=2),
        train=TrainConfig(batch_size=16, epoch_pixels=100 * 16 * 64**2),
    )


def noise_patches(config: TrialConfig) -> Iterator[Batch]:
    """Batches without end, of an image of noise: what it shows costs no time."""
    rng = np.random.default_rng(0)
    sample = Sample(
        image=rng.integers(0, 256, (512, 512, 3), np.uint8),
        mask=(rng.random((512, 512)) < 0.1).astype(np.uint8),
        fov=np.ones((512, 512), np.bool_),
        subject="noise",
        id="noise",
    )
    sampler = PatchSampler([sample], config, Preparation(config.data))
    epoch = 0
    while True:
        epoch += 1
        yield from sampler.batches(epoch)


def stepper(way: str, config: TrialConfig, threads: int) -> Callable[[], None]:
    """A function that does one training step."""
    hardware = detect(config.train, threads=threads)
    if way == REFERENCE:
        hardware = Hardware(hardware.device, "float32", "contiguous", threads)
        torch.set_num_threads(threads)
    else:
        apply(hardware)
    model = build_model(config.model)
    place_model(model, hardware)
    model.train()
    stepped = compiled(model, hardware) if way == COMPILED else model
    optimizer = (
        Adam(model.parameters()) if way == REFERENCE else build_optimizer(model, config.train)
    )
    batches = noise_patches(config)
    resident = next(batches)

    def step() -> None:
        batch = next(batches) if way == FED else resident
        masks = torch.from_numpy(batch.masks).to(hardware.device)
        fovs = torch.from_numpy(batch.fovs).to(hardware.device)
        images = place_images(torch.from_numpy(batch.images), hardware)
        parts = [(images, lambda logits: LOSSES[config.train.loss](logits, masks, fovs, 1.0))]
        training_step(stepped, optimizer, parts, hardware).item()

    return step


def matmul_flops(config: TrialConfig, threads: int) -> float:
    """Flops per second of a matrix product in the precision of a trial."""
    hardware = detect(config.train, threads=threads)
    torch.set_num_threads(threads)
    dtype = getattr(torch, hardware.dtype)
    rates = []
    for size in MATMUL_SIZES:
        a, b = (torch.randn(size, size, device=hardware.device, dtype=dtype) for _ in range(2))
        for _ in range(10):
            start = time.perf_counter()
            (a @ b)[0, 0].item()  # waits for the device
            rates.append(2 * size**3 / (time.perf_counter() - start))
    return max(rates)


def serve(connection: Connection, way: str, config: TrialConfig, threads: int) -> None:
    """The process of one way: for every number of steps asked, its rate."""
    if way == MATMUL:
        while connection.recv():
            connection.send(matmul_flops(config, threads))
        return
    start = time.perf_counter()
    step = stepper(way, config, threads)
    step()  # allocates and chooses kernels
    step()
    connection.send(time.perf_counter() - start)  # ready
    while steps := connection.recv():
        start = time.perf_counter()
        for _ in range(steps):
            step()
        connection.send(steps * config.train.batch_size / (time.perf_counter() - start))


class Ways:
    """Processes that take turns."""

    def __init__(self, names: list[str], config: TrialConfig, threads: int) -> None:
        context = get_context("spawn")
        self._ends: list[Connection] = []
        self._processes = []
        self.ready: dict[str, float] = {}  # seconds until the second step was done
        for name in names:
            here, there = context.Pipe()
            process = context.Process(target=serve, args=(there, name, config, threads))
            os.environ.pop(MEMORY, None)  # of the process that begins now
            if name != REFERENCE:
                os.environ[MEMORY] = PROCESS_SETTINGS[MEMORY]
            process.start()
            if name != MATMUL:
                self.ready[name] = here.recv()
            self._ends.append(here)
            self._processes.append(process)

    def one_by_one(self, steps: int) -> list[float]:
        """The rate of each, alone on the machine."""
        rates = []
        for end in self._ends:
            end.send(steps)
            rates.append(end.recv())
        return rates

    def together(self, steps: int) -> float:
        """The sum of their rates, all at once."""
        for end in self._ends:
            end.send(steps)
        return float(sum(end.recv() for end in self._ends))

    def close(self) -> None:
        for end, process in zip(self._ends, self._processes, strict=True):
            end.send(0)
            process.join()


def measure(
    config: TrialConfig, threads: int, names: list[str], pairs: int, steps: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """The rates of every way, one value a turn: patches per second, flops of the product.

    Then the seconds that each took to begin.
    """
    ways = Ways(names, config, threads)
    turns = [ways.one_by_one(steps) for _ in range(pairs)]
    ways.close()
    return dict(zip(names, map(list, zip(*turns, strict=True)), strict=True)), ways.ready


def measure_together(config: TrialConfig, workers: int, pairs: int, steps: int) -> list[float]:
    """Patches per second of so many workers of one thread at once."""
    ways = Ways([FED] * workers, config, threads=1)
    rates = [ways.together(steps) for _ in range(pairs)]
    ways.close()
    return rates


def describe(
    config: TrialConfig, rates: dict[str, list[float]], ready: dict[str, float]
) -> dict[str, Any]:
    """Medians of a measurement, and what they say."""
    middle = {name: statistics.median(values) for name, values in rates.items()}
    patch = model_cost(config.model, config.patch, config.patch)
    flops = 3 * patch.flops
    achieved = middle[OWN] * flops
    also = {}
    if COMPILED in middle:
        also = {
            "compiled": middle[COMPILED] / middle[REFERENCE],
            "compiled_share_of_matmul_rate": middle[COMPILED] * flops / middle[MATMUL],
        }
    return also | {
        "rates": rates,
        "seconds_to_begin": ready,
        "speedup": middle[OWN] / middle[REFERENCE],
        "feed": middle[FED] / middle[OWN],
        "gflops": achieved / 1e9,
        "matmul_gflops": middle[MATMUL] / 1e9,
        "share_of_matmul_rate": achieved / middle[MATMUL],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--filters", type=int, nargs="+", default=[16], help="base filters (16)")
    parser.add_argument("--pairs", type=int, default=5, help="turns of each way (5)")
    parser.add_argument("--steps", type=int, default=10, help="training steps a turn (10)")
    parser.add_argument("--compile", action="store_true", help="the compiled step, too")
    given = parser.parse_args()
    ways = [REFERENCE, OWN, *([COMPILED] if given.compile else []), FED, MATMUL]
    gpu = torch.cuda.is_available()
    table = Table(title="R2U-Net, depth 4, t=2, 64 px, batch 16: median patches/s")
    for heading in ("filters", "threads", "way", "median", "lowest", "highest", "note"):
        table.add_column(heading, justify="left" if heading in ("way", "note") else "right")
    facts: dict[str, Any] = {"hardware": machine(), "versions": versions()}
    for filters in given.filters:
        config = trial_config(filters)
        found: dict[str, Any] = {"config": config.model_dump(mode="json")}
        for threads in (1,) if gpu else (1, 2):
            part = describe(config, *measure(config, threads, ways, given.pairs, given.steps))
            found[f"{threads}_threads"] = part
            notes = {
                OWN: f"{part['speedup']:.2f} x reference, {part['gflops']:.0f} GFLOP/s, "
                f"{part['share_of_matmul_rate']:.0%} of the matrix product",
                FED: f"{part['feed']:.2f} of the step alone",
            }
            if COMPILED in ways:
                notes[COMPILED] = (
                    f"{part['compiled']:.2f} x reference, "
                    f"{part['compiled_share_of_matmul_rate']:.0%} of the matrix product, after "
                    f"{part['seconds_to_begin'][COMPILED]:.0f} s"
                )
            for name in ways[:-1]:
                add_row(table, filters, threads, name, part["rates"][name], notes.get(name, ""))
        for workers in GPU_WORKERS if gpu else (2,):
            rates = measure_together(config, workers, given.pairs, given.steps)
            found[f"{workers}_together"] = rates
            add_row(table, filters, 1, f"{workers} together", rates, "of all")
        facts[f"filters_{filters}"] = found
    # The figures that are looked for, of the first network, at the top.
    first = facts[f"filters_{given.filters[0]}"]
    most = "1_threads" if gpu else "2_threads"
    facts |= {
        "speedup_1_thread": first["1_threads"]["speedup"],
        "speedup_2_threads": first[most]["speedup"],
        "share_of_matmul_rate": first[most]["share_of_matmul_rate"],
    }
    Console(width=120).print(table)
    if given.json:
        given.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def add_row(
    table: Table, filters: int, threads: int, name: str, rates: list[float], note: str
) -> None:
    numbers = [f"{value:.1f}" for value in (statistics.median(rates), min(rates), max(rates))]
    table.add_row(str(filters), str(threads), name, *numbers, note)


if __name__ == "__main__":
    main()
