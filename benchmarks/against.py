"""What does a study find in 10 and in 20 minutes? r2search against others, for real.

    python benchmarks/against.py --space retina.yaml --data data/chase_db1 --time 20m
        --nnunet nnunet/bin --json against.json

Same images, split, machine and time; each system is run --repetitions times, one after the other,
in turns:

- r2search: `launch/tune.py`, as set in the space file, with its baselines and starts.
- r2search_no_starts: the same without the starts. They were found on the validation images of
  CHASE_DB1, so that there only this one compares the search itself with that of others.
- ray_optuna_asha: OptunaSearch and Ray's ASHA (plain_tune.py), with r2search's trainer.
- random_hyperband: the same with random draws. A Weights & Biases sweep of `method: random` and
  `early_terminate: hyperband` stops by the same rule: after min_iter times powers of eta, whoever
  is not among the best 1/eta of those that came so far. Its server is not asked here.
- nnunet: nnU-Net v2, 2-D, planned by itself, its shortest trainer ended by the clock
  (nnunet_training.py). Its planning and preparing, and the prediction of the validation images,
  take no time here: all of the time is for training.

The figure is the objective on validation after half of the time and all of it, counted from the
start of the command: of the searches, of the best epoch so far; of nnU-Net, of its weights then,
scored as all others inside the field of view.

nnU-Net needs an environment of its own, whose folder of commands --nnunet names:
    python3 -m venv nnunet && nnunet/bin/pip install torch==2.13.0 nnunetv2==2.8.1

The JSON is written after every run, with the machine and the revision of each, and continued by the
same command: hours may so be put together from several days, a repetition of all systems on each.
What the runs leave lies beside it (FILE.parts).
"""

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import nnunet_peer
from rich.console import Console
from rich.table import Table
from running import run

from r2search.environment import machine, revision, versions
from r2search.finish import write_json
from r2search.space import dump_study, load_study
from r2search.strict import parse_duration
from r2search.study import prepare
from r2search.tuning.events import read_events

HERE = Path(__file__).parent
SHARES = (0.5, 1.0)  # of the time


def own(options: argparse.Namespace, seed: int, folder: Path, *more: str) -> dict[str, Any]:
    """A study of r2search."""
    given = [*more, "--set", f"search.seed={seed}", "--out", str(folder / "run")]
    ran = run(
        [str(HERE.parent / "launch" / "tune.py"), *_flags(options), *given], folder / "study.log"
    )
    events = list(read_events(folder / "run" / "trials.jsonl"))
    first = next(event for event in events if event["event"] == "study")
    zero = first["unix_time"] - first["t"] - ran.began  # when the study began
    name = first["metric"]["name"]
    told = [
        (zero + event["t"], event["metrics"][name])
        for event in events
        if event["event"] == "report"
    ]
    return _found(options, told) | {"trials": sum(event["event"] == "trial" for event in events)}


def without_starts(options: argparse.Namespace, seed: int, folder: Path) -> dict[str, Any]:
    """A study of r2search that knows of no good config."""
    space = folder / "space.yaml"
    study = load_study(options.space).model_copy(update={"starts": {}})
    space.write_text(dump_study(study), encoding="utf-8")
    return own(options, seed, folder, "--space", str(space))  # the last --space counts


def plain(options: argparse.Namespace, seed: int, folder: Path, *more: str) -> dict[str, Any]:
    """A study by Ray Tune and Optuna, as people write it."""
    given = [*more, "--seed", str(seed), "--out", str(folder / "run")]
    ran = run([str(HERE / "plain_tune.py"), *_flags(options), *given], folder / "study.log")
    reports = json.loads((folder / "run" / "reports.json").read_text(encoding="utf-8"))
    told = [(report["t"] - ran.began, report["objective"]) for report in reports]
    return _found(options, told) | {"trials": len({report["trial"] for report in reports})}


def random(options: argparse.Namespace, seed: int, folder: Path) -> dict[str, Any]:
    return plain(options, seed, folder, "--random")


def _flags(options: argparse.Namespace) -> list[str]:
    return ["--space", options.space, "--data", options.data, "--time", f"{options.time:g}s"]


def _found(options: argparse.Namespace, told: Iterable[tuple[float, float]]) -> dict[str, Any]:
    """The best of what was told in each share of the time; None where there was nothing."""
    told = list(told)
    keep = max if load_study(options.space).metric.goal == "maximize" else min
    values = [
        keep((value for t, value in told if t <= share * options.time), default=None)
        for share in SHARES
    ]
    return {"values": values}


def nnunet(options: argparse.Namespace, seed: int, folder: Path) -> dict[str, Any]:
    given = {"data.root": str(Path(options.data).resolve()), "data.otherwise": "error"}
    study, samples = prepare(load_study(options.space, given))
    return nnunet_peer.train(study, samples, options.time, options.nnunet, folder)


SYSTEMS: dict[str, Callable[[argparse.Namespace, int, Path], dict[str, Any]]] = {
    "r2search": own,
    "r2search_no_starts": without_starts,
    "ray_optuna_asha": plain,
    "random_hyperband": random,
    "nnunet": nnunet,
}


def main() -> None:
    options = parse()
    kept = [name for name in SYSTEMS if name not in options.leave_out]
    if "nnunet" in kept and options.nnunet is None:
        raise SystemExit("nnunet: name the commands of its environment by --nnunet (see --help)")
    kept_at = options.json.with_name(f"{options.json.name}.parts").resolve()
    done = _continued(options, kept)
    for seed in range(options.repetitions):
        for name in kept:
            if seed < len(done[name]):
                continue
            print(f"[{time.strftime('%H:%M:%S')}] {name}, repetition {seed + 1}", flush=True)
            folder = kept_at / f"{name}-{seed}"
            shutil.rmtree(folder, ignore_errors=True)  # it was broken off
            folder.mkdir(parents=True)
            found = SYSTEMS[name](options, seed, folder)
            done[name].append(found | {"machine": machine(), "revision": revision()})
            write_json(options.json, _facts(options, done))
    facts = _facts(options, done)
    print(f"{facts['metric']['name']}, median of {options.repetitions} (each)")
    Console().print(grid_of(done, facts["medians"], options.time))
    print(f"written: {options.json}")


def _continued(options: argparse.Namespace, kept: list[str]) -> dict[str, list[dict[str, Any]]]:
    """What the file has already; of systems that are left out now, too."""
    if not options.json.exists():
        return {name: [] for name in kept}
    facts = json.loads(options.json.read_text(encoding="utf-8"))
    mine = load_study(options.space).name, options.time
    if (facts["space"], facts["seconds"]) != mine:
        raise SystemExit(f"{options.json}: is of another space or time; name another --json")
    return {name: [] for name in kept} | facts["repetitions"]


def _facts(options: argparse.Namespace, done: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    study = load_study(options.space)
    done = {name: runs for name, runs in done.items() if runs}
    return {
        "space": study.name,
        "metric": study.metric.model_dump(),
        "seconds": options.time,
        "shares": SHARES,
        "medians": {
            name: [_median(runs, at) for at in range(len(SHARES))] for name, runs in done.items()
        },
        "repetitions": done,
        "versions": versions(),
    }


def grid_of(
    done: dict[str, list[dict[str, Any]]], medians: dict[str, list[float | None]], seconds: float
) -> Table:
    grid = Table("", *(f"after {share * seconds / 60:g} min" for share in SHARES))
    for name, runs in done.items():
        single = [", ".join(_figure(r["values"][at]) for r in runs) for at in range(len(SHARES))]
        cells = zip(medians[name], single, strict=True)
        grid.add_row(name, *(f"{_figure(value)} ({each})" for value, each in cells))
    return grid


def _median(runs: list[dict[str, Any]], at: int) -> float | None:
    """Of what was found; None when one had found nothing."""
    values = [run["values"][at] for run in runs]
    return None if None in values else statistics.median(values)


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", default="retina.yaml", help="space file")
    parser.add_argument("--data", required=True, help="the images")
    parser.add_argument("--time", type=parse_duration, default=1200.0, help="of each run")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--nnunet", type=Path, help="folder of nnU-Net's commands")
    parser.add_argument("--leave-out", nargs="+", choices=[*SYSTEMS], default=[])
    parser.add_argument("--json", type=Path, required=True, help="file to write and continue")
    return parser.parse_args()


if __name__ == "__main__":
    main()
