"""A file of lines that is whole after any crash, and goes on for a while on a full disk."""

import errno
import logging
import os
from pathlib import Path

RESERVE = 32 * 2**20  # bytes held beside the file, given to it when the disk is full

log = logging.getLogger(__name__)


class RecordError(OSError):
    """An event could not be written: nothing may follow from it, and the search cannot go on."""


class RecordFile:
    """Appends whole lines, each synced before anything follows from it."""

    def __init__(self, path: Path) -> None:
        """`path` is made, or appended to; it must end with a whole line."""
        self._path = path
        self._reserve = path.with_name(".reserve")
        self._file = path.open("ab", buffering=0)
        try:
            with self._reserve.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVE)
        except OSError:  # the disk is full already, or cannot do it
            self._reserve.unlink(missing_ok=True)

    def append(self, line: str) -> None:
        """Write a line; RecordError when that fails, and then nothing of it is left."""
        try:
            self._append(line.encode() + b"\n")
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            if not (full and self._reserve.exists()):
                raise RecordError(error.errno, error.strerror, str(self._path)) from error
            self._reserve.unlink()
            left = RESERVE >> 20
            log.warning("%s: the disk is full; %d MiB are left for the record", self._path, left)
            self.append(line)

    def close(self) -> None:
        self._reserve.unlink(missing_ok=True)
        self._file.close()

    def _append(self, line: bytes) -> None:
        size = os.fstat(self._file.fileno()).st_size
        try:
            while line:
                line = line[self._file.write(line) :]
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(size)
            raise
