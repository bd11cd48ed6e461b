"""What is detected, how a network is placed and stepped, and how a rate is solved for."""

import platform
import subprocess
import sys

import pytest
import torch
from torch import nn

from r2search.config import ModelConfig, TrainConfig
from r2search.models.unet import build_model
from r2search.train import hardware as module
from r2search.train.hardware import (
    Hardware,
    apply,
    autocast,
    detect,
    measure_rate,
    place_images,
    place_model,
    solve_rate,
    training_step,
)

FLOAT = Hardware("cpu", "float32", "contiguous", 1)
TINY = ModelConfig(block="conv", depth=1, base_filters=4)


@pytest.mark.parametrize(
    ("native", "expected"),
    [(True, ("bfloat16", "channels_last")), (False, ("float32", "contiguous"))],
)
def test_auto_takes_bfloat16_and_channels_last_only_where_native(
    monkeypatch: pytest.MonkeyPatch, native: bool, expected: tuple[str, str]
) -> None:
    monkeypatch.setattr(module, "_native_bfloat16", lambda device: native)
    found = detect(TrainConfig(), threads=3)
    assert (found.dtype, found.memory_format) == expected
    assert found.threads == 3


def test_explicit_settings_win_over_detection() -> None:
    found = detect(TrainConfig(dtype="float32", memory_format="channels_last"))
    assert (found.dtype, found.memory_format) == ("float32", "channels_last")
    assert found.threads == torch.get_num_threads()


def test_apply_sets_the_threads_of_this_process() -> None:
    before = torch.get_num_threads()
    try:
        apply(Hardware("cpu", "float32", "contiguous", 1))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


STEPS = """
import resource
import torch
from torch.nn.functional import conv2d
from r2search.train.hardware import keep_freed_memory, return_freed_memory

torch.set_num_threads(1)
kernel = torch.ones(8, 8, 3, 3)

def faults_of_a_step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    maps = torch.ones(4, 8, 128, 128)  # 2 MiB
    for _ in range(4):
        maps = conv2d(maps, kernel, padding=1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    pages = open("/proc/self/statm").read().split()[1]
    return int(pages) * resource.getpagesize() // 2**20

def steps():
    return sum(faults_of_a_step() for _ in range(10))

steps()
as_it_was = steps()
keep_freed_memory()
steps()
kept = steps()
large = [torch.ones(4, 2**18) for _ in range(25)]  # 100 MiB
del large
print(as_it_was, kept, resident(), return_freed_memory() or resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_kept_for_the_next_step_and_can_be_returned() -> None:
    told = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True)
    as_it_was, kept, before, after = map(int, told.stdout.split())
    assert kept * 10 < as_it_was  # pages that the kernel had to fill with zeros
    assert before - after >= 50  # MiB


@pytest.mark.parametrize(
    ("dtype", "expected"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_autocast_runs_convolutions_in_the_chosen_precision(
    dtype: str, expected: torch.dtype
) -> None:
    chosen = detect(TrainConfig.model_validate({"dtype": dtype}))
    with autocast(chosen):
        assert nn.Conv2d(1, 1, 1)(torch.ones(1, 1, 2, 2)).dtype == expected


def test_kernels_and_images_take_the_memory_format() -> None:
    last = Hardware("cpu", "float32", "channels_last", 1)
    model = build_model(TINY)
    place_model(model, last)
    images = place_images(torch.ones(2, 3, 8, 8), last)
    kernel = model.encoder[0].get_parameter("units.0.conv.weight")
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_training_step_updates_by_the_gradient_of_this_step_alone() -> None:
    layer = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.ones_(layer.weight)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    losses = [
        training_step(layer, optimizer, [(torch.ones(1, 1, 1, 1), torch.sum)], FLOAT).item()
        for _ in range(2)
    ]
    # The loss is the weight, its gradient 1: the weight falls by 0.1 a step.
    assert losses == pytest.approx([1.0, 0.9])
    assert layer.weight.item() == pytest.approx(0.8)


def test_rate_is_recovered_from_seconds_that_follow_it_exactly() -> None:
    works = [[2e9, 3e6], [8e9, 5e6], [1e9, 7e6]]
    seconds = [flops / 4e11 + elements / 2e9 for flops, elements in works]
    rate = solve_rate(works, seconds)
    assert rate.flops_per_s == pytest.approx(4e11)
    assert rate.elements_per_s == pytest.approx(2e9)


def test_rate_stays_positive_when_one_kind_of_work_explains_all() -> None:
    rate = solve_rate([[1e9, 2e6], [1e9, 1e6]], [1.0, 1.1])
    assert rate.flops_per_s == pytest.approx(1e9, rel=0.1)
    assert rate.elements_per_s > 1e12


def test_measured_rate_is_positive_and_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CALIBRATION", ((TINY, 16), (TINY, 32)))
    rate = measure_rate(FLOAT)
    assert 0 < rate.flops_per_s < float("inf")
    assert 0 < rate.elements_per_s < float("inf")
