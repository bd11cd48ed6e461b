"""The best weights and the state of a trial that runs: in memory, and on disk when they are due.

In the trial's folder lie `epoch-0007.safetensors`, the weights of that epoch, and
`state-0002.safetensors`, all that a worker needs to go on with the trial. Nothing is pickled.
"""

import errno
import json
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from r2search.config import Misuse
from r2search.storage.twin import Twin
from r2search.train.trainer import TrainingState
from r2search.weights import WEIGHTS, read_facts, read_weights, save_weights

FORMAT = 2  # of a state
EVERY_S = 60.0  # between two states of a trial
STATES = "state-*.safetensors"
ROOM = 64 * 2**20  # bytes free on the disk, or nothing is written: the record needs them more
KEPT_STATES = 2  # the newest ones; the second is for a newest that is damaged

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Best:
    """The best epoch of a trial so far."""

    epoch: int
    value: float  # of the objective
    weights: dict[str, Tensor]  # copies on the CPU


@dataclass(frozen=True, slots=True)
class Saved:
    """A state as it is read back."""

    training: TrainingState
    best: Best | None
    reports: list[dict[str, Any]]  # of all epochs: the driver's record may not have the last ones


class TrialCheckpoints:
    """Keeps what one running trial must not lose, and writes it by one thread in the background.

    The best epoch and the best before it are both kept until `confirm`: a search that ends in
    between never hears of the newer one. A write that fails is told in `problems` and tried again
    when the next one is due; it never raises.
    """

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any],
        metric: str,
        every_s: float = EVERY_S,
        twin: Twin | None = None,
    ) -> None:
        """`settings` are plain values; a state made with others is not taken up.

        `folder` has the trial's name, and is made when something is written. What is to outlive
        this machine lies in its `twin`, if there is one.
        """
        self.best: Best | None = None
        self.problems: list[str] = []
        self._told = ""  # the last of them
        self._before: Best | None = None  # the best before it, until `confirm`
        self._folder = folder
        self._settings = settings
        self._metric = metric
        self._every_s = every_s
        self._twin = twin
        self._written: set[int] = set()  # epochs whose weights lie in the folder
        self._last = time.monotonic()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._job: Future[None] | None = None  # the last one given to the writer

    def keep(self, best: Best) -> None:
        """Take a better epoch than any before."""
        self._before, self.best = self.best, best

    def forget(self) -> None:
        """The trial is over: nothing is to be written any more."""
        self._before = self.best = None

    def confirm(self) -> None:
        """The report of the last epoch has arrived: what was best before it is not needed."""
        self._before = None
        if self.best and self.best.epoch in self._written and len(self._written) > 1:
            self._submit(self._drop_others, {self.best.epoch})

    def due(self) -> bool:
        """Whether it is time for another state, and the last one is on disk."""
        late = time.monotonic() - self._last >= self._every_s
        return late and (self._job is None or self._job.done())

    def save(self, training: TrainingState, reports: Sequence[dict[str, Any]] = ()) -> None:
        """Write the best weights and a state, in the background.

        `reports`: of all epochs so far, whether they are known to have arrived or not.
        """
        self._last = time.monotonic()
        self.save_best()
        self._submit(self._write_state, Saved(training, self.best, list(reports)))

    def save_best(self) -> None:
        """Write the best weights, in the background; nothing if they lie on disk."""
        wanted = [best for best in (self._before, self.best) if best is not None]
        for best in wanted:
            self._submit(self._write_weights, best)
        self._submit(self._drop_others, {best.epoch for best in wanted})

    def flush(self) -> None:
        """Wait until all is written, or has failed."""
        if self._job is not None:
            self._job.result()

    def close(self) -> None:
        """Write what is left, and end the thread."""
        self._writer.shutdown()
        if self._twin is not None:
            self._twin.remove()

    def load(self) -> Saved | None:
        """The newest state that is intact and was made with the same settings.

        StorageError when it is to come from a store that does not give it.
        """
        if self._twin is not None:
            self._twin.pull()
        for path in self._folder.glob(".*.part"):  # of a worker that was killed
            path.unlink(missing_ok=True)
        for path in reversed(self._states()):
            try:
                saved = _read(path, self._settings)
            except Misuse as error:
                self._tell(f"{error}; an older state is taken, if there is one")
                continue
            self.best = saved.best
            self._written = {epoch for epoch in weights_by_epoch(self._folder)}
            return saved
        return None

    def _submit(self, write: Callable[..., None], *what: Any) -> None:
        self._job = self._writer.submit(self._try, write, *what)

    def _try(self, write: Callable[..., None], *what: Any) -> None:
        try:
            write(*what)
            if self._twin is not None:
                self._twin.push()
        except Exception as error:
            self._tell(f"checkpoint not written: {error}; tried again when the next is due")

    def _tell(self, problem: str) -> None:
        """Tell what went wrong; the same again only when something was written since."""
        if problem != self._told:
            log.warning("%s: %s", self._folder.name, problem)
            self.problems.append(problem)
        self._told = problem

    def _make_folder(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self._folder).free < ROOM:
            reason = f"the disk is full but for {ROOM >> 20} MiB"
            raise OSError(errno.ENOSPC, reason, str(self._folder))

    def _write_weights(self, best: Best) -> None:
        if best.epoch in self._written:
            return
        self._make_folder()
        facts = {
            "trial": self._folder.name,
            "epoch": str(best.epoch),
            self._metric: repr(best.value),
        }
        save_weights(weights_path(self._folder, best.epoch), best.weights, facts)
        self._written.add(best.epoch)
        self._told = ""

    def _drop_others(self, wanted: set[int]) -> None:
        """Delete the weights of all other epochs, once those of the wanted ones are on disk."""
        if wanted and wanted <= self._written:
            for other in self._written - wanted:
                weights_path(self._folder, other).unlink(missing_ok=True)
            self._written = wanted

    def _write_state(self, saved: Saved) -> None:
        self._make_folder()
        older = self._states()
        number = 1 + (int(older[-1].stem.removeprefix("state-")) if older else 0)
        best = saved.best
        values = {
            "format": FORMAT,
            "settings": self._settings,
            "training": saved.training.values,
            "best": {"epoch": best.epoch, "value": best.value} if best else None,
            "reports": saved.reports,
        }
        weights = {f"best.{name}": tensor for name, tensor in best.weights.items()} if best else {}
        save_weights(
            self._folder / f"state-{number:04d}.safetensors",
            saved.training.tensors | weights,
            {"state": json.dumps(values, allow_nan=False)},
        )
        for path in older[: 1 - KEPT_STATES]:
            path.unlink(missing_ok=True)

    def _states(self) -> list[Path]:
        """Oldest first."""
        return sorted(self._folder.glob(STATES), key=lambda p: (len(p.name), p.name))


def weights_path(folder: Path, epoch: int) -> Path:
    """Where the weights of one epoch lie while the trial runs."""
    return folder / f"epoch-{epoch:04d}.safetensors"


def weights_by_epoch(folder: Path) -> dict[int, Path]:
    """The files of weights in a trial's folder, those kept at its end among them."""
    found = {}
    for path in (folder / WEIGHTS, *folder.glob("epoch-*.safetensors")):
        try:
            found[int(read_facts(path)["epoch"])] = path
        except (Misuse, KeyError, ValueError):
            continue  # missing, or no file of ours
    return found


def _read(path: Path, settings: dict[str, Any]) -> Saved:
    """Read a state; Misuse when it is damaged or of another trial."""
    tensors, facts = read_weights(path)
    values = json.loads(facts.get("state", "{}"))
    if values.get("format") != FORMAT or values["settings"] != settings:
        raise Misuse(f"{path}: made with other settings, or by another version of r2search")
    weights = {name: tensors.pop(name) for name in list(tensors) if name.startswith("best.")}
    best = values["best"] and Best(
        **values["best"], weights={name.removeprefix("best."): t for name, t in weights.items()}
    )
    return Saved(TrainingState(tensors, values["training"]), best, values["reports"])
