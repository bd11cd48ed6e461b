"""The benchmark of a training step: what its medians say."""

from pathlib import Path
from runpy import run_path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "throughput.py"


@pytest.mark.parametrize("with_compiled", [False, True])
def test_speed_ups_are_ratios_of_medians_with_and_without_the_compiled_step(
    with_compiled: bool,
) -> None:
    throughput = run_path(str(BENCHMARK), run_name="benchmark")
    rates = {
        throughput["REFERENCE"]: [20.0, 1.0, 22.0],
        throughput["OWN"]: [50.0, 48.0, 90.0],
        throughput["FED"]: [45.0, 45.0, 45.0],
        throughput["MATMUL"]: [1e12, 1e12, 1e12],
    }
    if with_compiled:
        rates[throughput["COMPILED"]] = [60.0, 60.0, 60.0]
    found = throughput["describe"](throughput["trial_config"](16), rates, {})
    assert found["speedup"] == 2.5
    assert found["feed"] == 0.9
    assert found["share_of_matmul_rate"] == pytest.approx(found["gflops"] / 1e3)
    assert found.get("compiled") == (3.0 if with_compiled else None)
