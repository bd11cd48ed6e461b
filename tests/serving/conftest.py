"""Servers of tiny untrained networks, one of each kind for all tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import Server, encoded, make_run, noise, serving

from r2search.config import TrialConfig

Make = Callable[..., Path]
MANY = ("--rate", "100000")
SEED = 5  # of weights whose probabilities are spread widely


@pytest.fixture(scope="package")
def server(make_bundle: Make, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Of one foreground class."""
    root = tmp_path_factory.mktemp("one")
    with serving(make_bundle(root, SEED), root / "complaints.txt", *MANY) as server:
        yield server


@pytest.fixture(scope="package")
def organs(
    make_bundle: Make, several: TrialConfig, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Of two foreground classes, trained on synthetic images, with a sample picture."""
    root = tmp_path_factory.mktemp("several")
    preview = encoded(noise())
    bundle = make_bundle(root, SEED, config=several, synthetic=True, preview=preview)
    with serving(bundle, root / "complaints.txt", *MANY) as server:
        yield server


@pytest.fixture(scope="package")
def gallery(make_bundle: Make, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Of a run folder, with the pictures of its study."""
    root = tmp_path_factory.mktemp("study")
    with serving(make_run(make_bundle, root / "run"), root / "complaints.txt", *MANY) as server:
        yield server
