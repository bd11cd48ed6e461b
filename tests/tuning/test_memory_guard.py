"""A trial that takes the memory of its node: it ends alone, or Ray's monitor kills its worker."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from r2search.tuning.events import read_events, read_trials

STUDY = """
import os
import sys
import time
from pathlib import Path

from ray._common.utils import get_system_memory
from ray._private.utils import get_used_memory

import r2search.tuning.engine as engine
from r2search.space import load_study
from r2search.study import run_study
from r2search.tuning.trainable import sharing

LIMIT = float(os.environ["RAY_memory_usage_threshold"])


def is_full():
    # Ray's monitor must act now. No more is eaten: on a busy machine it may come late, and the
    # kernel would end other processes first.
    return get_used_memory() / get_system_memory() > LIMIT + 0.02


def planting(shared):
    class Hungry(sharing(shared)):
        def _build(self):
            eaten, once = [], self.shared.checkpoints_dir.parent / "eaten"
            while self._name == "U-Net":
                eaten.append(b"x" * 2**27)
                time.sleep(0.2)
            while self._name == "t0001" and (eaten or not once.exists()):
                once.touch()
                self._guard._must_shrink = lambda: False
                if is_full():
                    time.sleep(0.02)
                else:
                    eaten.append(b"x" * 2**27)
            return super()._build()

    return Hungry


engine.sharing = planting
settings = {"budget.time": 240.0, "budget.trials": 1, "budget.max_epochs": 2}
settings["resources.workers"] = 1
run_study(load_study("quick.yaml", settings), Path(sys.argv[1]), tracking="disabled")
"""


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study on a node whose memory a baseline takes slowly, and a trial once, unguarded."""
    folder = tmp_path_factory.mktemp("memory") / "run"
    lines = Path("/proc/meminfo").read_text().splitlines()
    facts = {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines}
    taken = facts["MemTotal"] - facts["MemAvailable"]
    room = min(8 * 2**30, facts["MemAvailable"] / 2)  # much more than tests beside it take
    limit = (taken + room) / facts["MemTotal"]
    environment = os.environ | {
        "RAY_memory_usage_threshold": f"{limit:.4f}",
        "RAY_memory_monitor_refresh_ms": "100",
    }
    subprocess.run([sys.executable, "-c", STUDY, str(folder)], check=True, env=environment)
    return folder


def test_a_config_that_takes_the_memory_of_the_node_costs_itself_alone(run_dir: Path) -> None:
    trials = {trial.trial: trial for trial in read_trials(run_dir / "trials.jsonl")}
    assert trials["U-Net"].outcome == "infeasible"
    assert re.match(r"MemoryError: \d+% of the node's memory are taken", trials["U-Net"].reason)
    events = list(read_events(run_dir / "trials.jsonl"))
    assert not [event for event in events if event.get("trial") == "U-Net" and "text" in event]


def test_a_worker_that_rays_monitor_kills_does_not_end_the_study(run_dir: Path) -> None:
    assert (run_dir / "eaten").exists()
    assert json.loads((run_dir / "summary.json").read_text())["status"] == "completed"
    events = list(read_events(run_dir / "trials.jsonl"))
    # Once more where tests beside it take memory faster than the baseline's worker can be told.
    broken = [event["broken"] for event in events if event["event"] == "resume"]
    assert len(broken) in (1, 2)
    assert all("killed due to the node running low on memory" in reason for reason in broken)
    (trial,) = [t for t in read_trials(run_dir / "trials.jsonl") if t.trial == "t0001"]
    assert trial.outcome == "completed"
    assert [report.epoch for report in trial.reports] == [1, 2]
