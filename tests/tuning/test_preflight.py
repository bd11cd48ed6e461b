"""What is wrong with the nodes of a cluster is said before anything is trained."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from s3 import S3Server

from r2search.storage import Storage
from r2search.tuning import preflight
from r2search.tuning.preflight import NodeFacts, Wanted, judge, look

GIB = 2**30
DRIVER = {
    "python": "3.11",
    "r2search": "0.1.0 (code aaaaaaaa)",
    "torch": "2.13.0",
    "numpy": "2.4.6",
    "albumentations": "2.0.8",
}
FINE = NodeFacts(versions=DRIVER, gpus=((70 * GIB, 80 * GIB), (79 * GIB, 80 * GIB)))


def test_a_node_like_the_driver_has_no_problem() -> None:
    assert judge(FINE, DRIVER, gpus=2) == []


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in DRIVER.items() if key != name}


FAULTS: dict[str, tuple[NodeFacts, str]] = {
    "another torch": (
        replace(FINE, versions=DRIVER | {"torch": "2.6.0"}),
        "torch is 2.6.0, the driver's is 2.13.0; install the same, with -c constraints.txt",
    ),
    "no albumentations": (
        replace(FINE, versions=without("albumentations")),
        "albumentations is not installed, the driver's is 2.0.8; install the same, with -c "
        "constraints.txt",
    ),
    "an old clone": (
        replace(FINE, versions=DRIVER | {"r2search": "0.1.0 (code bbbbbbbb)"}),
        "r2search is 0.1.0 (code bbbbbbbb), the driver's is 0.1.0 (code aaaaaaaa); install the "
        "same, with -c constraints.txt",
    ),
    "a run folder of its own": (
        replace(FINE, run_dir="/runs/r1 is not the driver's folder of that name"),
        "/runs/r1 is not the driver's folder of that name; name with --out a folder that all "
        "nodes share",
    ),
    "torch without CUDA": (
        replace(FINE, gpus=()),
        "torch sees 0 of the 2 GPUs that Ray counts; install torch for CUDA, and check nvidia-smi",
    ),
    "a GPU in use": (
        replace(FINE, gpus=((70 * GIB, 80 * GIB), (GIB, 80 * GIB))),
        "GPU 1 has 1.0 of 80.0 GiB free; end what else uses it",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_with_a_node_is_named_with_its_remedy(fault: str) -> None:
    facts, said = FAULTS[fault]
    assert judge(facts, DRIVER, gpus=2) == [said]


def test_all_that_is_wrong_is_named_together() -> None:
    facts = NodeFacts(versions={}, run_dir="c", gpus=())
    assert len(judge(facts, DRIVER, gpus=1)) == len(DRIVER) + 2


def test_gpus_that_ray_does_not_count_are_nobodys_concern() -> None:
    assert judge(replace(FINE, gpus=((0, GIB),)), DRIVER, gpus=0) == []


def wanted(run_dir: Path) -> Wanted:
    (run_dir / "marker").touch()
    return Wanted(run_dir=str(run_dir), marker="marker")


def test_this_machine_is_like_itself(tmp_path: Path) -> None:
    facts = look(wanted(tmp_path))
    assert judge(facts, facts.versions, gpus=0) == []
    assert set(facts.versions) == set(DRIVER)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["marker"]


def test_a_run_folder_without_the_drivers_file_is_not_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "SHARED_S", 0.0)
    asked = replace(wanted(tmp_path), marker="another")
    assert look(asked).run_dir == f"{tmp_path} is not the driver's folder of that name"


def test_a_run_folder_that_cannot_be_written_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = wanted(tmp_path)

    def refuse(**_: object) -> object:  # permissions do not hold for root, who may run this
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(preflight.tempfile, "NamedTemporaryFile", refuse)
    assert look(asked).run_dir == f"{tmp_path} cannot be written (Read-only file system)"


def test_a_store_takes_the_place_of_a_shared_run_folder(s3: S3Server, tmp_path: Path) -> None:
    store = Storage(s3.url("preflight"), 3.0, 3.0)
    asked = Wanted(run_dir=str(tmp_path / "elsewhere"), marker="mark", storage=store)
    seen_by_nobody = look(asked)
    said = "s3://bucket/preflight is not the driver's; set the same AWS_ENDPOINT_URL on every node"
    assert judge(seen_by_nobody, seen_by_nobody.versions, gpus=0) == [said]
    store.write("mark", b"")
    assert judge(look(asked), look(asked).versions, gpus=0) == []
    assert store.names() == ["mark"]
    with s3.with_permissions():
        (said,) = judge(look(asked), look(asked).versions, gpus=0)
    assert said.startswith("s3://bucket/preflight: no permission")


CLUSTER = """
import json, sys
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from r2search.config import Misuse
from r2search.tuning.preflight import check_nodes

def check():
    try:
        check_nodes(run_dir)
    except Misuse as misuse:
        return str(misuse)

run_dir, node = Path(sys.argv[1]), {"object_store_memory": 100 * 2**20}
head = node | {"num_cpus": 0, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=head)
ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
alone = check()
cluster.add_node(num_cpus=1, num_gpus=1, **node)
cluster.wait_for_nodes()
said = check()
left = [path.name for path in run_dir.iterdir()]
print(json.dumps({"alone": alone, "said": said, "left": left}))
ray.shutdown()
cluster.shutdown()
"""


def test_every_node_of_a_real_cluster_is_asked(tmp_path: Path) -> None:
    # In a process of its own: Ray's token mode is decided once in a process.
    ran = subprocess.run(
        [sys.executable, "-c", CLUSTER, str(tmp_path)],
        env=os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    answer = json.loads(ran.stdout.splitlines()[-1])
    assert answer["alone"] == (
        "no node of the cluster has CPUs to train on; start its workers first"
    )
    first, *lines = answer["said"].splitlines()
    # Both nodes have the address of this machine; torch sees no GPU where Ray was told of one.
    assert first == "1 problem with the nodes of the cluster:"
    assert {line.partition(": ")[2] for line in lines} == {
        "torch sees 0 of the 1 GPUs that Ray counts; install torch for CUDA, and check nvidia-smi",
    }
    assert answer["left"] == []
