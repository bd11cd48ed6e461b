"""Whole studies, from a space file to a network that predicts, through the real Ray and Optuna."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from r2search.bundle import load_bundle
from r2search.cli import main
from r2search.config import DataConfig
from r2search.data.readers.synthetic import synthetic_retina
from r2search.records import TrialOutcome
from r2search.report.wording import SYNTHETIC
from r2search.summary import KEYS
from r2search.tuning.events import read_events, read_trials

ROOT = Path(__file__).parents[1]
CHASE = ROOT / "../shared/data/chase_db1"
OBJECTIVE = "val/dice_mean"
# A few epochs end these studies, not the clock: a busy machine only makes them slower.
TINY = "--space quick.yaml --time 3m --trials 3 --set budget.max_epochs=2 --final all"
REAL = (
    f"--space retina.yaml --data {CHASE} --time 3m --trials 2 "
    "--set budget.max_epochs=2 --set train.epoch_pixels=300000"
)
CONFIRMED = f"{TINY} --time 20m --set confirm.finalists=2 --set confirm.seeds=2"
ENDLESS = (
    "--space quick.yaml --time 10m --trials 100 --set budget.max_epochs=50 "
    "--set confirm.finalists=2"
)
LONG_CONFIRMED = (
    "--space quick.yaml --time 20m --trials 2 --set budget.max_epochs=4 "
    "--set confirm.finalists=2 --set confirm.seeds=4"
)
END_S = 30.0  # that an interrupted study of small images has here, however busy the machine is


@dataclass(frozen=True)
class Run:
    """A study that has ended."""

    folder: Path
    code: int
    said: str  # standard output and error

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "summary.json").read_text())
        return found

    @property
    def trials(self) -> list[TrialOutcome]:
        return read_trials(self.folder / "trials.jsonl")

    @property
    def report(self) -> str:
        return (self.folder / "report.html").read_text()


def start(folder: Path, arguments: str, log: Path) -> subprocess.Popen[bytes]:
    """`python launch/tune.py` in a process group of its own, as a terminal starts it."""
    command = [sys.executable, str(ROOT / "launch/tune.py"), *arguments.split(), f"--out={folder}"]
    with log.open("wb") as file:
        return subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, cwd=log.parent, start_new_session=True
        )


def run(folder: Path, arguments: str) -> Run:
    log = folder.with_suffix(".log")
    code = start(folder, arguments, log).wait(timeout=600)
    return Run(folder, code, log.read_text())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A study of a baseline and three trials on synthetic images."""
    return run(tmp_path_factory.mktemp("tiny") / "run", TINY)


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same, its two best trials trained again with two seeds, and the baseline with another."""
    return run(tmp_path_factory.mktemp("confirmed") / "run", CONFIRMED)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A study of a baseline and two trials on the photographs of CHASE_DB1."""
    if not CHASE.is_dir():
        pytest.skip(f"the photographs of CHASE_DB1 are not in {CHASE}")
    return run(tmp_path_factory.mktemp("real") / "run", REAL)


def evaluate(
    run: Run,
    split: str,
    capsys: pytest.CaptureFixture[str],
    *options: str,
    bundle: str = "bundle",
) -> dict[str, float]:
    """The metrics that `r2search evaluate` prints of a bundle of the run."""
    csv = str(run.folder.with_suffix(".csv"))
    command = ["evaluate", str(run.folder / bundle), "--split", split, "-o", csv, *options]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert ("test split was opened before: once" in said) == (split == "test")
    printed = re.findall(r"(\w+) +│ +([0-9.]+)", said)
    return {name: float(value) for name, value in printed}


def values(scores: dict[str, dict[str, float]]) -> dict[str, float]:
    """The scores of a row under `test`, without their intervals."""
    return {name: sure["value"] for name, sure in scores.items()}


# On synthetic images


def test_a_study_ends_well(tiny: Run) -> None:
    assert tiny.code == 0, tiny.said
    assert "Traceback" not in tiny.said


def test_it_leaves_the_whole_run_folder(tiny: Run) -> None:
    names = (
        "bundle bundle-final checkpoints environment.json pictures predictions report.html "
        "space.yaml study.journal summary.json test_images.csv trials.jsonl wandb"
    )
    shown = {path.name for path in tiny.folder.iterdir()} - {".lock"}
    assert sorted(shown) == names.split()
    bundle = sorted(path.name for path in (tiny.folder / "bundle").iterdir())
    assert bundle == ["SHA256SUMS", "card.md", "config.yaml", "model.safetensors", "preview.png"]
    facts = json.loads((tiny.folder / "environment.json").read_text())
    assert {"command", "versions", "revision", "hardware", "seed"} <= set(facts)


def test_its_summary_has_every_key_and_says_completed(tiny: Run) -> None:
    summary = tiny.summary
    assert list(summary) == KEYS
    assert (summary["status"], summary["signal"]) == ("completed", None)
    later = {"confirmed", "ensemble", "front", "signal"}
    assert {key for key, value in summary.items() if value is None} == later


def test_it_says_everywhere_that_the_images_are_synthetic(tiny: Run) -> None:
    assert tiny.summary["data"]["synthetic"] is True
    assert SYNTHETIC in tiny.said
    assert SYNTHETIC in tiny.report
    assert "**Synthetic data.**" in (tiny.folder / "bundle" / "card.md").read_text()


def test_the_summary_counts_what_the_record_tells(tiny: Run) -> None:
    trials, counts = tiny.trials, tiny.summary["trials"]
    assert [trial.trial for trial in trials if trial.baseline] == ["U-Net"]
    assert (len(trials), counts["total"], counts["baselines"]) == (4, 3, 1)
    for outcome in ("completed", "stopped", "failed", "interrupted"):
        own = [t for t in trials if t.outcome == outcome and not t.baseline]
        assert counts[outcome] == len(own)
    assert counts["failed"] == 0


def test_the_record_begins_with_what_a_replay_needs(tiny: Run) -> None:
    first, second, *_ = read_events(tiny.folder / "trials.jsonl")
    assert (first["event"], second["event"]) == ("study", "workers")
    assert {"metric", "early_terminate", "budget", "search", "evidence"} <= set(first)
    assert {"workers", "measured"} <= set(second)
    assert first["data"] == tiny.summary["data"]["fingerprint"]


def test_workers_are_used_again_from_trial_to_trial(tiny: Run) -> None:
    workers = {trial.worker for trial in tiny.trials}
    assert len(workers) <= tiny.summary["hardware"]["workers"] < len(tiny.trials)


def test_the_incumbent_is_the_best_report_of_the_record(tiny: Run) -> None:
    values = {
        (trial.trial, report.epoch): report.metrics[OBJECTIVE]
        for trial in tiny.trials
        for report in trial.reports
    }
    best = tiny.summary["incumbent"]
    assert best["value"] == max(values.values()) == values[best["trial"], best["epoch"]]


def test_every_trial_is_an_offline_run_of_wandb(tiny: Run) -> None:
    runs = sorted(path.name for path in (tiny.folder / "wandb").glob("offline-run-*"))
    assert len(runs) == len(tiny.trials)
    assert tiny.summary["tracking"]["mode"] == "offline"
    assert set(tiny.summary["tracking"]["not_uploaded"]) == {t.trial for t in tiny.trials}


def repeated(scores: dict[str, float]) -> dict[str, Any]:
    """What these scores are compared by.

    A worker may add up in another order than `evaluate` does, with other threads, and a pixel just
    at the threshold may fall to its other side: what counts pixels may differ in the fourth digit.
    """
    smooth = {"auc_roc", "auc_pr", "brier"}
    return {
        name: pytest.approx(value, rel=1e-6 if name in smooth else 1e-3, abs=1e-6)
        for name, value in scores.items()
    }


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_exported_network_repeats_its_scores(
    tiny: Run, split: str, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = tiny.summary
    metrics = summary["incumbent"]["metrics"].items()
    stored = {key.removeprefix("val/"): value for key, value in metrics if key.startswith("val/")}
    expected = stored if split == "val" else values(summary["test"]["incumbent"])
    assert evaluate(tiny, split, capsys) == repeated(expected)


def test_the_exported_network_segments_a_picture(tiny: Run, tmp_path: Path) -> None:
    sample = synthetic_retina(None, DataConfig())[0]
    Image.fromarray(sample.image).save(tmp_path / "eye.png")
    out = tmp_path / "out"
    bundle = str(tiny.folder / "bundle")
    assert main(["predict", bundle, str(tmp_path / "eye.png"), "-o", str(out)]) == 0
    with Image.open(out / "eye_mask.png") as picture:
        mask = np.asarray(picture) > 0
    prediction = load_bundle(bundle).predict(sample.image)
    np.testing.assert_array_equal(mask, prediction.mask)
    assert prediction.probability.std() > 0.01  # it tells pixels apart


def test_finalists_are_confirmed_and_one_of_their_trainings_is_exported(
    confirmed: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert confirmed.code == 0, confirmed.said
    summary, manifest = confirmed.summary, load_bundle(confirmed.folder / "bundle").manifest
    found, best, test = summary["confirmed"], summary["incumbent"], summary["test"]
    assert summary["status"] == "completed"
    assert found["dropped"] == []
    assert "U-Net" in found["networks"]
    assert [len(row["trainings"]) for row in found["networks"].values()] == [2, 2, 2]
    assert (best["trial"], best["training"]) == (found["chosen"], found["training"])
    assert (manifest.trial, manifest.config.seed) == (best["trial"], best["seed"])
    assert manifest.config.inference.threshold == found["thresholds"][best["trial"]]
    assert best["config"]["inference"]["threshold"] == found["thresholds"][best["trial"]]
    assert best["metrics"].items() <= manifest.metrics.items()
    stored = {k.removeprefix("val/"): v for k, v in best["metrics"].items() if k[:4] == "val/"}
    assert evaluate(confirmed, "val", capsys) == repeated(stored)
    assert evaluate(confirmed, "test", capsys) == repeated(values(test["incumbent"]))
    searched = values(test["searched"]["incumbent"])
    found_there = evaluate(confirmed, "test", capsys, "--threshold", "0.5")
    assert {name: found_there[name] for name in searched} == repeated(searched)


def test_what_is_made_of_a_confirmed_study_has_a_chosen_threshold_too(
    confirmed: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = confirmed.summary["incumbent"]["config"]["inference"]["threshold"]
    final = load_bundle(confirmed.folder / "bundle-final").manifest
    assert final.config.inference.threshold == chosen
    assert main(["export", str(confirmed.folder), "--ensemble", "2"]) == 0
    capsys.readouterr()
    stored = confirmed.summary["ensemble"]["metrics"]
    own = evaluate(confirmed, "val", capsys, bundle="bundle-ensemble")
    assert own == repeated({name.removeprefix("val/"): value for name, value in stored.items()})
    options = "--threshold", "0.5"
    before = evaluate(confirmed, "val", capsys, *options, bundle="bundle-ensemble")
    assert own["dice_mean"] >= before["dice_mean"] - 1e-3


def test_a_confirmation_is_shown_while_it_runs_and_afterwards(confirmed: Run) -> None:
    assert "confirming 0 of 5: " in confirmed.said
    assert "Confirmed: trained 2 times with different seeds" in confirmed.said
    assert "Confirmed: trained 2 times with different seeds" in confirmed.report
    assert "Confirmed: trained" in (confirmed.folder / "bundle" / "card.md").read_text()
    pooled = confirmed.summary["test"]["incumbent"]["dice_pooled"]
    assert pooled["low"] <= pooled["value"] <= pooled["high"]
    for row in confirmed.summary["test"]["baselines"].values():
        assert row["dice_pooled"]["low"] <= row["dice_pooled"]["high"]


class Addresses(HTMLParser):
    """All that a page loads or leads to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        keys = ("src", "href", "srcset", "action", "poster", "data")
        self.found += [value or "" for key, value in attrs if key in keys]


def test_the_report_loads_nothing_from_elsewhere(tiny: Run) -> None:
    found = Addresses(tiny.report).found
    assert [address for address in found if address.startswith("data:image/png")]
    assert [a for a in found if not a.startswith(("data:", "#"))] == []


def test_the_report_is_drawn_by_a_browser_without_a_network(tiny: Run, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("there is no chromium to open the report in")
    picture = tmp_path / "report.png"

    def browse(*flags: str) -> str:
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=10000"]
        command += ["--window-size=1200,2400", f"--user-data-dir={tmp_path / 'profile'}", *flags]
        command.append((tiny.folder / "report.html").as_uri())
        return subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=120
        ).stdout

    page = browse("--dump-dom")
    assert len(re.findall('class="plot[ "]', page)) == page.count("data-drawn=") > 5
    browse(f"--screenshot={picture}")
    with Image.open(picture) as opened:
        pixels = np.asarray(opened.convert("RGB"))
    assert pixels.shape[:2] == (2400, 1200)
    # Text, curves and photographs: no quarter of the page is of one colour.
    for quarter in np.split(pixels[:2000], 4):
        assert len(np.unique(quarter.reshape(-1, 3), axis=0)) > 50


# Signals


def interrupted(
    folder: Path, arguments: str, seen: str, number: int, send: Callable[[int, int], None]
) -> Run:
    """A study that got a signal as soon as its record had this text; it has ended in time."""
    log, record = folder.with_suffix(".log"), folder / "trials.jsonl"
    process = start(folder, arguments, log)
    waited = time.monotonic() + 240
    while not (record.exists() and seen in record.read_text()):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < waited, log.read_text()
        time.sleep(0.2)
    send(process.pid, number)
    told = time.monotonic()
    code = process.wait(timeout=120)
    took = time.monotonic() - told
    ended = Run(folder, code, log.read_text())
    assert took < END_S, ended.said
    assert code == 128 + number, ended.said
    assert "Traceback" not in ended.said
    assert (ended.summary["status"], ended.summary["signal"]) == ("interrupted", number)
    assert "Interrupted: the study ended before its budget was used." in ended.report
    assert f"r2search tune --resume {folder}" in ended.said
    assert load_bundle(folder / "bundle").manifest.trial == ended.summary["incumbent"]["trial"]
    return ended


def confirmation_of(run: Run) -> list[dict[str, Any]]:
    events = read_events(run.folder / "trials.jsonl")
    return [event["what"] for event in events if event["event"] == "confirm"]


@pytest.mark.parametrize(
    ("number", "send"),
    [(signal.SIGINT, os.killpg), (signal.SIGTERM, os.kill)],  # as Ctrl-C, as a batch system
    ids=["ctrl-c", "sigterm"],
)
def test_an_interrupted_study_keeps_what_it_has(
    tmp_path: Path, number: signal.Signals, send: Callable[[int, int], None]
) -> None:
    ended = interrupted(tmp_path / "run", ENDLESS, '"event": "report"', number, send)
    assert all(trial.outcome for trial in ended.trials)
    assert confirmation_of(ended) == []
    assert ended.summary["confirmed"]["chosen"] is None
    assert ended.summary["test"]["incumbent"]


def test_a_study_that_is_interrupted_while_it_confirms_stops_there(tmp_path: Path) -> None:
    seen = '"what": {"event": "report"'
    ended = interrupted(tmp_path / "run", LONG_CONFIRMED, seen, signal.SIGINT, os.killpg)
    plan, *within = confirmation_of(ended)
    begun = [what["trial"] for what in within if what["event"] == "trial"]
    outcomes = [what["outcome"] for what in within if what["event"] == "end"]
    assert 1 <= len(begun) == len(outcomes) < len(plan["queue"])
    assert "interrupted" in outcomes
    assert ended.summary["confirmed"]["dropped"]
    assert ended.summary["test"]["incumbent"]


# On photographs


def test_a_study_of_photographs_ends_well(real: Run) -> None:
    assert real.code == 0, real.said
    assert real.summary["status"] == "completed"
    assert real.summary["data"]["synthetic"] is False
    assert SYNTHETIC not in real.said


def test_no_child_is_on_two_sides_of_the_split(real: Run) -> None:
    # The first ten children of CHASE_DB1, both eyes of each.
    data = real.summary["data"]
    assert data["subjects"] == {
        "train": ["01", "02", "03", "04", "05", "06"],
        "val": ["07", "08"],
        "test": ["09", "10"],
    }
    assert data["counts"] == {"train": 12, "val": 4, "test": 4}


def test_the_second_observer_stands_beside_the_network(real: Run) -> None:
    # 0.778 on children 09 and 10: architecture, decision 9.
    assert real.summary["test"]["second_observer"]["dice_mean"]["value"] == pytest.approx(
        0.778, abs=5e-4
    )
    value = real.summary["objective"]["second_observer"]
    assert re.search(rf"second observer +{value:.3f}", real.said)
    assert f"{value:.3f}" in real.report


def test_the_network_of_photographs_repeats_its_score(
    real: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    value = real.summary["incumbent"]["value"]
    found = evaluate(real, "val", capsys)
    assert {"dice_mean": found["dice_mean"]} == repeated({"dice_mean": value})


def test_a_final_network_was_trained_on_all_images_after_it(tiny: Run) -> None:
    final, counts = tiny.summary["final"], tiny.summary["data"]["counts"]
    assert final["images"] == sum(counts.values())
    assert final["trial"] == tiny.summary["incumbent"]["trial"]
    bundle = load_bundle(tiny.folder / "bundle-final")
    assert bundle.manifest.metrics == {}
    assert "no image is left to score it with" in tiny.said
