"""What sampling and augmentation cost, against the training step that they feed.

    python benchmarks/feed.py --json feed.json

Milliseconds of one thread a patch, for every kind of augmentation, three patch sizes and both
numbers of channels; beside it the step of a typical network and of a small one, which leaves the
feed least time. Feeds and steps take turns, and medians are compared.

`kept` is the share of the step's rate that is left with the feed: on a CPU the thread does one
after the other, on a GPU the next batches are made while the device works. What is counted is the
time that the thread computes, so that others on the machine disturb little; on a GPU the step is
timed by the clock on the wall.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
from rich.console import Console
from rich.table import Table

from r2search.config import DataConfig, ModelConfig, TrainConfig, TrialConfig
from r2search.data.prepare import Preparation
from r2search.data.sampler import PatchSampler
from r2search.data.samples import Sample
from r2search.environment import machine, versions
from r2search.models.unet import build_model
from r2search.train.hardware import Hardware, apply, detect, place_model, training_step
from r2search.train.micro_batches import micro_batches
from r2search.train.optim import build_optimizer

KINDS = get_args(DataConfig.model_fields["augmentation"].annotation)
CHANNELS = (3, 1)
SIDE = 1024  # of the image that patches are cut from
NETWORKS = {
    "typical": {"block": "recurrent_residual", "base_filters": 16, "depth": 4, "recurrence": 2},
    "small": {"block": "conv", "base_filters": 16, "depth": 2},
}

Cost = Callable[[], float]  # does the work once and gives its milliseconds a patch


def noise(channels: int) -> Sample:
    """An image of noise: what it shows costs no time."""
    rng = np.random.default_rng(0)
    return Sample(
        image=rng.integers(0, 256, (SIDE, SIDE, channels), np.uint8),
        mask=(rng.random((SIDE, SIDE)) < 0.1).astype(np.uint8),
        fov=np.ones((SIDE, SIDE), np.bool_),
        subject="noise",
        id="noise",
    )


def trial_config(patch: int, channels: int, kind: str, network: str = "small") -> TrialConfig:
    return TrialConfig(
        data=DataConfig.model_validate({"patch_size": patch, "augmentation": kind}),
        model=ModelConfig.model_validate(NETWORKS[network] | {"in_channels": channels}),
        train=TrainConfig(),
    )


def feed(config: TrialConfig, sample: Sample) -> Cost:
    """The cost of one epoch of patches."""
    sampler = PatchSampler([sample], config, Preparation(config.data))

    def cost() -> float:
        start = time.process_time()
        for _ in sampler.batches(1):
            pass
        return (time.process_time() - start) / sampler.patches * 1e3

    return cost


def step(config: TrialConfig, sample: Sample, hardware: Hardware) -> Cost:
    """The cost of one training step, always on the same batch."""
    batch = next(PatchSampler([sample], config, Preparation(config.data)).batches(1))
    model = build_model(config.model)
    place_model(model, hardware)
    model.train()
    optimizer = build_optimizer(model, config.train)
    clock = time.process_time if hardware.device == "cpu" else time.perf_counter

    def cost() -> float:
        start = clock()
        parts = micro_batches(batch, None, config, hardware)
        training_step(model, optimizer, parts, hardware).item()  # waits for the device
        return (clock() - start) / len(batch.images) * 1e3

    return cost


def medians(costs: dict[str, Cost], repeats: int) -> dict[str, float]:
    """Of each, after a first time that allocates and chooses kernels."""
    turns = [{name: cost() for name, cost in costs.items()} for _ in range(repeats + 1)][1:]
    return {name: statistics.median(turn[name] for turn in turns) for name in costs}


def measure(patch: int, channels: int, repeats: int, hardware: Hardware) -> list[dict[str, Any]]:
    """One row a kind of augmentation."""
    sample = noise(channels)
    costs = {kind: feed(trial_config(patch, channels, kind), sample) for kind in KINDS} | {
        network: step(trial_config(patch, channels, "none", network), sample, hardware)
        for network in NETWORKS
    }
    found = medians(costs, repeats)
    rows = []
    for kind in KINDS:
        row: dict[str, Any] = {"channels": channels, "patch": patch, "kind": kind}
        row["feed_ms"] = made = found[kind]
        for network in NETWORKS:
            used = found[network]
            kept = used / (used + made) if hardware.device == "cpu" else min(1.0, used / made)
            row[network] = {"step_ms": used, "kept": kept}
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each (5)")
    parser.add_argument("--patches", type=int, nargs="+", default=[64, 128, 256], help="edges")
    given = parser.parse_args()
    hardware = detect(TrainConfig(), threads=1)
    apply(hardware)
    rows = [
        row
        for channels in CHANNELS
        for patch in given.patches
        for row in measure(patch, channels, given.repeats, hardware)
    ]
    table = Table(title="Milliseconds a patch, and the share of the step's rate that is kept")
    for heading in ("channels", "patch", "augmentation", "feed"):
        table.add_column(heading, justify="left" if heading == "augmentation" else "right")
    for network in NETWORKS:
        table.add_column(f"{network} step", justify="right")
        table.add_column("kept", justify="right")
    for row in rows:
        cells = [str(row[key]) for key in ("channels", "patch", "kind")] + [f"{row['feed_ms']:.3f}"]
        for network in NETWORKS:
            cells += [f"{row[network]['step_ms']:.2f}", f"{row[network]['kept']:.1%}"]
        table.add_row(*cells)
    Console(width=120).print(table)
    if given.json:
        lowest = {f"kept_{name}": min(row[name]["kept"] for row in rows) for name in NETWORKS}
        facts = lowest | {"rows": rows, "hardware": machine(), "versions": versions()}
        given.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
