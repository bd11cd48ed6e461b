"""A bundle's network for other runtimes, as ONNX or by torch.export."""

import json
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn

from r2search.bundle import Bundle, load_bundle
from r2search.config import Misuse
from r2search.manifest import Manifest, Member
from r2search.models.folding import fold
from r2search.report.screen import say

OPSET = 18  # of ONNX
INPUT, OUTPUT = "image", "probability"
CLOSE = 1e-3  # largest difference between two runtimes in any probability
AXES = {0: "batch", 2: "height", 3: "width"}
PREPARATION = ("channels", "max_side", "resize", "aspect", "enhance", "standardize", "window")

FACTS = "r2search.json"  # in a file of torch.export

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
Write = Callable[["Network | Mean", Manifest, Path], Run]


class Network(nn.Module):
    """Standardised images (N, C, H, W) to probabilities (N, F, H, W) of the foreground classes.

    At any H, W >= 1: an image whose sides are no multiples of 2**depth is continued by its last
    row and column, as the network was trained, and the result is cut.
    """

    def __init__(self, folded: nn.Module, depth: int) -> None:
        super().__init__()
        self.folded = folded
        self.multiple = 2**depth

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        # By index, not by F.pad: its amounts would be those of the size that was traced.
        rows, columns = (
            torch.arange((size + self.multiple - 1) // self.multiple * self.multiple).clamp(
                max=size - 1
            )
            for size in (height, width)
        )
        whole = image.index_select(2, rows).index_select(3, columns)
        logits: Tensor = self.folded(whole)[..., :height, :width]
        return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)[:, 1:]


def export_onnx(bundle_dir: Path, path: Path, console: Console) -> int:
    """Write the network of a bundle as ONNX; returns the exit code.

    What is written has been run: at several sizes it says what torch says within CLOSE, or it is
    refused. Misuse as of `load_bundle`, and where the packages for it are missing.
    """
    return _export(bundle_dir, path, console, _write)


def export_torch(bundle_dir: Path, path: Path, console: Console) -> int:
    """The same as a file of torch.export, which torch loads without this package."""
    return _export(bundle_dir, path, console, _write_torch)


def _export(bundle_dir: Path, path: Path, console: Console, write: Write) -> int:
    bundle = load_bundle(bundle_dir, device="cpu")
    network = exportable(bundle)
    with _whole(path) as part:
        furthest = difference(network, write(network, bundle.manifest, part), bundle.manifest)
        if not furthest <= CLOSE:
            raise Misuse(
                f"{path}: says something else than torch does (by {furthest:.2g}, and {CLOSE} "
                "is allowed), and was not written; predict by the bundle itself"
            )
    say(console, f"{path}: says what torch says, within {furthest:.1g}")
    return 0


class Mean(nn.Module):
    """The mean of what several networks say of the same standardised images."""

    def __init__(self, networks: list[Network]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.multiple = max(network.multiple for network in networks)

    def forward(self, image: Tensor) -> Tensor:
        return torch.stack([network(image) for network in self.networks]).mean(0)


def exportable(bundle: Bundle) -> Network | Mean:
    """What a bundle computes, in float32 on the CPU, norms folded, to be run without gradients.

    Misuse for several networks that take an image prepared in different ways: they have no input
    in common.
    """
    first, *others = bundle.manifest.members
    for other in others:
        if _prepared(other) != _prepared(first):
            raise Misuse(
                f"{first.trial} and {other.trial} see images prepared in different ways (as by "
                "data.channels or data.resize): they cannot be one graph; predict by the bundle"
            )
    networks = [
        Network(fold(each.model, torch.float32), each.config.model.depth)
        for each in bundle.predictors
    ]
    return (networks[0] if len(networks) == 1 else Mean(networks)).eval()


def _prepared(member: Member) -> dict[str, Any]:
    """What makes the input of a network out of an image."""
    data = member.config.data.model_dump(mode="json")
    return {key: data[key] for key in PREPARATION} | {"mean": member.mean, "std": member.std}


def sizes(network: Network | Mean) -> list[tuple[int, int]]:
    """Heights and widths at which an export is checked: small, odd, whole and not."""
    edge = network.multiple
    return [(1, 1), (edge, 2 * edge), (edge + 1, 2 * edge - 1), (3 * edge + 5, edge), (97, 131)]


def difference(network: Network | Mean, run: Run, manifest: Manifest) -> float:
    """Largest difference in any probability between torch and another runtime, at all `sizes`."""
    rng = np.random.default_rng(0)
    found = []
    for number, size in enumerate(sizes(network)):
        shape = (1 + number % 2, manifest.config.model.in_channels, *size)
        image = rng.standard_normal(shape).astype(np.float32)
        with torch.inference_mode():
            expected = network(torch.from_numpy(image)).numpy()
        found.append(np.abs(run(image) - expected).max())
    return float(np.max(found))  # not a number, where one of them is none


def facts(manifest: Manifest) -> dict[str, str]:
    """What a user of the ONNX file must know: how to prepare an image, and what comes out."""
    config = manifest.config
    prepared = {k: v for k, v in _prepared(manifest).items() if k in PREPARATION}
    tiles = {"tile": config.tile, "overlap": config.overlap, "multiple": 2**config.model.depth}
    return {
        "r2search.study": f"{manifest.study}: {manifest.trial}, epoch {manifest.epoch}",
        "r2search.weights_sha256": " ".join(each.weights_sha256 for each in manifest.members),
        "r2search.input": "(batch, channels, height, width) float32, prepared and standardised",
        "r2search.output": "(batch, foreground classes, height, width) float32, probability 0..1",
        "r2search.preparation": json.dumps(prepared),
        "r2search.mean": json.dumps(manifest.mean),
        "r2search.std": json.dumps(manifest.std),
        "r2search.threshold": repr(config.inference.threshold),
        "r2search.labels": json.dumps(config.data.labels),
        "r2search.tiles": json.dumps(tiles),
        "r2search.synthetic": json.dumps(manifest.synthetic),
        "r2search.use": "for research; not a medical device",
    }


def _program(network: Network | Mean, channels: int) -> torch.export.ExportedProgram:
    """The network traced for any batch, height and width."""
    example = torch.rand(2, channels, 3 * network.multiple + 1, 2 * network.multiple + 3)
    dynamic = ({axis: torch.export.Dim.DYNAMIC for axis in AXES},)
    with torch.inference_mode():
        return torch.export.export(network, (example,), dynamic_shapes=dynamic)


def _write_torch(network: Network | Mean, manifest: Manifest, path: Path) -> Run:
    """Write a file of torch.export, with the facts beside it in the file, and run what it holds."""
    program = _program(network, manifest.config.model.in_channels)
    torch.export.save(program, path, extra_files={FACTS: json.dumps(facts(manifest), indent=2)})
    # The guards would refuse sizes that need no padding, as those of the example did.
    loaded = torch.export.load(path).module(check_guards=False)

    def run(image: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(loaded(torch.from_numpy(image)))

    return run


def _write(network: Network | Mean, manifest: Manifest, path: Path) -> Run:
    """Write an ONNX file, and run it by onnxruntime."""
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  # torch.onnx needs it
    except ModuleNotFoundError as error:
        raise Misuse(
            f"{error.name} is not installed; an ONNX file needs "
            "pip install -c constraints.txt '.[onnx]'"
        ) from None
    with _quiet("torch.onnx"):
        converted = torch.onnx.export(
            _program(network, manifest.config.model.in_channels),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
    assert converted is not None
    model = converted.model_proto
    for value in (*model.graph.input, *model.graph.output):
        for axis, name in AXES.items():
            value.type.tensor_type.shape.dim[axis].dim_param = name
    del model.graph.value_info[:]  # they have the old names of the axes
    onnx.helper.set_model_props(model, facts(manifest))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(image: NDArray[np.float32]) -> NDArray[np.float32]:
        (found,) = session.run([OUTPUT], {INPUT: image})
        return np.asarray(found)

    return run


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A place for a new file, which comes to `path` if nothing is wrong with it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent)
    except OSError as error:
        raise Misuse(f"{path}: cannot be written ({error.strerror}); name another") from None
    with folder as name:
        part = Path(name) / path.name
        yield part
        part.replace(path)


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Without the warnings of a package."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
