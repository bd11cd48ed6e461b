"""What ran: versions, revision, machine."""

import json
import os
import platform
import socket
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from r2search.environment import PACKAGES, machine, revision, versions

ROOT = Path(__file__).parents[1]


def test_versions_are_those_installed() -> None:
    found = versions()
    assert found["python"] == platform.python_version()
    assert found["torch"] == version("torch")
    assert set(found) <= {"python", *PACKAGES}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_the_revision_is_that_of_the_checkout() -> None:
    def git(*args: str) -> str:
        run = subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, check=True)
        return run.stdout.strip()

    assert revision() == {
        "commit": git("rev-parse", "HEAD"),
        "dirty": bool(git("status", "--porcelain")),
    }


def test_without_git_there_is_no_revision_and_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # nothing is found there
    assert revision() == {"commit": None, "dirty": None}


def test_the_machine_is_told_without_its_name() -> None:
    facts = machine()
    assert facts["cores"] == os.cpu_count()
    assert facts["memory_gib"] > 0
    assert facts["processor"]
    name = socket.gethostname()
    assert name not in json.dumps(list(facts.values())) or len(name) < 4  # `vm` is in many words
