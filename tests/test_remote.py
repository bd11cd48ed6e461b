"""Studies whose run folder lies in a store, through the real command: the driver's disk is lost."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from s3 import CREDENTIALS, S3Server

from r2search.bundle import load_bundle
from r2search.cli import main
from r2search.config import Misuse
from r2search.records import EpochReport
from r2search.remote import RemoteRun
from r2search.scratch import shared_path
from r2search.space import load_study
from r2search.storage import Storage, StorageError
from r2search.tuning.events import Ledger, read_events, read_trials
from r2search.tuning.results import bring, receive
from r2search.tuning.results import main as print_results
from r2search.tuning.trainable import scratch_name

ROOT = Path(__file__).parents[1]
STUDY = "--space quick.yaml --time 10m --trials 12 --set budget.max_epochs=4 --wandb disabled"


class Machine:
    """A machine with a disk of its own, on which studies run."""

    def __init__(self, folder: Path, server: S3Server) -> None:
        self.folder = folder
        self.folder.mkdir()
        self._environment = os.environ | server.environment

    def start(self, arguments: str, name: str = "tune") -> subprocess.Popen[bytes]:
        command = [sys.executable, str(ROOT / "launch/tune.py"), *arguments.split()]
        with (self.folder / f"{name}.log").open("ab") as file:
            return subprocess.Popen(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self._environment,
                start_new_session=True,
            )

    def said(self, name: str = "tune") -> str:
        return (self.folder / f"{name}.log").read_text()

    def run_dir(self) -> Path:
        (found,) = (self.folder / "runs").iterdir()
        return found


def events(store: Storage, folder: Path) -> list[dict[str, Any]]:
    """The record as it lies in the store."""
    try:
        store.download("trials.jsonl", folder / "record")
    except FileNotFoundError:
        return []
    return list(read_events(folder / "record"))


def reports(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in found if event["event"] == "report"]


def wait_for_reports(
    process: subprocess.Popen[bytes], store: Storage, count: int, machine: Machine
) -> list[dict[str, Any]]:
    until = time.monotonic() + 240
    while len(reports(found := events(store, machine.folder))) < count:
        assert process.poll() is None, machine.said()
        assert time.monotonic() < until, machine.said()
        time.sleep(0.2)
    return found


@dataclass
class Survived:
    """A study that went through all of it."""

    url: str
    before: list[dict[str, Any]]  # the record in the store when the first driver was killed
    refused: str  # what a second driver said
    first: Machine
    last: Machine
    back: Path  # what lies in the store at the end


@pytest.fixture(scope="module")
def survived(
    s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory, small_images: Path
) -> Iterator[Survived]:
    """Two drivers at once; then one is killed with its disk; the store falls silent; the end."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.environment.items():
            patch.setenv(name, value)
        home, url = tmp_path_factory.mktemp("remote"), s3_server.url("studies/quick-1")
        store = Storage(url)
        first, second, last = (Machine(home / name, s3_server) for name in "abc")
        process = first.start(f"{STUDY} --reader folder --data {small_images} --out {url}")
        while not store.exists("trials.jsonl"):
            assert process.poll() is None, first.said()
            time.sleep(0.2)
        other = second.start(f"--resume {url} --wandb disabled")
        wait_for_reports(process, store, 3, first)
        assert other.wait(timeout=120) == 2, second.said()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        before = events(store, first.folder)
        shutil.rmtree(first.folder / "runs")
        process = last.start(f"--resume {url} --wandb disabled")
        wait_for_reports(process, store, len(reports(before)) + 1, last)
        with s3_server.silent():
            time.sleep(10)
        assert process.wait(timeout=400) == 0, last.said()
        bring(store, home / "back")
        yield Survived(url, before, second.said(), first, last, home / "back")


def test_no_report_is_lost_or_told_twice(survived: Survived) -> None:
    found = list(read_events(survived.back / "trials.jsonl"))
    assert found[: len(survived.before)] == survived.before
    told = Counter((event["trial"], event["epoch"]) for event in reports(found))
    assert set(told.values()) == {1}
    for trial in read_trials(survived.back / "trials.jsonl"):
        assert [report.epoch for report in trial.reports] == list(range(1, len(trial.reports) + 1))


def test_the_study_completes_on_another_machine(survived: Survived) -> None:
    summary = json.loads((survived.back / "summary.json").read_text())
    assert summary["status"] == "completed"
    assert summary["trials"]["total"] == 12
    assert all(trial.outcome for trial in read_trials(survived.back / "trials.jsonl"))
    bundle = load_bundle(survived.back / "bundle")
    assert bundle.manifest.trial == summary["incumbent"]["trial"]


def test_what_lies_in_the_store_is_what_lies_in_the_run_folder(survived: Survived) -> None:
    run_dir = survived.last.run_dir()
    assert f"it is all in {survived.url}, too" in survived.last.said()
    names = {path.relative_to(survived.back) for path in survived.back.rglob("*")}
    assert {Path("report.html"), Path("environment.json"), Path("bundle/card.md")} < names
    for path in survived.back.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (run_dir / path.relative_to(survived.back)).read_bytes()


def test_the_store_keeps_the_best_weights_and_no_state(survived: Survived, s3: S3Server) -> None:
    names = Storage(survived.url).names()
    kept = [name for name in names if name.startswith("checkpoints/")]
    assert kept
    assert {name.rpartition("/")[2] for name in kept} == {"model.safetensors"}
    assert not [name for name in names if name.startswith(".")]


def test_no_scratch_is_left_on_the_machine(survived: Survived) -> None:
    assert not shared_path(scratch_name(Storage(survived.url))).exists()


def test_folders_of_one_name_at_two_servers_have_no_scratch_in_common(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = scratch_name(Storage(s3.url("quick-1")))
    assert here == scratch_name(pickle.loads(pickle.dumps(Storage(s3.url("quick-1/")))))
    assert here != scratch_name(Storage(s3.url("quick-2")))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert here != scratch_name(Storage(s3.url("quick-1")))


def test_what_is_wrong_with_it_is_said_of_its_url(
    survived: Survived, s3: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", "--resume", survived.url]) == 2
    said = f"--resume {survived.url}: its trials are done; give it more, as by --trials +50"
    assert said in capsys.readouterr().err


def test_a_second_driver_is_refused(survived: Survived) -> None:
    said = f"r2search: {survived.url}: another driver works in it; wait for it, or stop it"
    assert said in survived.refused


def test_no_secret_is_written_down(survived: Survived, s3: S3Server) -> None:
    store = Storage(survived.url)
    logs = [survived.refused, survived.first.said(), survived.last.said()]
    texts = [log.encode() for log in logs] + [store.read(name) for name in store.names()]
    for secret in CREDENTIALS.values():
        assert not [text for text in texts if secret.encode() in text]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (f"{STUDY} --out s3://nowhere/a", "s3://nowhere/a: the bucket does not exist; make it"),
        (f"{STUDY} --out s3://me:secret@bucket/a", "was given with a user or password"),
        ("--resume s3://bucket/empty", "--resume s3://bucket/empty: holds no trials.jsonl; name"),
        (f"{STUDY} --out s3://bucket/taken", "--out s3://bucket/taken: not an empty folder"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_started(
    s3: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    said: str,
) -> None:
    Storage("s3://bucket/taken").write("somebody/elses", b"1")
    monkeypatch.chdir(tmp_path)
    assert main(["tune", *arguments.split()]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert "secret" not in error
    assert list(tmp_path.iterdir()) == []
    assert Storage("s3://bucket/taken").names() == ["somebody/elses"]


@pytest.fixture
def run(s3: S3Server, tmp_path: Path) -> Iterator[RemoteRun]:
    """A study in a store that has begun, in this process."""
    (tmp_path / "run").mkdir()
    with RemoteRun(s3.url(f"runs/{tmp_path.name}"), tmp_path / "run", False, print) as opened:
        (opened.run_dir / "trials.jsonl").write_text("1\n")
        yield opened


def test_nothing_is_dropped_before_the_record_says_why(run: RemoteRun, s3: S3Server) -> None:
    state = "checkpoints/t1/state-0001.safetensors"
    run.storage.write(state, b"1")
    run.flush()
    (run.run_dir / "trials.jsonl").write_text("1\n2\n")
    run.shelf.drop("t1")
    run.storage = run.storage.patient(1.0, 1.0)
    with s3.silent(), pytest.raises(StorageError):
        run.flush()
    assert run.storage.exists(state)
    run.flush()
    assert not run.storage.exists(state)
    assert run.storage.read("trials.jsonl") == b"1\n2\n"


def test_a_driver_that_was_replaced_writes_nothing_more(run: RemoteRun) -> None:
    run.flush()
    run._lease.lost = True
    (run.run_dir / "trials.jsonl").write_text("1\n2\n")
    run.storage.write("checkpoints/t1/state-0001.safetensors", b"1")
    run.shelf.drop("t1")
    with pytest.raises(StorageError, match="another driver has taken it over"):
        run.flush()
    assert run.storage.read("trials.jsonl") == b"1\n"
    assert run.shelf.listing() == {"t1": {"state-0001.safetensors"}}
    run._lease.lost = False


def test_results_that_do_not_come_to_the_store_are_missed_at_the_end(
    s3: S3Server, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    run = RemoteRun(s3.url(f"runs/{tmp_path.name}"), tmp_path / "run", False, print)
    run.storage = run.storage.patient(1.0, 1.0)
    said = f"does not answer; .*; the results lie in {tmp_path / 'run'}, and `--resume s3://"
    with s3.silent(), pytest.raises(StorageError, match=said), run:
        (tmp_path / "run" / "summary.json").write_text("{}")


def test_weights_that_are_not_in_the_store_are_missed(run: RemoteRun, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "record")
    facts: dict[str, Any] = {"overrides": {}, "config": {}, "cost": {}, "planned_epochs": 1}
    ledger.start(trial="t1", baseline=True, **facts)
    metrics = {"val/dice_mean": 0.5}
    ledger.report("t1", EpochReport(epoch=1, metrics=metrics, pixels=1, seconds={}), "worker")
    with pytest.raises(StorageError, match="has no weights of t1; `--resume s3://"):
        run.bring_weights(load_study("quick.yaml"), ledger)
    ledger.close()


def test_without_its_library_the_remedy_is_named(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(Misuse, match="obstore is not installed; a store needs pip install -c"):
        Storage(s3.url("a"))


def test_only_a_search_writes_to_a_store(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--space", "quick.yaml", "--out", "s3://bucket/a"]) == 2
    assert "--out s3://bucket/a: only `r2search tune` writes there" in capsys.readouterr().err


def test_results_are_printed_from_a_store(
    survived: Survived, s3: S3Server, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert print_results("s3://nowhere/a") == 1
    with pytest.raises(Misuse, match="s3://nowhere/a: the bucket does not exist"):
        receive(capsys.readouterr().out.splitlines(), tmp_path / "nothing")
    assert print_results(survived.url) == 0  # as the job of `fetch` does on a cluster
    names = receive(capsys.readouterr().out.splitlines(), tmp_path / "fetched")
    assert "summary.json" in names
    for name in names:
        assert (tmp_path / "fetched" / name).read_bytes() == (survived.back / name).read_bytes()
