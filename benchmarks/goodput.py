"""Goodput: the share of its workers' time that a study spends in training steps and validation.

    python benchmarks/goodput.py --time 10m --json goodput.json

Two studies of one space, one after the other, each a command of its own: r2search's, as a person
starts it, and the same as people write it for Ray Tune (plain_tune.py). Worker-seconds are workers
times wall clock, from the start of the command to its end. Synthetic images are written into a
folder first, so that both read files. Where the workers' time goes:

- train, validate: inside epochs; `feed`, the wait for batches, is a part of train.
- setup, checkpoint: as reports have them; what they do not tell is in the lines that follow.
- first trial: from the start of the search to the first step of each worker, without its setup.
- switch:      from the last report of a trial to the first step of the next, without its setup;
               its median is told with the setup.
- waiting:     between the epochs of a trial: for the driver, mostly.
- cut off:     from the last report of a worker to the end of the search: epochs in vain.
- starting, finishing: what lies before the search and after it.

Memory is measured in four more studies of a few trials, on few images and on many of their kind:
what a worker holds by itself, and the node in all, each against the size of the data.
"""

import argparse
import heapq
import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table
from running import Ran, run, size_of, write_folder

from r2search.data import SYNTHETIC, load
from r2search.environment import machine, revision, versions
from r2search.space import load_study
from r2search.strict import parse_duration
from r2search.tuning.events import read_events

HERE = Path(__file__).parent
PLAIN, OWN = "plain Ray Tune", "r2search"
IN_EPOCHS = ("train", "validate", "checkpoint")  # of a report's seconds, one after the other
USES = (*IN_EPOCHS, "setup", "first trial", "switch", "waiting", "cut off", "starting", "finishing")
TILES = 3  # images whose memory is measured are so many times as high and wide
COPIES = 8  # of each, where there is much data
# Short trials of one network, one after the other.
MEMORY_SPACE = """
name: memory
budget: {trials: 6, max_epochs: 1}
search: {searcher: random}
parameters:
  model.block: {value: conv}
  model.depth: {value: 2}
  model.base_filters: {value: 8}
  train.epoch_pixels: {value: 1000000}
  train.lr: {min: 1.0e-4, max: 1.0e-3}
"""


@dataclass(frozen=True)
class Report:
    """One epoch of one trial."""

    process: str  # that trained it
    trial: str
    t: float  # when it came, by the clock
    seconds: dict[str, float]

    @property
    def first_step(self) -> float:
        return self.t - sum(self.seconds.get(stage, 0.0) for stage in IN_EPOCHS)


def account(
    reports: Iterable[Report], workers: int, ran: Ran
) -> tuple[dict[str, float], list[float]]:
    """Worker-seconds by USES, which add up to the whole, and how long each switch took.

    A new process takes the place of the worker that has been free the longest.
    """
    began, ended = ran.phases["searching"], ran.phases["closing"]
    uses = dict.fromkeys((*USES, "feed"), 0.0)
    uses["starting"] = workers * (began - ran.began)
    uses["finishing"] = workers * (ran.ended - ended)
    free = [(began, False)] * workers  # since when; whether after a trial
    switches = []
    processes: dict[str, list[Report]] = {}
    for report in sorted(reports, key=lambda report: report.t):
        processes.setdefault(report.process, []).append(report)
    for own in sorted(processes.values(), key=lambda own: own[0].first_step):
        since, after_another = heapq.heappop(free)
        trial = ""
        for report in own:
            gap, setup = report.first_step - since, report.seconds.get("setup", 0.0)
            if report.trial == trial and not setup:
                uses["waiting"] += gap
            else:  # a trial that waited at a rung may be followed by itself
                kind = "switch" if after_another else "first trial"
                uses[kind] += gap - setup
                switches += [gap] * after_another
            for stage in (*IN_EPOCHS, "setup", "feed"):
                uses[stage] += report.seconds.get(stage, 0.0)
            since, after_another, trial = report.t, True, report.trial
        heapq.heappush(free, (since, True))
    uses["cut off"] = sum(ended - since for since, _ in free)
    return uses, switches


def flags_of(options: argparse.Namespace, folder: Path) -> list[str]:
    """How both studies are called. Synthetic images are written into the folder."""
    flags = ["--space", str(options.space)]
    data = load_study(options.space).fixed.data
    if data.reader in SYNTHETIC:
        write_folder(folder, load(data))
        flags += ["--data", str(folder), "--reader", "folder"]
    return flags


def run_own(flags: list[str], out: Path, *, watch: bool = False) -> Ran:
    command = [str(HERE.parent / "launch" / "tune.py"), *flags, "--out", str(out)]
    return run(command, out.with_suffix(".log"), watch=watch)


def run_plain(flags: list[str], out: Path, workers: int, *, watch: bool = False) -> Ran:
    command = [str(HERE / "plain_tune.py"), *flags, "--workers", str(workers), "--out", str(out)]
    return run(command, out.with_suffix(".log"), watch=watch)


def own_study(flags: list[str], out: Path) -> tuple[dict[str, Any], int]:
    """The figures of a study by r2search, and its number of workers."""
    ran = run_own(flags, out)
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    events = list(read_events(out / "trials.jsonl"))
    first = next(event for event in events if event["event"] == "study")
    zero = first["unix_time"] - first["t"]  # when the study began, by the clock
    reports = [
        Report(event["worker"], event["trial"], zero + event["t"], event["seconds"])
        for event in events
        if event["event"] == "report"
    ]
    ran.phases["closing"] = zero + max(event["t"] for event in events)
    workers = summary["hardware"]["workers"]
    return describe(reports, workers, ran), workers


def plain_study(flags: list[str], out: Path, workers: int) -> dict[str, Any]:
    """The figures of the same study by plain Ray Tune."""
    ran = run_plain(flags, out, workers)
    ran.phases["closing"] = ran.phases.pop("finishing")
    found = json.loads((out / "reports.json").read_text(encoding="utf-8"))
    reports = [Report(r["process"], r["trial"], r["t"], r["seconds"]) for r in found]
    return describe(reports, workers, ran)


def describe(reports: list[Report], workers: int, ran: Ran) -> dict[str, Any]:
    uses, switches = account(reports, workers, ran)
    whole = sum(uses[use] for use in USES)
    assert math.isclose(whole, workers * (ran.ended - ran.began), abs_tol=1e-3), whole
    wall, search = ran.ended - ran.began, ran.phases["closing"] - ran.phases["searching"]
    good = uses["train"] + uses["validate"]
    begun = sorted(ran.phases.items(), key=lambda item: item[1])
    ends = [*(t for _, t in begun), ran.ended]
    lasted = {"loading": ends[0] - ran.began}
    lasted |= {name: end - t for (name, t), end in zip(begun, ends[1:], strict=True)}
    return {
        "goodput": good / (workers * wall),
        "goodput_search": good / (workers * search),
        "workers": workers,
        "trials": len({report.trial for report in reports}),
        "epochs": len(reports),
        "wall_s": wall,
        "search_s": search,
        "switch_median_s": statistics.median(switches) if switches else None,
        "switch_longest_s": max(switches, default=None),
        "worker_seconds": uses,
        "phases_s": lasted,
    }


def measure_memory(folder: Path, workers: int) -> dict[str, dict[str, float]]:
    """Bytes of a worker and of the node, for little and much data, and growth over growth."""
    space = folder / "memory.yaml"
    space.write_text(MEMORY_SPACE, encoding="utf-8")
    pictures = load(load_study(HERE / "goodput.yaml").fixed.data)
    ran: dict[str, list[Ran]] = {OWN: [], PLAIN: []}
    sizes = []
    for name, copies in (("few", 1), ("many", COPIES)):
        data = folder / name
        write_folder(data, pictures, TILES, copies)
        config = load_study(space, {"data.root": str(data), "data.reader": "folder"}).fixed.data
        sizes.append(size_of(load(config)))
        flags = ["--space", str(space), "--data", str(data), "--reader", "folder", "--time", "20m"]
        ran[OWN].append(run_own(flags, folder / f"own-{name}", watch=True))
        ran[PLAIN].append(run_plain(flags, folder / f"plain-{name}", workers, watch=True))
    more = sizes[1] - sizes[0]
    return {
        name: {
            "data_bytes": sizes[1],
            "worker_bytes": many.worker_bytes,
            "node_bytes": many.node_bytes,
            "worker_growth": (many.worker_bytes - few.worker_bytes) / more,
            "node_growth": (many.node_bytes - few.node_bytes) / more,
        }
        for name, (few, many) in ran.items()
    }


def table_of(facts: dict[str, Any]) -> Table:
    ways = (OWN, PLAIN)
    table = Table("", *ways, title=f"A study of {facts['time_s']:g} s on two ways")

    def row(name: str, texts: Iterable[str]) -> None:
        table.add_row(name, *texts)

    def number(value: float | None, unit: str) -> str:
        return "" if value is None else f"{value:.2f} {unit}"

    row("goodput of the whole", (f"{facts[w]['goodput']:.1%}" for w in ways))
    row("goodput of the search", (f"{facts[w]['goodput_search']:.1%}" for w in ways))
    row("trials, epochs", (f"{facts[w]['trials']}, {facts[w]['epochs']}" for w in ways))
    row("switch, median", (number(facts[w]["switch_median_s"], "s") for w in ways))
    row("switch, longest", (number(facts[w]["switch_longest_s"], "s") for w in ways))
    table.add_section()
    for use in (*USES, "feed"):
        whole = {w: facts[w]["workers"] * facts[w]["wall_s"] for w in ways}
        spent = {w: facts[w]["worker_seconds"].get(use, 0.0) for w in ways}
        name = "(feed, in train)" if use == "feed" else use
        row(name, (f"{spent[w]:.1f} s, {spent[w] / whole[w]:.1%}" for w in ways))
    table.add_section()
    for phase in dict.fromkeys([*facts[OWN]["phases_s"], *facts[PLAIN]["phases_s"]]):
        row(f"wall clock, {phase}", (number(facts[w]["phases_s"].get(phase), "s") for w in ways))
    table.add_section()
    memory = facts["memory"]
    for key, name in (("worker", "one worker's own memory"), ("node", "memory of the node")):
        row(name, (f"{memory[w][f'{key}_bytes'] / 2**20:.0f} MiB" for w in ways))
        row("  growth, a byte of data", (f"{memory[w][f'{key}_growth']:.2f}" for w in ways))
    row("data", (f"{memory[w]['data_bytes'] / 2**20:.0f} MiB" for w in ways))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--time", type=parse_duration, default=600.0, help="of each study (10m)")
    parser.add_argument("--space", type=Path, default=HERE / "goodput.yaml", help="space file")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--keep", type=Path, help="new folder for the studies (default: none)")
    options = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        flags = [*flags_of(options, folder / "images"), "--time", f"{options.time}s"]
        own, workers = own_study(flags, folder / "own")
        plain = plain_study(flags, folder / "plain", workers)
        memory = measure_memory(folder, workers)
    facts = {
        "goodput": own["goodput"],
        "goodput_search": own["goodput_search"],
        "switch_median_s": own["switch_median_s"],
        "worker_growth": memory[OWN]["worker_growth"],
        "time_s": options.time,
        OWN: own,
        PLAIN: plain,
        "memory": memory,
        "hardware": machine(),
        "versions": versions(),
        "revision": revision(),
    }
    Console(width=100).print(table_of(facts))
    if options.json:
        options.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
