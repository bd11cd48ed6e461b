"""Ray on three machines that are network namespaces: a head that trains nothing, two workers."""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from network import NETWORK, Network, address

ROOT = Path(__file__).parents[2]
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
HEAD, WORKERS = 1, (2, 3)
LONELY = 3  # its `unshared` is a disk of its own
DASHBOARD = f"http://{address(HEAD)}:8265"
UP_S = 180.0
STUDY_S = 400.0
ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",  # nobody else is on this network; test_jobs.py has the token
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # Ray's own 15 would starve beside whatever else this machine does
    "RAY_API_SERVER_ADDRESS": DASHBOARD,
    "OMP_NUM_THREADS": "1",
}
KUBERNETES = yaml.safe_load((ROOT / "launch/cluster/raycluster.yaml").read_text(encoding="utf-8"))
HEAD_OF_IT = KUBERNETES["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
HEALTH_CHECKS = {entry["name"]: entry["value"] for entry in HEAD_OF_IT["env"]}
ALIVE = """
import json, sys, urllib.request
with urllib.request.urlopen(f"{sys.argv[1]}/api/v0/nodes", timeout=10) as answer:
    nodes = json.load(answer)["data"]["result"]["result"]
print(*(node["node_ip"] for node in nodes if node["state"] == "ALIVE"))
"""


@dataclass
class Cluster:
    """Ray on a network, and what its nodes see of this machine's disk."""

    network: Network
    folder: Path  # that all nodes share, but for `unshared` in it
    temporary: Path  # of Ray; short, for its sockets
    nodes: dict[int, subprocess.Popen[str]] = field(default_factory=dict)

    def restore(self) -> None:
        """Start what is not running, and wait until all nodes are alive."""
        for machine in (HEAD, *WORKERS):
            self.network.plug(machine, into_switch=True)
        running = {m for m, process in self.nodes.items() if process.poll() is None}
        ended = {HEAD, *WORKERS} - running
        if HEAD in ended:
            self._start(HEAD)
        self._wait(1 + len(WORKERS) - len(ended - {HEAD}))  # the ended ones are missed
        for machine in ended - {HEAD}:
            self._start(machine)
        self._wait(1 + len(WORKERS))

    def _start(self, machine: int) -> None:
        temporary = tempfile.mkdtemp(prefix=str(machine), dir=self.temporary)
        flags = f"--node-ip-address={address(machine)} --temp-dir={temporary} --disable-usage-stats"
        flags += f" --object-store-memory={100 * 2**20} --block"
        if machine == HEAD:
            flags += f" --head --port=6379 --num-cpus=0 --dashboard-host={address(HEAD)}"
        else:
            flags += f" --address={address(HEAD)}:6379 --num-cpus=1"
        command = [*RAY, "start", *flags.split()]
        if machine == LONELY:
            mount = f"mount -t tmpfs unshared {self.folder / 'unshared'}"
            command = ["sh", "-c", f'{mount} && exec "$@"', "sh", *command]
        with (self.temporary / f"{machine}.log").open("w", encoding="utf-8") as log:
            self.nodes[machine] = self.network.start(machine, command, environment(), log)

    def _wait(self, count: int) -> None:
        """Until so many nodes are alive, as the head sees it."""
        until, said = time.monotonic() + UP_S, ""
        ask = [sys.executable, "-c", ALIVE, DASHBOARD]
        while len(said.split()) != count:
            assert self.nodes[HEAD].poll() is None, (self.temporary / f"{HEAD}.log").read_text()
            assert time.monotonic() < until, f"{count} nodes were to be alive, not {said!r}"
            time.sleep(0.3)
            said, _ = self.network.start(0, ask, environment()).communicate()
            said = said if said.startswith(NETWORK) else ""  # not yet: the dashboard is starting

    def submit(self, *words: str) -> subprocess.Popen[str]:
        """`python launch/submit.py WORDS` on a machine that is no node."""
        return self.network.start(
            0, [sys.executable, str(ROOT / "launch/submit.py"), *words], environment()
        )

    def run(self, *words: str) -> tuple[int, str]:
        """The same, to its end: exit code and what it said."""
        process = self.submit(*words)
        said, _ = process.communicate(timeout=STUDY_S)
        return process.returncode, said

    def machine_of(self, worker: str) -> int:
        """Where a worker of trials.jsonl (NODE:PROCESS) runs."""
        process = int(worker.rpartition(":")[2])
        (machine,) = [m for m in WORKERS if process in self.network.processes(m)]
        return machine


def environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    inherited = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return inherited | ENVIRONMENT | HEALTH_CHECKS | {"PATH": path}
