"""What confirmation is worth: many studies of made-up configs whose true quality is known.

    python benchmarks/confirmation.py --json confirmation.json
    python benchmarks/confirmation.py --curves benchmarks/curves/retina-chase_db1.parquet
    python benchmarks/confirmation.py --scores runs/NAME/test_images.csv --json confirmation.json

Each study has 200 configs of equal true quality (then one of them better by 0.01) and a validation
split of 4 images. The best of the search is reported as it is; or the best three are trained again
with 3 seeds and chosen by `r2search.intervals`, as a study does. Truth is the mean over all images
and seeds. Coverage is how often the 95 % interval holds it, of that and of a percentile bootstrap
over images and seeds.

Noise: standard deviations over images, over seeds, and of what is left, of trainings of one
config. They are SPREADS, of docs/experiments.md. `--scores`, the `test_images.csv` of a confirmed
study, gives all three instead (two crossed random factors, pooled over its finalists). `--curves`,
recorded learning curves (one seed a config, all images together), gives that over seeds: what the
best epoch of a config would vary by, were it only for luck from epoch to epoch in the last third of
its schedule; of the best third of the configs, from which finalists come.
"""

import argparse
import csv
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from r2search.finish import write_json
from r2search.intervals import choose, interval
from r2search.tuning.curves import Recording, read_curves

CONFIGS, IMAGES, FINALISTS, SEEDS = 200, 4, 3, 3
BETTER = 0.01
TRUTH = 0.77
DRAWS = 400  # of a bootstrap


class Spread(NamedTuple):
    """Standard deviations of a Dice score."""

    image: float
    seed: float
    rest: float


# Four networks, three seeds each, four validation images of CHASE_DB1 (docs/experiments.md,
# 2026-11-22, at equal parameters): over seeds 0.004, 0.001, 0.002 and 0.000, 0.0023 pooled. Between
# images and what is left they do not tell; 0.025 is what photographs of one set differ by there,
# and what is left is taken to be as large as the seeds'.
SPREADS = Spread(image=0.025, seed=0.0023, rest=0.0023)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=300, help="studies of each kind")
    parser.add_argument("--scores", type=Path, help="test_images.csv of a confirmed study")
    parser.add_argument("--curves", type=Path, help="recorded learning curves")
    parser.add_argument("--metric", default="dice_mean", help="its column (default: dice_mean)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file to write")
    options = parser.parse_args()
    spread, source = SPREADS, "docs/experiments.md"
    if options.scores:
        spread, source = estimate(options.scores, options.metric), options.scores.name
    if options.curves:
        spread = spread._replace(seed=epoch_noise(read_curves(options.curves)))
        source = f"{source}, {options.curves.name}"
    found = {
        label: repeat(spread, gap, options.repetitions, options.seed)
        for label, gap in {"all equal": 0.0, f"one better by {BETTER}": BETTER}.items()
    }
    show(found, spread, options.repetitions)
    if options.json:
        facts = {"spread": spread._asdict(), "source": source, "studies": found}
        write_json(options.json, facts | {"repetitions": options.repetitions})


def repeat(spread: Spread, gap: float, repetitions: int, seed: int) -> dict[str, float]:
    """Means over so many studies, the same with the same seed."""
    rng = np.random.default_rng(seed)
    rows = [study(spread, gap, rng) for _ in range(repetitions)]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def study(spread: Spread, gap: float, rng: np.random.Generator) -> dict[str, float]:
    """One study: the search, and what its confirmation makes of it."""
    truth = np.full(CONFIGS, TRUTH)
    truth[rng.integers(CONFIGS)] += gap
    best = int(truth.argmax())
    hard = spread.image * rng.standard_normal(IMAGES)
    searched = np.stack([train(truth[c], hard, spread, 1, rng)[0] for c in range(CONFIGS)])
    order = np.argsort(-searched.mean(1))
    first, finalists = int(order[0]), [int(c) for c in order[:FINALISTS]]
    again = {str(c): train(truth[c], hard, spread, SEEDS, rng) for c in finalists}
    costs = {name: float(rng.random()) for name in again}
    choice = choose(again, costs, "maximize", list(again))
    taken = again[choice.chosen]
    real = truth[int(choice.chosen)]
    # Against what is true of these very images: the luck of the seeds and of choosing, not that of
    # the images, which is the same with and without confirmation
    here, lucky = real + hard.mean(), truth[first] + hard.mean()
    low, high = bootstrap(taken, rng)
    return {
        "searched optimism": searched[first].mean() - lucky,
        "searched covers": covers(interval(searched[first][None])[1:], truth[first]),
        "searched finds": first == best,
        "confirmed optimism": taken.mean() - here,
        "confirmed covers": covers(interval(taken)[1:], real),
        "bootstrap covers": covers((low, high), real),
        "confirmed finds": int(choice.chosen) == best,
        "among finalists": best in finalists,
        "half width": (interval(taken).high or 0.0) - taken.mean(),
    }


def train(
    truth: float, hard: NDArray[np.float64], spread: Spread, seeds: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(seeds, images) of one config."""
    lucky = spread.seed * rng.standard_normal((seeds, 1))
    return truth + hard + lucky + spread.rest * rng.standard_normal((seeds, len(hard)))


def covers(bounds: tuple[float | None, float | None], truth: float) -> bool:
    low, high = bounds
    return low is not None and high is not None and low <= truth <= high


def bootstrap(values: NDArray[np.float64], rng: np.random.Generator) -> tuple[float, float]:
    """The percentile interval of a bootstrap that draws seeds and images."""
    seeds, images = values.shape
    drawn = values[
        rng.integers(0, seeds, (DRAWS, seeds))[:, :, None],
        rng.integers(0, images, (DRAWS, images))[:, None, :],
    ].mean((1, 2))
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def estimate(path: Path, metric: str) -> Spread:
    """Spreads of the finalists of a study that were trained with several seeds.

    Baselines had little training for their size, and vary by more than what is chosen among.
    """
    scores: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            own = re.fullmatch(r"t\d+", row["network"])
            if own and row["view"] == "fov" and row["seed"]:
                scores[row["network"]][row["seed"]][row["image"]] = float(row[metric])
    tables = [
        np.array([[images[name] for name in sorted(images)] for images in own.values()])
        for own in scores.values()
        if len(own) > 1
    ]
    if not tables:
        raise SystemExit(f"{path}: no network with several seeds; give that of a confirmed study")
    variances = np.mean([components(table) for table in tables], axis=0)
    return Spread(*(float(value) for value in np.sqrt(np.maximum(variances, 0.0))))


def components(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Variances of images, of seeds and of what is left, of (seeds, images): by mean squares."""
    seeds, images = values.shape
    left = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    rest = float((left**2).sum()) / ((seeds - 1) * (images - 1))
    image = float(values.mean(0).var(ddof=1)) - rest / seeds
    seed = float(values.mean(1).var(ddof=1)) - rest / images
    return image, seed, rest


def epoch_noise(recording: Recording) -> float:
    """Standard deviation of what would be reported of a config, were its luck drawn anew.

    Of the best third of the configs together. Reported is the best epoch; luck is what the last
    third of a curve deviates from a line by.
    """
    sign, rng = 1 if recording.goal == "maximize" else -1, np.random.default_rng(0)
    curves = [
        sign * np.array([r.metrics[recording.metric] for r in curve.reports])
        for curve in recording.curves
    ]
    curves.sort(key=lambda values: values.max(initial=-np.inf), reverse=True)
    variances = []
    for values in curves[: len(curves) // 3]:
        if len(values) >= 12:  # four late epochs at least
            late = values[-(len(values) // 3) :]
            line = np.polyval(np.polyfit(at := np.arange(len(late)), late, 1), at)
            luck = np.sqrt(((late - line) ** 2).sum() / (len(late) - 2))
            again = line + luck * rng.standard_normal((DRAWS, len(late)))
            variances.append(again.max(1).var())
    if not variances:
        raise SystemExit("--curves: no config with 12 epochs or more; give longer ones")
    return float(np.sqrt(np.mean(variances)))


def show(found: dict[str, dict[str, float]], spread: Spread, repetitions: int) -> None:
    table = Table("", *found, title=f"{repetitions} studies each; {json.dumps(spread._asdict())}")
    names = next(iter(found.values()))
    for name in names:
        table.add_row(name, *(f"{row[name]:.4f}" for row in found.values()))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
