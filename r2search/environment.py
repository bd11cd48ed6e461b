"""What exactly ran: versions, revision, hardware. Written into every run folder."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# What our processes are told before they begin, and those that they start, such as Ray's workers:
PROCESS_SETTINGS = {
    # Threads that wait by spinning take the cores from those they wait for: on a busy machine two
    # threads were ten times slower than one. A short spin costs a quiet one little, none at all
    # costs it a third (docs/experiments.md). Read when torch is loaded.
    "GOMP_SPINCOUNT": "3000",
    # Memory in pages of 2 MB where the kernel asks to be told (`madvise`): a training step takes
    # 2 to 3 % less. Read by glibc when a process begins, so that it holds for workers alone.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}

PACKAGES = ("r2search", "torch", "numpy", "ray", "optuna", "wandb", "albumentations")


def versions() -> dict[str, str]:
    """Python and the packages that decide a result; those not installed are left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def revision() -> dict[str, Any]:
    """The git revision of the code, and whether it was changed; None without a checkout."""
    root = Path(__file__).parent.parent
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(root, "status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


def machine() -> dict[str, Any]:
    """The processor, its cores and memory. No host name: a run folder may be shared."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _git(root: Path, *args: str) -> str:
    if not (root / ".git").exists():
        raise FileNotFoundError(".git")
    run = subprocess.run(
        ["git", *args], cwd=root, capture_output=True, text=True, check=True, timeout=10
    )
    return run.stdout.strip()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
