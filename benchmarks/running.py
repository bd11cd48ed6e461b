"""A study as a command: the images it reads, when its phases began, what memory it held."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from threading import Event, Thread

import numpy as np
from PIL import Image

from r2search.data.samples import SampleSet

WATCHED = ("Trainable", "ImplicitFunc")  # in the titles of Ray's processes that train


@dataclass(frozen=True)
class Ran:
    """One command, by the clock (seconds since 1970)."""

    began: float
    ended: float
    phases: dict[str, float]  # when each began
    worker_bytes: int = 0  # most that one worker held by itself
    node_bytes: int = 0  # most that all its processes held


def run(
    command: list[str],
    log: Path,
    *,
    watch: bool = False,
    at_phase: Callable[[str], None] = lambda name: None,
) -> Ran:
    """Run a study; what it prints goes into a file, and tells when its phases began.

    `at_phase` is called with the name of each when it begins.
    """
    began = time.time()
    phases: dict[str, float] = {}
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            env=environment,
        )
        watcher = MemoryWatch(process.pid)
        if watch:
            watcher.start()
        assert process.stdout
        for line in process.stdout:
            file.write(line)
            match = re.match(r"\[.*\] (\w+):", line)  # as report/screen.py has it
            if match and match[1] not in phases:
                phases[match[1]] = time.time()
                at_phase(match[1])
        code = process.wait()
        watcher.done.set()
    if code:
        sys.exit(f"{' '.join(command)} ended with {code}:\n{log.read_text(encoding='utf-8')}")
    return Ran(began, time.time(), phases, watcher.worker, watcher.node)


class MemoryWatch(Thread):
    """Looks twice a second at a process and all that it started."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self.done = Event()
        self.worker = self.node = 0
        self._root = root

    def run(self) -> None:
        while not self.done.wait(0.5):
            held = [memory_of(pid) for pid in family_of(self._root)]
            self.node = max(self.node, sum(share for share, _, _ in held))
            own = [own for _, own, title in held if any(name in title for name in WATCHED)]
            self.worker = max(self.worker, *own, 0)


def family_of(root: int) -> list[int]:
    """A process and its descendants, as far as they still run."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    found = [root]
    for pid in found:  # grows as it goes
        found += children.get(pid, [])
    return found


def memory_of(pid: int) -> tuple[int, int, str]:
    """Bytes of a process with its share of what is shared, bytes of its own, and its title.

    Its own are those that no file and no shared memory stands behind.
    """
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0, 0, ""
    size = {name: 1024 * int(value) for name, value in re.findall(r"(\w+): +(\d+) kB", text)}
    return size.get("Pss", 0), size.get("Anonymous", 0), title


def write_folder(folder: Path, data: SampleSet, tiles: int = 1, copies: int = 1) -> None:
    """Images of one class as files, with their split.

    Those to train on are repeated `tiles` times down and across, and so are `copies` of each, no
    two of which are the same picture.
    """
    rows = ["image,mask,fov,subject,split"]
    for part in ("train", "val", "test"):
        many = copies if part == "train" else 1
        times = tiles if part == "train" else 1
        for sample, copy in product(getattr(data, part), range(many)):
            arrays = sample.image, 255 * sample.mask, np.uint8(255) * sample.fov
            paths = []
            for name, array in zip(("images", "masks", "fov"), arrays, strict=True):
                path = folder / name / f"{sample.id}-{copy}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.tile(np.roll(array, 8 * copy, 1), (times, times, 1)[: array.ndim])
                Image.fromarray(pixels.squeeze()).save(path, compress_level=1)
                paths.append(str(path.relative_to(folder)))
            rows.append(",".join([*paths, sample.subject, part]))
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def size_of(data: SampleSet) -> int:
    """Bytes of what trials see."""
    samples = (*data.train, *data.val)
    return sum(s.image.nbytes + s.mask.nbytes + s.fov.nbytes for s in samples)
