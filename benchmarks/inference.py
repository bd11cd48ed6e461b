"""Whole-image prediction: seconds, agreement of tiles with the whole image, peak memory.

    python benchmarks/inference.py --json inference.json

R2U-Net (16 base filters, depth 3, t=2), first trained for a minute on synthetic photographs of
eyes, so that its probabilities are worth comparing. It then predicts an image of 999 x 960 pixels
in three ways, which take turns:

- before: as it stands, in tiles of 192 that share 24, four at a time.
- folded: batch norms within the convolutions, the same tiles.
- r2search: folded, in the tiles that are the default.

Each way is compared with a whole image in one tile by the same network: the share of pixels whose
probabilities differ by no more than 0.01, and the largest difference. That image is larger than
a default tile, 1,600 x 1,536. Before that, a fresh process predicts and classifies an image of
8,000 x 8,000 pixels, whose 192 MB count too.
"""

import argparse
import json
import statistics
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from r2search.config import DataConfig, InferenceConfig, ModelConfig, TrainConfig, TrialConfig
from r2search.data import load
from r2search.data.prepare import Preparation
from r2search.environment import machine, versions
from r2search.models.unet import build_model
from r2search.train.hardware import apply, detect, place_model
from r2search.train.inference import Predictor
from r2search.train.metrics import classify
from r2search.train.trainer import Trainer

HEIGHT, WIDTH = 960, 999  # of a photograph of CHASE_DB1
ACROSS = 4  # synthetic photographs of 400 x 384 in the mosaic that shows how tiles agree
BEFORE, FOLDED, OWN = "before", "folded", "r2search"
CLOSE = 0.01
CONFIG = TrialConfig(
    data=DataConfig(reader="synthetic_retina"),
    model=ModelConfig(block="recurrent_residual", base_filters=16, depth=3, recurrence=2),
)
OLD_TILES = InferenceConfig(tile=192, overlap=24, batch_size=4)
WHOLE = InferenceConfig(tile=2048)


def peak_of_large_image(side: int, threads: int) -> dict[str, float]:
    """Seconds and peak memory of predicting one image, in a process that did nothing before."""
    hardware = detect(CONFIG.train, threads=threads)
    apply(hardware)
    model = build_model(CONFIG.model)
    place_model(model, hardware)
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    start = time.perf_counter()
    predictor = Predictor(model, CONFIG, Preparation(CONFIG.data), hardware)
    probability = predictor.probability(image, np.ones((side, side), np.bool_))
    mask = classify(probability, CONFIG.inference.threshold)
    assert mask.shape == (side, side)
    # Not resource.getrusage, whose maximum a new process takes over from its parent.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (peak,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return {"peak_gb": int(peak) * 1024 / 1e9, "seconds": time.perf_counter() - start}


def trained(epochs: int, pixels: int, threads: int) -> tuple[Predictor, NDArray[np.uint8]]:
    """The network after its training, and a mosaic of photographs."""
    config = CONFIG.model_copy(update={"train": TrainConfig(lr=3e-3, epoch_pixels=pixels)})
    samples = load(config.data)
    hardware = detect(config.train, threads=threads)
    apply(hardware)
    few = replace(samples, val=samples.val[:1])
    trainer = Trainer(config, few, horizon=epochs, hardware=hardware)
    for _ in range(epochs):
        trainer.run_epoch()
    photos = [sample.image for sample in (*samples.test, *samples.val, *samples.train)]
    rows = [np.hstack(photos[row * ACROSS :][:ACROSS]) for row in range(ACROSS)]
    return trainer.predictor, np.vstack(rows)


def measure(
    predictor: Predictor, mosaic: NDArray[np.uint8], turns: int
) -> dict[str, dict[str, Any]]:
    """Seconds of every way, one value a turn, and how it agrees with the whole image."""
    image = mosaic[:HEIGHT, :WIDTH]
    own = predictor.snapshot()
    plain = replace(predictor, folded=predictor.model.eval())
    old = predictor.config.model_copy(update={"inference": OLD_TILES})
    ways = {BEFORE: replace(plain, config=old), FOLDED: replace(own, config=old), OWN: own}
    at_once = predictor.config.model_copy(update={"inference": WHOLE})
    found: dict[str, dict[str, Any]] = {}
    for name, way in ways.items():
        whole = replace(way, config=at_once).probability(mosaic)
        difference = np.abs(way.probability(mosaic) - whole)
        found[name] = {
            "agreement": float(np.mean(difference <= CLOSE)),
            "largest_difference": float(difference.max()),
            "seconds": [],
        }
    for _ in range(turns):
        for name, way in ways.items():
            start = time.perf_counter()
            way.probability(image)
            found[name]["seconds"].append(time.perf_counter() - start)
    for facts in found.values():
        facts["median_s"] = statistics.median(facts["seconds"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--turns", type=int, default=7, help="turns of each way (7)")
    parser.add_argument("--threads", type=int, default=2, help="of one process (2)")
    parser.add_argument("--epochs", type=int, default=4, help="of training (4)")
    parser.add_argument("--pixels", type=int, default=4_000_000, help="of an epoch (4,000,000)")
    parser.add_argument("--side", type=int, default=8000, help="of the large image (8000)")
    given = parser.parse_args()
    with get_context("spawn").Pool(1) as fresh:
        large = fresh.apply(peak_of_large_image, (given.side, given.threads))
    predictor, mosaic = trained(given.epochs, given.pixels, given.threads)
    ways = measure(predictor, mosaic, given.turns)
    table = Table(title=f"{WIDTH} x {HEIGHT} pixels, {given.threads} threads")
    for heading in ("way", "median s", "lowest", "highest", "within 0.01", "largest difference"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    for name, way in ways.items():
        seconds = [f"{s:.2f}" for s in (way["median_s"], min(way["seconds"]), max(way["seconds"]))]
        table.add_row(name, *seconds, f"{way['agreement']:.4%}", f"{way['largest_difference']:.3f}")
    console = Console(width=100)
    console.print(table)
    console.print(
        f"{given.side} x {given.side} pixels: {large['peak_gb']:.2f} GB at most, "
        f"{large['seconds']:.0f} s"
    )
    if given.json:
        facts = {
            "hardware": machine() | {"device": predictor.hardware.device, "threads": given.threads},
            "versions": versions(),
            "config": predictor.config.model_dump(mode="json"),
            "seconds": ways[OWN]["median_s"],
            "speedup": ways[BEFORE]["median_s"] / ways[OWN]["median_s"],
            "speedup_of_folding": ways[BEFORE]["median_s"] / ways[FOLDED]["median_s"],
            "agreement": ways[OWN]["agreement"],
            "peak_gb": large["peak_gb"],
            "ways": ways,
            "large": large,
        }
        given.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
