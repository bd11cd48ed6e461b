"""A study at W&B by the real SDK, in the real process, against a server of our own."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_study import METRIC, TRIALS, MadeUpStudy, shown
from wandb_server import ENTITY, WandbServer

from r2search.tuning.trackers.account import Asked
from r2search.tuning.trackers.follower import Follower

PATIENCE_S = 120.0  # on a busy machine


def show(folder: Path, asked: Asked = "sync") -> Follower:
    """Bring W&B to the state of the record in one go."""
    with Follower(folder, asked, lambda note: None) as follower:
        follower.finish(PATIENCE_S)
    return follower


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.05)


def counts(server: WandbServer) -> dict[str, int]:
    return {name: len(run["rows"]) for name, run in shown(server).items() if name != "summary"}


@pytest.fixture(scope="module")
def study(
    tmp_path_factory: pytest.TempPathFactory, make_bundle: Callable[..., Path]
) -> MadeUpStudy:
    made_up = MadeUpStudy(tmp_path_factory.mktemp("study") / "run")
    made_up.trials()
    made_up.finish(make_bundle)
    return made_up


@pytest.fixture(scope="module")
def whole(server: WandbServer, study: MadeUpStudy) -> Follower:
    """The study has been shown at once, from its record."""
    return show(study.folder)


def test_every_trial_is_a_run_of_one_sweep(
    server: WandbServer, study: MadeUpStudy, whole: Follower
) -> None:
    assert (whole.whole, whole.trouble, whole.uploaded) == (True, "", set(TRIALS))
    (sweep,) = server.sweeps.values()
    assert whole.sweep == f"{ENTITY}/r2search/sweeps/{sweep.id}"
    assert sweep.state == "FINISHED"
    runs = shown(server)
    assert set(runs) == {*TRIALS, "summary"}
    assert {run["sweep"] for run in runs.values()} == {sweep.id}
    assert len({run["group"] for run in runs.values()}) == 1
    kinds = {name: run["job_type"] for name, run in runs.items()}
    assert kinds == {name: "trial" for name in TRIALS} | {
        "U-Net": "baseline",
        "summary": "search-summary",
    }


def test_histories_have_a_row_for_every_epoch(
    server: WandbServer, study: MadeUpStudy, whole: Follower
) -> None:
    assert counts(server) == study.rows()
    row = shown(server)["t0001"]["rows"][2]
    assert row == {
        "epoch": 3,
        METRIC: 0.3,
        "train/loss": pytest.approx(1 / 3),
        "seconds/train": 0.5,
        "time_s": row["time_s"],
    }


def test_outcomes_are_in_config_and_summary(server: WandbServer, whole: Follower) -> None:
    runs = shown(server)
    expected = {name: outcome or "stopped" for name, (_, outcome) in TRIALS.items()}
    assert {name: runs[name]["summary"]["outcome"] for name in TRIALS} == expected
    assert {name: runs[name]["config"]["outcome"]["value"] for name in TRIALS} == expected
    assert runs["t0002"]["config"]["stopped_at_epoch"]["value"] == 1
    assert runs["t0006"]["summary"]["reason"] == "by ray_asha: waited at epoch 1"
    assert {name for name, run in runs.items() if run["state"] == "failed"} == {"t0003", "t0004"}
    assert runs["t0001"]["summary"] == runs["t0001"]["summary"] | {
        f"best/{METRIC}": 0.3,
        "best/epoch": 3,
    }
    assert runs["t0001"]["config"]["model"]["value"] == {"depth": 2, "block": "conv"}


def test_the_bundle_is_one_artifact_and_the_trials_are_a_table(
    server: WandbServer, study: MadeUpStudy, whole: Follower
) -> None:
    (bundle,) = (a for a in server.artifacts.values() if a.type == "model")
    assert (bundle.state, bundle.aliases) == ("COMMITTED", ["best", "latest"])
    files = {path.name: path.read_bytes() for path in (study.folder / "bundle").iterdir()}
    assert bundle.files == files
    summary = shown(server)["summary"]["summary"]
    assert summary["trials"]["nrows"] == len(TRIALS)
    assert summary["report"]["_type"] == "html-file"


def test_shown_again_nothing_changes(
    server: WandbServer, study: MadeUpStudy, whole: Follower
) -> None:
    before, asked = shown(server), len(server.asked)
    assert show(study.folder).whole
    assert shown(server) == before
    assert not {"UpsertBucket", "UpsertSweep", "CreateArtifact"} & set(server.asked[asked:])


def test_a_study_that_goes_on_continues_its_sweep_and_its_runs(
    server: WandbServer, study: MadeUpStudy, whole: Follower, make_bundle: Callable[..., Path]
) -> None:
    study.ledger.resume()
    study.ledger.promote("t0006")
    study.epoch("t0006")
    study.epoch("t0005")
    for name in ("t0005", "t0006"):
        study.ledger.end(name, "completed")
    study.trial("t0007", 2, "completed")
    study.finish(make_bundle)
    assert show(study.folder).whole
    runs = shown(server)
    assert counts(server) == study.rows()
    assert {run["sweep"] for run in runs.values()} == set(server.sweeps)
    assert {runs[name]["summary"]["outcome"] for name in ("t0005", "t0006")} == {"completed"}
    assert {runs[name]["config"]["outcome"]["value"] for name in ("t0005", "t0006")} == {
        "completed"
    }
    assert runs["summary"]["summary"]["trials"]["nrows"] == len(TRIALS) + 1
    (bundle,) = (a for a in server.artifacts.values() if a.type == "model")
    assert bundle.aliases == ["best", "latest"]


def test_a_server_that_dies_in_the_middle_costs_nothing_but_a_sync(
    server: WandbServer, folder: Path, make_bundle: Callable[..., Path]
) -> None:
    made_up = MadeUpStudy(folder)
    notes: list[str] = []
    began = set(server.runs)

    def mine() -> dict[str, int]:
        return {r.display_name: len(r.history) for i, r in server.runs.items() if i not in began}

    with Follower(folder, "online", notes.append) as follower:
        made_up.begin()
        made_up.trial("t0001", 2, "completed")
        made_up.trial("t0002", 2)
        wait_for(lambda: follower.uploaded == {"t0001"} and mine().get("t0002", 0) >= 1)
        server.stop()
        made_up.epoch("t0002")
        made_up.ledger.end("t0002", "completed")
        made_up.trial("t0003", 3, "stopped")
        made_up.finish(make_bundle)
        before = time.monotonic()
        follower.finish()
        assert time.monotonic() - before < 6
    assert not follower.whole
    assert "t0003" not in follower.uploaded
    server.start()
    again = show(folder)
    assert again.whole, again.trouble
    assert {name: count for name, count in mine().items() if name != "summary"} == made_up.rows()
    assert len({run.sweep for id, run in server.runs.items() if id not in began}) == 1
