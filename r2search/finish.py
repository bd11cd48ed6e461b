"""What follows the training: the test split, the bundle, the report, summary.json."""

import hashlib
import io
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2search.bundle import export_bundle
from r2search.config import Study, TrialConfig
from r2search.data.prepare import fit_preparation
from r2search.data.samples import Sample, SampleSet
from r2search.deciding import Decision, decide
from r2search.records import CHECKPOINTS, TrialOutcome
from r2search.report.card import model_card
from r2search.report.html import write_report
from r2search.report.pictures import errors, legend_of, overlay, sheet
from r2search.report.wording import class_names
from r2search.scoring import at_threshold, restore
from r2search.summary import account_time, count_trials, describe_trial, summarize_study
from r2search.testing import open_test
from r2search.train.evaluation import evaluate
from r2search.train.hardware import detect
from r2search.train.image_metrics import ImageScorer
from r2search.train.metrics import classify
from r2search.tuning.events import Ledger
from r2search.tuning.rungs import describe_search
from r2search.weights import WEIGHTS

PICTURES = "pictures"  # folder of a run: the images shown in its report
PLACES = ("", "second ", "third ")  # of the best and of the worst ones


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """A study whose training is over."""

    study: Study
    samples: SampleSet
    run_dir: Path
    ledger: Ledger
    whole: bool  # no error ended the search
    signal: int | None  # that interrupted it
    search_seconds: float  # of all sessions, and of all their workers together
    worker_seconds: float
    threads: int  # of one worker
    facts: dict[str, Any]  # command, versions, revision, hardware, tracking

    def status(self, best: TrialOutcome | None) -> str:
        """How the study ended, in the word of summary.json; `best` is its incumbent."""
        if self.signal is not None:
            return "interrupted"
        if best is None:
            return "failed"
        return "completed" if self.whole else "partial"


def finish(trained: Trained, refresh: Callable[[str], None]) -> dict[str, Any]:
    """Test, export and report; returns what summary.json holds.

    Without any trial to rank there is no bundle.
    """
    study, samples, run_dir, ledger = (
        trained.study,
        trained.samples,
        trained.run_dir,
        trained.ledger,
    )
    trials = list(ledger.trials.values())
    refresh("deciding")
    decision = decide(study, samples, run_dir, ledger)
    best = decision.best if decision else None
    test, images, metrics = None, None, dict[str, float]()
    if decision is not None:
        refresh("testing")
        test = open_test(study, samples, run_dir, ledger, decision)
        level = decision.thresholds.get(decision.chosen)
        images, metrics = picture(study, samples, run_dir, decision.best, level)
    refresh("reporting")
    summary = summarize_study(
        study,
        samples,
        trials,
        best,
        trained.facts
        | {
            "status": trained.status(best),
            "signal": trained.signal,
            "space": {"path": "space.yaml", "sha256": sha256(run_dir / "space.yaml")},
            "confirmed": decision.confirmed if decision else None,
            "test": test,
            "images": images,
            "search": describe_search(study),
            "trials": count_trials(trials, ledger.refused),
            "time": account_time(
                [*trials, *ledger.confirmed.values()],
                ledger.elapsed(),
                trained.search_seconds,
                study.budget.time,
                trained.worker_seconds,
            ),
        },
    )
    if decision is not None:  # those of its epoch stay as they are
        restate(study, summary, decision)
        recorded = summary["incumbent"]["metrics"]
        summary["incumbent"]["metrics"] = {f"val/{k}": v for k, v in metrics.items()} | recorded
    summary["optimism"] = optimism(summary)
    from r2search.tuning.audit import audit  # with scipy.stats and optuna.importance: at the end

    summary["audit"] = audit(study, trials)
    if decision is not None:
        summary["bundle"] = "bundle"
        export(trained, decision, summary, pictures_of(run_dir, summary)[0][1])
    write_report(run_dir / "report.html", summary, trials, pictures_of(run_dir, summary))
    write_json(run_dir / "summary.json", summary)
    ledger.finish()
    return summary


def restate(study: Study, summary: dict[str, Any], decision: Decision) -> None:
    """Of confirmed networks: the training that is shown, and what it has at its own threshold."""
    for name, metrics in decision.validated.items():
        row = describe_trial(study, decision.shown[name])
        assert row is not None
        config = TrialConfig.model_validate(row["config"])
        row["config"] = at_threshold(config, decision.thresholds.get(name)).model_dump(mode="json")
        row["metrics"] = row["metrics"] | {f"val/{key}": value for key, value in metrics.items()}
        row["value"] = row["metrics"][study.metric.name]
        if name == decision.chosen:
            summary["incumbent"] = row
        if name in summary["baselines"]:
            summary["baselines"][name] = row


def picture(
    study: Study,
    samples: SampleSet,
    run_dir: Path,
    best: TrialOutcome,
    threshold: float | None = None,
) -> tuple[dict[str, Any], dict[str, float]]:
    """The score of every validation image, best first, and what was drawn of some of them.

    What summary.json holds under `images`, and all metrics. The typical one is shown first, then
    the best ones and the worst ones; they lie as PNG sheets (image, mask, prediction, errors) in
    PICTURES. `threshold`: in place of that of its config.
    """
    predictor = restore(run_dir, best, samples, threshold).snapshot()
    config = predictor.config
    metric = study.metric.name.removeprefix("val/")
    scorer = ImageScorer(samples.val, config.inference.threshold)
    metrics, per_image = evaluate(predictor, samples.val, scorer)
    sign = -1 if study.metric.goal == "maximize" else 1
    order = sorted(range(len(per_image)), key=lambda i: (sign * per_image[i][1][metric], i))
    kinds = {"median": order[len(order) // 2]}
    for kind, ranked in (("best", order), ("worst", order[::-1])):
        kinds |= {place + kind: index for place, index in zip(PLACES, ranked, strict=False)}
    names = class_names(config.data.labels, samples.classes)
    (run_dir / PICTURES).mkdir(exist_ok=True)
    shown, seen = [], set()
    for kind, index in kinds.items():
        if index in seen:
            continue
        seen.add(index)
        sample, score = samples.val[index], per_image[index][1][metric]
        probability = predictor.probability(sample.image, sample.fov)
        predicted = classify(probability, config.inference.threshold)
        file = f"{PICTURES}/{kind.replace(' ', '-')}.png"
        (run_dir / file).write_bytes(sample_sheet(sample, predicted, names))
        caption = f"The {kind} validation image, {sample.id}: {metric} {score:.3f}"
        shown.append({"file": file, "caption": caption})
    scores = [{"id": per_image[i][0], "value": per_image[i][1][metric]} for i in order]
    images = {"metric": metric, "scores": scores, "shown": shown}
    return images | {"calibration": scorer.reliability()}, metrics


def pictures_of(run_dir: Path, summary: dict[str, Any]) -> list[tuple[str, bytes]]:
    """Captions with PNG files, as far as they lie in a run folder."""
    shown = (summary.get("images") or {}).get("shown") or ()
    found = [(row["caption"], run_dir / PICTURES / Path(row["file"]).name) for row in shown]
    return [(caption, path.read_bytes()) for caption, path in found if path.is_file()]


def sample_sheet(sample: Sample, predicted: NDArray[np.uint8], names: Sequence[str]) -> bytes:
    """PNG of one image: image | mask | prediction | errors.

    `predicted` (H, W) has class indices; `names` are those of the foreground classes.
    """
    row = [
        sample.image,
        overlay(sample.image, sample.mask),
        overlay(sample.image, predicted),
        errors(sample.image, predicted, sample.mask, sample.fov),
    ]
    page = sheet([row], ["image", "mask", "prediction", "errors"], legend=legend_of(names))
    buffer = io.BytesIO()
    page.save(buffer, format="PNG")
    return buffer.getvalue()


def export(trained: Trained, decision: Decision, summary: dict[str, Any], preview: bytes) -> None:
    """Write the bundle of the incumbent, with the threshold that validation chose for it."""
    best = decision.best
    config = at_threshold(
        TrialConfig.model_validate(best.config), decision.thresholds.get(decision.chosen)
    )
    hardware = detect(config.train, threads=trained.threads)
    data = {key: summary["data"][key] for key in ("reader", "fingerprint", "split", "notes")}
    preparation = fit_preparation(config.data, trained.samples.train)
    facts = {
        "study": trained.study.name,
        "trial": decision.chosen,
        "epoch": summary["incumbent"]["epoch"],
        "config": config,
        "dtype": hardware.dtype,
        "memory_format": hardware.memory_format,
        "threads": hardware.threads,
        "metrics": summary["incumbent"]["metrics"],
        "mean": preparation.mean,
        "std": preparation.std,
        "data": data | {"channels": trained.samples.channels, "seed": trained.study.search.seed},
        "tested": (summary["test"] or {}).get("opened", 0),
        "synthetic": trained.samples.synthetic,
        "versions": summary["versions"],
    }
    weights_path = trained.run_dir / CHECKPOINTS / best.trial / WEIGHTS
    export_bundle(trained.run_dir / "bundle", weights_path, facts, model_card(summary), preview)


def optimism(summary: dict[str, Any]) -> float | None:
    """Validation minus test, of the objective; None without a test score."""
    name = summary["objective"]["name"].removeprefix("val/")
    if not summary["test"] or not summary["incumbent"]:
        return None
    return float(summary["incumbent"]["value"] - summary["test"]["incumbent"][name]["value"])


def write_json(path: Path, facts: dict[str, Any]) -> None:
    """Write a JSON file whole."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(facts, indent=2, default=str, allow_nan=False), encoding="utf-8")
    os.replace(part, path)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
