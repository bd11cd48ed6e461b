"""The mark that tells workers that the study ends: a file, or an object of a store."""

import logging
import threading
from pathlib import Path

from r2search.storage import Storage, StorageError

STOP = ".stop"
LOOK_S = 2.0  # between looks for the object
BRIEF_S = 5.0  # a study that ends waits no longer for a store

log = logging.getLogger(__name__)


class StopMark:
    """As the driver has it."""

    def __init__(self, run_dir: Path, storage: Storage | None) -> None:
        self.path = run_dir / STOP
        self._storage = storage and storage.patient(BRIEF_S, BRIEF_S)
        self._told = False

    def clear(self) -> None:
        """A store that does not answer keeps it: `clear` comes again before the next search."""
        self.path.unlink(missing_ok=True)
        try:
            if self._storage is not None:
                self._storage.delete([STOP])
        except StorageError as error:
            log.warning("the mark of the study's end is left: %s", error)

    def set(self) -> None:
        """Workers whose store does not answer are ended by Ray, with their last state."""
        if self._told:
            return
        self._told = True
        self.path.touch()
        if self._storage is not None:
            try:
                self._storage.write(STOP, b"")
            except StorageError as error:
                log.warning("the workers are not told that the study ends: %s", error)


def watch_stop(storage: Storage, path: Path) -> None:
    """From now on, in the background: make the local file `path` once the object is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)

    def look() -> None:
        pause = threading.Event()
        while not pause.wait(LOOK_S):
            try:
                if storage.exists(STOP):
                    path.touch()
                    return
            except StorageError:
                continue

    threading.Thread(target=look, name="stop", daemon=True).start()
