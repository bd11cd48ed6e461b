"""Before a node's memory is full, the largest worker on it is told that memory ran out.

Ray's own monitor kills workers a little later: the youngest, several at a time, and with an error
that Ray Tune 2.60 takes as the end of the whole run. Told in time, the trial that needs the memory
ends alone, or goes on with smaller micro-batches.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
from ray._common.utils import get_system_memory
from ray._private.utils import get_used_memory  # both know of the limits of containers

MARGIN = 0.03  # of the node's memory, before Ray's monitor acts
EVERY_S = 0.2  # between two looks: networks take some hundred megabytes in this time
GRACE_S = 5.0  # for the trial to let go, before its worker ends


class MemoryGuard:
    """Watches over one worker process, from its main thread's making on."""

    def __init__(self) -> None:
        self._in_step = False
        self._limit = float(os.environ.get("RAY_memory_usage_threshold", "0.95")) - MARGIN
        signal.signal(signal.SIGUSR2, self._raise)
        threading.Thread(target=self._watch, name="memory guard", daemon=True).start()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Within, MemoryError is raised when this worker's memory is to be given back."""
        self._in_step = True
        try:
            yield
        finally:
            self._in_step = False

    def _watch(self) -> None:
        while True:
            time.sleep(EVERY_S)
            if not self._must_shrink():
                continue
            os.kill(os.getpid(), signal.SIGUSR2)
            time.sleep(GRACE_S)
            if self._must_shrink():
                print("the memory of the node is full; the worker ends", file=sys.stderr)
                os._exit(1)

    def _must_shrink(self) -> bool:
        share = get_used_memory() / get_system_memory()  # type: ignore[no-untyped-call]
        return bool(share > self._limit) and _is_largest()

    def _raise(self, *_: object) -> None:
        if self._in_step:
            raise MemoryError(f"{self._limit:.0%} of the node's memory are taken")


def _is_largest() -> bool:
    """Whether no other worker of this node has more memory of its own."""
    workers = psutil.Process().parent().children()
    sizes = {worker.pid: _size(worker) for worker in workers}
    return sizes.get(os.getpid(), 0) >= max(sizes.values(), default=0)


def _size(process: psutil.Process) -> int:
    try:
        memory = process.memory_info()
    except psutil.Error:
        return 0  # it has just ended
    return int(memory.rss - getattr(memory, "shared", 0))  # Ray's objects belong to all
