"""Are a study's figures luck? Its incumbent and baselines, trained again with other seeds.

    python benchmarks/seeds.py RUN --seeds 3 --out seeds.json
    python benchmarks/seeds.py RUN --seeds 3 --out precision.json --dtypes float32 bfloat16
    python benchmarks/seeds.py retina.yaml --set data.root=data/chase_db1 --set model.depth=2 \\
        --epochs 10 --dtypes float32 bfloat16 --out precision.json

The images, their split and the number of epochs are those of the study; weights, patches,
augmentation and dropout are drawn anew by each seed. Each training keeps its best epoch by the
study's objective on validation and scores it once on the test split. With `--dtypes`, the
incumbent alone is trained in each of these precisions. In place of a study's run folder a space
file and `--set` give one config, whose precision is looked at by itself. What is in the JSON file
already is not trained again, so that the command may be stopped and continued.
"""

import argparse
import json
import statistics
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from r2search.config import Study, TrialConfig
from r2search.finish import write_json
from r2search.settings import assignments
from r2search.space import load_study, trial_config
from r2search.study import prepare
from r2search.train.evaluation import evaluate
from r2search.train.hardware import apply, detect
from r2search.train.trainer import Trainer


def train(study: Study, given: dict[str, Any], seed: int, threads: int) -> dict[str, Any]:
    """One training; gives its best epoch with the metrics of validation and test."""
    study, samples = prepare(study)
    config = TrialConfig.model_validate(given["config"]).model_copy(update={"seed": seed})
    hardware = detect(config.train, threads=threads)
    apply(hardware)
    planned = given["planned_epochs"]
    trainer = Trainer(config, samples, horizon=planned, hardware=hardware)
    sign = 1 if study.metric.goal == "maximize" else -1
    reports, weights = [], {}
    for _ in range(planned):
        reports.append(trainer.run_epoch())
        best = max(reports, key=lambda report: sign * report.metrics[study.metric.name])
        if best is reports[-1]:
            weights = trainer.weights()
    trainer.model.load_state_dict(weights)
    test, _ = evaluate(trainer.predictor, samples.test)
    return {
        "epoch": best.epoch,
        "epochs": planned,
        "val": {key.removeprefix("val/"): value for key, value in best.metrics.items()},
        "test": test,
        "train_s": sum(report.seconds["train"] for report in reports),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run", help="run folder of a finished study, or a space file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="over the space file"
    )
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each")
    parser.add_argument("--epochs", type=int, help="of each training (as in the study)")
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "bfloat16"], default=[])
    parser.add_argument("--workers", type=int, default=2, help="trainings at a time, a thread each")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write and continue")
    options = parser.parse_args()
    run = Path(options.run)
    study = load_study(run / "space.yaml" if run.is_dir() else run, assignments(options))
    trials = chosen(options, of_run(run) if run.is_dir() else {"config": of_space(study)})
    done = json.loads(options.out.read_text()) if options.out.exists() else {}
    jobs = [
        (name, seed)
        for seed in range(1, options.seeds + 1)
        for name, trial in trials.items()
        if f"{name} {seed}" not in done
    ]
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        futures = {
            pool.submit(train, study, trials[name], seed, 1): f"{name} {seed}"
            for name, seed in jobs
        }
        for left, future in zip(reversed(range(len(jobs))), as_completed(futures), strict=True):
            done[futures[future]] = future.result()
            write_json(options.out, done)
            print(f"{futures[future]}: done, {left} to go", flush=True)
    show(done, list(trials))


Trials = dict[str, dict[str, Any]]  # config and planned epochs, by name


def of_run(run: Path) -> Trials:
    """The incumbent and the baselines of a study."""
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    trials = {"incumbent": summary["incumbent"]} | summary["baselines"]
    return {name: trial for name, trial in trials.items() if trial is not None}


def of_space(study: Study) -> dict[str, Any]:
    """The config of its fixed settings."""
    config = trial_config(study, {})
    return {"config": config.model_dump(mode="json"), "planned_epochs": config.train.max_epochs}


def chosen(options: argparse.Namespace, trials: Trials) -> Trials:
    """What is trained: the first one in each precision, or all as they are."""
    if options.dtypes:
        name, trial = next(iter(trials.items()))
        trials = {f"{name}, {dtype}": in_precision(trial, dtype) for dtype in options.dtypes}
    if options.epochs:
        trials = {name: t | {"planned_epochs": options.epochs} for name, t in trials.items()}
    return trials


def in_precision(trial: dict[str, Any], dtype: str) -> dict[str, Any]:
    config = TrialConfig.model_validate(trial["config"])
    train = config.train.model_copy(update={"dtype": dtype})
    config = config.model_copy(update={"train": train})
    return {
        "config": config.model_dump(mode="json"),
        "planned_epochs": trial["planned_epochs"],
    }


def show(done: dict[str, Any], names: list[str]) -> None:
    """The table: mean and standard deviation over the seeds."""
    columns = [("val", "dice_mean")]
    for metric in ("dice", "iou", "accuracy", "sensitivity", "precision"):
        columns.append(("test", f"{metric}_mean"))
    table = Table("", "seeds", *(" ".join(column) for column in columns))
    for name in names:
        own = [row for key, row in done.items() if key.rpartition(" ")[0] == name]
        if own:
            cells = [[row[part][metric] for row in own] for part, metric in columns]
            spread = [statistics.stdev(values) if len(own) > 1 else 0.0 for values in cells]
            means = [statistics.mean(values) for values in cells]
            texts = [f"{mean:.4f} ± {sd:.4f}" for mean, sd in zip(means, spread, strict=True)]
            table.add_row(name, str(len(own)), *texts)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
