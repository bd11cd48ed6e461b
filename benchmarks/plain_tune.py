"""A study as people write it for Ray Tune: for goodput.py and against.py to compare with.

    python benchmarks/plain_tune.py --space benchmarks/goodput.yaml --time 10m --out plain

Settings, images, network, steps and validation are r2search's. The rest is what guides show: the
trainable, a function, loads the images, reports every epoch with a checkpoint, and runs in a fresh
process a trial; OptunaSearch proposes, ASHAScheduler stops. When each epoch ended, what it reached
and where its time went is written to reports.json in the folder.
"""

import argparse
import json
import os
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
import torch
from optuna.samplers import RandomSampler, TPESampler
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from r2search.config import Parameter, Study, Value
from r2search.data import load
from r2search.space import draw, load_study, trial_config
from r2search.strict import parse_duration
from r2search.train.hardware import apply, detect
from r2search.train.trainer import Trainer


def train(drawn: dict[str, Any], study: Study, threads: int) -> None:
    """One trial."""
    began = time.perf_counter()
    config = trial_config(study, drawn)
    samples = load(study.fixed.data, seed=study.search.seed)
    hardware = detect(config.train, threads=threads)
    apply(hardware)
    trainer = Trainer(config, samples, horizon=study.budget.max_epochs, hardware=hardware)
    setup = {"setup": time.perf_counter() - began}
    for _ in range(study.budget.max_epochs):
        report = trainer.run_epoch()
        with TemporaryDirectory() as folder:
            start = time.perf_counter()
            torch.save(trainer.weights(), Path(folder) / "weights.pt")
            saved = {"checkpoint": time.perf_counter() - start}
            facts = {
                "objective": report.metrics[study.metric.name],
                "seconds": report.seconds | setup | saved,
                "reported": time.time(),
            }
            tune.report(facts, checkpoint=tune.Checkpoint.from_directory(folder))
        setup = {}


def define(study: Study, trial: Any) -> None:
    """The space of a study, by run, for Optuna."""
    draw(study, partial(suggest, trial))


def suggest(trial: Any, p: Parameter) -> Value:
    value: Value
    if p.kind == "choice":
        value = trial.suggest_categorical(p.key, p.values)
    elif p.kind == "int":
        low, high, step = int(p.low), int(p.high), int(p.step or 1)
        value = trial.suggest_int(p.key, low, high, step=step, log=p.log)
    else:
        value = trial.suggest_float(p.key, p.low, p.high, step=p.step, log=p.log)
    return value


def search(study: Study, threads: int, storage: Path, *, random: bool) -> list[Path]:
    """The folders of all trials. `random`: Optuna draws them, and models nothing."""
    mode = "max" if study.metric.goal == "maximize" else "min"
    longest = study.budget.max_epochs
    rule = study.early_terminate
    results = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(train, study=study, threads=threads), {"cpu": threads}
        ),
        tune_config=tune.TuneConfig(
            metric="objective",
            mode=mode,
            search_alg=OptunaSearch(
                partial(define, study),
                metric="objective",
                mode=mode,
                sampler=(RandomSampler if random else TPESampler)(seed=study.search.seed),
            ),
            scheduler=ASHAScheduler(
                max_t=longest,
                grace_period=min(rule.grace_period, longest),
                reduction_factor=rule.reduction_factor,
            ),
            num_samples=study.budget.trials,
            time_budget_s=study.budget.time,
        ),
        run_config=tune.RunConfig(name="plain", storage_path=str(storage), verbose=0),
    ).fit()
    return [Path(results[n].path) for n in range(len(results))]


def reports_of(trial_dir: Path) -> list[dict[str, Any]]:
    """The process and end of each epoch, and where its time went; none without a report."""
    path = trial_dir / "result.json"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [
        {
            "process": str(line["pid"]),
            "trial": line["trial_id"],
            "t": line["reported"],
            "objective": line["objective"],
            "seconds": line["seconds"],
        }
        for line in map(json.loads, lines)
        if "reported" in line
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", required=True, help="space file")
    parser.add_argument("--data", help="the images (default: the space file's)")
    parser.add_argument("--reader", help="of the images (default: the space file's)")
    parser.add_argument("--time", type=parse_duration, required=True, help="of the search")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--random", action="store_true", help="nothing is modelled")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="trials at a time")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    options = parser.parse_args()
    given: dict[str, Any] = {"budget.time": options.time, "search.seed": options.seed}
    if options.data:
        given["data.root"] = str(Path(options.data).resolve())
    if options.reader:
        given["data.reader"] = options.reader
    study = load_study(options.space, given)
    options.out.mkdir(parents=True)
    print("[plain] starting:", flush=True)
    ray.init(address="local", log_to_driver=False)
    print("[plain] searching:", flush=True)
    threads = max(1, (os.cpu_count() or 1) // options.workers)
    found = search(study, threads, options.out.resolve() / "ray", random=options.random)
    print("[plain] finishing:", flush=True)
    reports = [report for trial_dir in found for report in reports_of(trial_dir)]
    (options.out / "reports.json").write_text(json.dumps(reports), encoding="utf-8")


if __name__ == "__main__":
    main()
