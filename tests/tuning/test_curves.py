"""Recorded curves on disk."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from learning_curves import synthetic_curves

from r2search.config import Misuse, Study
from r2search.tuning.curves import KEY, read_curves, write_curves

MakeStudy = Callable[..., Study]


def test_a_recording_is_read_as_it_was_written(make_study: MakeStudy, tmp_path: Path) -> None:
    recording = synthetic_curves(make_study(), 30)
    recording = replace(recording, facts={"validation": ["a", "b"], "synthetic": True})
    failed = [curve for curve in recording.curves if curve.failure]
    assert failed
    assert len(failed) < 30
    write_curves(tmp_path / "curves.parquet", recording)
    assert read_curves(tmp_path / "curves.parquet") == recording


def test_a_row_is_an_epoch_for_any_reader_of_parquet(make_study: MakeStudy, tmp_path: Path) -> None:
    recording = synthetic_curves(make_study(), 30)
    write_curves(tmp_path / "curves.parquet", recording)
    rows = pq.read_table(tmp_path / "curves.parquet").to_pylist()
    assert len(rows) == sum(len(c.reports) + (c.failure is not None) for c in recording.curves)
    broken = [row for row in rows if row["failure"]]
    assert broken
    assert all(row["val/dice_mean"] is None and row["epoch"] == 3 for row in broken)
    assert all(row["clock_s"] > 0 for row in rows)


def test_a_file_with_something_else_is_named(make_study: MakeStudy, tmp_path: Path) -> None:
    path = tmp_path / "curves.parquet"
    with pytest.raises(Misuse, match="no such file"):
        read_curves(path)
    path.write_bytes(b"PAR?")
    with pytest.raises(Misuse, match="holds no recorded curves"):
        read_curves(path)
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(Misuse, match="holds no recorded curves"):
        read_curves(path)
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({KEY: '{"format": 99}'}), path)
    with pytest.raises(Misuse, match="format 99"):
        read_curves(path)
