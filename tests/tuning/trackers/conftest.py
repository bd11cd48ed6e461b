"""A W&B server of our own, and no other way out."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from wandb_server import KEY, WandbServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WandbServer]:
    """It is the one that processes started here find, with the right key."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as environment, WandbServer() as server:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            environment.delenv(name)
        environment.setenv("WANDB_BASE_URL", server.url)
        environment.setenv("WANDB_API_KEY", KEY)
        environment.setenv("WANDB_CONFIG_DIR", str(folder))
        environment.setenv("NETRC", str(folder / "netrc"))
        environment.setenv("NO_PROXY", "127.0.0.1")
        yield server
        assert server.faults == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"
