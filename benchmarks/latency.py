"""How long a network takes for an image: torch against onnxruntime.

    python benchmarks/latency.py --json latency.json

R2U-Net (16 base filters, depth 3, t=2), untrained, or the network of --bundle. Its standardised
image goes in, its probabilities come out, in three ways, which take turns:

- torch: as `r2search predict` runs it, in bfloat16 where the processor has that.
- torch float32: the same network in float32.
- onnxruntime: the file of `r2search export --onnx`, which is float32.

One image at a time, whole. Seconds are medians; beside them stands by how much onnxruntime
differs from torch in float32, at most, in any probability.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from r2search.bundle import Bundle, export_bundle, load_bundle
from r2search.config import DataConfig, ModelConfig, TrialConfig
from r2search.environment import machine, versions
from r2search.exporting import INPUT, Network, export_onnx, exportable
from r2search.models.folding import fold
from r2search.models.unet import build_model
from r2search.train.hardware import apply, autocast, detect, place_images
from r2search.weights import WEIGHTS, save_weights

SIZES = ((256, 256), (512, 512), (960, 999))  # the last is a photograph of CHASE_DB1
CONFIG = TrialConfig(
    data=DataConfig(reader="synthetic_retina"),
    model=ModelConfig(block="recurrent_residual", base_filters=16, depth=3, recurrence=2),
)
TORCH, FLOAT32, ONNX = "torch", "torch float32", "onnxruntime"

Way = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def untrained(folder: Path, threads: int) -> Path:
    """A bundle of CONFIG with the weights that training begins with, and norms of noise."""
    hardware = detect(CONFIG.train, threads=threads)
    model = build_model(CONFIG.model).train()
    with torch.no_grad():
        for _ in range(30):  # so that the norms know their inputs: else the logits are huge
            model(torch.randn(2, CONFIG.model.in_channels, 64, 64))
    save_weights(folder / WEIGHTS, model.state_dict(), {})
    facts = {
        "study": "latency",
        "trial": "untrained",
        "epoch": 0,
        "config": CONFIG,
        "dtype": hardware.dtype,
        "memory_format": hardware.memory_format,
        "threads": threads,
        "metrics": {},
        "data": {"reader": CONFIG.data.reader},
        "synthetic": True,
        "versions": versions(),
    }
    export_bundle(folder / "bundle", folder / WEIGHTS, facts, "", b"")
    return folder / "bundle"


def ways(bundle: Bundle, onnx_path: Path, threads: int) -> dict[str, Way]:
    """Functions of a standardised image (1, C, H, W) that give its probabilities (1, F, H, W)."""
    plain = exportable(bundle)
    hardware = bundle.predictor.hardware
    networks = [
        Network(fold(each.model, getattr(torch, hardware.dtype)), each.config.model.depth)
        for each in bundle.predictors
    ]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(onnx_path, options, ["CPUExecutionProvider"])

    def as_predicted(image: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode(), autocast(hardware):
            seen = place_images(torch.from_numpy(image), hardware)
            return torch.stack([each(seen).float() for each in networks]).mean(0).numpy()

    def in_float32(image: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(plain(torch.from_numpy(image)))

    def by_onnxruntime(image: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(session.run(None, {INPUT: image})[0])

    return {TORCH: as_predicted, FLOAT32: in_float32, ONNX: by_onnxruntime}


def measure(found: dict[str, Way], image: NDArray[np.float32], turns: int) -> dict[str, Any]:
    """Of every way the seconds of each turn, their median, and how it differs from FLOAT32."""
    expected = found[FLOAT32](image)
    facts: dict[str, Any] = {
        name: {"seconds": [], "largest_difference": float(np.abs(way(image) - expected).max())}
        for name, way in found.items()
    }
    for _ in range(turns):
        for name, way in found.items():
            start = time.perf_counter()
            way(image)
            facts[name]["seconds"].append(time.perf_counter() - start)
    for each in facts.values():
        each["median_s"] = statistics.median(each["seconds"])
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, help="of another network")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--turns", type=int, default=15, help="turns of each way (15)")
    parser.add_argument("--threads", type=int, default=2, help="of each way (2)")
    given = parser.parse_args()
    console, rng = Console(width=100), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = given.bundle or untrained(Path(name), given.threads)
        export_onnx(folder, Path(name) / "model.onnx", console)
        bundle = load_bundle(folder, device="cpu")
        apply(bundle.predictor.hardware)
        torch.set_num_threads(given.threads)
        found = ways(bundle, Path(name) / "model.onnx", given.threads)
        channels = bundle.manifest.config.model.in_channels
        sizes = {
            f"{width} x {height}": measure(
                found,
                rng.standard_normal((1, channels, height, width)).astype(np.float32),
                given.turns,
            )
            for height, width in SIZES
        }
    table = Table(title=f"{bundle.predictor.hardware.dtype} in torch, {given.threads} threads")
    for heading in ("image", *found, "onnxruntime / torch", "differs by"):
        table.add_column(heading, justify="left" if heading == "image" else "right")
    for size, facts in sizes.items():
        ratio = facts[ONNX]["median_s"] / facts[TORCH]["median_s"]
        seconds = [f"{1000 * each['median_s']:.1f} ms" for each in facts.values()]
        differs = facts[ONNX]["largest_difference"]
        table.add_row(size, *seconds, f"{ratio:.2f}", f"{differs:.1g}")
    console.print(table)
    if given.json:
        whole = {
            "hardware": machine() | {"threads": given.threads},
            "versions": versions() | {"onnxruntime": onnxruntime.__version__},
            "dtype": bundle.predictor.hardware.dtype,
            "config": bundle.manifest.config.model_dump(mode="json"),
            "sizes": sizes,
        }
        given.json.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
