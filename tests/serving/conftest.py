"""Servers of tiny untrained networks, one of each kind for all tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import Server, serving

from r2search.config import TrialConfig

Make = Callable[..., Path]
MANY = ("--rate", "100000")


@pytest.fixture(scope="package")
def server(make_bundle: Make, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Of one foreground class."""
    root = tmp_path_factory.mktemp("one")
    with serving(make_bundle(root), root / "scratch", *MANY) as server:
        yield server


@pytest.fixture(scope="package")
def organs(
    make_bundle: Make, several: TrialConfig, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Of two foreground classes."""
    root = tmp_path_factory.mktemp("several")
    with serving(make_bundle(root, config=several), root / "scratch", *MANY) as server:
        yield server
