"""A W&B server of our own, and no other way out."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from wandb_server import WandbServer, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WandbServer]:
    with serving(tmp_path_factory.mktemp("home")) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"
