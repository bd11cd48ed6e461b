"""How many trials train at once, for what a cluster has."""

from typing import Any

import pytest

from r2search.config import Misuse, ResourcesConfig
from r2search.tuning.resources import (
    GPU_PROCESS_MEMORY,
    GPU_USABLE,
    HEAP,
    PROCESS_MEMORY,
    SHARES,
    Room,
    Workers,
    plan_room,
    plan_workers,
    totals,
)

GIB = 2**30
PLENTY = 1000 * GIB


def planned(cpus: float, gpus: float = 0, memory: float = PLENTY, **asked: Any) -> Workers:
    return plan_workers(ResourcesConfig(**asked), [{"CPU": cpus, "GPU": gpus, "memory": memory}])


@pytest.mark.parametrize(
    ("cpus", "gpus", "memory", "asked", "expected"),
    [
        # One thread a worker while memory lasts, 2 GiB each.
        (1, 0, PLENTY, {}, Workers(1, 1, 0.0)),
        (2, 0, PLENTY, {}, Workers(2, 1, 0.0)),
        (16, 0, 9 * GIB, {}, Workers(4, 4, 0.0)),
        (16, 0, 0, {}, Workers(1, 16, 0.0)),
        (0.5, 0, PLENTY, {}, Workers(1, 1, 0.0)),
        # What is asked for.
        (16, 0, GIB, {"workers": 3}, Workers(3, 5, 0.0)),
        (2, 0, PLENTY, {"workers": 1}, Workers(1, 2, 0.0)),
        # Shares of GPUs as trials need them, unless one is asked for.
        (16, 2, PLENTY, {}, Workers(16, 1, 1.0, SHARES, 2)),
        (64, 1, PLENTY, {}, Workers(16, 4, 1.0, SHARES, 1)),
        (16, 2, PLENTY, {"gpu_share": 1}, Workers(2, 8, 1.0)),
        (16, 1, PLENTY, {"gpu_share": 0.5}, Workers(2, 8, 0.5)),
        (16, 1, PLENTY, {"gpu_share": 0.1}, Workers(10, 1, 0.1)),
        (16, 4, PLENTY, {"gpu_share": 2}, Workers(2, 8, 2.0)),
        (16, 3, PLENTY, {"gpu_share": 2}, Workers(1, 16, 2.0)),
        # 5 * 0.4 = 2, but a share is of one GPU: two in each.
        (16, 2, PLENTY, {"gpu_share": 0.4}, Workers(4, 4, 0.4)),
        # Every worker needs a core, and the memory limit is for CPUs alone.
        (2, 8, PLENTY, {}, Workers(2, 1, 1.0, SHARES, 8)),
        (16, 2, 0, {"gpu_share": 1}, Workers(2, 8, 1.0)),
        (16, 2, PLENTY, {"workers": 1}, Workers(1, 16, 1.0, SHARES, 2)),
    ],
)
def test_workers_fit_what_the_cluster_has(
    cpus: float, gpus: float, memory: float, asked: dict[str, Any], expected: Workers
) -> None:
    assert planned(cpus, gpus, memory, **asked) == expected


@pytest.mark.parametrize(
    ("cpus", "gpus", "asked", "message"),
    [
        (4, 0, {"workers": 5}, r"resources\.workers: 5 asked for, but Ray sees 4 CPUs"),
        (4, 0, {"gpu_share": 0.5}, r"resources\.gpu_share: 0\.5 asked for, but Ray sees no GPU"),
        (4, 1, {"gpu_share": 2}, r"resources\.gpu_share: 2 of 1 GPUs cannot be given"),
        (4, 2, {"gpu_share": 1.5}, r"resources\.gpu_share: 1\.5 of 2 GPUs cannot be given"),
        (
            4,
            1,
            {"workers": 2, "gpu_share": 1},
            r"resources\.workers: 2 asked for, but 1 GPUs, .* hold 1 workers of 1",
        ),
        (
            8,
            2,
            {"workers": 5, "gpu_share": 0.4},
            r"resources\.workers: 5 asked for, but 2 GPUs, .* hold 4 workers of 0\.4 GPU each",
        ),
    ],
)
def test_what_can_never_be_given_is_refused_before_ray_waits_for_it(
    cpus: float, gpus: float, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(Misuse, match=message):
        planned(cpus, gpus, **asked)


def node(cpus: float, gpus: float = 0) -> dict[str, float]:
    return {"CPU": cpus, "GPU": gpus, "memory": PLENTY}


@pytest.mark.parametrize(
    ("nodes", "asked", "count", "threads"),
    [
        ([node(8), node(8)], {"workers": 1}, 1, 8),
        ([node(8), node(8)], {"workers": 8}, 8, 2),
        ([node(8), node(8)], {"workers": 3}, 3, 4),  # two on one node, one on the other
        ([node(3), node(5)], {"workers": 2}, 2, 3),  # of four threads the smaller held none
        ([node(3), node(5)], {}, 8, 1),
        ([node(0), node(4)], {"workers": 1}, 1, 4),  # a head that trains nothing
        # CPUs where there is no GPU are no use to a worker on one.
        ([node(16), node(4, 2)], {"gpu_share": 1}, 2, 2),
        ([node(16), node(4, 2)], {}, 4, 1),
        ([node(8, 1), node(8, 1)], {"workers": 1}, 1, 8),
    ],
)
def test_a_worker_has_all_that_it_asks_for_on_one_node(
    nodes: list[dict[str, float]], asked: dict[str, Any], count: int, threads: int
) -> None:
    workers = plan_workers(ResourcesConfig(**asked), nodes)
    assert (workers.count, workers.threads) == (count, threads)


def test_gpus_of_several_nodes_are_no_share_of_one_worker() -> None:
    with pytest.raises(Misuse, match=r"resources\.gpu_share: 2 of 1 GPUs cannot be given"):
        plan_workers(ResourcesConfig(gpu_share=2), [node(8, 1), node(8, 1)])


def test_as_many_of_the_largest_trials_run_as_there_are_whole_gpus() -> None:
    assert [planned(16, gpus).largest for gpus in (0, 1, 2)] == [16, 1, 2]
    assert planned(16, 1, gpu_share=0.5).largest == 2


def room(workers: Workers, of_all: float = 0, of_gpu: float = 0, **asked: Any) -> Room:
    return plan_room(ResourcesConfig(**asked), workers, of_all, of_gpu, "bfloat16")


def test_a_worker_has_its_part_of_the_memory_less_what_its_process_takes() -> None:
    two = planned(2)
    assert room(two, 16 * GIB).memory == pytest.approx((8 * GIB - PROCESS_MEMORY) / HEAP)
    assert room(two, 16 * GIB).shares == ()
    assert 0 < room(two, GIB / 2).memory < GIB  # too little: it is tried all the same


def test_a_trial_on_a_gpu_has_the_memory_of_its_share() -> None:
    whole = GPU_USABLE * 80 * GIB
    auto, half = room(planned(16, 1), 0, 80 * GIB), room(planned(16, 1, gpu_share=0.5), 0, 80 * GIB)
    assert auto.memory == pytest.approx(whole - GPU_PROCESS_MEMORY)
    assert (auto.gpu_memory, auto.shares) == (whole, SHARES)
    assert half.memory == pytest.approx(whole / 2 - GPU_PROCESS_MEMORY)
    assert half.shares == ()


@pytest.mark.parametrize(("text", "expected"), [("500MB", 500e6), ("4GiB", 4 * GIB), (1e9, 1e9)])
def test_the_memory_of_a_trial_can_be_limited(text: Any, expected: float) -> None:
    assert room(planned(2), PLENTY, memory=text).memory == expected
    assert room(planned(2, 1), 0, 80 * GIB, memory=text).memory == expected


@pytest.mark.parametrize(
    ("memory", "busy", "share"),
    [(0.1, 0, 1 / 16), (0.3, 0, 1 / 8), (3.0, 0, 1 / 4), (7.5, 0, 1), (9.0, 0, 1), (0.1, 9, 1)],
)
def test_the_least_share_that_holds_a_trial_is_its_own(
    memory: float, busy: float, share: float
) -> None:
    # Of 16 GiB: 1 GiB a sixteenth, of which CUDA takes 0.75.
    gpu = Room(16 * GIB, gpu_memory=16 * GIB, shares=SHARES)
    assert gpu.share(memory * GIB, busy) == share


def test_the_memory_of_a_head_that_trains_nothing_is_not_for_trials() -> None:
    head, worker = {"memory": 8.0}, {"CPU": 4.0, "GPU": 1.0, "memory": 24.0}
    assert totals([head, worker, worker]) == {"CPU": 8, "GPU": 2, "memory": 48}
    assert totals([{"CPU": 2.0}]) == {"CPU": 2, "GPU": 0, "memory": 0}
