"""How many trials train at once, what each asks of Ray, and what memory each may take."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from r2search.config import Misuse, ResourcesConfig
from r2search.models.memory import Dtype

WORKER_MEMORY = 2 * 2**30  # bytes; a worker with torch, albumentations and a large network
PROCESS_MEMORY = 2**29  # of it, bytes that it takes before its first trial
HEAP = 1.4  # bytes that a process grows by, for one of its tensors (docs/experiments.md)
GPU_PROCESS_MEMORY = 3 * 2**28  # bytes on the GPU that a process takes for CUDA itself
GPU_USABLE = 0.85  # of a GPU's memory; the rest is lost between tensors and to kernels
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)  # of a GPU, of which a trial gets one
LAUNCH_S = 0.01  # in which Python launches the kernels of a step; shorter ones idle the GPU


@dataclass(frozen=True, slots=True)
class Workers:
    """The slots of a study."""

    count: int  # at once, at most
    threads: int  # CPU threads of each
    gpus: float  # share of a GPU of each, or the largest
    shares: tuple[float, ...] = ()  # from which a trial gets the least that holds it; or `gpus`
    capacity: float = inf  # GPUs, where trials have shares of their own

    @property
    def largest(self) -> int:
        """How many of the largest trials train at once."""
        return max(1, int(self.capacity / self.gpus)) if self.shares else self.count


@dataclass(frozen=True, slots=True)
class Room:
    """What a trial may take of memory."""

    memory: float = inf  # bytes
    dtype: Dtype = "float32"  # that the hardware chooses for a trial that leaves it open
    gpu_memory: float = inf  # bytes of a whole GPU
    shares: tuple[float, ...] = ()  # of a GPU, as `Workers` have them

    def share(self, memory: float, busy: float) -> float:
        """The least share of a GPU with `memory` bytes, and with time for steps of `busy` s."""
        for share in self.shares:
            held = share * self.gpu_memory - GPU_PROCESS_MEMORY
            if memory <= held and busy <= share * LAUNCH_S:
                return share
        return self.shares[-1]


def totals(nodes: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """What the nodes have together on which trials can run: CPUs, GPUs, bytes of memory.

    A head without CPUs runs none: its memory is not theirs.
    """
    training = [node for node in nodes if node.get("CPU")]
    return {kind: sum(node.get(kind, 0) for node in training) for kind in ("CPU", "GPU", "memory")}


def plan_workers(config: ResourcesConfig, nodes: Sequence[Mapping[str, float]]) -> Workers:
    """Slots for what the nodes have: CPU, GPU, memory in bytes.

    One thread a worker: it does 57 % of what two do (docs/experiments.md), so that two workers of
    one thread train more than one of two. On GPUs, `auto` gives each trial the share that its
    network needs. A worker has all that it asks for on one node: else Ray would wait for ever.
    Raises Misuse when nothing fits.
    """
    have = totals(nodes)
    cores, gpus = max(1, int(have["CPU"])), have["GPU"]
    if config.gpu_share != "auto" and not gpus:
        raise Misuse(f"resources.gpu_share: {config.gpu_share} asked for, but Ray sees no GPU")
    share, shares = 0.0, tuple[float, ...]()
    if gpus:
        share = 1.0 if config.gpu_share == "auto" else float(config.gpu_share)
        shares = SHARES if config.gpu_share == "auto" else ()
        most = max(node.get("GPU", 0) for node in nodes if node.get("CPU"))
        if share > most or (share > 1 and share != int(share)):
            raise Misuse(
                f"resources.gpu_share: {share:g} of {most:g} GPUs cannot be given; "
                "take a share up to 1, or a whole number that one node has"
            )
    least = shares[0] if shares else share
    if config.workers == "auto":
        slots = _fitting(nodes, 1, least)
        count = max(1, slots if least else min(slots, int(have["memory"] / WORKER_MEMORY)))
    else:
        count = config.workers
        if count > cores:
            raise Misuse(
                f"resources.workers: {count} asked for, but Ray sees {cores:g} CPUs; lower it"
            )
        if least and count > (slots := _fitting(nodes, 1, least)):
            raise Misuse(
                f"resources.workers: {count} asked for, but {gpus:g} GPUs, and the CPUs beside "
                f"them, hold {slots} workers of {least:g} GPU each; lower it, or "
                "resources.gpu_share"
            )
    threads = next((t for t in range(cores, 1, -1) if _fitting(nodes, t, least) >= count), 1)
    return Workers(count, threads, share, shares, gpus if shares else inf)


def plan_room(
    config: ResourcesConfig, workers: Workers, memory: float, gpu_memory: float, dtype: Dtype
) -> Room:
    """What `workers` can hold: `memory` bytes on a CPU for all, `gpu_memory` bytes on one GPU."""
    usable = GPU_USABLE * gpu_memory
    if config.memory != "auto":
        room = config.memory
    elif workers.gpus:
        room = usable * min(1.0, workers.gpus) - GPU_PROCESS_MEMORY
    else:
        room = max(memory / workers.count - PROCESS_MEMORY, WORKER_MEMORY / 2) / HEAP
    return Room(room, dtype, usable, workers.shares)


def _fitting(nodes: Sequence[Mapping[str, float]], threads: int, share: float) -> int:
    """How many workers of so many threads and so much of a GPU fit on the nodes together."""
    each = ((node.get("CPU", 0), node.get("GPU", 0)) for node in nodes)
    return sum(_fitting_node(cpus, gpus, threads, share) for cpus, gpus in each)


def _fitting_node(cpus: float, gpus: float, threads: int, share: float) -> int:
    """The same of one node. A share below 1 is of one GPU: each GPU holds two of 0.4."""
    most = int(cpus / threads)
    if not share:
        return most
    return min(most, int(gpus) * int(1 / share) if share < 1 else int(gpus / share))
