"""What lies in the folders of the trials, as the driver sees it: on a disk or in a store."""

import json
import re
import shutil
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from r2search.records import CHECKPOINTS
from r2search.storage import Storage
from r2search.tuning.checkpoints import weights_by_epoch
from r2search.weights import WEIGHTS

BRIEF_S = 10.0  # that Ray's loop waits for a store: what cannot be asked is asked again later


class Shelf:
    """The folders of the trials on a disk that all nodes see."""

    storage: Storage | None = None  # where they lie instead

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def listing(self) -> dict[str, set[str]]:
        """The names of the files of each trial that has any, or a folder."""
        trials = self._folder.iterdir() if self._folder.is_dir() else []
        return {
            trial.name: {path.name for path in trial.iterdir()}
            for trial in trials
            if trial.is_dir()
        }

    def epochs(self, trial: str) -> set[int]:
        """Those whose weights are there."""
        return set(weights_by_epoch(self._folder / trial))

    def settle(self, trial: str, epoch: int | None) -> None:
        """Keep the weights of one epoch as WEIGHTS, and drop those of all others beside it."""
        found = weights_by_epoch(self._folder / trial)
        if epoch in found:
            found[epoch].replace(self._folder / trial / WEIGHTS)
        for other in (self._folder / trial).glob("epoch-*"):
            other.unlink()

    def drop(self, trial: str, names: Iterable[str] | None = None) -> None:
        """Drop these files of a trial, or all of it."""
        if names is None:
            shutil.rmtree(self._folder / trial, ignore_errors=True)
        for name in names or ():
            (self._folder / trial / name).unlink(missing_ok=True)

    def drop_now(self, trial: str, names: Iterable[str] | None = None) -> None:
        """The same, and done on return."""
        self.drop(trial, names)

    def revive(self, trial: str) -> None:
        """A trial goes on: nothing of it is to be dropped any more."""


class StoreShelf(Shelf):
    """The folders of the trials in a store. `listing` and `epochs` raise StorageError soon.

    What drops or renames is left to `later(trial, change)`, which does it once the record that says
    why has come to the store; `cancel(trial)` takes such changes back.
    """

    def __init__(
        self,
        storage: Storage,
        later: Callable[[str, Callable[[], None]], None],
        cancel: Callable[[str], None],
    ) -> None:
        self.storage: Storage = storage
        self._brief = storage.patient(BRIEF_S, BRIEF_S)
        self._later = later
        self._cancel = cancel

    def listing(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for name in self._brief.names(CHECKPOINTS):
            _, trial, file = name.split("/", 2)
            found.setdefault(trial, set()).add(file)
        return found

    def epochs(self, trial: str) -> set[int]:
        return set(self._weights(self._brief, trial))

    def settle(self, trial: str, epoch: int | None) -> None:
        self._later(trial, partial(self._settle, trial, epoch))

    def drop(self, trial: str, names: Iterable[str] | None = None) -> None:
        files = None if names is None else list(names)
        self._later(trial, partial(self.drop_now, trial, files))

    def drop_now(self, trial: str, names: Iterable[str] | None = None) -> None:
        folder = f"{CHECKPOINTS}/{trial}"
        files = self.storage.names(folder) if names is None else [f"{folder}/{n}" for n in names]
        self.storage.delete(files)

    def revive(self, trial: str) -> None:
        self._cancel(trial)

    def _settle(self, trial: str, epoch: int | None) -> None:
        found, folder = self._weights(self.storage, trial), f"{CHECKPOINTS}/{trial}"
        kept = f"{folder}/{WEIGHTS}"
        if epoch in found and found[epoch] != kept:
            self.storage.rename(found.pop(epoch), kept)
        self.storage.delete([name for name in found.values() if name != kept])

    def _weights(self, storage: Storage, trial: str) -> dict[int, str]:
        """The objects with weights, by epoch."""
        found = {}
        for name in storage.names(f"{CHECKPOINTS}/{trial}"):
            file = name.rpartition("/")[2]
            if file == WEIGHTS:
                found[_epoch_of(storage, name)] = name
            elif match := re.fullmatch(r"epoch-(\d+)\.safetensors", file):
                found[int(match[1])] = name
        return found


def _epoch_of(storage: Storage, name: str) -> int:
    """From the head of a safetensors file; the tensors are not read."""
    size = int.from_bytes(storage.read(name, 8), "little")
    head = json.loads(storage.read(name, size, start=8))
    return int(head["__metadata__"]["epoch"])
