"""The workers of a study, measured: how many, what one of them can compute, what it can hold."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import ray
import torch

from r2search.config import Study, TrialConfig
from r2search.environment import machine
from r2search.models.cost import Rate
from r2search.train.hardware import detect, measure_rate
from r2search.tuning.preflight import check_nodes
from r2search.tuning.resources import Room, Workers, plan_room, plan_workers, totals
from r2search.tuning.shelf import Shelf

WAIT_S = 60.0  # for a measurement of some seconds; then something is in its way

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Slots:
    """The workers of a study, what one of them can compute, and what it can hold."""

    workers: Workers
    rate: Rate
    room: Room = field(default_factory=Room)
    measured: Mapping[str, Any] = field(default_factory=dict)  # and where; for the record


def measure_slots(
    study: Study,
    run_dir: Path,
    past: Sequence[Mapping[str, Any]] = (),
    shelf: Shelf | None = None,
    note: Callable[[str], None] = log.warning,
) -> Slots:
    """The workers of a study that begins, or that goes on after the events `past`.

    Of a cluster, all nodes are looked at first: Misuse names what is wrong with them. Where others
    have all of its processors it waits for some, and says so by `note`.
    """
    if os.environ.get("RAY_ADDRESS"):
        check_nodes(run_dir, shelf.storage if shelf else None)
    return find_slots(study, past, note)


def find_slots(
    study: Study,
    past: Sequence[Mapping[str, Any]] = (),
    note: Callable[[str], None] = log.warning,
) -> Slots:
    """Plan the workers and measure one of them, in a process like theirs.

    What `past` tells of the same place is not measured again: the study goes on some seconds
    sooner, and its configs get the epochs that they would have got without a break.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    workers = plan_workers(study.resources, nodes)
    where = _where(nodes, workers)
    known = [event["measured"] for event in past if "measured" in event]
    measured = next((facts for facts in reversed(known) if facts["where"] == where), None)
    if measured is None:
        probe = ray.remote(num_cpus=workers.threads, num_gpus=workers.gpus)(_measure)
        asked = probe.remote(study.fixed, workers.threads)
        if not ray.wait([asked], timeout=WAIT_S)[0]:
            what = f"{workers.threads} CPUs" + (f" and {workers.gpus:g} GPUs" * bool(workers.gpus))
            note(
                f"no worker has answered for {WAIT_S:.0f} s; the study waits for {what} to be free"
            )
        found: dict[str, Any] = ray.get(asked)
        measured = {"where": where, **found}
    memory = totals(nodes)["memory"]
    room = plan_room(study.resources, workers, memory, measured["gpu_memory"], measured["dtype"])
    return Slots(workers, Rate(**measured["rate"]), room, measured)


def _where(nodes: list[dict[str, float]], workers: Workers) -> dict[str, Any]:
    """What a measurement holds for: the driver's machine, the nodes' kinds, a worker's share."""
    kinds = [
        {
            name: count
            for name, count in sorted(node.items())
            if name in ("CPU", "GPU") or name.startswith("accelerator_type:")
        }
        for node in nodes
    ]
    return {
        "machine": machine(),
        "torch": torch.__version__,
        "nodes": sorted(kinds, key=str),
        "threads": workers.threads,
        "gpus": workers.gpus,
    }


def _measure(config: TrialConfig, threads: int) -> dict[str, Any]:
    """What a worker finds out about itself; `gpu_memory` in bytes, 0 without one."""
    hardware = detect(config.train, threads=threads)
    free = detect(config.train.model_copy(update={"dtype": "auto"}), threads=threads)
    gpu = torch.cuda.get_device_properties(0).total_memory if hardware.device == "cuda" else 0
    return {"rate": asdict(measure_rate(hardware)), "dtype": free.dtype, "gpu_memory": gpu}
