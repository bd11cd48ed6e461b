"""Submitting a study: mistakes that are seen before anything is sent, and the words of the job."""

import shlex
import socket
from pathlib import Path

import pytest

from r2search.cli import build_parser, main
from r2search.records import RECORD
from r2search.space import dump_study, load_study
from r2search.submitting import COMMANDS, command

pytest.importorskip("aiohttp", reason="the extra `cluster` is not installed")
Capture = pytest.CaptureFixture[str]
SUBMIT = "job submit --space quick.yaml --out /shared/r1"
RESUME = "job submit --resume /shared/r1"


def refused(arguments: str, capsys: Capture) -> str:
    code = main(shlex.split(arguments))
    said = capsys.readouterr()
    assert (code, said.out) == (2, "")
    assert "Traceback" not in said.err
    return said.err.removeprefix("r2search: ").rstrip("\n")


@pytest.fixture
def nowhere() -> str:
    """An address at which nothing answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_launch_submit_submits_unless_it_is_told_what_else() -> None:
    assert command(["--space", "a.yaml"]) == ["job", "submit", "--space", "a.yaml"]
    assert command([]) == ["job", "submit"]
    for name in COMMANDS:
        _, action = name.split()
        assert command([action, "--help"]) == ["job", action, "--help"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("job submit --space quick.yaml", "--out is missing: name the run folder to make, on stor"),
        (
            "job submit --space quick.yaml --out runs/r1",
            "--out runs/r1: is a path of the cluster's",
        ),
        ("job submit --resume runs/r1", "--resume runs/r1: is a path of the cluster's nodes; beg"),
        (f"{RESUME} --out /shared/r2", "--out: --resume goes on with a study as it was; --time"),
        (f"{RESUME} --warm-start /r", "--warm-start: --resume goes on with a study as it was; "),
        (f"{RESUME} --set model.depth=4", "--set: --resume goes on with a study as it was; --tim"),
        (f"{RESUME} --time 30m", "--time: beside --resume write how much more, as in --time +30"),
        (f"{RESUME} --space quick.yaml", "argument --space: not allowed with argument --resume"),
        (RESUME, "--address is missing: give the dashboard's, as http://HEAD:8265, or export RAY"),
        (f"{SUBMIT} --time +30m", "--time +: only beside --resume; write it without the plus"),
        (
            "job submit --space quick.yaml --out s3://me:secret@bucket/r1",
            "s3://bucket/r1: was given with a user or password",
        ),
        ("job submit --space quick.yaml --out s3://bucket/r1", "--address is missing"),
        (f"{SUBMIT} --warm-start runs/a", "--warm-start runs/a: is a path of the cluster's nodes"),
        (f"{SUBMIT} --data photos", "--data photos: is a path of the cluster's nodes; begin it w"),
        (
            SUBMIT,
            "--address is missing: give the dashboard's, as http://HEAD:8265, or export RAY_A",
        ),
        (f"{SUBMIT} --address HEAD:8265", "--address HEAD:8265: write the dashboard's, as in http"),
        (f"{SUBMIT} --send-wandb-key", "--send-wandb-key: there is no WANDB_API_KEY in this envir"),
        ("job submit --space nope.yaml --out /r", "--space nope.yaml: no such file, and not in se"),
        (f"{SUBMIT} --set model.dpeth=4", "--set: model.dpeth: unknown"),
        (f"{SUBMIT} --nodes 2", "unrecognized arguments: --nodes 2; see r2search --help"),
        ("job stop", "the following arguments are required: ID; see r2search job stop --help"),
        ("job status", "--address is missing"),
        ("job slurm --resume gone", "--resume gone: holds no study; name its run folder, as it is"),
        ("job slurm --space quick.yaml --nodes 0", "argument --nodes: write a whole number from 1"),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_is_sent(
    arguments: str, said: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    message = refused(arguments, capsys)
    assert message.startswith(said), message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("variable", ["RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"])
def test_the_flag_wins_over_the_addresses_of_rays_own_commands(
    variable: str, nowhere: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "http://192.0.2.1:8265")
    message = refused(f"job status --address {nowhere}", capsys)
    assert message.startswith(f"--address {nowhere}: no Ray dashboard answers there (")
    assert message.endswith("or bring it here with ssh -L 8265:localhost:8265 HEAD")


def test_the_script_for_slurm_goes_on_with_a_study_for_the_time_that_is_left(
    capsys: Capture, tmp_path: Path
) -> None:
    study = load_study("quick.yaml", {"budget.time": 7200.0})
    (tmp_path / "space.yaml").write_text(dump_study(study))
    events = '{"t": 0.0, "event": "study"}\n{"t": 3600.0, "event": "note"}\n'
    (tmp_path / RECORD).write_text(events)
    words = f"--resume {tmp_path} --time +30m --wandb disabled"
    assert main(shlex.split(f"job slurm --nodes 2 {words}")) == 0
    script = capsys.readouterr().out
    assert f"python launch/tune.py {words} &" in script
    # half of the two hours are left, and half an hour more; a quarter of an hour is for the rest
    assert "#SBATCH --time=0-01:45:00" in script
    (tmp_path / RECORD).write_text('{"t": 0.0, "ev\n{"t": 1.0, "event": "note"}\n')
    message = refused(f"job slurm --resume {tmp_path}", capsys)
    assert ":1: not JSON" in message


def test_the_script_for_slurm_runs_the_same_study(capsys: Capture) -> None:
    words = "--space quick.yaml --time 2h --set 'data.labels=[1, 2]' --wandb disabled"
    assert main(shlex.split(f"job slurm --nodes 2 --gpus=1 {words} --cpus 4")) == 0
    script = capsys.readouterr().out
    (line,) = [line for line in script.splitlines() if line.startswith("python launch/tune.py ")]
    assert shlex.split(line)[2:-1] == shlex.split(words)
    assert "#SBATCH --time=0-02:15:00" in script
    build_parser().parse_args(["tune", *shlex.split(line)[2:-1]])
