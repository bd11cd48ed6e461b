"""A trial that takes the memory of its node ends alone, before Ray's monitor kills anyone."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from r2search.tuning.events import read_trials

STUDY = """
import sys
import time
from pathlib import Path

import r2search.tuning.engine as engine
from r2search.space import load_study
from r2search.study import run_study
from r2search.tuning.trainable import sharing


def planting(shared):
    class Hungry(sharing(shared)):
        def _build(self):
            eaten = []
            while self._name == "U-Net":
                eaten.append(b"x" * 2**27)
                time.sleep(0.2)
            return super()._build()

    return Hungry


engine.sharing = planting
settings = {"budget.time": 240.0, "budget.trials": 1, "budget.max_epochs": 2}
run_study(load_study("quick.yaml", settings), Path(sys.argv[1]), tracking="disabled")
"""


def test_a_config_that_takes_the_memory_of_the_node_costs_itself_alone(tmp_path: Path) -> None:
    lines = Path("/proc/meminfo").read_text().splitlines()
    facts = {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines}
    taken = facts["MemTotal"] - facts["MemAvailable"]
    room = min(8 * 2**30, facts["MemAvailable"] / 2)  # much more than tests beside it take
    limit = (taken + room) / facts["MemTotal"]
    environment = os.environ | {
        "RAY_memory_usage_threshold": f"{limit:.4f}",
        "RAY_memory_monitor_refresh_ms": "100",
    }
    subprocess.run(
        [sys.executable, "-c", STUDY, str(tmp_path / "run")], check=True, env=environment
    )
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    trials = {trial.trial: trial for trial in read_trials(tmp_path / "run" / "trials.jsonl")}
    assert summary["status"] == "completed"
    assert trials["U-Net"].outcome == "infeasible"
    assert re.match(r"MemoryError: \d+% of the node's memory are taken", trials["U-Net"].reason)
    assert trials["t0001"].outcome == "completed"
    record = (tmp_path / "run" / "trials.jsonl").read_text()
    assert "worker was lost" not in record
    assert '"event": "resume"' not in record
