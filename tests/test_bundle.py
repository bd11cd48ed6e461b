"""A bundle predicts by itself; whatever is wrong with one is said."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from r2search.bundle import (
    CARD,
    CONFIG,
    PREVIEW,
    WEIGHTS,
    export_bundle,
    load_bundle,
    predict,
    save_weights,
)
from r2search.config import Misuse, ModelConfig
from r2search.data.readers.images import read_image
from r2search.models.unet import build_model
from r2search.train.hardware import Hardware
from r2search.train.inference import predict_probability

Make = Callable[..., Path]
Facts = Callable[..., dict[str, Any]]


@pytest.fixture
def bundle_dir(tmp_path: Path, make_bundle: Make) -> Path:
    return make_bundle(tmp_path)


def noise(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    rng = np.random.default_rng(7)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def edit_config(bundle_dir: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = bundle_dir / CONFIG
    tree = yaml.safe_load(path.read_text())
    change(tree)
    path.write_text(yaml.safe_dump(tree))


# Round trip


def test_a_loaded_bundle_predicts_what_the_exported_network_predicted(
    bundle_dir: Path, facts: Facts
) -> None:
    config = facts()["config"]
    model = build_model(config.model, seed=0)
    hardware = Hardware("cpu", "float32", "contiguous", 1)
    image = noise(70, 50)
    expected = predict_probability(model, image, config.inference, hardware)
    np.testing.assert_array_equal(load_bundle(bundle_dir).predict(image).probability, expected)


def test_it_is_loaded_as_it_was_scored_whatever_this_machine_would_choose(
    tmp_path: Path, make_bundle: Make
) -> None:
    bundle = load_bundle(make_bundle(tmp_path, dtype="bfloat16", memory_format="channels_last"))
    assert (bundle.hardware.dtype, bundle.hardware.threads) == ("bfloat16", 1)
    kernels = [p for p in bundle.model.parameters() if p.ndim == 4 and min(p.shape[1:]) > 1]
    assert kernels
    assert all(k.is_contiguous(memory_format=torch.channels_last) for k in kernels)
    assert {k.device.type for k in kernels} == {bundle.hardware.device}


@pytest.mark.parametrize("shape", [(37, 53), (1, 1), (20, 200), (64, 64)])
def test_a_prediction_has_the_size_of_its_image(bundle_dir: Path, shape: tuple[int, int]) -> None:
    prediction = load_bundle(bundle_dir).predict(noise(*shape))
    assert prediction.probability.shape == prediction.mask.shape == shape
    assert prediction.probability.dtype == np.float32
    assert 0 <= prediction.probability.min() <= prediction.probability.max() <= 1


def test_a_file_is_predicted_as_its_pixels_are(
    bundle_dir: Path, tmp_path: Path, write_image: Make
) -> None:
    path = write_image(tmp_path / "a.png")
    expected = load_bundle(bundle_dir).predict(read_image(path, "rgb"))
    for image in (path, str(path)):
        np.testing.assert_array_equal(predict(bundle_dir, image).probability, expected.probability)


def test_the_mask_is_where_the_probability_reaches_the_threshold(bundle_dir: Path) -> None:
    bundle, image = load_bundle(bundle_dir), noise(40, 40)
    prediction = bundle.predict(image)
    np.testing.assert_array_equal(prediction.mask, prediction.probability >= 0.5)
    # A pixel exactly at the threshold is foreground, and every less probable one is not.
    threshold = float(np.sort(prediction.probability.ravel())[100])
    assert threshold < 0.5
    mask = bundle.predict(image, threshold).mask
    np.testing.assert_array_equal(mask, prediction.probability >= threshold)
    assert mask[prediction.probability == np.float32(threshold)].all()
    assert 0 < mask.sum() < mask.size


@pytest.mark.parametrize(
    ("image", "seen"),
    [
        (noise(40, 40).astype(np.float32), "got float32 of shape (40, 40, 3)"),
        (noise(40, 40)[:, :, 0], "got uint8 of shape (40, 40)"),
        (noise(40, 40, 4), "got uint8 of shape (40, 40, 4)"),
    ],
)
def test_an_array_of_another_kind_is_refused(
    bundle_dir: Path, image: NDArray[Any], seen: str
) -> None:
    with pytest.raises(Misuse, match=re.escape(f"expected uint8 of shape (H, W, 3), {seen}")):
        load_bundle(bundle_dir).predict(image)


# Damages


def truncate(bundle_dir: Path) -> None:
    path = bundle_dir / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])


def change_weights(bundle_dir: Path) -> None:
    path = bundle_dir / WEIGHTS
    save_file({key: value + 1 for key, value in load_file(path).items()}, path)


def python_tag(bundle_dir: Path) -> None:
    path = bundle_dir / CONFIG
    path.write_text(path.read_text() + 'extra: !!python/object/apply:os.system ["exit 1"]\n')


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (lambda b: b.rename(b.with_name("gone")), f"no bundle here ({CONFIG} is missing"),
    "no config": (lambda b: (b / CONFIG).unlink(), f"no bundle here ({CONFIG} is missing)"),
    "no weights": (lambda b: (b / WEIGHTS).unlink(), f"{WEIGHTS}: missing; export"),
    "weights cut short": (truncate, f"{WEIGHTS}: not intact ("),
    "weights changed": (change_weights, f"{WEIGHTS}: not the file that was exported"),
    "weights of no format": (
        lambda b: (b / WEIGHTS).write_bytes(b"hello, this is no safetensors file"),
        f"{WEIGHTS}: not intact (",
    ),
    "a later format": (
        lambda b: edit_config(b, lambda tree: tree.update(format=99)),
        f"{CONFIG}: format 99, this version reads 1; use the version",
    ),
    "a key that does not exist": (
        lambda b: edit_config(b, lambda tree: tree["config"]["model"].update(colour="red")),
        f"{CONFIG}: config.model.colour: Extra inputs are not permitted",
    ),
    "a value out of range": (
        lambda b: edit_config(b, lambda tree: tree["config"]["model"].update(depth=-1)),
        f"{CONFIG}: config.model.depth: Input should be greater than",
    ),
    "a key too few": (
        lambda b: edit_config(b, lambda tree: tree.pop("weights_sha256")),
        f"{CONFIG}: weights_sha256: Field required",
    ),
    "a config that is a list": (
        lambda b: (b / CONFIG).write_text("- 1\n"),
        f"{CONFIG}: file: Input should be",
    ),
    "an empty config": (
        lambda b: (b / CONFIG).write_text(""),
        f"{CONFIG}: file: Input should be",
    ),
    "a config that is no YAML": (
        lambda b: (b / CONFIG).write_text("format: [1\n"),
        f"{CONFIG}: not plain YAML: expected",
    ),
    "a config of bytes": (
        lambda b: (b / CONFIG).write_bytes(b"\xff\xfe\x00"),
        f"{CONFIG}: not plain YAML: ",
    ),
    "a config that would run code": (
        python_tag,
        f"{CONFIG}: not plain YAML: could not determine a constructor",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_bundle_is_refused_by_name(bundle_dir: Path, damage: str) -> None:
    do, message = DAMAGES[damage]
    do(bundle_dir)
    with pytest.raises(Misuse, match=re.escape(message)) as caught:
        load_bundle(bundle_dir)
    assert str(bundle_dir) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_weights_of_another_network_are_refused(
    tmp_path: Path, make_bundle: Make, facts: Facts
) -> None:
    bundle_dir = make_bundle(tmp_path)
    other = facts()["config"].model_copy(update={"model": ModelConfig(depth=2, base_filters=2)})
    edit_config(bundle_dir, lambda tree: tree.update(config=other.model_dump(mode="json")))
    with pytest.raises(Misuse, match=f"{WEIGHTS}: does not fit {CONFIG}: .*; copy or export"):
        load_bundle(bundle_dir)


def test_too_few_and_too_many_weights_are_refused(bundle_dir: Path) -> None:
    path = bundle_dir / WEIGHTS
    whole = load_file(path)
    kernel = next(name for name in whole if name.endswith(".weight"))
    less = {name: value for name, value in whole.items() if name != kernel}
    for tensors in (less, whole | {"stray": torch.ones(1)}):
        save_file(tensors, path)
        with pytest.raises(Misuse, match=f"{WEIGHTS}: does not fit {CONFIG}: "):
            load_bundle(bundle_dir, verify=False)


def test_changed_weights_are_used_when_nobody_asks_for_the_hash(bundle_dir: Path) -> None:
    image = noise(40, 40)
    before = load_bundle(bundle_dir).predict(image).probability
    change_weights(bundle_dir)
    after = load_bundle(bundle_dir, verify=False).predict(image).probability
    assert not np.array_equal(before, after)


# Export


def test_an_export_that_fails_leaves_nothing_behind(tmp_path: Path, facts: Facts) -> None:
    with pytest.raises(FileNotFoundError):
        export_bundle(tmp_path / "bundle", tmp_path / WEIGHTS, facts(), "# card", b"")
    (tmp_path / WEIGHTS).write_bytes(b"weights")
    with pytest.raises(TypeError):  # fails after the weights were copied
        export_bundle(tmp_path / "bundle", tmp_path / WEIGHTS, facts(), "# card", None)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == [WEIGHTS]


def test_an_export_that_fails_leaves_an_older_bundle_as_it_was(
    tmp_path: Path, make_bundle: Make, facts: Facts
) -> None:
    bundle_dir = make_bundle(tmp_path)
    with pytest.raises(TypeError):
        export_bundle(bundle_dir, tmp_path / WEIGHTS, facts(), "# card", None)  # type: ignore[arg-type]
    assert load_bundle(bundle_dir).manifest.trial == "t0001"


def test_a_new_export_replaces_an_older_one_whole(tmp_path: Path, make_bundle: Make) -> None:
    bundle_dir = make_bundle(tmp_path)
    (bundle_dir / "stray").touch()
    make_bundle(tmp_path, seed=1, trial="t0002")
    assert load_bundle(bundle_dir).manifest.trial == "t0002"
    assert {path.name for path in bundle_dir.iterdir()} == {WEIGHTS, CONFIG, CARD, PREVIEW}


def test_writing_weights_that_fails_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / WEIGHTS
    save_weights(path, {"w": torch.ones(2)}, {})
    shared = torch.ones(4)
    with pytest.raises(RuntimeError, match="share memory"):
        save_weights(path, {"a": shared, "b": shared[:2]}, {})
    assert list(load_file(path)) == ["w"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):  # fails when the new file takes its name
        save_weights(tmp_path / "folder", {"w": torch.zeros(2)}, {})
    assert sorted(tmp_path.iterdir()) == [tmp_path / "folder", path]


# Independence


WITHOUT = """
import sys
for name in "ray optuna wandb albumentations plotly".split():
    sys.modules[name] = None  # importing it now raises
from pathlib import Path
from r2search import predict
from r2search.cli import main
bundle, image, out = sys.argv[1:]
assert predict(bundle, image).mask.shape == (40, 48)
assert main(["predict", bundle, image, "-o", out]) == 0
data = str(Path(image).parent.parent)
assert main(["evaluate", bundle, "--data", data, "-o", out + "/s.csv"]) == 0
"""


def test_predicting_and_evaluating_need_nothing_of_the_search(
    tmp_path: Path, make_bundle: Make, write_folder: Make
) -> None:
    image = write_folder(tmp_path / "data") / "images" / "a.png"
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT, make_bundle(tmp_path), image, tmp_path / "out"],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert {"a_mask.png", "s.csv"} <= {path.name for path in (tmp_path / "out").iterdir()}
