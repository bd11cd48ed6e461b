"""The comparison of searches as a command, on made-up curves."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from learning_curves import synthetic_curves

from r2search.space import load_study
from r2search.tuning.curves import write_curves

COMMAND = Path(__file__).parents[1] / "benchmarks" / "search_efficiency.py"
LEFT_OUT = ["syne_tune", "r2search, draws at random", "r2search, no last call", "r2search, prior"]
LEFT_OUT += [f"r2search, {rule}" for rule in ("none", "asha", "ray_asha", "pasha", "hyperband")]
PEERS = ["random", "random_ray_asha", "ray_optuna_asha", "optuna_hyperband", "one_epoch_topk"]


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curves")
    study = load_study("retina.yaml", {"budget.max_epochs": 27})
    write_curves(folder / "retina-chase_db1.parquet", synthetic_curves(study, 30))
    return folder


def compare(curves: Path, out: Path) -> subprocess.CompletedProcess[str]:
    few = ["--spaces", "retina", "--workers", "4", "--seeds", "1", "--processes", "1"]
    command = [sys.executable, str(COMMAND), "--curves", str(curves), "--json", str(out)]
    whole = [*command, *few, "--leave-out", *LEFT_OUT]
    return subprocess.run(whole, capture_output=True, text=True, timeout=300)


def test_every_search_is_compared_and_nothing_is_simulated_twice(
    curves: Path, tmp_path: Path
) -> None:
    out = tmp_path / "found.json"
    done = compare(curves, out)
    assert done.returncode == 0, done.stderr
    facts = json.loads(out.read_text())
    assert list(facts["time_to_target_ratio"]) == PEERS
    assert set(facts["ratio_at_least"]) <= set(PEERS)
    table = facts["tables"][0]
    assert {"r2search", "r2search, no baselines", "r2search, bad prior"} <= set(table["searches"])
    for found in table["searches"].values():
        assert list(found["regret"]) == ["0.25", "0.5", "1"]
        assert 0 <= found["reached"] <= 1
    parts = sorted((tmp_path / "found.json.parts").iterdir())
    assert len(parts) == len(table["searches"]) == 9
    before = [part.stat().st_mtime_ns for part in parts]
    parts[0].unlink()
    assert compare(curves, out).returncode == 0
    after = [part.stat().st_mtime_ns for part in parts]
    assert after[0] > before[0]
    assert after[1:] == before[1:]
    assert json.loads(out.read_text())["tables"] == facts["tables"]
