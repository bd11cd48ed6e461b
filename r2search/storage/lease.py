"""One driver at a time in a folder of a store: an object that its holder renews."""

import json
import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from r2search.config import Misuse
from r2search.storage import Storage, StorageError, Tag

LOCK = ".lock"
RENEW_S = 10.0
STALE_S = 60.0  # without renewal the holder is taken for dead; its clock does not matter
LOOK_S = 1.0
BRIEF_S = 5.0  # a driver that ends waits no longer for its store


class Lease:
    """Holds a folder for this driver alone, until `release` or the process ends.

    Made by a conditional write, and renewed by them: whoever loses it sees that. A holder that died
    on this machine is replaced at once, another one when it has not renewed for a minute.
    """

    def __init__(
        self,
        storage: Storage,
        say: Callable[[str], None],
        renew_s: float = RENEW_S,
        stale_s: float = STALE_S,
    ) -> None:
        """Take it. Misuse when another driver has it; `say` tells when that takes a while."""
        self._storage = storage
        self._renew_s, self._stale_s = renew_s, stale_s
        self._holder = secrets.token_hex(8)
        self._count = 0
        self._tag = self._take(say)
        self._renewed = _now()
        self._guard = threading.Lock()
        self.lost = False  # another driver has taken it
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Let others take it at once; a store that does not answer lets them wait."""
        self._ended.set()
        self._thread.join(BRIEF_S)
        if not self.lost:
            try:
                self._storage.patient(BRIEF_S, BRIEF_S).delete([LOCK])
            except StorageError:
                return

    def require(self) -> None:
        """StorageError when another driver has taken it: asked of the store after a suspension."""
        with self._guard:
            if not self.lost and _now() - self._renewed > 2 * self._renew_s:
                self._renew_once()
        if self.lost:
            raise StorageError(f"{self._storage.url}: another driver has taken it over")

    def _content(self) -> bytes:
        self._count += 1  # the tag of an object may be that of its content
        facts = {"holder": self._holder, "count": self._count, **_process()}
        return json.dumps(facts).encode()

    def _take(self, say: Callable[[str], None]) -> Tag:
        while True:
            tag = self._storage.create(LOCK, self._content())
            found = None if tag else self._storage.read_tagged(LOCK)
            if tag:
                return tag
            if found is None:
                continue  # released just now
            facts, tag = _facts(found[0]), found[1]
            if facts.get("holder") == self._holder:
                return tag  # ours after all: the answer was lost
            if not _is_dead(facts):
                say(
                    f"{self._storage.url}: another driver took it and did not let go; waiting for "
                    f"{self._stale_s:.0f} s at most to see whether it lives"
                )
                self._wait(tag)
            tag = self._storage.update(LOCK, self._content(), tag)
            if tag:
                return tag

    def _wait(self, tag: Tag) -> None:
        """Return when the lease was not renewed for long; Misuse when it is."""
        until = time.monotonic() + self._stale_s
        while time.monotonic() < until:
            time.sleep(min(LOOK_S, self._stale_s / 4))
            found = self._storage.read_tagged(LOCK)
            if found is None:
                return
            if found[1] != tag:
                raise Misuse(
                    f"{self._storage.url}: another driver works in it; wait for it, or stop it"
                )

    def _renew(self) -> None:
        while not self.lost and not self._ended.wait(self._renew_s):
            try:
                with self._guard:
                    self._renew_once()
            except StorageError:
                continue  # nobody else can take it now, either

    def _renew_once(self) -> None:
        tag = self._storage.update(LOCK, self._content(), self._tag)
        found = None if tag else self._storage.read_tagged(LOCK)
        if found and _facts(found[0]).get("holder") == self._holder:
            tag = found[1]  # renewed before, and the answer was lost
        if tag is None:
            self.lost = True
        else:
            self._tag, self._renewed = tag, _now()


def _now() -> float:
    """Seconds, those of a suspended machine included where the system counts them."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _facts(content: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(content)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _process() -> dict[str, Any]:
    """This process, so that another one of this machine can see whether it lives."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = os.readlink("/proc/self/ns/pid")  # a container counts its own processes
    except OSError:
        return {}
    return {"machine": f"{boot} {space}", "pid": os.getpid(), "began": _began(os.getpid())}


def _is_dead(facts: dict[str, Any]) -> bool:
    """Whether a holder ran on this machine and is gone; False when that cannot be known."""
    here = _process()
    if not here or facts.get("machine") != here["machine"]:
        return False
    return bool(_began(int(facts.get("pid", 0))) != facts.get("began"))


def _began(pid: int) -> str:
    """When a process began, in ticks since the machine started; "" when there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
