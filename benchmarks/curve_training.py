"""One training of record_curves.py, in a process of its own, and its result as a file."""

import json
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any

from r2search.config import Study
from r2search.data.samples import SampleSet
from r2search.finish import write_json
from r2search.models.cost import model_cost
from r2search.records import EpochReport
from r2search.space import trial_config
from r2search.train.hardware import apply, detect, return_freed_memory
from r2search.train.trainer import Trainer
from r2search.tuning.curves import Curve, Failure


@dataclass(frozen=True)
class Job:
    """One training."""

    name: str
    baseline: bool
    overrides: dict[str, Any]
    epochs: int
    predicted: float  # seconds of an epoch

    @property
    def seconds(self) -> float:
        """Of all epochs, predicted."""
        return self.epochs * self.predicted


_shared: tuple[Study, SampleSet]  # of a worker process


def begin(study: Study, samples: SampleSet, parent: int) -> None:
    """Make a worker process ready. It ends when the command that started it is gone."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    Thread(target=watch, daemon=True).start()
    global _shared
    _shared = study, samples


def record(job: Job, path: Path) -> float:
    """Train one config and write its curve; gives the seconds that it took."""
    began = time.perf_counter()
    write_json(path, train(job))
    return_freed_memory()
    return time.perf_counter() - began


def train(job: Job) -> dict[str, Any]:
    """The curve of a config, as JSON has it."""
    study, samples = _shared
    config = trial_config(study, job.overrides)
    hardware = detect(config.train, threads=1)
    apply(hardware)
    trainer = Trainer(config, samples, horizon=job.epochs, hardware=hardware)
    reports: list[EpochReport] = []
    given = {"clock": job.predicted}
    failure = None
    while len(reports) < job.epochs and failure is None:
        clock, processor = time.perf_counter(), time.process_time()
        try:
            report = trainer.run_epoch()
        except FloatingPointError as error:
            took = {"train": time.perf_counter() - clock, "validate": 0.0}
            failure = Failure(str(error), took | given | _cpu(hardware.device, processor))
        else:
            seconds = report.seconds | given | _cpu(hardware.device, processor)
            reports.append(replace(report, seconds=seconds))
    cost = model_cost(config.model, config.patch, config.patch)
    facts = {"parameters": cost.parameters, "flops": float(cost.flops)}
    facts |= {"dtype": hardware.dtype}
    own = {"name": job.name, "baseline": job.baseline, "overrides": job.overrides, **facts}
    curve = own | {"reports": [asdict(r) for r in reports]}
    return curve | {"failure": asdict(failure) if failure else None}


def _cpu(device: str, since: float) -> dict[str, float]:
    """The processor's seconds, where it does the work."""
    return {"cpu": time.process_time() - since} if device == "cpu" else {}


def read_curve(path: Path) -> Curve:
    plain = json.loads(path.read_text(encoding="utf-8"))
    plain["reports"] = tuple(EpochReport(**report) for report in plain["reports"])
    plain["failure"] = Failure(**plain["failure"]) if plain["failure"] else None
    return Curve(**plain)
