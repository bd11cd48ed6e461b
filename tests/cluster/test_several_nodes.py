"""A study on several nodes, by `python launch/submit.py`: one is lost, cut off, or sees little."""

import json
import re
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from network import address
from ray_nodes import HEAD, LONELY, STUDY_S, WORKERS, Cluster

from r2search.bundle import load_bundle
from r2search.tuning.events import read_events

pytest.importorskip("aiohttp", reason="the extra `cluster` is not installed")
EPOCHS = 6  # of each trial
SAVED = 4  # an epoch after which a trial's state is on disk before its report is told
GO_ON_S = 15.0
# One trial trains longer than all others together, so that it is the one to lose its node.
SPACE = f"""\
name: nodes
data: {{reader: synthetic_retina}}
metric: {{name: val/dice_mean, goal: maximize}}
budget: {{time: 20m, trials: 1, max_epochs: {EPOCHS}}}
early_terminate: {{type: ray_asha, grace_period: 2, reduction_factor: 2}}
parameters:
  data:
    parameters:
      patch_size: {{value: 64}}
  model:
    parameters:
      block: {{value: conv}}
      depth: {{value: 1}}
      base_filters: {{value: 2}}
  train:
    parameters:
      lr: {{distribution: log_uniform_values, min: 1.0e-3, max: 3.0e-2}}
      epoch_pixels: {{value: 400000}}
baselines:
  long: {{model.depth: 3, model.base_filters: 16}}
"""


@dataclass
class Study:
    """A study that was submitted, and its record as it grows."""

    process: subprocess.Popen[str]
    run_dir: Path
    said: str = ""
    machines: dict[str, int] = field(default_factory=dict)  # by worker

    def events(self) -> list[dict[str, Any]]:
        record = self.run_dir / "trials.jsonl"
        return list(read_events(record)) if record.exists() else []

    def reports(self, trial: str) -> list[dict[str, Any]]:
        return [e for e in self.events() if e["event"] == "report" and e["trial"] == trial]

    def wait_for(self, trial: str, epoch: int) -> dict[str, Any]:
        """The report of an epoch, as soon as it stands in the record."""
        until = time.monotonic() + STUDY_S
        while not (found := [e for e in self.reports(trial) if e["epoch"] == epoch]):
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < until
            time.sleep(0.05)
        return found[0]

    def end(self) -> int:
        self.said, _ = self.process.communicate(timeout=STUDY_S)
        return self.process.returncode

    def seconds(self, unix_time: float) -> float:
        """A time on the clock of the record."""
        begin = self.events()[0]
        return float(unix_time - begin["unix_time"] + begin["t"])


def begin(cluster: Cluster, name: str) -> Study:
    space, run_dir = cluster.folder / "nodes.yaml", cluster.folder / name
    space.write_text(SPACE)
    words = f"--space {space} --out {run_dir} --wandb disabled".split()
    return Study(cluster.submit(*words), run_dir)


def require_whole(study: Study) -> None:
    """Nothing is lost, nothing is told twice, nothing has failed."""
    told = Counter((e["trial"], e["epoch"]) for e in study.events() if e["event"] == "report")
    assert told == {
        (name, epoch): 1 for name in ("long", "t0001") for epoch in range(1, EPOCHS + 1)
    }
    summary = json.loads((study.run_dir / "summary.json").read_text())
    assert summary["status"] == "completed"
    assert (summary["trials"]["failed"], summary["trials"]["total"]) == (0, 1)


def went_on_after(study: Study, lost: float) -> float:
    """Seconds from the loss of its node until the long trial trains on in another.

    It trains no epoch again: the first one that its new worker trained is the next one.
    """
    first, second = study.reports("long")[SAVED - 1 : SAVED + 1]
    assert first["worker"].partition(":")[0] != second["worker"].partition(":")[0]
    assert "setup" in second["seconds"]
    seconds = second["seconds"]
    trained = seconds["train"] + seconds["validate"] + seconds["checkpoint"]
    (note,) = [e for e in study.events() if e["event"] == "note"]
    assert note["trial"] == "long"
    assert note["text"].startswith("its worker was lost (")
    print(f"lost: noticed after {note['t'] - lost:.1f} s, ", end="")
    print(f"trained on after {second['t'] - trained - lost:.1f} s")
    return float(second["t"] - trained - lost)


def test_a_study_goes_on_when_a_node_is_lost_and_its_results_come_back(
    cluster: Cluster, tmp_path: Path
) -> None:
    study = begin(cluster, "killed")
    worker = study.wait_for("long", SAVED)["worker"]
    machine = cluster.machine_of(worker)
    other = study.wait_for("t0001", 1)["worker"]
    assert cluster.machine_of(other) != machine  # two nodes train
    cluster.network.kill(machine)
    lost = study.seconds(time.time())
    assert study.end() == 0, study.said
    require_whole(study)
    assert went_on_after(study, lost) < GO_ON_S
    name = re.findall(r"^r2search: the study is (\S+)$", study.said, re.MULTILINE)[0]
    code, said = cluster.run("fetch", name, "--out", str(tmp_path / "fetched"))
    assert code == 0, said
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    prediction = load_bundle(tmp_path / "fetched" / "bundle").predict(image)
    assert prediction.mask.shape == (64, 64)


def test_a_node_that_is_cut_off_and_comes_back_tells_nothing_twice(cluster: Cluster) -> None:
    study = begin(cluster, "cut")
    machine = cluster.machine_of(study.wait_for("long", SAVED)["worker"])
    cluster.network.plug(machine, into_switch=False)
    lost = study.seconds(time.time())
    study.wait_for("long", SAVED + 1)  # by the other node
    assert cluster.network.processes(machine)  # it does not know that it is given up
    cluster.network.plug(machine, into_switch=True)
    assert study.end() == 0, study.said
    require_whole(study)
    assert went_on_after(study, lost) < GO_ON_S
    cluster.nodes[machine].wait(timeout=60)  # a node that was given up ends itself


def test_a_study_whose_head_is_lost_goes_on_in_a_cluster_begun_anew(cluster: Cluster) -> None:
    study = begin(cluster, "headless")
    study.wait_for("long", SAVED)
    for machine in (HEAD, *WORKERS):  # without its head no node lives on
        cluster.network.kill(machine)
    cluster.restore()
    assert study.end() == 1
    assert "was begun anew and knows" in study.said
    (run_dir,) = re.findall(r"it goes on with python launch/submit.py --resume (\S+)", study.said)
    assert Path(run_dir) == study.run_dir
    words = f"--resume {run_dir} --wandb disabled".split()
    again = Study(cluster.submit(*words), study.run_dir)
    assert again.end() == 0, again.said
    require_whole(again)


def test_a_node_with_a_disk_of_its_own_is_refused_by_its_address(cluster: Cluster) -> None:
    run_dir = cluster.folder / "unshared" / "run"
    words = f"--space quick.yaml --out {run_dir} --wandb disabled".split()
    code, said = cluster.run(*words)
    assert code == 2, said
    lonely = (
        f"{address(LONELY)}: {run_dir} is not the driver's folder of that name; name with --out"
    )
    assert f"1 problem with the nodes of the cluster:\n  {lonely}" in said
    assert f"  {address(HEAD)}: " not in said
