"""Tracking: what it costs a study to be shown at Weights & Biases.

    python benchmarks/tracking.py --trials 16 --pairs 2 --json tracking.json

The same study again and again, in turn with W&B disabled and online, the real SDK against the
project's own server on this machine (tests/wandb_server.py). Its trials are the same: random draws,
none stopped, a fixed number. What tracking costs is told in three ways, each of which sees what
another does not:

- by the clock of whole studies: the search from its begin to its last report, and the same epoch of
  the same trial in both. That holds as far as the machine is equally fast in both;
- by the clock within a study, for machines whose speed changes from minute to minute: during the
  search the processes that track run and rest in turn, some seconds each. They miss nothing, since
  they follow the record, and make up for the rest while they run. So tracking costs what an epoch
  with them takes longer than another one of the same trial without them, times the share of the
  time that they ran;
- by account: the seconds of the processor that they used, the most that they can cost on a machine
  without a core to spare.
"""

import argparse
import json
import math
import os
import random
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table
from running import run, write_folder

from r2search.data import load
from r2search.environment import machine, revision, versions
from r2search.space import load_study
from r2search.tuning.events import read_events

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "tests"))
OFF, ON = "disabled", "online"
OURS = ("r2search.tuning.trackers.follow", "wandb-core")  # in the command lines of what tracks
LOOK_S = 0.5
EPOCHS = 6  # of a trial
TURN_S = 6.0, 14.0  # how long they run, or rest


class Turns(threading.Thread):
    """Counts what the processes that track use; during the search they run and rest in turn."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.done, self.searching = threading.Event(), threading.Event()
        self.rested: list[tuple[float, float]] = []  # from when to when, seconds since 1970
        self._used: dict[int, float] = {}
        self._lengths = random.Random(0)  # not in step with anything

    @property
    def seconds(self) -> float:
        """Of the processor, all that they have used."""
        return sum(self._used.values())

    def phase(self, name: str) -> None:
        """The study has come so far."""
        (self.searching.set if name == "searching" else self.searching.clear)()

    def run(self) -> None:
        began, until, resting = 0.0, 0.0, False
        while not self.done.wait(LOOK_S):
            processes, now = self._found(), time.time()
            if now < until and (self.searching.is_set() or not resting):
                continue
            if resting:
                self.rested.append((began, now))
            resting = not resting and self.searching.is_set() and bool(processes)
            for process in processes:
                with suppress(psutil.Error):
                    process.suspend() if resting else process.resume()
            began, until = now, now + self._lengths.uniform(*TURN_S)

    def _found(self) -> list[psutil.Process]:
        found = []
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):  # it has ended
                if any(ours in " ".join(process.cmdline()) for ours in OURS):
                    used = process.cpu_times()
                    self._used[process.pid] = used.user + used.system
                    found.append(process)
        return found


@contextmanager
def served() -> Iterator[None]:
    """A W&B server that studies find by their environment."""
    from wandb_server import KEY, WandbServer

    with WandbServer() as server, TemporaryDirectory() as home:
        os.environ |= {
            "WANDB_BASE_URL": server.url,
            "WANDB_API_KEY": KEY,
            "WANDB_CONFIG_DIR": home,
            "NO_PROXY": "127.0.0.1",
        }
        yield
        assert server.faults == [], server.faults


def one_study(flags: list[str], how: str, out: Path) -> dict[str, Any]:
    """Run it once: seconds of its search, its epochs, and what tracking used."""
    turns = Turns()
    turns.start()
    command = [str(HERE.parent / "launch" / "tune.py"), *flags, "--wandb", how, "--out", str(out)]
    served = time.process_time()
    ran = run(command, out.with_suffix(".log"), at_phase=turns.phase)
    turns.done.set()
    events = list(read_events(out / "trials.jsonl"))
    first = next(event for event in events if event["event"] == "study")
    clock = first["unix_time"] - first["t"]
    reports = [event for event in events if event["event"] == "report"]
    last = clock + max(event["t"] for event in reports)
    began = ran.phases["searching"]
    tracking = json.loads((out / "summary.json").read_text(encoding="utf-8"))["tracking"]
    return {
        "search_s": last - began,
        "wall_s": ran.ended - ran.began,
        "epochs": epoch_seconds(reports),
        "tracked": {name(event): tracked(event, clock, turns.rested) for event in reports},
        "ran": 1 - overlap(began, last, turns.rested) / (last - began),
        "tracking_cpu_s": turns.seconds,
        "server_cpu_s": time.process_time() - served,  # and what it takes to watch
        "not_uploaded": len(tracking["not_uploaded"]),
    }


def name(report: dict[str, Any]) -> str:
    return f"{report['trial']} {report['epoch']}"


def epoch_seconds(reports: list[dict[str, Any]]) -> dict[str, float]:
    """What each epoch of each trial took, by `trial epoch`."""
    return {name(event): seconds_of(event) for event in reports}


def seconds_of(report: dict[str, Any]) -> float:
    return float(report["seconds"]["train"] + report["seconds"]["validate"])


def tracked(report: dict[str, Any], clock: float, rested: list[tuple[float, float]]) -> float:
    """The share of an epoch during which the tracking processes ran."""
    end, took = clock + report["t"], seconds_of(report)
    return 1 - overlap(end - took, end, rested) / took


def overlap(begin: float, end: float, spans: list[tuple[float, float]]) -> float:
    """Seconds between begin and end that lie in the spans."""
    return sum(max(0.0, min(end, to) - max(begin, since)) for since, to in spans)


def slower_while_tracked(studies: list[dict[str, Any]]) -> tuple[float, float]:
    """By what share a tracked study is slower, from its own epochs, and the standard error.

    Least squares of an epoch's seconds, over the mean of its trial's, by the share of it that was
    tracked. A trial's first epoch, which also allocates memory, is left out.
    """
    trials: dict[tuple[int, str], list[tuple[float, float]]] = {}
    for number, study in enumerate(studies):
        for epoch, took in study["epochs"].items():
            trial, _, index = epoch.partition(" ")
            if index != "1":
                trials.setdefault((number, trial), []).append((study["tracked"][epoch], took))
    points = []
    for epochs in trials.values():
        share, took = map(statistics.mean, zip(*epochs, strict=True))
        points += [(x - share, y / took - 1) for x, y in epochs]
    spread = sum(x * x for x, _ in points)
    slope = sum(x * y for x, y in points) / spread
    free = len(points) - len(trials) - 1
    error = math.sqrt(sum((y - slope * x) ** 2 for x, y in points) / free / spread)
    ran = statistics.mean(study["ran"] for study in studies)
    return slope * ran, error * ran


def epochs_slower(off: dict[str, float], on: dict[str, float]) -> float:
    """By what share the same epochs took longer, at the median."""
    return statistics.median(on[epoch] / off[epoch] for epoch in off.keys() & on.keys()) - 1


def summarize(pairs: list[dict[str, dict[str, Any]]], cores: int) -> dict[str, float]:
    """Medians over the pairs; shares of the time without tracking."""
    slower = [pair[ON]["search_s"] / pair[OFF]["search_s"] - 1 for pair in pairs]
    whole = [pair[ON]["wall_s"] / pair[OFF]["wall_s"] - 1 for pair in pairs]
    used = [pair[ON]["tracking_cpu_s"] / (cores * pair[ON]["wall_s"]) for pair in pairs]
    epochs = [epochs_slower(pair[OFF]["epochs"], pair[ON]["epochs"]) for pair in pairs]
    within, error = slower_while_tracked([pair[ON] for pair in pairs])
    return {
        "within_slower": within,
        "within_error": error,
        "search_slower": statistics.median(slower),
        "epochs_slower": statistics.median(epochs),
        "wall_slower": statistics.median(whole),
        "processor_share": statistics.median(used),
    }


def table_of(pairs: list[dict[str, dict[str, Any]]], found: dict[str, float]) -> Table:
    table = Table("pair", "W&B", "search", "whole", "epochs", "tracking, CPU", "not uploaded")
    for number, pair in enumerate(pairs, start=1):
        for how, facts in pair.items():
            seconds = (f"{facts[k]:.1f} s" for k in ("search_s", "wall_s"))
            cpu = f"{facts['tracking_cpu_s']:.1f} s"
            left = str(facts["not_uploaded"])
            table.add_row(str(number), how, *seconds, str(len(facts["epochs"])), cpu, left)
    table.caption = (
        f"online: search {found['search_slower']:+.1%}, whole {found['wall_slower']:+.1%}, "
        f"the same epochs {found['epochs_slower']:+.1%} (medians); "
        f"within a study {found['within_slower']:+.1%} ± {found['within_error']:.1%}; "
        f"{found['processor_share']:.1%} of all cores' time"
    )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=16, help="of each study (16)")
    parser.add_argument("--pairs", type=int, default=2, help="studies with and without (2)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    space = HERE / "goodput.yaml"
    pairs = []
    with TemporaryDirectory() as temporary, served():
        folder = Path(temporary)
        write_folder(folder / "images", load(load_study(space).fixed.data))
        flags = ["--space", str(space), "--data", str(folder / "images"), "--reader", "folder"]
        flags += ["--trials", str(options.trials), "--time", "2h"]
        fixed = {
            "search.searcher": "random",
            "early_terminate.type": "none",
            "budget.max_epochs": EPOCHS,
        }
        flags += [f"--set={key}={value}" for key, value in fixed.items()]
        for number in range(options.pairs):
            order = (OFF, ON) if number % 2 == 0 else (ON, OFF)
            pair = {how: one_study(flags, how, folder / f"{how}-{number}") for how in order}
            pairs.append({how: pair[how] for how in (OFF, ON)})
    found = summarize(pairs, os.cpu_count() or 1)
    Console(width=100).print(table_of(pairs, found))
    if options.json:
        facts = {
            **found,
            "pairs": pairs,
            "time": time.time(),
            "hardware": machine(),
            "versions": versions(),
            "revision": revision(),
        }
        options.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
