"""TensorBoard and MLflow by Ray's own callbacks: what each holds of a study, for all TRACKERS."""

import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_study import METRIC, TRIALS, MadeUpStudy
from tensorboardX.proto.event_pb2 import Event

from r2search.tuning.trackers.follower import LEAVE_S, Follower
from r2search.tuning.trackers.loggers import TENSORBOARD, TRACKERS

PATIENCE_S = 120.0  # on a busy machine
Curves = dict[str, dict[int, float]]  # of a trial: the objective by epoch


def show(folder: Path, tracker: str) -> Follower:
    with Follower(folder, tracker, lambda note: None) as follower:
        follower.finish(PATIENCE_S)
    return follower


def read_tensorboard(folder: Path) -> Curves:
    """From the event files: records of a length, its checksum, an Event, its checksum."""
    found: Curves = {path.name: {} for path in (folder / TENSORBOARD).iterdir()}
    for path in (folder / TENSORBOARD).glob("*/events.out.tfevents.*"):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]
            for value in event.summary.value:
                if value.tag == f"ray/tune/{METRIC}":
                    found[path.parent.name][event.step] = value.simple_value
    return found


def read_mlflow(folder: Path) -> Curves:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (experiment,) = (e for e in client.search_experiments() if e.name != "Default")
    runs = client.search_runs([experiment.experiment_id])
    outcomes = {run.info.run_name: run.data.params.get("outcome") for run in runs}
    assert outcomes == {name: outcome for name, (_, outcome) in TRIALS.items()}
    assert {r.info.run_name for r in runs if r.info.status == "FAILED"} == {"t0003", "t0004"}
    return {
        run.info.run_name: {
            metric.step: metric.value
            for metric in client.get_metric_history(run.info.run_id, METRIC)
        }
        for run in runs
    }


READERS: dict[str, Callable[[Path], Curves]] = {
    "tensorboard": read_tensorboard,
    "mlflow": read_mlflow,
}


@pytest.mark.parametrize("tracker", TRACKERS)
def test_it_holds_every_epoch_of_every_trial_also_when_the_study_is_shown_again(
    tracker: str, folder: Path
) -> None:
    made_up = MadeUpStudy(folder)
    made_up.trials()
    for _ in range(2):
        shown = show(folder, tracker)
        assert (shown.whole, shown.trouble, shown.uploaded) == (True, "", set(TRIALS))
        expected = {
            name: {epoch: pytest.approx(epoch / 10) for epoch in range(1, epochs + 1)}
            for name, (epochs, _) in TRIALS.items()
        }
        assert READERS[tracker](folder) == expected


def test_a_trial_that_goes_on_from_a_rung_is_one_run(folder: Path) -> None:
    made_up = MadeUpStudy(folder)
    with Follower(folder, "tensorboard", lambda note: None) as follower:
        made_up.begin()
        made_up.trial("t0001", 1)
        made_up.ledger.wait("t0001")
        until = time.monotonic() + PATIENCE_S
        while "t0001" not in follower.uploaded:
            assert time.monotonic() < until, follower.trouble
            time.sleep(0.05)
        made_up.ledger.promote("t0001")
        made_up.epoch("t0001")
        made_up.ledger.end("t0001", "completed")
        follower.finish(PATIENCE_S)
    assert follower.whole, follower.trouble
    (file,) = (folder / TENSORBOARD / "t0001").iterdir()
    assert file.name.endswith(".r2search"), "it is not named by the machine"
    assert sorted(read_tensorboard(folder)["t0001"]) == [1, 2]


@pytest.mark.parametrize("tracker", TRACKERS)
def test_one_that_raises_is_told_and_costs_five_seconds_at_most(
    tracker: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up = MadeUpStudy(folder)
    made_up.trials()
    planted = "http://planted-host.invalid:9"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", planted)
    (folder / TENSORBOARD).write_text("in the way")
    notes: list[str] = []
    began = time.monotonic()
    with Follower(folder, tracker, notes.append) as follower:
        assert time.monotonic() - began < 1
        until = time.monotonic() + PATIENCE_S
        while not follower.trouble:
            assert time.monotonic() < until
            time.sleep(0.05)
        began = time.monotonic()
        follower.finish()
        assert time.monotonic() - began < LEAVE_S + 1
    assert not follower.whole
    assert notes
    assert notes[0].startswith(f"{TRACKERS[tracker].title}: ")
    assert notes[0].endswith("; the search goes on")
    assert "planted-host" not in notes[0]
    assert os.environ["MLFLOW_TRACKING_URI"] == planted  # of this process
