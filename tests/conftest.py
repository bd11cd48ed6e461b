"""A tiny exported network and tiny labelled images, for tests that need no training."""

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from loopback import Loopback
from PIL import Image
from rich.console import Console
from s3 import S3Server

from r2search.config import DataConfig, InferenceConfig, ModelConfig, TrialConfig
from r2search.environment import PROCESS_SETTINGS

# As `r2search.cli.main` does, and for its reasons; nothing above loads torch, which reads it.
for _name, _value in PROCESS_SETTINGS.items():
    os.environ.setdefault(_name, _value)

# Studies that tests start are nobody's to see, whatever login this machine has.
os.environ["WANDB_MODE"] = "offline"

# Ray's own niceness for its workers, 15, would starve them beside another test.
os.environ.setdefault("RAY_worker_niceness", "0")

# How long an example takes says nothing here: tests share two cores.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# By the minutes that they take: what begins last is short, and no process waits for another.
LONGEST = (
    "test_end_to_end.py",
    "test_resume.py",
    "test_several_nodes.py",
    "test_jobs.py",
    "test_study.py",
    "test_remote.py",
    "test_follower.py",
    "test_memory_guard.py",
    "test_replay.py",
    "test_tracking.py",
    "test_previewing.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


TINY = TrialConfig(
    data=DataConfig(reader="folder"),
    model=ModelConfig(block="conv", depth=1, base_filters=2),
    inference=InferenceConfig(tile=32, overlap=8),
)


def bundle_facts(**changes: Any) -> dict[str, Any]:
    """The fields of a `Manifest` but for the hash; none of the numbers was measured."""
    return {
        "study": "made-up",
        "trial": "t0001",
        "epoch": 3,
        "config": TINY,
        "dtype": "float32",
        "memory_format": "contiguous",
        "threads": 1,
        "metrics": {"val/dice_mean": 0.5},
        "data": {"reader": "folder", "fingerprint": "0" * 64, "split": "by_subject", "notes": []},
        "synthetic": False,
        "versions": {"r2search": "0.1.0"},
    } | changes


@pytest.fixture(scope="session")
def facts() -> Callable[..., dict[str, Any]]:
    return bundle_facts


@pytest.fixture(scope="session")
def make_bundle() -> Callable[..., Path]:
    """`make_bundle(root, seed=0, **changes)` exports an untrained network to root/bundle."""
    from r2search.bundle import export_bundle
    from r2search.models.unet import build_model
    from r2search.weights import WEIGHTS, save_weights

    def make(root: Path, seed: int = 0, preview: bytes = b"preview", **changes: Any) -> Path:
        given = bundle_facts(**changes)
        weights_path = root / WEIGHTS
        root.mkdir(parents=True, exist_ok=True)
        save_weights(weights_path, build_model(given["config"].model, seed=seed).state_dict(), {})
        export_bundle(root / "bundle", weights_path, given, "# card\n", preview)
        return root / "bundle"

    return make


@pytest.fixture(scope="session")
def write_image() -> Callable[..., Path]:
    """`write_image(path, height, width, seed)` writes RGB noise and gives the path back."""

    def write(path: Path, height: int = 40, width: int = 48, seed: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return write


@pytest.fixture(scope="session")
def write_folder(write_image: Callable[..., Path]) -> Callable[..., Path]:
    """`write_folder(root, names)` writes images/NAME.png and masks/NAME.png."""

    def write(root: Path, names: tuple[str, ...] = ("a", "b", "c", "d", "e")) -> Path:
        for number, name in enumerate(names):
            write_image(root / "images" / f"{name}.png", seed=number)
            mask = np.zeros((40, 48), np.uint8)
            mask[10 + number : 30, 10:20] = 255
            path = root / "masks" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(path)
        return root

    return write


@pytest.fixture(scope="session")
def small_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eight images, for studies whose scores say nothing: no start has to draw any."""
    root, draws = tmp_path_factory.mktemp("small"), np.random.default_rng(0)
    for kind in ("images", "masks"):
        (root / kind).mkdir()
    for name in "abcdefgh":
        mask = np.zeros((96, 96), np.uint8)
        top, left = draws.integers(0, 48, 2)
        mask[top : top + 48, left : left + 24] = 255
        pixels = draws.integers(0, 192, (96, 96, 3), np.uint8) + mask[..., None] // 4
        Image.fromarray(pixels.astype(np.uint8)).save(root / "images" / f"{name}.png")
        Image.fromarray(mask).save(root / "masks" / f"{name}.png")
    return root


@pytest.fixture(scope="session")
def several() -> TrialConfig:
    """The settings of a tiny network of two foreground classes, of mask values 7 and 130."""
    tree = TINY.model_dump()
    tree["data"]["labels"], tree["model"]["classes"] = (7, 130), 3
    return TrialConfig.model_validate(tree)


@pytest.fixture
def console() -> Console:
    """A console whose text is `console.file.getvalue()`."""
    return Console(file=io.StringIO(), width=200)


@pytest.fixture(scope="session")
def loopback() -> Iterator[Loopback]:
    """A web server on this machine; a test chooses what it serves, and with which faults."""
    with pytest.MonkeyPatch.context() as environment, Loopback() as server:
        for name in ("NO_PROXY", "no_proxy"):
            environment.setenv(name, "127.0.0.1")
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A store on this machine; skips, and says so, where its packages are not installed."""
    for package in ("obstore", "moto"):
        pytest.importorskip(package, reason="pip install -c constraints.txt -e '.[search,test]'")
    with S3Server() as server:
        yield server


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The same, and this process may use it."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server
