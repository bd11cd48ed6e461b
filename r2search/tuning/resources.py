"""How many trials train at once, and what each asks of Ray."""

from dataclasses import dataclass

from r2search.config import Misuse, ResourcesConfig

WORKER_MEMORY = 2 * 2**30  # bytes; a worker with torch, albumentations and a large network


@dataclass(frozen=True, slots=True)
class Workers:
    """The slots of a study."""

    count: int
    threads: int  # CPU threads of each
    gpus: float  # share of a GPU of each


def plan_workers(config: ResourcesConfig, cpus: float, gpus: float, memory: float) -> Workers:
    """Slots for what the cluster has: `cpus`, `gpus`, `memory` in bytes.

    One thread a worker: it does 57 % of what two do (docs/experiments.md), so that two workers of
    one thread train more than one of two. Raises Misuse when nothing fits.
    """
    cores = max(1, int(cpus))
    if config.gpu_share != "auto" and not gpus:
        raise Misuse(f"resources.gpu_share: {config.gpu_share} asked for, but Ray sees no GPU")
    share = 0.0
    if gpus:
        share = 1.0 if config.gpu_share == "auto" else float(config.gpu_share)
        if share > gpus or (share > 1 and share != int(share)):
            raise Misuse(
                f"resources.gpu_share: {share:g} of {gpus:g} GPUs cannot be given; "
                "take a share up to 1, or a whole number"
            )
    slots = _fitting(gpus, share) if share else min(cores, int(memory / WORKER_MEMORY))
    if config.workers == "auto":
        count = max(1, min(slots, cores))
    else:
        count = config.workers
        if count > cores:
            raise Misuse(
                f"resources.workers: {count} asked for, but Ray sees {cores:g} CPUs; lower it"
            )
        if share and count > slots:
            raise Misuse(
                f"resources.workers: {count} asked for, but {gpus:g} GPUs hold {slots} workers "
                f"of {share:g} GPU each; lower it, or resources.gpu_share"
            )
    return Workers(count=count, threads=max(1, cores // count), gpus=share)


def _fitting(gpus: float, share: float) -> int:
    """How many workers fit. A share below 1 is of one GPU: each GPU holds two of 0.4."""
    return int(gpus) * int(1 / share) if share < 1 else int(gpus / share)
