"""Folders for what need not last, in the temporary folder; nobody else may look into them."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from r2search.config import Misuse


@contextmanager
def own_scratch(name: str) -> Iterator[Path]:
    """A folder of this process alone, removed afterwards.

    Folders of the same name whose processes were killed are removed before.
    """
    top = Path(tempfile.gettempdir())
    for left in top.glob(f"r2search-{name}-*.lock"):
        _sweep(left)
    mark = top / f"r2search-{name}-{uuid4().hex}.lock"
    with FileLock(mark):  # held as long as this process lives
        folder = mark.with_suffix("")
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            mark.unlink(missing_ok=True)


def _sweep(mark: Path) -> None:
    """Remove the folder of a process that is gone."""
    try:
        with FileLock(mark, timeout=0):
            shutil.rmtree(mark.with_suffix(""), ignore_errors=True)
            mark.unlink(missing_ok=True)
    except (Timeout, OSError):
        return  # it lives, or is another user's


def shared_path(name: str) -> Path:
    """Where `shared_scratch` of this name lies."""
    return Path(tempfile.gettempdir()) / f"r2search-{os.getuid()}-{name}"


def shared_scratch(name: str) -> Path:
    """The folder that all processes of this user find by its name on this machine, made if need be.

    Misuse when somebody else has made what lies there, or may write into it.
    """
    folder = shared_path(name)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise Misuse(f"{folder}: not a private folder of this user; remove it, or set TMPDIR")
    folder.chmod(0o700)
    return folder
