"""A made-up study, for tests only: none of its numbers was measured."""

from typing import Any

import numpy as np
import pytest

from r2search.config import TrialConfig
from r2search.records import EpochReport, TrialOutcome

METRIC = "val/dice_mean"
BASELINE = {"model.block": "recurrent_residual", "model.recurrence": 2, "model.depth": 4}
EPOCH_S = 6.0


OBSERVER = {"dice_mean": 0.7781, "sensitivity": 0.79, "specificity": 0.97}


def sure(value: float) -> dict[str, float]:
    """A score of the test split with its interval."""
    return {"value": value, "mean": value - 0.001, "low": value - 0.02, "high": value + 0.018}


def make_trial(name: str, seed: int, *, ceiling: float, began: float, **how: Any) -> TrialOutcome:
    """A trial whose objective rises towards `ceiling`; `how` overrides what it tells."""
    rng = np.random.default_rng(seed)
    epochs, planned = how.pop("epochs", 12), 12
    reports = []
    for epoch in range(1, epochs + 1):
        dice = ceiling * (1 - np.exp(-epoch / 2.5)) + 0.008 * rng.standard_normal()
        metrics = {
            METRIC: round(float(dice), 4),
            "val/sensitivity": round(float(dice) - 0.03, 4),
            "val/specificity": 0.97,
            "val/auc_pr": round(float(dice) + 0.05, 4),
            "train/loss": round(float(1 - dice), 4),
        }
        seconds = {"train": 5.0, "feed": 0.4, "validate": 1.0}
        reports.append(EpochReport(epoch=epoch, metrics=metrics, pixels=3_000_000, seconds=seconds))
    overrides = {
        "model.block": str(rng.choice(["conv", "residual", "recurrent_residual"])),
        "model.depth": int(rng.integers(2, 6)),
        "model.base_filters": int(rng.choice([8, 16, 32])),
        "data.patch_size": int(rng.choice([64, 96, 128])),
        "train.lr": float(10 ** rng.uniform(-4, -1.5)),
        "train.class_weights": float(rng.uniform(1, 12)),
    }
    facts: dict[str, Any] = {
        "trial": name,
        "baseline": False,
        "overrides": overrides,
        "config": TrialConfig().model_dump(mode="json"),
        "cost": {"parameters": float(rng.integers(60_000, 9_000_000)), "flops": 1e9},
        "planned_epochs": planned,
        "started": began,
        "ended": began + EPOCH_S * epochs,
        "outcome": "completed" if epochs == planned else "stopped",
        "reason": "" if epochs == planned else "by asha",
        "reports": reports,
        "report_times": [began + EPOCH_S * epoch for epoch in range(1, epochs + 1)],
    }
    return TrialOutcome(**facts | how)


@pytest.fixture
def trials() -> list[TrialOutcome]:
    """Two baselines and 28 trials of all outcomes; t0011 is the best."""
    made = [
        make_trial("B1", 1, ceiling=0.76, began=0.0, baseline=True, overrides=BASELINE),
        make_trial("B2", 2, ceiling=0.70, began=1.0, baseline=True, overrides={"model.depth": 3}),
    ]
    rng, began = np.random.default_rng(3), [75.0, 80.0]
    for index in range(1, 29):
        worker = int(began[0] > began[1])
        epochs = 12 if index in (4, 11, 16, 21, 25) else int(rng.choice([2, 2, 2, 6]))
        ceiling = 0.79 if index == 11 else float(rng.uniform(0.3, 0.77))
        how: dict[str, Any] = {"epochs": epochs}
        if index == 9:
            how = {"epochs": 1, "outcome": "failed", "reason": "FloatingPointError: loss is NaN"}
        if index == 28:
            how = {"epochs": 3, "outcome": "interrupted", "reason": "the study ended"}
        made.append(make_trial(f"t{index:04}", index, ceiling=ceiling, began=began[worker], **how))
        began[worker] += EPOCH_S * how["epochs"]
    return made


@pytest.fixture
def summary(trials: list[TrialOutcome]) -> dict[str, Any]:
    """The summary.json of that study, complete."""
    by_name = {trial.trial: describe(trial) for trial in trials}
    plain = {"dice_mean": 0.7512, "sensitivity": 0.74, "specificity": 0.972, "auc_pr": 0.81}
    test = {name: sure(value) for name, value in plain.items()}
    return {
        "format": 4,
        "status": "completed",
        "name": "retina",
        "question": "Which R2U-Net finds retinal vessels best?",
        "command": "python launch/tune.py --space retina.yaml --time 10m",
        "space": {"path": "space.yaml", "sha256": "5f" * 32},
        "data": {
            "reader": "made_up",
            "fingerprint": "c0ffee" * 8,
            "synthetic": False,
            "split": "by_subject",
            "notes": ["Only 20 of 28 images are there."],
            "counts": {"train": 12, "val": 4, "test": 4},
            "subjects": {"train": ["01", "02"], "val": ["07"], "test": ["09"]},
        },
        "objective": {"name": METRIC, "goal": "maximize", "second_observer": 0.778},
        "incumbent": by_name["t0011"],
        "baselines": {"B1": by_name["B1"], "B2": by_name["B2"]},
        "confirmed": None,
        "test": {
            "incumbent": test,
            "baselines": {"B1": {name: sure(v - 0.02) for name, v in plain.items()}, "B2": None},
            "finalists": {"t0011": test},
            "second_observer": {name: sure(v) for name, v in OBSERVER.items()},
            "whole": None,
            "searched": None,
            "opened": 1,
            "images": "test_images.csv",
        },
        "optimism": 0.034,
        "images": {
            "metric": "dice_mean",
            "scores": [{"id": "07L", "value": 0.81}, {"id": "07R", "value": 0.77}],
            "shown": [],
            "calibration": [{"pixels": 900.0, "predicted": 0.02, "observed": 0.01}],
        },
        "search": {"searcher": "tpe", "seed": 0, "scheduler": "asha", "rungs": [2, 6]},
        "audit": {
            "order": [
                {"from": 2, "to": 6, "trials": 9, "tau": 0.61},
                {"from": 6, "to": None, "trials": 2, "tau": None},
            ],
            "stopping": {"stopped": 21, "finished": 5, "chance": 0.124, "regret": 0.0031},
            "half": {"trial": "t0004", "value": 0.7611, "loss": 0.0315},
            "importance": {
                "trials": 26,
                "epoch": 2,
                "shares": {"train.lr": 0.7, "model.depth": 0.25, "model.dropout": 0.05},
            },
        },
        "trials": {
            "total": 28,
            "completed": 5,
            "stopped": 21,
            "failed": 1,
            "interrupted": 1,
            "infeasible": 6,
            "too_slow": 4,
            "too_large": 2,
        },
        "time": {
            "wall_s": 612.4,
            "budget_s": 600.0,
            "train_s": 980.0,
            "validate_s": 160.0,
            "worker_s": 1200.0,
            "steps_s": 900.0,
            "feed_s": 80.0,
            "checkpoint_s": 5.0,
            "setup_s": 25.0,
            "idle_s": 30.0,
            "goodput": 0.81,
        },
        "tracking": {"mode": "offline", "not_uploaded": ["t0001", "t0002"]},
        "hardware": {"processor": "a made-up CPU", "cores": 2, "memory_gib": 15.6, "workers": 2},
        "versions": {"python": "3.11.2", "torch": "2.13.0", "r2search": "0.1.0"},
        "revision": {"commit": "0123456789abcdef", "dirty": True},
        "bundle": "bundle",
    }


@pytest.fixture
def confirmed(summary: dict[str, Any]) -> dict[str, Any]:
    """The same study, its finalists trained again: t0004 is tied with t0011, and cheaper."""

    def network(mean: float, seeds: list[float], flops: float, **how: Any) -> dict[str, Any]:
        rows = [
            {"training": f"x@{seed}", "seed": seed, "epoch": 11, "value": value}
            for seed, value in enumerate(seeds, start=1)
        ]
        interval = {"mean": mean, "low": mean - 0.03, "high": mean + 0.03}
        about = {"baseline": False, "searched": mean + 0.01, "failed": 0, "behind": None}
        return about | interval | {"flops": flops, "trainings": rows} | how

    def behind(name: str, value: float, p: float, tied: bool) -> dict[str, Any]:
        compared = {"name": name, "behind": value, "low": value - 0.004, "high": value + 0.004}
        return compared | {"wilcoxon": None, "p": p, "tied": tied}

    summary["incumbent"] |= {"trial": "t0004", "training": "t0004@2", "seed": 2}
    config = TrialConfig.model_validate({"inference": {"threshold": 0.44}})
    summary["incumbent"]["config"] = config.model_dump(mode="json")
    summary["confirmed"] = {
        "chosen": "t0004",
        "training": "t0004@2",
        "leader": "t0011",
        "tied": ["t0004"],
        "few_images": True,
        "images": 4,
        "networks": {
            "t0011": network(0.782, [0.779, 0.782, 0.785], 2e9),
            "t0004": network(
                0.780, [0.778, 0.780, 0.782], 1e9, behind=behind("t0004", 0.002, 0.4, True)
            ),
            "B1": network(
                0.70, [0.70], 3e9, baseline=True, behind=behind("B1", 0.08, 0.001, False)
            ),
        },
        "dropped": ["the baselines got 1 of 3 seeds"],
        "thresholds": {"t0004": 0.44, "t0011": 0.48, "B1": 0.5},
        "searched": {"threshold": 0.5, "trial": "t0011", "value": 0.7928, "again": 0.782},
        "threshold": {"chosen": 0.44, "at": [0.4, 0.44, 0.5], "dice": [0.77, 0.782, 0.78]},
    }
    test = summary["test"]
    before = {name: sure(row["value"] - 0.004) for name, row in test["incumbent"].items()}
    test["searched"] = {
        "incumbent": before,
        "baselines": {"B1": None, "B2": None},
        "finalists": {"t0004": before},
        "second_observer": None,
    }
    test["finalists"] = {"t0011": test["incumbent"], "t0004": test["incumbent"]}
    return summary


@pytest.fixture
def two_classes(summary: dict[str, Any]) -> dict[str, Any]:
    """The same study, had it two foreground classes, of mask values 1 and 5; class 2 is worse."""
    scored = [summary["incumbent"], *summary["baselines"].values()]
    for row in scored:
        row["metrics"] = _by_class(row["metrics"])
        row["config"] = TrialConfig.model_validate(
            {"data": {"labels": [1, 5]}, "model": {"classes": 3}}
        ).model_dump(mode="json")
    test = summary["test"]
    for rows, name in ((test, "incumbent"), (test["baselines"], "B1")):
        values = _by_class({key: row["value"] for key, row in rows[name].items()})
        rows[name] = {key: sure(value) for key, value in values.items()}
    return summary


def _by_class(metrics: dict[str, float]) -> dict[str, float]:
    own = {name: value for name, value in metrics.items() if not name.startswith("train/")}
    better = {f"{name}_class1": value + 0.01 for name, value in own.items()}
    return {**metrics, **better, **{f"{name}_class2": value - 0.01 for name, value in own.items()}}


def describe(trial: TrialOutcome) -> dict[str, Any]:
    best = trial.best(METRIC, "maximize")
    assert best is not None
    return {
        "trial": trial.trial,
        "training": trial.trial,
        "seed": 0,
        "epoch": best.epoch,
        "value": best.metrics[METRIC],
        "metrics": best.metrics,
        "overrides": trial.overrides,
        "start": None,
        "config": trial.config,
        "epochs": len(trial.reports),
        "planned_epochs": trial.planned_epochs,
        "share_of_schedule": 0.3,
        "parameters": trial.cost["parameters"],
        "share_of_published": 0.34 if trial.trial == "B1" else None,
        "seconds": 72.0,
    }
