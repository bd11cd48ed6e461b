"""The trials of a search where Optuna's own tools find them."""

import getpass
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from r2search.config import Study
from r2search.tuning.optuna_view import ENVIRONMENT, JOURNAL, OptunaView

MakeStudy = Callable[..., Study]
SECRET = "planted-password"


@pytest.fixture
def study(make_study: MakeStudy) -> Study:
    return make_study()


def ended(state: TrialState, value: float | None = None) -> optuna.trial.FrozenTrial:
    reached = {1: value} if value is not None and state == TrialState.PRUNED else {}
    return optuna.trial.create_trial(
        state=state,
        value=value if state == TrialState.COMPLETE else None,
        params={"model.depth": 2},
        distributions={"model.depth": optuna.distributions.IntDistribution(1, 4)},
        intermediate_values=reached,
        user_attrs={"trial": "t0001"},
    )


TRIALS = [
    ended(TrialState.COMPLETE, 0.8),
    ended(TrialState.PRUNED, 0.4),
    ended(TrialState.FAIL),
]


def fill(study: Study, run_dir: Path) -> None:
    view = OptunaView(study, run_dir)
    for trial in TRIALS:
        view.add(trial)


def shown(storage: optuna.storages.BaseStorage, name: str) -> list[tuple[object, ...]]:
    found = optuna.load_study(study_name=name, storage=storage)
    assert found.best_value == 0.8
    assert {trial.user_attrs["trial"] for trial in found.trials} == {"t0001"}
    return [(trial.state.name, trial.value, trial.intermediate_values) for trial in found.trials]


ALL = [("COMPLETE", 0.8, {}), ("PRUNED", None, {1: 0.4}), ("FAIL", None, {})]


def test_the_journal_of_a_run_folder_holds_the_trials_and_is_told_anew(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    for _ in range(2):  # the second time it is a study that goes on
        fill(study, tmp_path)
        backend = JournalFileBackend(str(tmp_path / JOURNAL))
        assert shown(optuna.storages.JournalStorage(backend), "tiny") == ALL


def test_optunas_dashboard_opens_the_journal_while_it_grows(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    view = OptunaView(study, tmp_path)
    view.add(TRIALS[0])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    program = str(Path(sys.executable).with_name("optuna-dashboard"))
    command = [program, str(tmp_path / JOURNAL), "--port", port, "--server", "wsgiref"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as dashboard:
        try:
            (summary,) = asked(dashboard, port, "/api/studies")["study_summaries"]
            assert summary["study_name"] == "tiny"
            page = f"/api/studies/{summary['study_id']}?after=0"
            assert [t["state"] for t in asked(dashboard, port, page)["trials"]] == ["Complete"]
            view.add(TRIALS[1])
            until, trials = time.monotonic() + 60, []
            while len(trials) < 2:  # it reads a journal every ten seconds
                assert time.monotonic() < until
                time.sleep(0.5)
                trials = asked(dashboard, port, page)["trials"]
            assert [trial["state"] for trial in trials] == ["Complete", "Pruned"]
            assert trials[0]["values"] == [0.8]
        finally:
            dashboard.kill()


def asked(server: subprocess.Popen[bytes], port: str, path: str) -> Any:
    """What a server on this machine answers, once it is up."""
    until = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as response:
                return json.load(response)
        except urllib.error.URLError:
            assert server.poll() is None, server.stderr and server.stderr.read()
            assert time.monotonic() < until
            time.sleep(0.2)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/studies.db"
        return
    found = shutil.which("initdb") or next(
        map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), None
    )
    if found is None:
        pytest.skip("there is no PostgreSQL to write into")
    # PostgreSQL refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else getpass.getuser()
    as_user = ["runuser", "-u", user, "--"] if os.geteuid() == 0 else []
    home = Path(subprocess.check_output([*as_user, "mktemp", "-d"], cwd="/", text=True).strip())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    control = [*as_user, str(Path(found).with_name("pg_ctl")), "-D", f"{home}/data", "-w"]
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {home}"
    initdb = [*as_user, found, "-D", f"{home}/data", "-A", "trust", "-U", "tester", "-N"]
    subprocess.run(initdb, check=True, capture_output=True, cwd="/")
    start = [*control, "-o", options, "-l", f"{home}/log", "start"]
    subprocess.run(start, check=True, stdout=subprocess.DEVNULL, cwd="/")
    try:
        yield f"postgresql+psycopg://tester:{SECRET}@127.0.0.1:{port}/postgres"
    finally:
        stop = [*control, "-m", "immediate", "stop"]
        subprocess.run(stop, check=True, stdout=subprocess.DEVNULL, cwd="/")
        shutil.rmtree(home)


def test_a_database_has_the_studies_of_several_runs_by_their_folders(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    monkeypatch.setenv(ENVIRONMENT, database)
    fill(study, tmp_path / "first")
    fill(study, tmp_path / "second")
    fill(study, tmp_path / "first")  # goes on
    assert sorted(optuna.get_all_study_names(database)) == ["first", "second"]
    for name in ("first", "second"):
        assert shown(optuna.storages.RDBStorage(database), name) == ALL
    assert not (tmp_path / JOURNAL).exists()


def test_a_study_of_somebody_else_is_never_removed(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"
    optuna.create_study(study_name="mine", storage=url).add_trial(ended(TrialState.COMPLETE, 0.3))
    monkeypatch.setenv(ENVIRONMENT, url)
    fill(study, tmp_path / "mine")
    assert [t.value for t in optuna.load_study(study_name="mine", storage=url).trials] == [0.3]
    (message,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "holds another study named mine; name another run folder" in message


def test_a_database_that_cannot_be_reached_costs_a_warning_without_its_password(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as taken:  # bound, and not listening: whoever connects is refused
        taken.bind(("127.0.0.1", 0))
        url = f"postgresql+psycopg://tester:{SECRET}@127.0.0.1:{taken.getsockname()[1]}/none"
        monkeypatch.setenv(ENVIRONMENT, url)
        with caplog.at_level(logging.WARNING):
            fill(study, tmp_path)
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"{ENVIRONMENT}: OperationalError: ")
    assert message.endswith("the search goes on, and is not shown there until it is resumed")
    assert SECRET not in message


def test_an_address_that_is_none_costs_a_warning_without_its_password(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(ENVIRONMENT, f"nosuchdatabase://me:{SECRET}@host/x")
    fill(study, tmp_path)
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(ENVIRONMENT)
    assert SECRET not in message


def test_a_journal_that_cannot_be_written_costs_a_warning(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    fill(study, tmp_path / "not there")
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"{JOURNAL}: ")
