"""A study whose driver is killed again and again: what is lost, and how soon it goes on.

    python benchmarks/faults.py --kills 20 --json faults.json

The driver of a small study on synthetic images is killed (`kill -9`) at random moments, its start
and its calibration included, and taken up by `--resume` each time. Ray's processes are left to
find out by themselves. Of the last driver workers are killed, one after the other. At last it is
ended by Ctrl-C, so that it tests, exports and reports. Then its record must hold every trial once
and every epoch of a trial once, in order, and the bundle must load; the command fails where they
do not.

`to the first step` is from the start of the command to the first training step after it, as the
first report tells it: when it came, less what its epoch took. `after a worker` is the same from the
kill of a trial's worker to that trial's next step. `ended after Ctrl-C` is from the signal to the
driver's end, its results written.
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from r2search.bundle import load_bundle
from r2search.environment import machine, revision, versions
from r2search.tuning.events import read_events, read_trials

TUNE = Path(__file__).parents[1] / "launch" / "tune.py"
BEGIN = "--space quick.yaml --time 10h --trials 10000 --wandb disabled"
LONGEST_S = 60.0  # that a driver lives: the first step comes after about half of it
END_S = 30.0  # that the last one has, until its workers are killed
WORKER_S = (3.0, 8.0)  # between two kills of workers
WAIT_S = 60.0  # for a trial to go on


def start(arguments: str, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, str(TUNE), *arguments.split()],
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def reports_in(record: Path) -> list[dict[str, Any]]:
    if not record.exists():
        return []
    return [event for event in read_events(record) if event["event"] == "report"]


def live(process: subprocess.Popen[bytes], record: Path, seconds: float) -> float | None:
    """Let a driver live so long; how soon its first training step came, if one did.

    An epoch that the driver before had under way is told by one report, too: its time counts from
    where it was taken up, so the figure is at worst too small by what was trained before.
    """
    began, before = time.time(), len(reports_in(record))
    first: float | None = None
    while time.time() - began < seconds:
        if process.poll() is not None:
            sys.exit(f"the driver ended by itself, with {process.returncode}")
        new = reports_in(record)[before:] if first is None else []
        if new:
            took = new[0]["seconds"]["train"] + new[0]["seconds"]["validate"]
            first = max(0.0, time.time() - began - took)
        time.sleep(0.1)
    return first


def kill_workers(record: Path, kills: int, rng: random.Random) -> list[float]:
    """Kill workers whose trials have reported; how soon each of these trials trained again.

    A trial whose last report was under way when it was killed may have ended by that: no figure.
    """
    found = []
    for _ in range(kills):
        time.sleep(rng.uniform(*WORKER_S))
        running = [t for t in read_trials(record) if t.outcome is None and t.reports]
        if not running:
            continue
        trial = rng.choice(running)
        os.kill(int(trial.worker.rpartition(":")[2]), signal.SIGKILL)
        killed = time.time()
        while time.time() - killed < WAIT_S:
            now = next(t for t in read_trials(record) if t.trial == trial.trial)
            if now.worker != trial.worker:  # else it had told of an epoch just before
                took = now.reports[-1].seconds
                found.append(max(0.0, time.time() - killed - took["train"] - took["validate"]))
            if now.worker != trial.worker or now.outcome is not None:
                break
            time.sleep(0.05)
        else:
            sys.exit(f"{trial.trial} did not go on within {WAIT_S:.0f} s of its worker's end")
    return found


def faults_of(run_dir: Path) -> list[str]:
    """What is wrong with the record and the bundle of an ended study."""
    events = list(read_events(run_dir / "trials.jsonl"))
    begun = Counter(event["trial"] for event in events if event["event"] == "trial")
    found = [f"{name} began {count} times" for name, count in begun.items() if count > 1]
    epochs: dict[str, list[int]] = {}
    for event in events:
        if event["event"] == "report":
            epochs.setdefault(event["trial"], []).append(event["epoch"])
    for name, told in epochs.items():
        if told != list(range(1, len(told) + 1)):
            found.append(f"{name} has the epochs {told}")
    ended = {event["trial"] for event in events if event["event"] == "end"}
    found += [f"{name} never ended" for name in begun if name not in ended]
    summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    if load_bundle(run_dir / "bundle").manifest.trial != summary["incumbent"]["trial"]:
        found.append("the bundle is not the incumbent")
    return found


def measure(
    kills: int, worker_kills: int, seed: int, folder: Path, console: Console
) -> dict[str, Any]:
    """Begin, kill and take up; then end the study and look at what it left."""
    rng, run_dir, log = random.Random(seed), folder / "run", folder / "study.log"
    record, steps, arguments = run_dir / "trials.jsonl", [], f"{BEGIN} --out {run_dir}"
    for number in range(kills + 1):
        process = start(arguments, log)
        first = live(process, record, END_S if number == kills else rng.uniform(1, LONGEST_S))
        if number and first is not None:
            steps.append(first)
        if number == kills:
            again = kill_workers(record, worker_kills, rng)
        process.send_signal(signal.SIGINT if number == kills else signal.SIGKILL)
        sent = time.time()
        code = process.wait()
        ending = time.time() - sent
        console.print(f"driver {number + 1} of {kills + 1}: {len(reports_in(record))} reports")
        if record.exists():
            arguments = f"--resume {run_dir} --wandb disabled"
        elif run_dir.exists():
            os.replace(run_dir, folder / f"begun-{number}")  # killed before there was a record
    if code != 128 + signal.SIGINT:
        sys.exit(f"the last driver ended with {code}:\n{log.read_text(encoding='utf-8')[-2000:]}")
    if not steps:
        sys.exit(f"none of {kills} drivers came to a training step; take more --kills")
    return {
        "kills": kills,
        "trials": len({event["trial"] for event in reports_in(record)}),
        "reports": len(reports_in(record)),
        "to_first_step_s": statistics.median(steps),
        "to_first_step_worst_s": max(steps),
        "resumed_far_enough": len(steps),
        "worker_kills": len(again),
        "after_worker_s": statistics.median(again),
        "after_worker_worst_s": max(again),
        "after_ctrl_c_s": ending,
        "faults": faults_of(run_dir),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, help="of the driver (20)")
    parser.add_argument("--worker-kills", type=int, default=10, help="at the end (10)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    console = Console()
    with TemporaryDirectory(prefix="r2search-faults-") as folder:
        found = measure(options.kills, options.worker_kills, options.seed, Path(folder), console)
    table = Table(
        *("drivers killed", "trials", "reports", "to the first step, median", "worst"),
        *("workers killed", "after a worker, median", "worst", "ended after Ctrl-C", "faults"),
    )
    table.add_row(
        str(found["kills"]),
        str(found["trials"]),
        str(found["reports"]),
        f"{found['to_first_step_s']:.1f} s",
        f"{found['to_first_step_worst_s']:.1f} s",
        str(found["worker_kills"]),
        f"{found['after_worker_s']:.1f} s",
        f"{found['after_worker_worst_s']:.1f} s",
        f"{found['after_ctrl_c_s']:.1f} s",
        str(len(found["faults"])),
    )
    console.print(table)
    if options.json:
        facts = found | {"hardware": machine(), "versions": versions(), "revision": revision()}
        options.json.write_text(json.dumps(facts, indent=2), encoding="utf-8")
    if found["faults"]:
        sys.exit("\n".join(found["faults"]))


if __name__ == "__main__":
    main()
