"""A local folder and its copy in a store."""

import shutil
from pathlib import Path

from r2search.storage import Storage

BRIEF_S = 5.0


class Twin:
    """A flat folder whose files are written whole, each once. Used by one thread at a time."""

    def __init__(self, folder: Path, storage: Storage, prefix: str) -> None:
        self.folder = folder
        self._storage = storage
        self._prefix = prefix
        self._there: set[str] = set()  # names of files that lie in the store
        self._silent = False  # it did not answer the last time

    def pull(self) -> None:
        """Make the local folder what the store has."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._there = set()
        for name in self._storage.names(self._prefix):
            file = name.rpartition("/")[2]
            try:
                self._storage.download(name, self.folder / file)
            except FileNotFoundError:
                continue  # deleted since
            self._there.add(file)

    def push(self) -> None:
        """Put what is new, then delete what is gone.

        After a store did not answer for long it is asked only briefly, until it does.
        """
        if self._silent:
            self._storage.patient(BRIEF_S, BRIEF_S).exists(self._prefix)
        self._silent = True
        here = {path.name for path in self.folder.glob("[!.]*")}
        for name in sorted(here - self._there):
            self._storage.write(f"{self._prefix}/{name}", self.folder / name)
            self._there.add(name)
        gone = self._there - here
        self._storage.delete([f"{self._prefix}/{name}" for name in sorted(gone)])
        self._there -= gone
        self._silent = False

    def remove(self) -> None:
        """Delete the local folder; the store keeps what was pushed."""
        shutil.rmtree(self.folder, ignore_errors=True)
