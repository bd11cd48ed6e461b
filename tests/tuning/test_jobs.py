"""Studies as jobs of a real Ray cluster on this machine, by `python launch/submit.py` alone."""

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from r2search.bundle import load_bundle
from r2search.tuning.results import NAMES

pytest.importorskip("aiohttp", reason="the extra `cluster` is not installed")
ROOT = Path(__file__).parents[2]
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
TINY = (
    "--space quick.yaml --time 3m --trials 1 --wandb disabled --set budget.max_epochs=1 "
    "--set train.epoch_pixels=100000"
)
ENDLESS = (
    "--space quick.yaml --time 10m --trials 100 --wandb disabled --set train.epoch_pixels=100000"
)
WAIT_S = 300.0
# The command line, but a connection is dead when nothing comes for ten seconds. (Ray itself waits
# about three, after the last line of a job that has ended, before it says that there is no more.)
IMPATIENT = (
    "import sys; from r2search.cli import main; from r2search.tuning import jobs\n"
    "jobs.QUIET_S = 10.0; sys.exit(main(sys.argv[1:]))"
)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


@dataclass
class Head:
    """A Ray head with its dashboard, which asks for a token."""

    address: str
    environment: dict[str, str]
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def begin(self, *words: str, address: str = "", **environment: str) -> subprocess.Popen[str]:
        """`python launch/submit.py WORDS`, both outputs together."""
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "launch/submit.py"), *words],
            env=self.environment
            | {"RAY_API_SERVER_ADDRESS": address or self.address}
            | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A shell that starts the tests in the background has SIGINT ignored, and so would we.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self.started.append(process)
        return process

    def run(self, *words: str, address: str = "", **environment: str) -> tuple[int, str]:
        """The same, to its end: exit code and what it said."""
        process = self.begin(*words, address=address, **environment)
        said, _ = process.communicate(timeout=WAIT_S)
        return process.returncode, said


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    gcs, dashboard, client, agent = free_ports(4)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "NO_PROXY": "127.0.0.1",
    }
    environment.pop("RAY_ADDRESS", None)
    flags = f"--port={gcs} --dashboard-port={dashboard} --ray-client-server-port={client}"
    flags += f" --dashboard-agent-listen-port={agent} --object-store-memory={100 * 2**20}"
    flags += " --num-cpus=2 --disable-usage-stats --block"
    with tempfile.TemporaryDirectory(prefix="rj", ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [*RAY, "start", "--head", f"--temp-dir={folder}", *flags.split()],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        started = Head(f"http://127.0.0.1:{dashboard}", environment)
        try:
            until = time.monotonic() + WAIT_S
            while started.run("status")[0] != 0:
                assert process.poll() is None, "the head did not start"
                assert time.monotonic() < until, "the dashboard did not answer"
            yield started
        finally:
            for command in started.started:
                command.kill()
                command.wait()
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=60)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def name_of(said: str) -> str:
    """The name of the study in what submitting it said."""
    found = re.search(r"^r2search: the study is (\S+)$", said, re.MULTILINE)
    assert found, said
    return found.group(1)


class BadProxy(threading.Thread):
    """Hands connections on; of those that follow a log the first goes dead, the second breaks."""

    def __init__(self, port: int, after: int) -> None:
        super().__init__(daemon=True)
        self._port, self._after = port, after  # bytes
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.followed = 0
        self.start()

    def run(self) -> None:
        while True:
            near, _ = self._server.accept()
            far = socket.create_connection(("127.0.0.1", self._port))
            threading.Thread(target=self._serve, args=(near, far), daemon=True).start()

    def _serve(self, near: socket.socket, far: socket.socket) -> None:
        request = near.recv(65536)
        left = float("inf")
        if b"/logs/tail" in request:
            self.followed += 1
            left = self._after if self.followed <= 2 else left
            dead = self.followed == 1
        far.sendall(request)
        threading.Thread(target=self._hand_on, args=(near, far), daemon=True).start()
        with suppress(OSError):
            while left > 0 and (data := far.recv(65536)):
                near.sendall(data[: int(min(left, len(data)))])
                left -= len(data)
        if left > 0 or not dead:
            with suppress(OSError):
                near.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _hand_on(near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while data := near.recv(65536):
                far.sendall(data)
            far.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class Followed:
    """A study that was submitted, and followed over connections that were lost."""

    name: str
    run_dir: Path
    code: int
    submitted: str
    said: str
    connections: int


@pytest.fixture(scope="module")
def study(head: Head, tmp_path_factory: pytest.TempPathFactory) -> Followed:
    folder = tmp_path_factory.mktemp("job")
    space = folder / "mine.yaml"  # a space file of one's own, which has to be sent
    space.write_text((ROOT / "search_spaces/quick.yaml").read_text())
    words = [*TINY.replace("quick.yaml", str(space)).split(), f"--out={folder / 'run'}"]
    code, submitted = head.run(*words, "--detach")
    assert code == 0, submitted
    name = name_of(submitted)
    code, said, connections = follow_badly(head, name)
    return Followed(name, folder / "run", code, submitted, said, connections)


def follow_badly(head: Head, name: str) -> tuple[int, str, int]:
    """Follow a study through a BadProxy: exit code, what it said, how many connections it took."""
    proxy = BadProxy(int(head.address.rpartition(":")[2]), after=700)
    following = subprocess.run(
        [sys.executable, "-c", IMPATIENT, "job", "follow", name, "--address", proxy.address],
        env=head.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WAIT_S,
    )
    return following.returncode, following.stdout, proxy.followed


def test_a_study_runs_on_the_cluster_to_its_end(study: Followed) -> None:
    assert study.code == 0, study.said
    assert json.loads((study.run_dir / "summary.json").read_text())["status"] == "completed"
    assert "searching: " in study.said
    assert f"Report:     {study.run_dir}/report.html" in study.said


def test_submitting_says_what_was_sent_and_how_to_go_on(study: Followed, head: Head) -> None:
    assert re.search(
        r"sent \d+ files, [\d.]+ [KM]iB: code and space file, no data", study.submitted
    )
    for action in ("follow", "status", "stop", "fetch"):
        command = f"python launch/submit.py {action} {study.name} --address {head.address}"
        assert command in study.submitted


def test_a_lost_connection_is_taken_up_again_without_a_line_twice_or_missing(
    study: Followed, head: Head
) -> None:
    code, again = head.run("follow", study.name)
    assert study.connections >= 3
    assert (study.code, study.said) == (code, again)


def test_a_connection_that_goes_dead_when_the_study_has_ended_loses_no_line(
    study: Followed, head: Head
) -> None:
    code, said, connections = follow_badly(head, study.name)
    assert connections >= 3
    assert (code, said) == head.run("follow", study.name)


def test_what_is_kept_with_the_job_is_no_secret(study: Followed, head: Head) -> None:
    code, said = head.run("status")
    (line,) = [line for line in said.splitlines() if line.startswith(study.name)]
    assert code == 0
    assert re.search(rf": succeeded, exit code 0; began .*; {study.run_dir}$", line)
    assert head.run("status", study.name) == (0, f"{line}\n")


def test_the_results_come_back_and_predict(study: Followed, head: Head, tmp_path: Path) -> None:
    out = tmp_path / "fetched"
    code, said = head.run("fetch", study.name, "--out", str(out))
    assert code == 0, said
    assert sorted(path.name for path in out.iterdir()) == sorted([*NAMES, "bundle", "pictures"])
    for path in out.rglob("*"):
        if path.is_file():
            assert str(path) in said
            assert path.read_bytes() == (study.run_dir / path.relative_to(out)).read_bytes()
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert load_bundle(out / "bundle").predict(image).mask.shape == (64, 64)
    assert study.name in head.run("status")[1]
    assert "fetch-" not in head.run("status")[1]


def test_a_study_on_the_cluster_is_extended_by_its_run_folder_alone(
    study: Followed, head: Head
) -> None:
    record = study.run_dir / "trials.jsonl"
    before = record.read_text()
    words = f"--resume {study.run_dir} --time +3m --trials +1 --wandb disabled".split()
    code, said = head.run(*words)
    assert code == 0, said
    assert re.search(r"sent \d+ files, [\d.]+ [KM]iB: code, no data", said)
    assert name_of(said).startswith(f"{study.run_dir.name}-")
    assert record.read_text().startswith(before)
    summary = json.loads((study.run_dir / "summary.json").read_text())
    assert (summary["status"], summary["trials"]["total"]) == ("completed", 2)


def test_a_study_that_refuses_ends_with_its_own_code_and_sentence(
    head: Head, tmp_path: Path
) -> None:
    words = f"--space general.yaml --data /nowhere/images --out {tmp_path / 'run'}".split()
    code, said = head.run(*words)
    assert code == 2
    assert "\nr2search: /nowhere/images: there is no such folder; check" in said
    assert "failed, exit code 2" in said


def test_ctrl_c_ends_the_following_and_stop_ends_the_study(head: Head, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    process = head.begin(*ENDLESS.split(), f"--out={run_dir}")
    record, until = run_dir / "trials.jsonl", time.monotonic() + WAIT_S
    while not (record.exists() and '"event": "report"' in record.read_text()):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=WAIT_S)
    name = name_of(said)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "r2search: the study goes on; go on with one of\n  python launch/submit.py fol" in said
    assert f"{name}: running; began " in head.run("status", name)[1]

    code, said = head.run("stop", name)
    assert code == 0, said
    assert f"{name}: stopped, exit code 130; began " in said
    resume = f"python launch/submit.py --resume {run_dir} --address {head.address}"
    assert f"r2search: it goes on with {resume}\n" in said
    summary = json.loads((run_dir / "summary.json").read_text())
    assert (summary["status"], summary["signal"]) == ("interrupted", signal.SIGINT)
    assert (run_dir / "bundle").is_dir()
    code, said = head.run("follow", name)
    assert code == 130
    assert said.endswith(f"{resume}\n")


@pytest.mark.parametrize(
    ("words", "environment", "said"),
    [
        ("status nope", {}, "nope: no study of this cluster; known: "),
        ("status", {"RAY_AUTH_TOKEN": "0" * 64}, "the cluster asks for its token; export RAY_AUTH"),
        ("status", {"RAY_AUTH_MODE": "disabled"}, "the cluster asks for its token; export RAY_AU"),
    ],
)
def test_a_cluster_that_refuses_is_one_sentence(
    words: str, environment: dict[str, str], said: str, head: Head
) -> None:
    code, message = head.run(*words.split(), **environment)
    assert code == 2
    assert said in message
    assert len(message.splitlines()) == 1
