"""Recorded learning curves: configs trained to their full length, in one parquet file.

One row an epoch; an epoch that broke (a loss that is not finite) is the last row of its config,
with no metrics and its `failure`. What the images, the epoch and the clock were stands in the
file's metadata, as JSON under `r2search`.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from r2search.config import Misuse
from r2search.models.cost import Rate
from r2search.records import EpochReport

FORMAT = 1
KEY = b"r2search"  # of the file's metadata
SECONDS = ("train", "feed", "validate", "cpu", "clock")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a config has no further epoch, and what the one that broke took."""

    reason: str
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class Curve:
    """One config and all that it reported."""

    name: str  # `c0001`, or that of a baseline
    baseline: bool
    overrides: dict[str, Any]  # dotted key -> value, as drawn; as JSON has it: no tuples
    parameters: int
    flops: float  # forward, one patch
    dtype: str  # it was trained in
    # `seconds` besides: `cpu`, of the process, in all; `clock`, by the cost model at the rate of
    # the recording. Machines differ, so it is the latter that passes in a simulation.
    reports: tuple[EpochReport, ...]
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Recording:
    """The curves of one space on one data set, and what a simulation must know of them."""

    space: str  # its name
    metric: str
    goal: str
    settings: dict[str, Any]  # dotted key -> value over the space file, as they were recorded
    rate: Rate  # by which epochs were predicted, and
    epoch_limit: float  # refused when they were to take more seconds
    validation_pixels: int  # of the images as prepared
    curves: tuple[Curve, ...]
    facts: dict[str, Any] = field(default_factory=dict)  # for people: images, hardware, versions


def write_curves(path: Path, recording: Recording) -> None:
    """Write a recording whole."""
    rows = [row for curve in recording.curves for row in _rows(curve)]
    metrics = sorted(
        {name for curve in recording.curves for r in curve.reports for name in r.metrics}
    )
    schema = pa.schema(
        [
            ("config", pa.string()),
            ("baseline", pa.bool_()),
            ("overrides", pa.string()),
            ("parameters", pa.int64()),
            ("flops", pa.float64()),
            ("dtype", pa.string()),
            ("epoch", pa.int32()),
            ("pixels", pa.int64()),
            *((f"{name}_s", pa.float64()) for name in SECONDS),
            ("failure", pa.string()),
            *((name, pa.float64()) for name in metrics),
        ],
        metadata={KEY: json.dumps(_about(recording), allow_nan=False).encode()},
    )
    part = path.with_name(f".{path.name}.part")
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), part, compression="zstd")
    part.replace(path)


def _about(recording: Recording) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "space": recording.space,
        "metric": recording.metric,
        "goal": recording.goal,
        "settings": recording.settings,
        "flops_per_s": recording.rate.flops_per_s,
        "elements_per_s": recording.rate.elements_per_s,
        "epoch_limit": recording.epoch_limit,
        "validation_pixels": recording.validation_pixels,
        "facts": recording.facts,
    }


def _rows(curve: Curve) -> Iterable[dict[str, Any]]:
    own = {
        "config": curve.name,
        "baseline": curve.baseline,
        "overrides": json.dumps(curve.overrides),
        "parameters": curve.parameters,
        "flops": curve.flops,
        "dtype": curve.dtype,
    }
    for report in curve.reports:
        at = {"epoch": report.epoch, "pixels": report.pixels, "failure": ""}
        yield own | at | _columns(report.seconds) | report.metrics
    if curve.failure:
        at = {"epoch": len(curve.reports) + 1, "pixels": 0, "failure": curve.failure.reason}
        yield own | at | _columns(curve.failure.seconds)


def _columns(seconds: dict[str, float]) -> dict[str, float | None]:
    return {f"{name}_s": seconds.get(name) for name in SECONDS}


def read_curves(path: Path) -> Recording:
    """A recording as it was written. Misuse when the file holds none."""
    try:
        table = pq.read_table(path)
        about = json.loads((table.schema.metadata or {})[KEY])
    except FileNotFoundError:
        raise Misuse(f"{path}: there is no such file; check the path") from None
    except (OSError, pa.ArrowInvalid, KeyError, ValueError):
        raise Misuse(
            f"{path}: holds no recorded curves; give a file that benchmarks/record_curves.py wrote"
        ) from None
    if about["format"] != FORMAT:
        raise Misuse(f"{path}: has format {about['format']}, not {FORMAT}; record it again")
    own = {"config", "baseline", "overrides", "parameters", "flops", "dtype"}
    own |= {"epoch", "pixels", "failure"} | {f"{name}_s" for name in SECONDS}
    metrics = [name for name in table.column_names if name not in own]
    grouped = groupby(table.to_pylist(), key=lambda row: str(row["config"]))
    return Recording(
        space=about["space"],
        metric=about["metric"],
        goal=about["goal"],
        settings=about["settings"],
        rate=Rate(about["flops_per_s"], about["elements_per_s"]),
        epoch_limit=about["epoch_limit"],
        validation_pixels=about["validation_pixels"],
        curves=tuple(_curve(name, list(rows), metrics) for name, rows in grouped),
        facts=about["facts"],
    )


def _curve(name: str, rows: list[dict[str, Any]], metrics: list[str]) -> Curve:
    first, last = rows[0], rows[-1]
    return Curve(
        name=name,
        baseline=first["baseline"],
        overrides=json.loads(first["overrides"]),
        parameters=first["parameters"],
        flops=first["flops"],
        dtype=first["dtype"],
        reports=tuple(
            EpochReport(
                epoch=row["epoch"],
                metrics={key: row[key] for key in metrics if row[key] is not None},
                pixels=row["pixels"],
                seconds=_seconds(row),
            )
            for row in rows
            if not row["failure"]
        ),
        failure=Failure(last["failure"], _seconds(last)) if last["failure"] else None,
    )


def _seconds(row: dict[str, Any]) -> dict[str, float]:
    return {name: row[f"{name}_s"] for name in SECONDS if row[f"{name}_s"] is not None}
