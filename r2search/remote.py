"""A run folder in a store: held by one driver, which works in a local copy of it."""

import logging
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from r2search.config import Misuse, Study
from r2search.deciding import trainings
from r2search.manifest import CONFIG
from r2search.records import CHECKPOINTS, RECORD
from r2search.scratch import shared_path
from r2search.selection import incumbent
from r2search.storage import Storage, StorageError
from r2search.storage.lease import Lease
from r2search.tuning.events import Ledger
from r2search.tuning.results import NAMES, bring
from r2search.tuning.shelf import StoreShelf
from r2search.tuning.trainable import scratch_name
from r2search.weights import WEIGHTS

EVERY_S = 1.0  # between looks at what has changed
FIRST_S = 10.0  # that a store may take to answer at the beginning
LAST = ("bundle/" + CONFIG, "report.html", "summary.json")  # in this order: then all is there

log = logging.getLogger(__name__)


class RemoteRun:
    """While entered, the folder at `url` is this driver's alone, and follows the local one.

    A thread uploads what has changed, a second later at most. What is to be dropped from the store
    is dropped only after the record that says why has come there.
    """

    def __init__(self, url: str, run_dir: Path, resume: bool, say: Callable[[str], None]) -> None:
        """`run_dir` is a new local folder; of a study that goes on the record is brought there.

        Misuse when the store cannot be used, another driver holds it, or it holds something else.
        """
        self.storage = Storage(url)
        self.url = self.storage.url
        self.run_dir = run_dir
        self.shelf = StoreShelf(self.storage, self._later, self._cancel)
        self._changes: list[tuple[str, Callable[[], None]]] = []  # of trials, in order
        self._sent: dict[str, tuple[int, int]] = {}
        self._guard = threading.Lock()
        self._sending = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="upload", daemon=True)
        first = self.storage.patient(FIRST_S, FIRST_S)
        try:
            self._require(first, resume)
            self._lease = Lease(first, say)
            try:
                self._require(first, resume)  # another driver may have been quicker
                if resume:
                    bring(self.storage, run_dir)
            except BaseException:
                self._lease.release()
                raise
        except StorageError as error:
            raise Misuse(str(error)) from None

    @property
    def lost(self) -> bool:
        """Another driver has taken the folder: nothing may be written there any more."""
        return self._lease.lost

    def __enter__(self) -> Self:
        self._clear_scratch()  # of workers that were killed
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Upload what is left, if there is time, and let others have the folder.

        StorageError when the results of a study that has ended did not all come to the store.
        """
        self._ended.set()
        at_once = isinstance(error, SystemExit | KeyboardInterrupt)
        try:
            if not at_once:
                self.flush()
        except StorageError as late:
            if error is None:
                raise StorageError(
                    f"{late}; the results lie in {self.run_dir}, and `--resume {self.url}` goes on "
                    "from what had come to the store"
                ) from None
        finally:
            self._lease.release()
            self._clear_scratch()

    def bring_weights(self, study: Study, ledger: Ledger) -> None:
        """Download the weights that are tested and exported into the local folder.

        StorageError when they are not there, or do not come.
        """
        self.flush()  # so that the trials are settled in the store
        trials = list(ledger.trials.values())
        best = incumbent(trials, study.metric.name, study.metric.goal)
        wanted = [trial for trial in trials if trial.baseline and trial.eligible]
        wanted += [best] if best else []
        again = trainings(ledger)
        wanted += again.all if again else []
        for trial in dict.fromkeys(trial.trial for trial in wanted):
            name = f"{CHECKPOINTS}/{trial}/{WEIGHTS}"
            try:
                self.storage.download(name, self.run_dir / name)
            except FileNotFoundError:
                raise StorageError(
                    f"{self.url}: has no weights of {trial}; `--resume {self.url}` looks again"
                ) from None

    def flush(self) -> None:
        """Upload all that has changed, drop what is to be dropped; StorageError if that fails."""
        with self._sending:
            self._lease.require()
            changes = list(self._changes)  # before the record is read: their reasons are in it
            self._send()
            for change in changes:
                if change in self._changes:  # not taken back
                    change[1]()
                    with self._guard:
                        self._changes = [other for other in self._changes if other is not change]

    def _require(self, storage: Storage, resume: bool) -> None:
        names = [name for name in storage.names() if not name.startswith(".")]
        if resume and RECORD not in names:
            raise Misuse(f"--resume {self.url}: holds no {RECORD}; name the folder of a study")
        if names and not resume:
            raise Misuse(f"--out {self.url}: not an empty folder; name a new one")

    def _later(self, trial: str, change: Callable[[], None]) -> None:
        with self._guard:
            self._changes.append((trial, change))

    def _cancel(self, trial: str) -> None:
        with self._guard:
            self._changes = [change for change in self._changes if change[0] != trial]

    def _clear_scratch(self) -> None:
        """On this machine no worker of the study is alive before it begins, nor at its end."""
        shutil.rmtree(shared_path(scratch_name(self.storage)), ignore_errors=True)

    def _follow(self) -> None:
        failing = False
        while not self._ended.wait(EVERY_S):
            try:
                began = time.monotonic()
                self.flush()
                self._ended.wait(
                    4 * (time.monotonic() - began)
                )  # a slow line has other things to do
                failing = False
            except (StorageError, OSError) as error:
                if not failing:
                    log.warning("not uploaded: %s; tried again until it is", error)
                failing = True

    def _send(self) -> None:
        for name in self._files():
            path = self.run_dir / name
            facts = path.stat()
            seen = facts.st_mtime_ns, facts.st_size
            if self._sent.get(name) != seen:
                self.storage.write(name, path)
                self._sent[name] = seen

    def _files(self) -> list[str]:
        """What is uploaded, in order: the record first, last what says that all is there."""
        inside = [
            f"{folder}/{path.name}"
            for folder in ("bundle", "pictures")
            for path in (self.run_dir / folder).glob("[!.]*")
        ]
        names = sorted({*NAMES, *inside} - {RECORD, *LAST})
        return [name for name in (RECORD, *names, *LAST) if (self.run_dir / name).is_file()]
