"""U-Net, ResU-Net, RU-Net and R2U-Net, at equal parameters and equal training time.

    python benchmarks/family.py --space nuclei.yaml --data data/dsb2018 --resize 128 --out nuclei
    python benchmarks/family.py --space retina.yaml --data data/chase_db1 --resize 320 --out retina

The claim of the published systems is that recurrence and residuals win "at almost equal
parameters". Here every member has the same depth and the number of filters that brings its
parameters within 2 % of each other; each is tuned by the same search for the same time (rate,
loss, batch, patch, augmentation; no baselines, no starts), and its best setting is then trained
with several seeds, all for the same seconds of training, with the schedule of that length. Scores
are those of the test split, at the images' own size, by the best epoch on validation. Equal
parameters take at least 34 filters at the first level, so that two cores see few images at full
size: `--resize` brings the longer edge of all images to so many pixels, and epochs are short.
Whatever the folder holds already is not done again, so that the command may be stopped and
continued.
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
from seeds import train

from r2search.config import ModelConfig, Study
from r2search.finish import write_json
from r2search.models.cost import model_cost
from r2search.space import load_study
from r2search.strict import parse_duration
from r2search.study import run_study

MEMBERS: dict[str, dict[str, Any]] = {  # name -> model settings
    "U-Net": {"block": "conv"},
    "ResU-Net": {"block": "residual"},
    "RU-Net": {"block": "recurrent", "recurrence": 2},
    "R2U-Net": {"block": "recurrent_residual", "recurrence": 2},
}
DEPTH, DROPOUT = 2, 0.1
TOLERANCE = 0.02
EPOCH_PIXELS = 250_000  # the search needs several epochs of each trial, the slowest member's too


def equal_members() -> dict[str, ModelConfig]:
    """Every member with the filters that make their parameters equal, as few as will do."""
    for filters in range(8, 128):
        target = parameters(sized(MEMBERS["U-Net"], filters))
        found = {
            name: min(
                (sized(settings, other) for other in range(filters // 2, filters + 1)),
                key=lambda config: abs(parameters(config) - target),
            )
            for name, settings in MEMBERS.items()
        }
        counts = [parameters(config) for config in found.values()]
        if max(counts) / min(counts) < 1 + TOLERANCE:
            return found
    raise AssertionError("no filters make the members equal")


def sized(settings: dict[str, Any], filters: int) -> ModelConfig:
    return ModelConfig(depth=DEPTH, dropout=DROPOUT, base_filters=filters, **settings)


def parameters(config: ModelConfig) -> int:
    return model_cost(config, 64, 64).parameters


def member_study(options: argparse.Namespace, model: ModelConfig) -> Study:
    """The search of one member: its network is fixed, its training is tuned."""
    fixed = {
        f"model.{name}": getattr(model, name)
        for name in ("block", "recurrence", "depth", "base_filters", "dropout")
    }
    given = {
        "data.root": options.data,
        "data.otherwise": "error",
        "data.resize": options.resize,
        "train.epoch_pixels": EPOCH_PIXELS,
        "budget.time": options.tune,
    }
    study = load_study(options.space, fixed | given)
    return study.model_copy(update={"baselines": {}, "starts": {}})


def tune(options: argparse.Namespace, name: str, model: ModelConfig) -> dict[str, Any]:
    """The summary of a member's search, run now unless it was before."""
    run_dir = options.out / name
    path = run_dir / "summary.json"
    if not path.exists():
        run_study(member_study(options, model), run_dir, tracking="disabled")
    summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return summary


def timed(trial: dict[str, Any], run_dir: Path, seconds: float) -> dict[str, Any]:
    """The incumbent with as many epochs as it trains in `seconds`."""
    lines = map(json.loads, (run_dir / "trials.jsonl").read_text(encoding="utf-8").splitlines())
    own = [
        line["seconds"]["train"]
        for line in lines
        if line.get("trial") == trial["trial"] and "seconds" in line
    ]
    return {
        "config": trial["config"],
        "planned_epochs": max(1, round(seconds / statistics.median(own))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--space", required=True, help="space file whose training settings are tuned"
    )
    parser.add_argument("--data", required=True, help="the images")
    parser.add_argument("--resize", type=int, required=True, help="longer edge, pixels")
    parser.add_argument("--tune", type=parse_duration, default=420.0, help="search of each member")
    parser.add_argument(
        "--train", type=parse_duration, default=150.0, help="of each seed, training alone"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True, help="folder to write and continue")
    options = parser.parse_args()
    members = equal_members()
    found = options.out / "seeds.json"
    done = json.loads(found.read_text(encoding="utf-8")) if found.exists() else {}
    trials = {
        name: timed(tune(options, name, model)["incumbent"], options.out / name, options.train)
        for name, model in members.items()
    }
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        futures = {
            pool.submit(
                train, load_study(options.out / name / "space.yaml"), trial, seed, 1
            ): f"{name} {seed}"
            for name, trial in trials.items()
            for seed in range(1, options.seeds + 1)
            if f"{name} {seed}" not in done
        }
        for future in as_completed(futures):
            done[futures[future]] = future.result()
            write_json(found, done)
    show(members, done)


def show(members: dict[str, ModelConfig], done: dict[str, Any]) -> None:
    """The table: mean and standard deviation over the seeds."""
    table = Table(
        "", "filters", "parameters", "epochs", "train s", "val Dice", "test Dice", "test IoU"
    )
    for name, model in members.items():
        rows = [row for key, row in done.items() if key.rpartition(" ")[0] == name]
        columns = [("val", "dice_mean"), ("test", "dice_mean"), ("test", "iou_mean")]
        cells = [[row[part][metric] for row in rows] for part, metric in columns]
        table.add_row(
            name,
            str(model.base_filters),
            f"{parameters(model):,}",
            str(rows[0]["epochs"]),
            f"{statistics.mean(row['train_s'] for row in rows):.0f}",
            *(f"{statistics.mean(v):.4f} ± {statistics.stdev(v):.4f}" for v in cells),
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
