"""A cluster for all tests of this folder, where the machine allows it."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from network import Network
from ray_nodes import WORKERS, Cluster


@pytest.fixture(scope="session")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if os.geteuid() != 0:
        pytest.skip("several nodes need network namespaces, and those need root")
    try:
        network = Network(1 + len(WORKERS))
    except OSError as error:
        pytest.skip(f"several nodes need network namespaces: {error}")
    folder = tmp_path_factory.mktemp("shared")
    (folder / "unshared").mkdir()
    with tempfile.TemporaryDirectory(prefix="rn", ignore_cleanup_errors=True) as temporary:
        cluster = Cluster(network, folder, Path(temporary))
        try:
            yield cluster
        finally:
            network.close()
            for process in cluster.nodes.values():
                process.wait()


@pytest.fixture
def cluster(machines: Cluster) -> Cluster:
    """All nodes alive, whatever the test before did to them."""
    machines.restore()
    return machines
