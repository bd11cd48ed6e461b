"""A disk that becomes full: a small file system of its own."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def small_disk(path: Path, size_mib: int) -> Iterator[Path]:
    """A file system of this size at the new folder `path`; skips where none may be mounted."""
    path.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "r2search-test", str(path)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a full disk is not tested: only root may mount one here ({error})")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(folder: Path) -> Path:
    """Take what is left of the disk of `folder`, to the last byte; the file that has it."""
    path = folder / ".filler"
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
            file.write(b"\1" * max(1, min(free, 2**20)))
    return path
