"""Before a study trains on a cluster: can every node of it take part?"""

import hashlib
import secrets
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import r2search
from r2search.config import Misuse
from r2search.environment import versions
from r2search.storage import Storage, StorageError

ANSWER_S = 120.0  # for a node to start a process and answer
SHARED_S = 5.0  # for a new file to be seen on other nodes of a network file system
GPU_FREE = 2 * 2**30  # bytes: CUDA itself and a small network
COMPARED = ("python", "r2search", "torch", "numpy", "albumentations")  # what decides a report


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeFacts:
    """What one node says of itself."""

    versions: Mapping[str, str]
    run_dir: str = ""  # what is wrong with the run folder
    store: str = ""  # what is wrong with the store, where the study has one, and the remedy
    gpus: Sequence[tuple[int, int]] = ()  # free and all bytes of each that torch sees


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What the driver asks every node for."""

    run_dir: str
    marker: str  # the name of a file in it, or of an object of the store
    storage: Storage | None = None  # where the workers write, if not into the run folder
    gpus: int = 0  # that Ray counts on the node


def check_nodes(run_dir: Path, storage: Storage | None = None) -> None:
    """Ask every node of the cluster; one Misuse names all that would go wrong, node by node.

    Nothing is asked about the images: the driver alone reads them, and Ray brings them to a node
    once, for all of its trials.
    """
    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    if not any(node["Resources"].get("CPU") for node in alive):
        raise Misuse("no node of the cluster has CPUs to train on; start its workers first")
    marker = f".driver-{secrets.token_hex(8)}"
    storage = storage and storage.patient(SHARED_S, SHARED_S)
    if storage is None:
        (run_dir / marker).touch()
    else:
        storage.write(marker, b"")
    wanted = Wanted(run_dir=str(run_dir), marker=marker, storage=storage)
    try:
        asked = [replace(wanted, gpus=int(node["Resources"].get("GPU", 0))) for node in alive]
        answers = [_ask(node["NodeID"], w) for node, w in zip(alive, asked, strict=True)]
        mine = _versions()
        problems = [
            f"{node['NodeManagerAddress']}: {problem}"
            for node, w, answer in zip(alive, asked, answers, strict=True)
            for problem in _judge_answer(answer, mine, w.gpus)
        ]
    finally:
        if storage is None:
            (run_dir / marker).unlink()
        else:
            storage.delete([marker])
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        listed = "\n  ".join(dict.fromkeys(problems))
        raise Misuse(f"{count} with the nodes of the cluster:\n  {listed}")


def _ask(node: str, wanted: Wanted) -> Any:
    # With max_calls the process ends after its answer, and gives its GPU memory back.
    task = ray.remote(num_cpus=0, max_calls=1, max_retries=0)(look)
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return task.options(scheduling_strategy=there).remote(wanted)


def _judge_answer(answer: Any, driver: Mapping[str, str], gpus: int) -> list[str]:
    try:
        facts = ray.get(answer, timeout=ANSWER_S)
    except Exception as error:  # whatever it is: a node that cannot answer cannot train
        said = str(error).strip().splitlines() or [type(error).__name__]
        return [f"cannot run r2search ({said[-1].strip()}); install it there as on the driver's"]
    return judge(facts, driver, gpus)


def judge(facts: NodeFacts, driver: Mapping[str, str], gpus: int) -> list[str]:
    """What is wrong with a node on which Ray counts `gpus`, each with its remedy."""
    problems = []
    for name in COMPARED:
        here, there = driver.get(name), facts.versions.get(name)
        if here != there:
            problems.append(
                f"{name} is {there or 'not installed'}, the driver's is {here}; install the same, "
                "with -c constraints.txt"
            )
    if facts.run_dir:
        problems.append(f"{facts.run_dir}; name with --out a folder that all nodes share")
    if facts.store:
        problems.append(facts.store)
    if len(facts.gpus) < gpus:
        problems.append(
            f"torch sees {len(facts.gpus)} of the {gpus} GPUs that Ray counts; install torch for "
            "CUDA, and check nvidia-smi"
        )
    for index, (free, total) in enumerate(facts.gpus[:gpus]):
        if free < GPU_FREE:
            problems.append(
                f"GPU {index} has {free / 2**30:.1f} of {total / 2**30:.1f} GiB free; end what "
                "else uses it"
            )
    return problems


def look(wanted: Wanted) -> NodeFacts:
    """The facts of the machine on which this runs."""
    return NodeFacts(
        versions=_versions(),
        run_dir="" if wanted.storage else _trouble(Path(wanted.run_dir), wanted.marker),
        store=_store_trouble(wanted.storage, wanted.marker) if wanted.storage else "",
        gpus=_gpus() if wanted.gpus else (),
    )


def _versions() -> dict[str, str]:
    """Those that are compared. Of torch without its build: the head of a GPU cluster may have none.

    Of r2search the code itself: an old clone has the same number.
    """
    found = versions()
    package = Path(r2search.__file__).parent
    code = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        code.update(path.relative_to(package).as_posix().encode())
        code.update(path.read_bytes())
    found["r2search"] = f"{r2search.__version__} (code {code.hexdigest()[:8]})"
    found["python"] = ".".join(found["python"].split(".")[:2])
    if "torch" in found:
        found["torch"] = found["torch"].partition("+")[0]
    return {name: found[name] for name in COMPARED if name in found}


def _trouble(run_dir: Path, marker: str) -> str:
    """What is wrong with the run folder as seen from here: nothing, not shared, or not writable."""
    until = time.monotonic() + SHARED_S
    while not (run_dir / marker).exists():
        if time.monotonic() > until:
            return f"{run_dir} is not the driver's folder of that name"
        time.sleep(0.2)
    try:
        with tempfile.NamedTemporaryFile(dir=run_dir, prefix=".node-"):
            return ""
    except OSError as error:
        return f"{run_dir} cannot be written ({error.strerror})"


def _store_trouble(storage: Storage, marker: str) -> str:
    """What is wrong with the store as seen from here."""
    mine = f".node-{secrets.token_hex(8)}"
    try:
        if not storage.exists(marker):
            return f"{storage.url} is not the driver's; set the same AWS_ENDPOINT_URL on every node"
        storage.write(mine, b"")
        storage.delete([mine])
    except StorageError as error:
        return str(error)
    return ""


def _gpus() -> list[tuple[int, int]]:
    import torch

    return [torch.cuda.mem_get_info(index) for index in range(torch.cuda.device_count())]
