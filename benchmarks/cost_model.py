"""What the cost model predicts of random configs of a space, against the networks themselves.

    python benchmarks/cost_model.py --configs 40 --json cost_model.json

Parameters and flops are counted on the network (flops by torch's own counter). Memory of a
training step and of predicting is counted

- on a CPU as the most bytes of tensors that live at once, as torch's dispatcher sees them made and
  freed, in the second of two steps (the first makes the state of the optimizer). The tensors are
  fake: they have shapes and lifetimes, but no contents. What kernels take for themselves does not
  count;
- on a GPU by torch.cuda.max_memory_allocated, with real tensors.
"""

import argparse
import copy
import gc
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from r2search.config import TrialConfig
from r2search.environment import machine, versions
from r2search.models.cost import model_cost
from r2search.models.folding import fold
from r2search.models.memory import SIZES, Dtype, inference_memory, step_memory
from r2search.models.unet import UNet, build_model
from r2search.space import draw, find_space, load_study, suggest_randomly, trial_config
from r2search.train.hardware import Hardware, autocast, place_images, place_model, training_step
from r2search.train.losses import LOSSES
from r2search.train.optim import build_optimizer


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that live, and the most that did."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._seen: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def watch(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._seen:
            self._seen[key] = weakref.ref(storage, lambda _: self._forget(key, size))
            self.live += size
            self.peak = max(self.peak, self.live)

    def _forget(self, key: int, size: int) -> None:
        del self._seen[key]
        self.live -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for value in made if isinstance(made, tuple | list) else (made,):
            if isinstance(value, Tensor):
                self.watch(value)
        return made


Prepared = tuple[list[Tensor], Callable[[], None]]  # tensors that are there before, and the work


def most_bytes(model: nn.Module, prepare: Callable[[Any], Prepared], device: str) -> int:
    """The most that lives at once when the work is done for the second time."""
    if device == "cuda":
        _, work = prepare(model)
        work()
        gc.collect()
        torch.cuda.reset_peak_memory_stats()
        work()
        return int(torch.cuda.max_memory_allocated())
    fakes = FakeTensorMode()
    with FakeCopyMode(fakes):
        model = copy.deepcopy(model)
    with fakes:
        before, work = prepare(model)
        with LiveBytes() as count:
            for tensor in (*model.parameters(), *model.buffers(), *before):
                count.watch(tensor)
            work()
            count.peak = count.live
            work()
    return count.peak


def hardware_for(dtype: Dtype, device: str) -> Hardware:
    return Hardware(device, dtype, "channels_last", torch.get_num_threads())


def step_bytes(config: TrialConfig, dtype: Dtype, micro_batch: int, device: str = "cpu") -> int:
    """The most bytes that live in a training step of at most two micro-batches."""
    hardware, train = hardware_for(dtype, device), config.train
    passes = 1 if micro_batch == train.batch_size else 2

    def prepare(model: nn.Module) -> Prepared:
        optimizer = build_optimizer(model, train)
        shape = (micro_batch, config.patch, config.patch)
        images = torch.zeros(micro_batch, config.model.in_channels, *shape[1:])
        images = place_images(images, hardware)
        masks = torch.zeros(shape, dtype=torch.uint8, device=device)
        fovs = torch.ones(shape, dtype=torch.bool, device=device)

        def loss(logits: Tensor) -> Tensor:
            return LOSSES[train.loss](logits, masks, fovs, train.class_weights)

        def work() -> None:
            training_step(model, optimizer, [(images, loss)] * passes, hardware)

        return [images, masks, fovs], work

    model = build_model(config.model, checkpoint_activations=train.checkpoint_activations)
    place_model(model, hardware)
    return most_bytes(model, prepare, device)


def inference_bytes(config: TrialConfig, dtype: Dtype, device: str = "cpu") -> int:
    """The most bytes that live while one batch of tiles is predicted."""
    hardware = hardware_for(dtype, device)

    @torch.inference_mode()
    def prepare(both: nn.ModuleList) -> Prepared:
        shape = (config.tile_batch, config.model.in_channels, config.tile, config.tile)
        images = place_images(torch.zeros(shape), hardware)

        @torch.inference_mode()
        def work() -> None:
            with autocast(hardware):
                logits = both[1](images)
            logits = logits.float()
            logits.softmax(1)[:, 1:] if config.model.classes > 1 else logits.sigmoid()

        return [images], work

    model = build_model(config.model)
    place_model(model, hardware)
    return most_bytes(nn.ModuleList([model, fold(model, getattr(torch, dtype))]), prepare, device)


def counted(config: TrialConfig) -> tuple[int, int]:
    """Parameters, and flops of a forward pass over one patch."""
    with torch.device("meta"):
        model = UNet(config.model)
    patch = torch.empty(2, config.model.in_channels, config.patch, config.patch, device="meta")
    with FlopCounterMode(display=False) as flops:
        model(patch)
    return sum(p.numel() for p in model.parameters()), flops.get_total_flops() // 2


def compare(config: TrialConfig, dtype: Dtype, device: str) -> dict[str, Any]:
    """What is predicted and what is measured, by name."""
    cost = model_cost(config.model, config.patch, config.patch)
    parameters, flops = counted(config)
    batch = config.train.batch_size
    return {
        "parameters": (cost.parameters, parameters),
        "flops": (cost.flops, flops),
        "step": (step_memory(config, dtype, batch), step_bytes(config, dtype, batch, device)),
        "inference": (inference_memory(config, dtype), inference_bytes(config, dtype, device)),
    }


def configs_of(space: str, count: int, seed: int) -> list[TrialConfig]:
    study, rng = load_study(find_space(space)), np.random.default_rng(seed)
    drawn = (draw(study, suggest_randomly(rng)) for _ in range(count))
    return [trial_config(study, overrides) for overrides in drawn]


def describe(config: TrialConfig) -> str:
    model = config.model
    recurrence = f" t={model.recurrence}" if model.block.startswith("recurrent") else ""
    return (
        f"{model.block}{recurrence}, depth {model.depth}, {model.base_filters} filters, "
        f"{config.train.batch_size} x {config.patch} px, {config.train.loss}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--configs", type=int, default=40, help="random configs (40)")
    parser.add_argument("--space", default="retina.yaml", help="of this space (retina.yaml)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (0)")
    given = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows: list[dict[str, Any]] = [
        {"config": config, "dtype": dtype, **compare(config, dtype, device)}
        for config in configs_of(given.space, given.configs, given.seed)
        for dtype in SIZES
    ]
    worst = {
        name: max(abs(row[name][0] / row[name][1] - 1) for row in rows)
        for name in ("parameters", "flops", "step", "inference")
    }
    Console(width=130).print(table_of(rows, given.space, device))
    print("largest error:", ", ".join(f"{name} {error:.1%}" for name, error in worst.items()))
    if given.json:
        facts: dict[str, Any] = {"hardware": machine(), "versions": versions(), "device": device}
        facts |= {f"{name}_error": error for name, error in worst.items()}
        facts["configs"] = [row | {"config": row["config"].model_dump(mode="json")} for row in rows]
        given.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def table_of(rows: list[dict[str, Any]], space: str, device: str) -> Table:
    table = Table(title=f"Predicted / measured, {space}, {device}; memory in MiB")
    table.add_column("config")
    for heading in ("dtype", "parameters", "flops", "step", "of", "inference", "of"):
        table.add_column(heading, justify="right")
    for row in rows:
        ratios = {name: f"{row[name][0] / row[name][1]:.3f}" for name in ("step", "inference")}
        table.add_row(
            describe(row["config"]),
            row["dtype"],
            *("exact" if row[name][0] == row[name][1] else "WRONG" for name in ("parameters",)),
            f"{row['flops'][0] / row['flops'][1]:.3f}",
            ratios["step"],
            f"{row['step'][1] / 2**20:,.0f}",
            ratios["inference"],
            f"{row['inference'][1] / 2**20:,.0f}",
        )
    return table


if __name__ == "__main__":
    main()
