"""README's tables of results, from the JSON that the benchmarks wrote.

    python benchmarks/tables.py
    python benchmarks/tables.py --check

What stands between `<!-- results: NAME.json -->` and `<!-- end of results -->` is made from
benchmarks/results/NAME.json; TABLES says how. `--check` writes nothing, and fails when README would
change, or when there are results that it does not show.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BLOCK = re.compile(r"(<!-- results: ([\w-]+\.json) -->\n)(.*?)(<!-- end of results -->)", re.DOTALL)


def search_efficiency(facts: dict[str, Any]) -> Iterator[str]:
    for table in facts["tables"]:
        ours = table["searches"]["r2search"]
        shares = list(ours["regret"])
        yield (
            f"{table['space']}, {table['workers']} workers, {table['seconds']:.0f} s, "
            f"{facts['seeds']} seeds; with an oracle {table['oracle_seconds']:.0f} s to the target:"
        )
        yield ""
        heads = [f"regret at {float(share):.0%}" for share in shares]
        yield from _head("", *heads, "target, s", "reached")
        for name, found in table["searches"].items():
            regrets = [_interval(found["regret"][share], ".3f") for share in shares]
            target = _interval(found["seconds_to_target"], ".0f")
            yield _row(name, *regrets, target, f"{found['reached']:.0%}")
        yield ""
    if facts["not_reached"]:
        spaces = " and ".join(facts["not_reached"])
        yield f"On {spaces} r2search did not come to the target in half of its studies."
        return
    bounds = facts["ratio_at_least"]
    yield from _head("", "its time to target over ours")
    for name, ratio in facts["time_to_target_ratio"].items():
        yield _row(name, f"{'> ' if name in bounds else ''}{ratio:.2f}")


def against(facts: dict[str, Any]) -> Iterator[str]:
    seconds = [share * facts["seconds"] for share in facts["shares"]]
    yield from _head(
        f"`{facts['metric']['name']}`, median (each)", *(f"after {s / 60:g} min" for s in seconds)
    )
    for name, runs in facts["repetitions"].items():
        single = zip(*(run["values"] for run in runs), strict=True)
        each = [", ".join(_figure(value, ".3f") for value in values) for values in single]
        medians = [_figure(value, ".3f") for value in facts["medians"][name]]
        yield _row(name, *(f"{m} ({e})" for m, e in zip(medians, each, strict=True)))


def scale(facts: dict[str, Any]) -> Iterator[str]:
    yield from _head("trials", "deciding a trial, ms", "growth from 200", "driver, GB")
    yield _row(
        f"{facts['trials']:,}",
        f"{facts['mean_deciding_ms']:.1f}",
        f"{facts['growth']:.2f}",
        f"{facts['driver_bytes'] / 1e9:.2f}",
    )


def study(facts: dict[str, Any]) -> Iterator[str]:
    """summary.json of a study."""
    hardware, counts, test = facts["hardware"], facts["trials"], facts["test"]
    name = facts["objective"]["name"].removeprefix("val/")
    made = "Synthetic images, " if facts["data"]["synthetic"] else ""
    yield (
        f"{made}{facts['time']['budget_s'] / 60:.0f} minutes, {hardware['workers']} workers on "
        f"{hardware['cores']} cores of {hardware['processor']}: {counts['total']} trials beside "
        f"the baselines. The test images are those of subjects "
        f"{' and '.join(facts['data']['subjects']['test'])}."
    )
    yield ""
    heads = (f"{name}, validation", f"{name}, test", "at the search's threshold", "cldice, test")
    yield from _head("", *heads, "parameters", "epochs", "of the published training")
    chosen, networks = facts["confirmed"]["chosen"], facts["confirmed"]["networks"]
    searched = test["searched"]  # at one threshold for all
    scores = test["incumbent"], searched["incumbent"]
    found = {f"incumbent {chosen}": (chosen, facts["incumbent"], *scores)}
    for key, trial in facts["baselines"].items():
        scores = test["baselines"][key], searched["baselines"][key]
        found[f"baseline {key}"] = (key, trial, *scores)
    for label, (key, trial, tested, before) in found.items():
        if trial is None or tested is None:
            yield _row(label, *["none in this time"] * 2, *[""] * 5)
            continue
        confirmed = networks[key]
        validation = _spread(confirmed["mean"], confirmed["low"], confirmed["high"])
        figures = [_score(tested[name]), _score(before[name]), _score(tested["cldice"])]
        size, epochs = f"{trial['parameters']:,}", str(trial["epochs"])
        published = trial["share_of_published"]
        share = "" if published is None else f"{published:.2g}"
        yield _row(label, validation, *figures, size, epochs, share)
    if seen := test["second_observer"]:
        validation = _figure(facts["objective"]["second_observer"], ".3f")
        figures = [_score(seen[name]), "", _score(seen["cldice"])]
        yield _row("second observer", validation, *figures, "", "", "")


# File in benchmarks/results -> the lines of its table
TABLES: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {
    "search_efficiency.json": search_efficiency,
    "against.json": against,
    "scale.json": scale,
    "chase_db1.json": study,
}


def _head(*cells: str) -> Iterator[str]:
    yield _row(*cells)
    yield "|" + "---|" * len(cells)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _interval(values: Sequence[float | None], form: str) -> str:
    """A median, and its interval."""
    middle, low, high = (_figure(value, form) for value in values)
    return f"{middle} ({low}-{high})"


def _spread(middle: float, low: float, high: float) -> str:
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def _score(found: dict[str, float]) -> str:
    return _spread(found["value"], found["low"], found["high"])


def _figure(value: float | None, form: str) -> str:
    return "never" if value is None else format(value, form)


def filled(text: str, results: Path) -> str:
    """The text with all of its tables made anew. KeyError when nobody knows how to make one."""

    def fill(block: re.Match[str]) -> str:
        facts = json.loads((results / block[2]).read_text(encoding="utf-8"))
        lines = "\n".join(TABLES[block[2]](facts)).strip()
        return f"{block[1]}\n{lines}\n\n{block[4]}"

    return BLOCK.sub(fill, text)


def unshown(text: str, results: Path) -> list[str]:
    """Results that no table of the text shows."""
    shown = {block[2] for block in BLOCK.finditer(text)}
    return sorted({path.name for path in results.glob("*.json")} - shown)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    now = filled(text, RESULTS)
    if not options.check:
        path.write_text(now, encoding="utf-8")
        return
    if missing := unshown(text, RESULTS):
        sys.exit(f"README.md shows nothing of {', '.join(missing)} of benchmarks/results")
    if now != text:
        sys.exit("README.md: its tables are not those of benchmarks/results; run tables.py")


if __name__ == "__main__":
    main()
