"""Tracking by the real wandb SDK: offline, or against servers of our own on the loopback."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from r2search.config import Study
from r2search.records import EpochReport, Outcome, TrialOutcome
from r2search.tuning.trackers import wandb as tracking
from r2search.tuning.trackers.wandb import WandbTracker, choose_mode

METRIC = "val/dice_mean"
KEY = "0" * 40
MakeStudy = Callable[..., Study]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No login, no server, nothing outside the test's folder, whatever this machine has."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))  # the tracker sets most of them
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield
    import wandb

    wandb.teardown()


def trial_of(name: str, outcome: Outcome | None = None, **facts: Any) -> TrialOutcome:
    given: dict[str, Any] = {
        "trial": name,
        "baseline": False,
        "overrides": {},
        "config": {"model": {"depth": 2, "block": "conv"}},
        "cost": {},
        "planned_epochs": 2,
        "started": 0.0,
        "outcome": outcome,
    }
    return TrialOutcome(**given | facts)


def report_of(epoch: int, dice: float) -> EpochReport:
    return EpochReport(epoch=epoch, metrics={METRIC: dice}, pixels=1, seconds={})


def read(path: Path) -> dict[str, Any]:
    """What a .wandb file holds, by the SDK's own reader."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(run.stdout))


def track(tracker: WandbTracker, trial: TrialOutcome, outcome: Outcome, reason: str = "") -> None:
    """A trial of two epochs, the first of them the better one."""
    reports = [report_of(1, 0.75), report_of(2, 0.5)]
    tracker.start(trial)
    for report in reports:
        tracker.report(trial.trial, report)
    tracker.end(trial_of(trial.trial, outcome, reports=reports, reason=reason))


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "first run: tiny"  # a colon is not allowed in a run's id
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def study(make_study: MakeStudy) -> Study:
    return make_study()


def test_offline_every_trial_is_a_run_in_the_run_folder(study: Study, run_dir: Path) -> None:
    tracker = WandbTracker(study, run_dir, "offline")
    track(tracker, trial_of("B1", baseline=True), "completed")
    track(tracker, trial_of("t0001"), "failed", "FloatingPointError: loss is nan")
    tracker.start(trial_of("t0002"))
    tracker.report("t0002", report_of(1, 0.25))  # and never ends
    tracker.close()
    assert tracker.failures == 0
    files = {
        path.name.removesuffix(".wandb").rpartition("-")[2]: path
        for path in (run_dir / "wandb").glob("offline-run-*/run-*.wandb")  # as `wandb sync` wants
    }
    assert set(files) == {"B1", "t0001", "t0002"}
    beside = {path.name for path in (run_dir / "wandb").iterdir() if "offline" not in path.name}
    assert beside == {"logs"}
    assert {path.name for path in run_dir.iterdir()} == {"wandb"}
    assert not (run_dir.parent.parent / "elsewhere").exists()
    baseline, failed, cut = (read(files[name]) for name in ("B1", "t0001", "t0002"))

    assert baseline["run_id"] == "first-run--tiny-B1"
    assert (baseline["project"], baseline["name"]) == ("r2search", "B1")
    assert baseline["config"]["model"] == {"depth": 2, "block": "conv"}
    assert (baseline["state"], baseline["exit_code"]) == ("finished", 0)
    told = {key: value for key, value in baseline["summary"].items() if key[0] != "_"}
    assert told == {
        "epoch": 2,
        METRIC: 0.5,
        "outcome": "completed",
        "reason": "",
        "best/val/dice_mean": 0.75,
        "best/epoch": 1,
    }
    assert (failed["state"], failed["exit_code"]) == ("failed", 1)
    assert failed["summary"]["reason"] == "FloatingPointError: loss is nan"
    assert (cut["state"], cut["exit_code"]) == ("failed", 1)  # closed, but not left open
    assert cut["summary"][METRIC] == 0.25


def test_a_trial_that_goes_on_offline_is_told_from_its_beginning(
    study: Study, run_dir: Path
) -> None:
    tracker = WandbTracker(study, run_dir, "offline")
    tracker.start(trial_of("t0001", reports=[report_of(1, 0.25), report_of(2, 0.5)]))
    tracker.report("t0001", report_of(3, 0.75))
    tracker.close()
    (path,) = (run_dir / "wandb").glob("offline-run-*/run-*.wandb")
    assert read(path)["step"] == 2  # the third one, counted from 0


def test_two_studies_in_one_process_keep_to_their_own_folders(study: Study, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        tracker = WandbTracker(study, tmp_path / name, "offline")
        track(tracker, trial_of("t0001"), "completed")
        tracker.close()
        assert tracker.failures == 0
        assert len(list((tmp_path / name / "wandb").glob("offline-run-*"))) == 1
        assert len(list((tmp_path / name / "wandb" / "logs").iterdir())) == 1


def test_a_study_without_trials_leaves_no_runs(study: Study, run_dir: Path) -> None:
    tracker = WandbTracker(study, run_dir, "offline")
    tracker.close()
    assert list((run_dir / "wandb").iterdir()) == []


def test_an_sdk_that_raises_costs_the_search_nothing(
    study: Study,
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "nonsense")  # wandb refuses it
    tracker = WandbTracker(study, run_dir, "offline")
    track(tracker, trial_of("t0001"), "completed")
    tracker.close()
    assert tracker.failures >= 1
    told = [record.getMessage() for record in caplog.records if record.name == tracking.__name__]
    assert told[0].startswith("wandb: 1 validation error for Settings")
    assert told[0].endswith("the search goes on")


def test_reports_of_a_trial_that_never_started_are_passed_over(study: Study, run_dir: Path) -> None:
    tracker = WandbTracker(study, run_dir, "offline")
    tracker.report("t0001", report_of(1, 0.5))
    tracker.end(trial_of("t0001", "completed"))
    tracker.close()
    assert tracker.failures == 0


def test_a_slow_sdk_blocks_neither_the_search_nor_its_end(
    study: Study,
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(tracking, "CLOSE_TIMEOUT", 0.2)
    answered = threading.Event()
    tracker = WandbTracker(study, run_dir, "offline")
    tracker._jobs.put(lambda: bool(answered.wait(60)) and None)  # a call that does not return
    tracker.start(trial_of("t0001"))
    for epoch in range(1, 1001):
        tracker.report("t0001", report_of(epoch, 0.5))
    tracker.end(trial_of("t0001", "completed"))
    tracker.close()
    assert tracker._thread.is_alive()  # it was not waited for
    told = [record.getMessage() for record in caplog.records if record.name == tracking.__name__]
    assert told == ["wandb did not finish in 0 s; the study goes on"]
    answered.set()
    tracker._thread.join(60)
    assert len(list((run_dir / "wandb").glob("offline-run-*"))) == 1  # and nothing was lost


class Server:
    """A server that gives every request the same answer, and notes what it was asked."""

    def __init__(self, code: int, body: str) -> None:
        asked = self.asked = []  # type: list[dict[str, Any]]

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                query = self.rfile.read(int(self.headers["Content-Length"]))
                asked.append({"path": self.path, "login": self.headers["Authorization"]})
                assert json.loads(query)["query"]
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *args: Any) -> None:
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever)
        self.thread.start()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *exc: object) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"


def test_offline_is_offline_and_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(200, "{}") as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        assert choose_mode("offline") == ("offline", "")
    assert server.asked == []


@pytest.mark.parametrize("kept_in", ["environment", "netrc"])
def test_with_a_login_that_the_server_accepts_tracking_is_online(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kept_in: str
) -> None:
    with Server(200, '{"data": {"viewer": {"id": "1"}}}') as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        if kept_in == "environment":
            monkeypatch.setenv("WANDB_API_KEY", KEY)
        else:
            host = server.url.removeprefix("http://")
            (tmp_path / "netrc").write_text(f"machine {host}\n  login user\n  password {KEY}\n")
        assert choose_mode("online") == ("online", "")
    # base64 of `api:` and 40 zeros, in blocks of three bytes.
    login = "Basic YXBpOjAw" + "MDAw" * 12 + "MDA="
    assert server.asked == [{"path": "/graphql", "login": login}]


@pytest.mark.parametrize(
    ("code", "body", "reason"),
    [
        (401, "", "refuses the login; run `wandb login`"),
        (200, '{"data": {"viewer": null}}', "refuses the login; run `wandb login`"),
        (503, "", "answers 503"),
        (200, "<html>a proxy's page</html>", "does not answer as it should"),
        (200, "[]", "does not answer as it should"),
    ],
)
def test_what_a_server_answers_decides_and_is_told(
    monkeypatch: pytest.MonkeyPatch, code: int, body: str, reason: str
) -> None:
    with Server(code, body) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        mode, why = choose_mode("online")
    assert mode == "offline"
    assert why.startswith(f"W&B at {server.url} {reason}")


def test_without_a_server_tracking_is_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    mode, why = choose_mode("online")
    assert mode == "offline"
    assert why.startswith("W&B at http://127.0.0.1:9 does not answer")


def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "ANSWER_TIMEOUT", 0.2)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        mode, why = choose_mode("online")
    assert mode == "offline"
    assert "timed out" in why


def test_without_a_login_tracking_is_offline() -> None:
    expected = "no W&B login for http://127.0.0.1:9 is known; run `wandb login`"
    assert choose_mode("online") == ("offline", expected)


@pytest.mark.parametrize(("name", "value"), [("API_KEY", "short"), ("BASE_URL", "nonsense")])
def test_settings_that_wandb_refuses_are_told(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"WANDB_{name}", value)
    mode, why = choose_mode("online")
    assert mode == "offline"
    assert why.startswith("the W&B login is not valid (")
    assert "\n" not in why
