"""Machines that are network namespaces: their own addresses, one switch, cables to pull."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

NETWORK = "10.77.0"  # within the namespaces: this machine sees nothing of it
NAME = re.compile(r"r2search-(\d+)-\d+")
KILL_S = 10.0


class Network:
    """A switch, machine 0, and machines at it: 10.77.0.1, 10.77.0.2 and so on.

    The namespaces carry the number of this process, so that several networks live side by side.
    """

    def __init__(self, count: int) -> None:
        """Raises OSError where this machine does not allow it."""
        if shutil.which("ip") is None:
            raise FileNotFoundError("there is no command `ip`; install iproute2")
        _sweep()
        self._names = [f"r2search-{os.getpid()}-{number}" for number in range(count + 1)]
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        switch = self._names[0]
        for name in self._names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "address", "add", f"{address(254)}/24", "dev", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        for number, name in enumerate(self._names[1:], start=1):
            cable = ("type", "veth", "peer", "eth0", "netns", name)
            _ip("-n", switch, "link", "add", f"port{number}", *cable)
            _ip("-n", switch, "link", "set", f"port{number}", "master", "bridge", "up")
            _ip("-n", name, "address", "add", f"{address(number)}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "route", "add", "default", "via", address(254))

    def start(
        self,
        machine: int,
        command: Sequence[str],
        environment: Mapping[str, str],
        output: IO[str] | int = subprocess.PIPE,
    ) -> subprocess.Popen[str]:
        """Run a command on a machine, in a mount namespace of its own; both outputs together."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self._names[machine], *command],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def processes(self, machine: int) -> set[int]:
        """The ids of all that runs on a machine."""
        return _processes(self._names[machine])

    def kill(self, machine: int) -> None:
        """End all that runs on a machine at once, as when its power goes."""
        _kill(self._names[machine])

    def plug(self, machine: int, *, into_switch: bool) -> None:
        """Pull the cable of a machine, or put it back."""
        state = "up" if into_switch else "down"
        _ip("-n", self._names[0], "link", "set", f"port{machine}", state)

    def close(self) -> None:
        """End all that runs on the machines, and take them away."""
        for name in set(self._names) & set(_names()):
            _remove(name)


def address(machine: int) -> str:
    """Of a machine in its network."""
    return f"{NETWORK}.{machine}"


def _ip(*words: str) -> str:
    """Run `ip`; OSError with what it says when it fails."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def _names() -> list[str]:
    """The named network namespaces of this machine."""
    return [line.split()[0] for line in _ip("netns", "list").splitlines() if line.strip()]


def _sweep() -> None:
    """Take away what a test process left that was killed."""
    for name in _names():
        found = NAME.fullmatch(name)
        if found and not Path(f"/proc/{found.group(1)}").exists():
            _remove(name)


def _remove(name: str) -> None:
    _kill(name)
    _ip("netns", "delete", name)


def _processes(name: str) -> set[int]:
    return {int(line) for line in _ip("netns", "pids", name).split()}


def _kill(name: str) -> None:
    until = time.monotonic() + KILL_S
    while running := _processes(name):  # those that are just being started are seen next time
        for process in running:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if time.monotonic() > until:
            raise TimeoutError(f"{name}: {running} do not end")
        time.sleep(0.02)
