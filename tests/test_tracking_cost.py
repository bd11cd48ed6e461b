"""What the benchmark of tracking makes of the epochs of a study."""

import random
import subprocess
import sys
import time
from pathlib import Path
from runpy import run_path
from typing import Any

import psutil
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return run_path(str(BENCHMARKS / "tracking.py"), run_name="benchmark")


def study(slower: float, noise: float, ran: float = 0.5) -> dict[str, Any]:
    """Epochs of trials of unlike length, the more of them tracked the slower by so much."""
    draws = random.Random(0)
    epochs, shares = {}, {}
    for trial in range(40):
        length = draws.uniform(1, 9)
        for epoch in range(1, 7):
            name = f"t{trial} {epoch}"
            shares[name] = draws.random()
            first = 3.0 if epoch == 1 else 1.0  # it allocates memory
            epochs[name] = first * length * (1 + slower * shares[name] + draws.gauss(0, noise))
    return {"epochs": epochs, "tracked": shares, "ran": ran}


def test_a_planted_cost_is_found_from_the_epochs_of_one_study(benchmark: dict[str, Any]) -> None:
    found, error = benchmark["slower_while_tracked"]([study(0.1, noise=0.0)])
    assert found == pytest.approx(0.5 * 0.1, rel=0.06)  # over the mean, not over the untracked
    assert error < 0.001


def test_the_error_says_how_far_off_it_may_be(benchmark: dict[str, Any]) -> None:
    found, error = benchmark["slower_while_tracked"]([study(0.1, noise=0.1)])
    assert 0.005 < error < 0.02
    assert abs(found - 0.05) < 3 * error


def test_an_epoch_is_tracked_as_far_as_nothing_rested(benchmark: dict[str, Any]) -> None:
    report = {"t": 10.0, "seconds": {"train": 3.0, "validate": 1.0, "feed": 0.5}}
    rested = [(100.0, 107.0), (109.0, 150.0)]
    assert benchmark["tracked"](report, 100.0, rested) == pytest.approx(2 / 4)
    assert benchmark["tracked"](report, 100.0, []) == 1


def test_processes_rest_during_the_search_alone_and_then_run(
    benchmark: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = benchmark["Turns"]()
    settings = benchmark["Turns"].run.__globals__
    monkeypatch.setitem(settings, "LOOK_S", 0.05)
    monkeypatch.setitem(settings, "TURN_S", (0.2, 0.3))
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "wandb-core"])
    try:
        turns.start()
        turns.phase("calibrating")
        time.sleep(0.6)
        assert not turns.rested
        turns.phase("searching")
        wait_until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED)
        wait_until(lambda: len(turns.rested) >= 2)
        turns.phase("testing")
        wait_until(lambda: psutil.Process(child.pid).status() != psutil.STATUS_STOPPED)
        spans = list(turns.rested)
        time.sleep(0.6)
        assert turns.rested[: len(spans)] == spans
        assert len(turns.rested) <= len(spans) + 1
        assert psutil.Process(child.pid).status() != psutil.STATUS_STOPPED
        assert all(end > begin for begin, end in spans)
    finally:
        turns.done.set()
        turns.join()
        child.kill()
        child.wait()


def wait_until(seen: Any) -> None:
    until = time.monotonic() + 20
    while not seen():
        assert time.monotonic() < until
        time.sleep(0.01)
