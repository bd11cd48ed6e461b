"""The batch script for Slurm: as it was looked over, and as a shell understands it."""

import shlex
import subprocess
from pathlib import Path

import pytest

from r2search.cli import build_parser
from r2search.tuning.slurm import render_slurm

GOLDEN = Path(__file__).with_name("study.slurm")
ARGUMENTS = shlex.split("--space retina.yaml --set 'data.labels=[1, 2]' --out /shared/runs/r1")


def script(nodes: int = 2, gpus: int = 4, time_s: float = 4 * 3600) -> str:
    return render_slurm("retina", ARGUMENTS, nodes=nodes, cpus=16, gpus=gpus, time_s=time_s)


def test_the_script_is_the_one_that_was_looked_over() -> None:
    # After a change: read the difference, then write the new text into the file.
    assert script() == GOLDEN.read_text()


@pytest.mark.parametrize(("nodes", "gpus"), [(1, 0), (2, 4)])
def test_a_shell_understands_it(nodes: int, gpus: int) -> None:
    subprocess.run(["bash", "-n"], input=script(nodes, gpus), text=True, check=True)


def test_one_node_needs_no_others() -> None:
    alone = script(nodes=1, gpus=0)
    assert "--exclude" not in alone
    assert "--gpus-per-node" not in alone
    assert "#SBATCH --nodes=1\n" in alone


@pytest.mark.parametrize(
    ("seconds", "written"), [(60, "0-00:16:00"), (4 * 3600, "0-04:15:00"), (90000, "1-01:15:00")]
)
def test_the_batch_job_may_last_longer_than_its_study(seconds: float, written: str) -> None:
    assert f"#SBATCH --time={written}\n" in script(time_s=seconds)


def test_the_study_in_it_is_a_command_that_exists() -> None:
    (line,) = [line for line in script().splitlines() if line.startswith("python launch/tune.py")]
    words = shlex.split(line)[2:]
    assert words.pop() == "&"
    assert build_parser().parse_args(["tune", *words]).set == ["data.labels=[1, 2]"]
