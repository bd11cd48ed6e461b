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
from r2search.tracking import showing, sync_study
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


def test_its_runs_have_sample_predictions_at_rungs_and_at_their_ends(
    server: WandbServer, run_dir: Path
) -> None:
    runs = {run.display_name: run for run in server.runs.values()}
    for trial in read_trials(run_dir / "trials.jsonl"):
        epochs = [row["epoch"] for row in runs[trial.trial].rows if "prediction" in row]
        if trial.outcome == "completed":
            assert trial.planned_epochs in epochs
        if trial.outcome == "stopped":
            assert trial.reports[-1].epoch in epochs
    shown = [row["prediction"] for run in runs.values() for row in run.rows if "prediction" in row]
    assert all(set(image["masks"]) == {"prediction", "ground truth"} for image in shown)


def test_a_report_at_w_and_b_is_of_this_study_and_written_once(
    server: WandbServer, run_dir: Path
) -> None:
    assert main(["report", str(run_dir), "--wandb"]) == 0
    assert main(["sync", str(run_dir)]) == 0
    (view,) = server.views.values()
    summary = json.loads((run_dir / "summary.json").read_text())
    assert f"{summary['incumbent']['trial']} reaches val/dice_mean" in view["spec"]
    assert "config:train.value.lr" in view["spec"]
    assert {run.group for run in server.runs.values()} == {view["displayName"]}


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
    for view in server.views.values():
        assert KEY not in view["spec"]
        assert server.url.removeprefix("http://") not in view["spec"]


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


def test_what_a_tracker_or_a_report_needs_is_asked_for_before_anything_is_done(
    tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("r2search.tracking.find_spec", lambda module: None)
    made_up = MadeUpStudy(tmp_path / "run")
    made_up.begin()
    with pytest.raises(Misuse, match=r"holds no summary\.json"):
        sync_study(str(made_up.folder), console, report=True)
    (made_up.folder / "summary.json").write_text("{}")
    remedy = r"is not installed; pip install -c constraints\.txt"
    with pytest.raises(Misuse, match=rf"report --wandb: wandb_workspaces {remedy} '\.\[report\]'"):
        sync_study(str(made_up.folder), console, report=True)
    with pytest.raises(Misuse, match=rf"--tracker mlflow: mlflow {remedy} '\.\[mlflow\]'"):
        sync_study(str(made_up.folder), console, "mlflow")
    out = tmp_path / "out"
    arguments = ["tune", "--space=quick.yaml", f"--out={out}", "--tracker=mlflow"]
    assert main(arguments) == 2
    assert not out.exists()


def test_a_study_shown_by_a_tracker_says_what_brings_it_there(
    tmp_path: Path, console: Console, make_bundle: Callable[..., Path]
) -> None:
    made_up = MadeUpStudy(tmp_path / "run")
    made_up.trials()
    made_up.finish(make_bundle)
    notes: list[str] = []
    with showing(made_up.folder, "disabled", ["tensorboard"], notes.append) as shown:
        facts = shown.facts(["t0001"])
        again = f"r2search sync {made_up.folder} --tracker tensorboard"
        assert facts["trackers"] == {"tensorboard": again}
        assert (facts["mode"], shown.anywhere) == ("disabled", False)
    assert sync_study(str(made_up.folder), console, "tensorboard") == 0
    told = json.loads((made_up.folder / "summary.json").read_text())["tracking"]
    assert told["trackers"] == {"tensorboard": None}
    assert len(list(made_up.folder.glob("tensorboard/*/*"))) == 7


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
