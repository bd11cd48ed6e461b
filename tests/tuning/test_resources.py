"""How many trials train at once, for what a cluster has."""

from typing import Any

import pytest

from r2search.config import Misuse, ResourcesConfig
from r2search.tuning.resources import Workers, plan_workers

GIB = 2**30
PLENTY = 1000 * GIB


def planned(cpus: float, gpus: float = 0, memory: float = PLENTY, **asked: Any) -> Workers:
    return plan_workers(ResourcesConfig(**asked), cpus, gpus, memory)


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
        # One worker a GPU, unless shares are asked for.
        (16, 2, PLENTY, {}, Workers(2, 8, 1.0)),
        (16, 1, PLENTY, {"gpu_share": 0.5}, Workers(2, 8, 0.5)),
        (16, 1, PLENTY, {"gpu_share": 0.1}, Workers(10, 1, 0.1)),
        (16, 4, PLENTY, {"gpu_share": 2}, Workers(2, 8, 2.0)),
        (16, 3, PLENTY, {"gpu_share": 2}, Workers(1, 16, 2.0)),
        # 5 * 0.4 = 2, but a share is of one GPU: two in each.
        (16, 2, PLENTY, {"gpu_share": 0.4}, Workers(4, 4, 0.4)),
        # Every worker needs a core, and the memory limit is for CPUs alone.
        (2, 8, PLENTY, {}, Workers(2, 1, 1.0)),
        (16, 2, 0, {}, Workers(2, 8, 1.0)),
        (16, 2, PLENTY, {"workers": 1}, Workers(1, 16, 1.0)),
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
        (4, 1, {"workers": 2}, r"resources\.workers: 2 asked for, but 1 GPUs hold 1 workers of 1"),
        (
            8,
            2,
            {"workers": 5, "gpu_share": 0.4},
            r"resources\.workers: 5 asked for, but 2 GPUs hold 4 workers of 0\.4 GPU each",
        ),
    ],
)
def test_what_can_never_be_given_is_refused_before_ray_waits_for_it(
    cpus: float, gpus: float, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(Misuse, match=message):
        planned(cpus, gpus, **asked)
