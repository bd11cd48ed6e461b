"""Exported networks in other runtimes say what torch says."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from r2search import exporting
from r2search.bundle import export_bundle, load_bundle
from r2search.config import Misuse, ModelConfig
from r2search.exporting import CLOSE, FACTS, OPSET, export_onnx, export_torch, exportable
from r2search.models.blocks import BLOCKS
from r2search.models.unet import build_model
from r2search.weights import save_weights

onnx = pytest.importorskip("onnx", reason="pip install -c constraints.txt -e '.[search,test]'")
onnxruntime = pytest.importorskip("onnxruntime")

Make = Callable[..., Path]
# Between them every norm, up- and downsampling, skip and kind of output.
OTHERS: dict[str, dict[str, Any]] = {
    "conv": {"upsampling": "nearest", "downsampling": "stride"},
    "residual": {"norm": "group", "upsampling": "transpose3", "activation": "silu"},
    "preact_residual": {"norm": "instance", "skip": "add", "activation": "gelu"},
    "recurrent": {"recurrence": 1, "recurrent_norm": "shared", "activation": "elu", "classes": 3},
    "recurrent_residual": {"recurrence": 1, "activation": "leaky_relu"},
}


def test_every_block_is_exported() -> None:
    assert OTHERS.keys() == BLOCKS.keys()


def bundle_of(root: Path, make_bundle: Make, facts: Any, block: str) -> Path:
    model = ModelConfig(block=block, depth=1, base_filters=2, **OTHERS[block])  # type: ignore[arg-type]
    data = facts()["config"].data.model_copy(update={"labels": (1, 2) * (model.classes > 2)})
    config = facts()["config"].model_copy(update={"model": model, "data": data})
    return make_bundle(root, config=config)


@pytest.mark.parametrize("block", OTHERS)
def test_onnxruntime_says_what_torch_says_at_fifty_sizes(
    tmp_path: Path, make_bundle: Make, facts: Any, console: Console, block: str
) -> None:
    bundle_dir, path = bundle_of(tmp_path, make_bundle, facts, block), tmp_path / "out/model.onnx"
    assert export_onnx(bundle_dir, path, console) == 0
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    bundle, rng = load_bundle(bundle_dir), np.random.default_rng(1)
    network, classes = exportable(bundle), max(1, bundle.manifest.config.model.classes - 1)
    for _ in range(50):
        shape = int(rng.integers(1, 4)), 3, *(int(side) for side in rng.integers(1, 70, 2))
        image = rng.standard_normal(shape).astype(np.float32)
        (found,) = session.run(None, {"image": image})
        with torch.inference_mode():
            expected = network(torch.from_numpy(image)).numpy()
        assert found.shape == (shape[0], classes, *shape[2:])
        assert np.abs(found - expected).max() <= CLOSE
    assert expected.std() > 1e-3


def test_the_network_is_that_of_the_bundle_its_continued_edges_too(
    tmp_path: Path, make_bundle: Make, facts: Any
) -> None:
    bundle = load_bundle(bundle_of(tmp_path, make_bundle, facts, "residual"))
    image = torch.rand(1, 3, 13, 18)
    with torch.inference_mode():
        expected = bundle.predictor.model.eval()(image).sigmoid()
        found = exportable(bundle)(image)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_file_says_how_to_prepare_an_image_and_what_comes_out(
    tmp_path: Path, make_bundle: Make, facts: Any, console: Console
) -> None:
    data = {"standardize": "dataset", "channels": "green"}
    config = facts()["config"].model_copy(
        update={
            "data": facts()["config"].data.model_copy(update=data),
            "model": ModelConfig(block="conv", depth=1, base_filters=2, in_channels=1),
        }
    )
    bundle_dir = make_bundle(tmp_path, config=config, mean=(90.0,), std=(40.5,))
    export_onnx(bundle_dir, tmp_path / "model.onnx", console)
    model = onnx.load(tmp_path / "model.onnx")
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    shapes = [
        [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]
    assert shapes == [["batch", 1, "height", "width"]] * 2
    props = {entry.key.removeprefix("r2search."): entry.value for entry in model.metadata_props}
    assert json.loads(props["preparation"])["channels"] == "green"
    assert (json.loads(props["mean"]), json.loads(props["std"])) == ([90.0], [40.5])
    assert json.loads(props["tiles"]) == {"tile": 32, "overlap": 8, "multiple": 2}
    assert (props["threshold"], props["synthetic"]) == ("0.5", "false")
    assert props["weights_sha256"] == load_bundle(bundle_dir).manifest.weights_sha256
    assert "not a medical device" in props["use"]


def test_an_export_that_says_something_else_is_not_written(
    tmp_path: Path, make_bundle: Make, facts: Any, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle_dir, path = bundle_of(tmp_path, make_bundle, facts, "conv"), tmp_path / "model.onnx"
    path.write_text("an older one")
    network = exportable(load_bundle(bundle_dir))

    def write_with(error: float) -> Any:
        def write(_: Any, manifest: Any, part: Path) -> Any:
            part.write_text("a new one")
            return lambda image: network(torch.from_numpy(image)).detach().numpy() + error

        return write

    for error in (2 * CLOSE, float("nan")):
        monkeypatch.setattr(exporting, "_write", write_with(error))
        with pytest.raises(Misuse, match=r"model.onnx: says something else than torch does \(by "):
            export_onnx(bundle_dir, path, console)
        assert path.read_text() == "an older one"
    assert {p.name for p in tmp_path.iterdir()} == {"bundle", "model.onnx", "model.safetensors"}
    monkeypatch.setattr(exporting, "_write", write_with(CLOSE / 2))
    assert export_onnx(bundle_dir, path, console) == 0
    assert path.read_text() == "a new one"


def test_what_cannot_be_exported_is_said(
    tmp_path: Path, make_bundle: Make, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle_dir = make_bundle(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(Misuse, match=r"model.onnx: cannot be written \(.*\); name another"):
        export_onnx(bundle_dir, tmp_path / "file" / "model.onnx", console)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(Misuse, match=r"onnxscript is not installed; an ONNX file needs pip"):
        export_onnx(bundle_dir, tmp_path / "model.onnx", console)


def ensemble_of(root: Path, make_bundle: Make, facts: Any, **data: Any) -> Path:
    """Two networks of other sizes in one bundle; `data` is of the second."""
    bundle_of(root, make_bundle, facts, "conv")
    config = facts()["config"]
    model = ModelConfig(block="residual", depth=2, base_filters=2)
    other = config.model_copy(update={"model": model, "data": config.data.model_copy(update=data)})
    weights = root / "other.safetensors"
    save_weights(weights, build_model(model, seed=1).state_dict(), {})
    member = {"trial": "t0002", "epoch": 1, "config": other}
    kept = {key: facts()[key] for key in ("dtype", "memory_format")}
    export_bundle(
        root / "bundle",
        root / "model.safetensors",
        facts(config=load_bundle(root / "bundle").manifest.config),
        "# card",
        b"",
        [(weights, member | kept)],
    )
    return root / "bundle"


def test_several_networks_are_one_graph_of_their_mean(
    tmp_path: Path, make_bundle: Make, facts: Any, console: Console
) -> None:
    bundle_dir = ensemble_of(tmp_path, make_bundle, facts)
    assert export_onnx(bundle_dir, tmp_path / "model.onnx", console) == 0
    session = onnxruntime.InferenceSession(
        tmp_path / "model.onnx", providers=["CPUExecutionProvider"]
    )
    image = np.random.default_rng(0).standard_normal((1, 3, 21, 34)).astype(np.float32)
    (found,) = session.run(None, {"image": image})
    networks = exportable(load_bundle(bundle_dir)).networks
    with torch.inference_mode():
        one, other = (network(torch.from_numpy(image)).numpy() for network in networks)
    np.testing.assert_allclose(found, (one + other) / 2, atol=CLOSE)
    assert np.abs(one - other).max() > 10 * CLOSE


def test_networks_that_prepare_images_in_different_ways_are_no_graph(
    tmp_path: Path, make_bundle: Make, facts: Any, console: Console
) -> None:
    bundle_dir = ensemble_of(tmp_path, make_bundle, facts, enhance="clahe")
    with pytest.raises(Misuse, match="t0001 and t0002 see images prepared in different ways"):
        export_onnx(bundle_dir, tmp_path / "model.onnx", console)


def test_torch_loads_an_export_without_this_package_and_says_the_same(
    tmp_path: Path, make_bundle: Make, facts: Any, console: Console
) -> None:
    bundle_dir, path = ensemble_of(tmp_path, make_bundle, facts), tmp_path / "out" / "model.pt2"
    assert export_torch(bundle_dir, path, console) == 0
    image = torch.rand(2, 3, 21, 34)
    torch.save(image, tmp_path / "image.pt")
    script = """
import json, sys, torch
path, image, out = sys.argv[1:]
told = {"r2search.json": ""}
program = torch.export.load(path, extra_files=told).module(check_guards=False)
assert "not a medical device" in json.loads(told["r2search.json"])["r2search.use"]
torch.save(program(torch.load(image)), out)
assert not [name for name in sys.modules if name.startswith("r2search")]
"""
    assert FACTS == "r2search.json"
    command = [sys.executable, "-c", script, path, tmp_path / "image.pt", tmp_path / "found.pt"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    with torch.inference_mode():
        expected = exportable(load_bundle(bundle_dir))(image)
    np.testing.assert_allclose(torch.load(tmp_path / "found.pt").detach(), expected, atol=CLOSE)
