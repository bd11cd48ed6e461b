"""The run folder of a study that never ran, for tests of what is shown of one."""

from collections.abc import Callable, Set
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from r2search.data.samples import Sample
from r2search.records import EpochReport, Outcome
from r2search.space import dump_study, load_study
from r2search.tuning.events import Ledger, read_trials
from r2search.tuning.predictions import PREDICTIONS, begin_predictions

METRIC = "val/dice_mean"
# Trial: epochs, and how it ended.
TRIALS: dict[str, tuple[int, Outcome | None]] = {
    "U-Net": (4, "completed"),
    "t0001": (3, "completed"),
    "t0002": (1, "stopped"),
    "t0003": (2, "failed"),
    "t0004": (0, "infeasible"),
    "t0005": (2, "interrupted"),
    "t0006": (1, None),  # waits
}


class MadeUpStudy:
    """Writes a record event by event, as a driver would, into a new run folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.study = load_study("quick.yaml")
        (folder / "space.yaml").write_text(dump_study(self.study), encoding="utf-8")
        self.ledger = Ledger(folder / "trials.jsonl")

    def begin(self) -> None:
        self.ledger.begin(name="quick", data="f00")

    def trial(self, name: str, epochs: int, outcome: Outcome | None = None) -> None:
        """A new trial of so many epochs; its objective rises by a tenth an epoch."""
        self.ledger.start(
            trial=name,
            baseline=not name.startswith("t"),
            overrides={"model.depth": 2},
            config={"model": {"depth": 2, "block": "conv"}},
            cost={"parameters": 100.0},
            planned_epochs=4,
        )
        for _ in range(epochs):
            self.epoch(name)
        if outcome is not None:
            self.ledger.end(name, outcome, f"why {name} ended")

    def epoch(self, name: str) -> None:
        epoch = len(self.ledger.trials[name].reports) + 1
        metrics = {METRIC: epoch / 10, "train/loss": 1.0 / epoch}
        report = EpochReport(epoch=epoch, metrics=metrics, pixels=1, seconds={"train": 0.5})
        self.ledger.report(name, report, "worker")

    def trials(self) -> None:
        """Begin, and run all of TRIALS."""
        self.begin()
        for name, (epochs, outcome) in TRIALS.items():
            self.trial(name, epochs, outcome)
        self.ledger.wait("t0006")

    def predict(self, name: str, epoch: int, mask: NDArray[np.uint8]) -> None:
        """The trial leaves what it predicts of the one image, of the size of the mask."""
        height, width = mask.shape
        image = np.zeros((height, width, 3), np.uint8)
        sample = Sample(image=image, mask=mask, fov=mask < 2, subject="07", id="07L")
        begin_predictions(self.folder, sample, ["vessel"])
        Image.fromarray(mask).save(self.folder / PREDICTIONS / f"{name}-{epoch:04}.png")

    def finish(self, make_bundle: Callable[..., Path]) -> None:
        """A report and a bundle are there, and the study is over."""
        make_bundle(self.folder)
        (self.folder / "report.html").write_text("<p>a report</p>", encoding="utf-8")
        (self.folder / "summary.json").write_text('{"tracking": null}', encoding="utf-8")
        self.ledger.finish()

    def rows(self) -> dict[str, int]:
        """By the record: how many epochs each trial has."""
        return {t.trial: len(t.reports) for t in read_trials(self.folder / "trials.jsonl")}


def shown(server: Any, without: Set[str] = frozenset()) -> dict[str, dict[str, Any]]:
    """What a W&B server has of the runs, by name, but what the SDK adds.

    `without` are ids to leave out.
    """

    def own(values: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in sorted(values.items()) if key[0] != "_"}

    return {
        run.display_name: {
            "group": run.group,
            "job_type": run.job_type,
            "sweep": run.sweep,
            "state": run.state,
            "config": own(run.config),
            "summary": own(run.summary),
            "rows": [own(row) for row in run.rows],
        }
        for run in server.runs.values()
        if run.id not in without
    }
