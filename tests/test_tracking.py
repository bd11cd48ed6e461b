"""A real study at W&B, live, interrupted and resumed; and `r2search sync`."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from made_up_study import MadeUpStudy, shown
from rich.console import Console
from wandb_server import KEY, WandbServer, serving

from r2search.cli import main
from r2search.config import Misuse
from r2search.rundir import hold
from r2search.tracking import sync_study
from r2search.tuning.events import read_trials

ROOT = Path(__file__).parents[1]
TRIALS = 12
# The smallest networks, of which some learn nothing and some explode: see tests/tuning/test_engine.
SPACE = f"""\
name: tracked
data: {{reader: folder}}
budget: {{time: 600s, trials: {TRIALS}, max_epochs: 3}}
search: {{searcher: random, seed: 5}}
early_terminate: {{type: asha, grace_period: 1, reduction_factor: 2}}
resources: {{workers: 1}}
parameters:
  data: {{parameters: {{patch_size: {{value: 16}}, augmentation: {{value: none}}}}}}
  model:
    parameters:
      block: {{value: conv}}
      depth: {{value: 1}}
      base_filters: {{values: [2, 4]}}
  train:
    parameters:
      optimizer: {{value: sgd}}
      lr: {{values: [0.000001, 0.05, 0.1, 10.0], probabilities: [0.3, 0.3, 0.3, 0.1]}}
      lr_schedule: {{value: constant}}
      warmup_epochs: {{value: 0.0}}
      weight_decay: {{value: 1.0}}
      batch_size: {{value: 4}}
      epoch_pixels: {{value: 20480}}
      dtype: {{value: float32}}
  inference: {{parameters: {{tile: {{value: 64}}, overlap: {{value: 0}}}}}}
  model.dropout: {{min: 0.0, max: 0.01}} # no two configs are alike
baselines:
  steady: {{train.lr: 0.000001}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WandbServer]:
    with serving(tmp_path_factory.mktemp("home")) as server:
        yield server


def start(log: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(ROOT / "launch/tune.py"), *arguments]
    with log.open("ab") as file:
        return subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, cwd=log.parent, start_new_session=True
        )


@pytest.fixture(scope="module")
def run_dir(
    server: WandbServer,
    tmp_path_factory: pytest.TempPathFactory,
    write_folder: Callable[..., Path],
) -> Path:
    """The folder of a study of 12 trials that was interrupted in the middle and then resumed."""
    top = tmp_path_factory.mktemp("tracked")
    (top / "space.yaml").write_text(SPACE, encoding="utf-8")
    folder, log, data = top / "run", top / "log", write_folder(top / "data")
    first = start(log, f"--space={top / 'space.yaml'}", f"--data={data}", f"--out={folder}")
    until = time.monotonic() + 300
    record = folder / "trials.jsonl"
    while not record.exists() or record.read_text().count('"event": "report"') < 6:
        assert first.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    assert first.wait(300) == 130, log.read_text()
    assert processes_of(folder) == []
    assert start(log, f"--resume={folder}").wait(400) == 0, log.read_text()
    assert processes_of(folder) == []
    return folder


def processes_of(folder: Path) -> list[list[str]]:
    lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if str(folder) in line]


def test_a_study_is_one_sweep_that_an_interruption_does_not_break(
    server: WandbServer, run_dir: Path
) -> None:
    assert main(["sync", str(run_dir)]) == 0  # what the last seconds did not suffice for
    trials = {trial.trial: trial for trial in read_trials(run_dir / "trials.jsonl")}
    runs = shown(server)
    assert len(trials) == TRIALS + 1
    assert set(runs) == {*trials, "summary"}
    (sweep,) = server.sweeps
    assert {run["sweep"] for run in runs.values()} == {sweep}
    for name, trial in trials.items():
        told = [{key: row[key] for key in trial.reports[0].metrics} for row in runs[name]["rows"]]
        assert told == [pytest.approx(report.metrics) for report in trial.reports]
        assert runs[name]["summary"]["outcome"] == trial.outcome
        assert runs[name]["config"]["outcome"]["value"] == trial.outcome
        assert (runs[name]["state"] == "failed") == trial.failed
    assert {"completed", "stopped"} <= {trial.outcome for trial in trials.values()}
    tracking = json.loads((run_dir / "summary.json").read_text())["tracking"]
    assert tracking == {"mode": "online", "not_uploaded": [], "sync": None}


def test_the_artifact_is_the_bundle_that_the_study_exported(
    server: WandbServer, run_dir: Path
) -> None:
    (found,) = (a for a in server.artifacts.values() if a.type == "model" and "best" in a.aliases)
    assert found.files == {path.name: path.read_bytes() for path in (run_dir / "bundle").iterdir()}


def test_no_key_and_no_server_is_named_in_what_the_study_leaves(
    server: WandbServer, run_dir: Path
) -> None:
    files = [path for path in run_dir.rglob("*") if path.is_file()] + [run_dir.with_name("log")]
    for path in files:
        content = path.read_bytes()
        assert KEY.encode() not in content, path
        assert server.url.removeprefix("http://").encode() not in content, path


def test_sync_says_what_it_did_and_what_it_could_not(
    server: WandbServer,
    tmp_path: Path,
    console: Console,
    make_bundle: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made_up = MadeUpStudy(tmp_path / "run")
    made_up.begin()
    made_up.trial("t0001", 1, "completed")
    made_up.finish(make_bundle)
    with monkeypatch.context() as wrong:
        wrong.setenv("WANDB_API_KEY", "7" * 40)
        assert sync_study(str(made_up.folder), console) == 1
    assert sync_study(str(made_up.folder), console) == 0
    said = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert said[0] == (
        "1 of 1 trials are not uploaded: the W&B server refuses the login; run `wandb login`"
    )
    assert said[1].startswith("all 1 trials are at Weights & Biases: somebody/r2search/sweeps/")
    tracking = json.loads((made_up.folder / "summary.json").read_text())["tracking"]
    assert tracking == {"mode": "online", "not_uploaded": [], "sync": None}


def test_sync_is_for_the_folder_of_a_study_that_no_driver_works_in(
    tmp_path: Path, console: Console
) -> None:
    with pytest.raises(Misuse, match=r"holds no trials\.jsonl; name the folder of a study"):
        sync_study(str(tmp_path), console)
    with pytest.raises(Misuse, match="only a local folder can be uploaded"):
        sync_study("s3://bucket/run", console)
    made_up = MadeUpStudy(tmp_path / "run")
    with hold(made_up.folder), pytest.raises(Misuse, match="another driver works in it"):
        sync_study(str(made_up.folder), console)
