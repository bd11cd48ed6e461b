"""Tracking: what it costs a study to be shown at Weights & Biases.

    python benchmarks/tracking.py --trials 24 --pairs 3 --json tracking.json

The same study again and again, in turn with W&B disabled and online, the real SDK against the
project's own server on this machine (tests/wandb_server.py). Its trials are the same: random draws,
none stopped, a fixed number. So the wall clock of the search, from its begin to its last report,
tells what tracking costs, as far as the machine is equally fast all the while; the same epoch of
the same trial in both studies tells it more surely, since the median over many epochs forgets those
that something else held up; and the seconds of the processor that the tracking processes used tell
the most that it can cost on a machine without a core to spare.
"""

import argparse
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
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


class ProcessorWatch(threading.Thread):
    """Seconds of the processor that the tracking processes have used."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.done = threading.Event()
        self._used: dict[int, float] = {}

    @property
    def seconds(self) -> float:
        return sum(self._used.values())

    def run(self) -> None:
        while not self.done.wait(0.5):
            for process in psutil.Process().children(recursive=True):
                try:
                    if any(ours in " ".join(process.cmdline()) for ours in OURS):
                        used = process.cpu_times()
                        self._used[process.pid] = used.user + used.system
                except psutil.Error:
                    pass  # it has ended


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
    watch = ProcessorWatch()
    watch.start()
    command = [str(HERE.parent / "launch" / "tune.py"), *flags, "--wandb", how, "--out", str(out)]
    served = time.process_time()
    ran = run(command, out.with_suffix(".log"))
    watch.done.set()
    events = list(read_events(out / "trials.jsonl"))
    first = next(event for event in events if event["event"] == "study")
    reports = [event for event in events if event["event"] == "report"]
    last = max(event["t"] for event in reports)
    began = ran.phases["searching"] - (first["unix_time"] - first["t"])
    tracking = json.loads((out / "summary.json").read_text(encoding="utf-8"))["tracking"]
    return {
        "search_s": last - began,
        "wall_s": ran.ended - ran.began,
        "epochs": epoch_seconds(reports),
        "tracking_cpu_s": watch.seconds,
        "server_cpu_s": time.process_time() - served,  # and what it takes to watch
        "not_uploaded": len(tracking["not_uploaded"]),
    }


def epoch_seconds(reports: list[dict[str, Any]]) -> dict[str, float]:
    """What each epoch of each trial took, by `trial epoch`."""
    found = {}
    for event in reports:
        took = event["seconds"]
        found[f"{event['trial']} {event['epoch']}"] = took["train"] + took["validate"]
    return found


def epochs_slower(off: dict[str, float], on: dict[str, float]) -> float:
    """By what share the same epochs took longer, at the median."""
    return statistics.median(on[epoch] / off[epoch] for epoch in off.keys() & on.keys()) - 1


def summarize(pairs: list[dict[str, dict[str, Any]]], cores: int) -> dict[str, float]:
    """Medians over the pairs; shares of the time without tracking."""
    slower = [pair[ON]["search_s"] / pair[OFF]["search_s"] - 1 for pair in pairs]
    whole = [pair[ON]["wall_s"] / pair[OFF]["wall_s"] - 1 for pair in pairs]
    used = [pair[ON]["tracking_cpu_s"] / (cores * pair[ON]["wall_s"]) for pair in pairs]
    epochs = [epochs_slower(pair[OFF]["epochs"], pair[ON]["epochs"]) for pair in pairs]
    return {
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
        f"{found['processor_share']:.1%} of all cores' time"
    )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=24, help="of each study (24)")
    parser.add_argument("--pairs", type=int, default=3, help="studies with and without (3)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    space = HERE / "goodput.yaml"
    pairs = []
    with TemporaryDirectory() as temporary, served():
        folder = Path(temporary)
        write_folder(folder / "images", load(load_study(space).fixed.data))
        flags = ["--space", str(space), "--data", str(folder / "images"), "--reader", "folder"]
        flags += ["--trials", str(options.trials), "--time", "2h"]
        fixed = {"search.searcher": "random", "early_terminate.type": "none"}
        flags += ["--set", "budget.max_epochs=4", *(f"--set={k}={v}" for k, v in fixed.items())]
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
