"""A study at W&B by the real SDK, in the real process, against a server of our own."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import psutil
import pytest
from made_up_study import METRIC, TRIALS, MadeUpStudy, shown
from PIL import Image
from small_disk import fill, small_disk
from wandb_server import ENTITY, WandbServer

from r2search.bundle import load_bundle
from r2search.tuning.trackers.account import Asked
from r2search.tuning.trackers.follower import Follower

PATIENCE_S = 60.0  # on a busy machine


@pytest.fixture
def left_behind(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """The processes of this test that still run.

    They are known by a mark that they inherit: a helper whose parent was killed keeps it for a
    moment, and another test may have such a helper too.
    """
    mark = uuid4().hex
    monkeypatch.setenv("R2SEARCH_TEST", mark)

    def look() -> list[str]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):  # it has just ended
                if process.environ().get("R2SEARCH_TEST") == mark:
                    found.append(" ".join(process.cmdline()))
        return found

    return look


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


@pytest.fixture(scope="module")
def live(server: WandbServer, whole: Follower) -> dict[str, dict[str, Any]]:
    """What W&B then had."""
    return shown(server)


def test_every_trial_is_a_run_of_one_sweep(
    server: WandbServer, whole: Follower, live: dict[str, dict[str, Any]]
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


def test_the_artifact_downloads_and_predicts(
    server: WandbServer,
    study: MadeUpStudy,
    whole: Follower,
    tmp_path: Path,
    write_image: Callable[..., Path],
) -> None:
    (found,) = (a for a in server.artifacts.values() if a.type == "model")
    code = (
        "import sys, wandb; "
        "wandb.Api().artifact(sys.argv[1], type='model').download(root=sys.argv[2])"
    )
    name, folders = f"{'/'.join(found.place)}/{found.name}:best", ("DIR", "CACHE_DIR", "DATA_DIR")
    environment = os.environ | {f"WANDB_{folder}": str(tmp_path) for folder in folders}
    command = [sys.executable, "-c", code, name, str(tmp_path / "bundle")]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    image = write_image(tmp_path / "image.png")
    mask = load_bundle(tmp_path / "bundle").predict(image).mask
    assert (mask == load_bundle(study.folder / "bundle").predict(image).mask).all()


def test_shown_again_nothing_changes(
    server: WandbServer, study: MadeUpStudy, whole: Follower
) -> None:
    before, asked = shown(server), len(server.asked)
    assert show(study.folder).whole
    assert shown(server) == before
    assert not {"UpsertBucket", "UpsertSweep", "CreateArtifact"} & set(server.asked[asked:])


def test_a_study_that_goes_on_continues_its_sweep_and_its_runs(
    server: WandbServer,
    study: MadeUpStudy,
    live: dict[str, dict[str, Any]],
    make_bundle: Callable[..., Path],
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


def files_of(folder: Path, *trials: str) -> dict[str, dict[str, Any]]:
    """What the offline files in a run folder hold of these trials, by the SDK's own reader."""
    found = {}
    for path in (folder / "wandb").glob("offline-run-*/run-*.wandb"):
        if not path.stem.endswith(trials):
            continue
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json"]
        run = subprocess.run([*command, str(path)], capture_output=True, text=True, check=True)
        facts = json.loads(run.stdout)
        found[facts["name"]] = facts
    return found


def test_an_offline_study_waits_in_the_run_folder_and_is_the_same_when_synced(
    server: WandbServer,
    live: dict[str, dict[str, Any]],
    folder: Path,
    make_bundle: Callable[..., Path],
) -> None:
    made_up, asked = MadeUpStudy(folder), len(server.asked)
    made_up.trials()
    made_up.finish(make_bundle)
    offline = show(folder, "offline")
    assert (offline.mode, offline.whole, offline.trouble) == ("offline", True, "")
    assert server.asked[asked:] == []
    names = {path.stem.rpartition("-")[2] for path in folder.glob("wandb/*/*.wandb")}
    assert names == {name.rpartition("-")[2] for name in TRIALS}
    files = files_of(folder, "t0001", "t0003")
    assert files["t0001"]["step"] == 2  # counted from 0
    assert files["t0003"]["state"] == "failed"
    assert files["t0001"]["config"]["outcome"] == "completed"

    began = set(server.runs)
    moved = folder.rename(folder.with_name("moved"))
    assert show(moved).whole
    synced = shown(server, without=began)
    for name in TRIALS:
        ours, theirs = synced[name], live[name]
        for run in (ours, theirs):  # of two studies, at two times
            run["group"] = run["sweep"] = ""
            run["rows"] = [{**row, "time_s": 0} for row in run["rows"]]
            run["summary"]["time_s"] = 0
        assert ours == theirs


def test_on_a_full_disk_an_offline_study_goes_on_and_is_whole_when_synced(
    server: WandbServer,
    tmp_path: Path,
    make_bundle: Callable[..., Path],
    left_behind: Callable[[], list[str]],
) -> None:
    with small_disk(tmp_path / "disk", size_mib=64) as disk:
        made_up, began = MadeUpStudy(disk / "run"), set(server.runs)
        with Follower(made_up.folder, "offline", lambda note: None) as follower:
            made_up.begin()
            made_up.trial("t0001", 2, "completed")
            wait_for(lambda: list(made_up.folder.glob("wandb/*/*.wandb")) != [])
            filler = fill(disk)
            made_up.trial("t0002", 3, "stopped")  # the record has room of its own
            made_up.trial("t0003", 1, "completed")
            made_up.ledger.finish()
            before = time.monotonic()
            follower.finish()
            assert time.monotonic() - before < 6
        assert left_behind() == []
        filler.unlink()
        assert show(made_up.folder).whole
        found = shown(server, without=began)
        assert {name: len(run["rows"]) for name, run in found.items() if name != "summary"} == (
            made_up.rows()
        )


def test_a_server_that_answers_in_pages_is_read_to_the_last(
    server: WandbServer, study: MadeUpStudy, whole: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "page", 2)
    before, asked = shown(server), len(server.asked)
    assert show(study.folder).whole
    assert shown(server) == before
    assert server.asked[asked:].count("Runs") > len(TRIALS) / 2
    assert not {"UpsertBucket", "UpsertSweep"} & set(server.asked[asked:])


def test_a_run_has_the_images_that_its_trial_left(
    server: WandbServer, folder: Path, make_bundle: Callable[..., Path]
) -> None:
    made_up, began = MadeUpStudy(folder), set(server.runs)
    made_up.trials()
    made_up.finish(make_bundle)
    for epoch in (1, 3):
        made_up.predict("t0001", epoch, np.tri(40, 30, epoch, dtype=np.uint8))
    assert show(folder).whole
    (run,) = (
        run for id, run in server.runs.items() if id not in began and run.display_name == "t0001"
    )
    assert [row["epoch"] for row in run.rows if "prediction" in row] == [1, 3]
    last = run.rows[2]["prediction"]
    assert (last["_type"], last["caption"]) == ("image-file", "07L")
    assert set(last["masks"]) == {"prediction", "ground truth"}
    with Image.open(io.BytesIO(run.files[last["masks"]["prediction"]["path"]])) as mask:
        assert (np.asarray(mask) == np.tri(40, 30, 3)).all()
    assert run.files[last["path"]]
    others = [run for run in server.runs.values() if run.display_name not in ("t0001", "summary")]
    assert not [run for run in others if any("prediction" in row for row in run.rows)]


DRIVER = """
import sys, time
from pathlib import Path
from r2search.interrupt import Interrupt
from r2search.tuning.trackers.follower import Follower
with Interrupt() as interrupt, Follower(Path(sys.argv[1]), "online", print) as follower:
    while not follower.uploaded:
        time.sleep(0.05)
    print("up", flush=True)
    while interrupt.signal is None:
        time.sleep(0.05)
    follower.finish()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_a_driver_that_is_interrupted_or_killed(
    server: WandbServer, folder: Path, number: int, left_behind: Callable[[], list[str]]
) -> None:
    made_up = MadeUpStudy(folder)
    made_up.begin()
    made_up.trial("t0001", 1, "completed")
    made_up.trial("t0002", 1)
    command = [sys.executable, "-c", DRIVER, str(folder)]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert driver.stdout is not None
    assert driver.stdout.readline() == b"up\n"
    assert any("wandb-core" in words for words in left_behind())  # they would be seen
    os.kill(driver.pid, number)
    assert driver.wait(PATIENCE_S) == (-number if number == signal.SIGKILL else 0)
    if number == signal.SIGKILL:
        wait_for(lambda: not left_behind())
    assert left_behind() == []
    driver.stdout.close()


def test_a_server_that_answers_slowly_costs_five_seconds_at_the_end(
    server: WandbServer,
    folder: Path,
    make_bundle: Callable[..., Path],
    left_behind: Callable[[], list[str]],
) -> None:
    made_up = MadeUpStudy(folder)
    made_up.trials()
    made_up.finish(make_bundle)
    server.delay_s = 2.0
    try:
        began = time.monotonic()
        with Follower(folder, "online", lambda note: None) as follower:
            assert time.monotonic() - began < 1
            wait_for(lambda: follower.mode == "online")
            began = time.monotonic()
            follower.finish()
        assert time.monotonic() - began < 6
    finally:
        server.delay_s = 0.0
    assert not follower.whole
    assert left_behind() == []


PLANTED = "7a" * 20


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("WANDB_API_KEY", PLANTED, "the W&B server refuses the login; run `wandb login`"),
        ("WANDB_API_KEY", "", "no W&B login is known; run `wandb login`"),
        ("WANDB_BASE_URL", "http://planted-host.invalid:9", "the W&B server cannot be reached"),
        ("WANDB_PROJECT", "a/b", "WANDB_PROJECT: W&B has no project 'a/b'; leave out / \\ # ? % :"),
    ],
)
def test_what_keeps_a_study_from_w_and_b_is_told_without_secrets(
    server: WandbServer,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    value: str,
    reason: str,
) -> None:
    made_up = MadeUpStudy(folder)
    made_up.begin()
    made_up.trial("t0001", 1, "completed")
    monkeypatch.setenv(setting, value)
    notes: list[str] = []
    with Follower(folder, "online", notes.append) as follower:
        wait_for(lambda: bool(follower.trouble))
        follower.finish()
    assert follower.trouble.startswith(reason)
    assert follower.mode == "offline"
    assert len(list(folder.glob("wandb/*/*.wandb"))) == 1
    assert len(notes) == 1
    for secret in (PLANTED, "planted-host", server.key, server.url):
        assert secret not in notes[0]
        for path in (path for path in folder.rglob("*") if path.is_file()):
            assert secret.encode() not in path.read_bytes(), path


def test_a_project_that_the_server_refuses_ends_a_sync_with_its_reason(
    server: WandbServer, study: MadeUpStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "refused")
    found = show(study.folder)
    assert not found.whole
    assert "you may not write to project refused" in found.trouble
    assert server.url not in found.trouble
