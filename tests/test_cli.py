"""The command line: what it says of itself, and that a mistake costs one clear sentence."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import ray
from PIL import Image

from r2search import __version__
from r2search.cli import COMMANDS, GROUPS, build_parser, exit_code, main
from r2search.config import Misuse
from r2search.environment import PROCESS_SETTINGS
from r2search.settings import assignments

ROOT = Path(__file__).parents[1]
Make = Callable[..., Path]
Capture = pytest.CaptureFixture[str]


# The manual


@pytest.mark.parametrize("command", [*COMMANDS, *GROUPS])
def test_every_command_has_a_manual_page(command: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as exit:
        main([*command.split(), "--help"])
    page = capsys.readouterr().out
    assert exit.value.code == 0
    assert page.index("usage: ") < page.index("examples:") < page.index("exit codes:")
    assert max(map(len, page.splitlines())) <= 100


@pytest.mark.parametrize("command", ["", *COMMANDS, *GROUPS])
def test_the_examples_of_a_manual_page_are_commands_that_exist(
    command: str, capsys: Capture
) -> None:
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    page = capsys.readouterr().out
    examples = re.findall(rf"^  r2search ({command}.*)$", page, re.MULTILINE)
    assert len(examples) >= 2
    for example in examples:
        if not example.endswith("--help"):
            build_parser().parse_args(shlex.split(example))


def test_the_version_is_that_of_the_package(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"r2search {__version__}\n"


# Flags


def given(*arguments: str) -> dict[str, object]:
    return assignments(build_parser().parse_args(["tune", "--space", "quick.yaml", *arguments]))


def test_flags_are_settings_over_the_space_file() -> None:
    assert given() == {}
    flags = "--data photos --reader folder --time 1m30s --trials 7 --workers 2 --seed 0".split()
    assert given(*flags) == {
        "data.root": "photos",
        "data.pool": [],
        "data.otherwise": "error",  # who names a folder does not get synthetic images instead
        "data.reader": "folder",
        "budget.time": 90.0,
        "budget.trials": 7,
        "resources.workers": 2,
        "search.seed": 0,
    }


def test_set_gives_any_field_a_value_as_yaml_reads_it() -> None:
    values = ("model.depth=4", "train.lr=1e-3", "model.block=conv", "train.class_weights=[1, 2]")
    assert given(*(word for value in values for word in ("--set", value))) == {
        "model.depth": 4,
        "train.lr": "1e-3",  # YAML's string; the space turns it into a number
        "model.block": "conv",
        "train.class_weights": [1, 2],
    }


def test_set_wins_over_a_flag_and_the_later_over_the_earlier() -> None:
    sets = ["--set", "budget.trials=8", "--set", "budget.trials=9"]
    assert given("--trials", "7", *sets) == {"budget.trials": 9}


# Mistakes


def refused(arguments: list[str], capsys: Capture) -> str:
    """The message by which `main` refuses; all else that a refusal must be is asserted."""
    before = set(Path.cwd().rglob("*"))
    code = main(arguments)
    said = capsys.readouterr()
    assert code == 2
    assert said.out == ""
    assert said.err.startswith("r2search: ")
    assert "Traceback" not in said.err
    assert not ray.is_initialized()
    assert set(Path.cwd().rglob("*")) == before, "something was begun"
    return said.err.removeprefix("r2search: ").rstrip("\n")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_folder: Make) -> Path:
    """An empty working folder, but for `ok`, a data set in which nothing is wrong."""
    monkeypatch.chdir(tmp_path)
    return write_folder(tmp_path / "ok").parent


FLAGS = {
    "": "the following arguments are required: COMMAND; see r2search --help",
    "search": "argument COMMAND: invalid choice: 'search' .*'tune'.*; see r2search --help",
    "tune": "one of the arguments --space --resume is required; see r2search tune --help",
    "tune --space nope.yaml": "--space nope.yaml: no such file, and not in search_spaces/; .*quick",
    "tune --space quick.yaml --spice 1": "unrecognized arguments: --spice 1; see r2search --help",
    "tune --space quick.yaml --set model.dpeth=4": ".*model.dpeth: unknown .*did you mean 'depth'",
    "tune --space quick.yaml --set depth=4": ".*depth: .*model.depth",
    "tune --space quick.yaml --set model.depth": "--set model.depth: write KEY=VALUE, as in",
    "tune --space quick.yaml --set =4": "--set =4: write KEY=VALUE, as in",
    "tune --space quick.yaml --set model.depth=[1": "--set .*: the value is not YAML; put it in",
    "tune --space quick.yaml --set model.depth=99": ".*model.depth: .* less than or equal to 7, g",
    "tune --space quick.yaml --set metric.name=val/dise": "metric.name: .*'val/dise'; did you mea",
    "tune --space quick.yaml --time soon": "argument --time: .*20m or 1h30m, not 'soon'; see r2s",
    "tune --space quick.yaml --time 0s": "argument --time: must be longer than '0s'; see r2search",
    "tune --space quick.yaml --trials 0": "argument --trials: write a whole number from 1 on, not",
    "tune --space quick.yaml --flops nan": "argument --flops: write a number like 1e15, not 'nan'",
    "tune --space quick.yaml --flops +1e15": "--flops .: only beside --resume; write it without th",
    "tune --space quick.yaml --trials -3": "argument --trials: write a whole number from 1 on, no",
    "tune --space quick.yaml --trials 2.5": "argument --trials: write a whole number from 1 on, n",
    "tune --space quick.yaml --workers 0": "argument --workers: write a whole number from 1 on, n",
    "tune --space quick.yaml --seed -1": "argument --seed: write a whole number from 0 on, not '-",
    "tune --space quick.yaml --wandb no": "argument --wandb: invalid choice: 'no'",
    "tune --space general.yaml": "data.root: the reader folder needs a folder; give --data FOLDER",
    "tune --space general.yaml --data gone": "gone: there is no such folder; check .*--data",
    "tune --space general.yaml --data ok --reader nope": "data.reader: unknown name 'nope'; known",
    "tune --space quick.yaml --data ok": "data.root: synthetic_retina .* reads no folder, got ok",
    "tune --space general.yaml --data ok --out ok": "--out .*ok: not an empty folder; name a new",
    "train --space quick.yaml --baseline B9": "--baseline B9: .*no such one; .*known: U-Net",
    "predict gone x.png -o out": r"gone: no bundle here \(config.yaml is missing\); give RUN/bund",
    "predict gone x.png": "the following arguments are required: -o/--out; see r2search predict",
    "predict gone x.png -o out --threshold half": "argument --threshold: invalid float value: 'ha",
    "predict gone x.png -o out --threshold 2": "--threshold 2.0: must lie between 0 and 1",
    "evaluate gone": r"gone: no bundle here \(config.yaml is missing\); give RUN/bundle",
    "serve gone": r"gone: no bundle here \(config.yaml is missing\); give RUN/bundle",
    "serve": "the following arguments are required: bundle; see r2search serve --help",
    "serve gone --port web": "argument --port: write a whole number from 0 on, not 'web'; see",
    "serve gone --rate 0": "argument --rate: write a whole number from 1 on, not '0'; see r2s",
    "data": "the following arguments are required: COMMAND; see r2search data --help",
    "data check": "the following arguments are required: PATH; see r2search data check --help",
    "data check gone": "gone: there is no such folder; check the path",
    "data check ok --reader nope": "data.reader: unknown name 'nope'; known",
    "data check ok --reader pool": "data.pool: names no data sets",
    "data check ok --set model.depth=2": "--set: model.depth: got 2; how one folder is read is al",
    "data check ok --set data.pool=[1]": "--set: data.pool: got .1.; how one folder is read is al",
    "data check ok --set data.labels=red": "--set: data.labels: expected",
    "data check ok -o sheet.jpg": "-o sheet.jpg: the sheet is a PNG; give it a name that ends in",
    "data fetch nope --yes": "nope: ",
    "evaluate gone --split half": "argument --split: invalid choice: 'half'",
}


@pytest.mark.parametrize("arguments", FLAGS)
def test_a_wrong_flag_is_one_sentence_and_nothing_is_begun(
    arguments: str, here: Path, capsys: Capture
) -> None:
    message = refused(shlex.split(arguments), capsys)
    assert re.match(FLAGS[arguments], message), message
    assert len(message.splitlines()) == 1


def save(path: str, array: np.ndarray) -> None:
    Image.fromarray(array).save(path)


EMPTY = np.zeros((40, 48), np.uint8)
HALF = np.repeat(np.array([[0, 255]], np.uint8), [24, 24], axis=1).repeat(40, axis=0)

# How a data set of five good images is spoilt, and the line that names the file.
DAMAGES: dict[str, tuple[Callable[[], object], str]] = {
    "no mask": (lambda: Path("ok/masks/b.png").unlink(), "images/b.png: has no mask; add masks/b"),
    "no image": (lambda: Path("ok/images/b.png").unlink(), "masks/b.png: has no image in images/"),
    "other size": (
        lambda: save("ok/masks/b.png", HALF[:30]),
        "masks/b.png: is 48 x 30 pixels, its image b.png is 48 x 40; save both at one size",
    ),
    "not binary": (
        lambda: save("ok/masks/b.png", HALF + np.arange(48, dtype=np.uint8) // 10),
        "masks/b.png: is not binary: .*; threshold the mask",
    ),
    "all empty": (lambda: save("ok/masks/b.png", EMPTY), "masks/b.png: is all empty; mark the"),
    "unreadable": (
        lambda: Path("ok/images/b.png").write_bytes(b"no PNG"),
        r"images/b.png: cannot be read as an image \(not a known image format\)",
    ),
    "grey": (lambda: save("ok/images/b.png", HALF), "images/b.png: is grey where RGB is expected"),
    "alpha": (
        lambda: Image.new("RGBA", (48, 40)).save("ok/images/b.png"),
        "images/b.png: has transparent pixels; save it without",
    ),
    "16 bit": (
        lambda: save("ok/images/b.png", HALF.astype(np.uint16)),
        "images/b.png: has more than 8 bits a value; rescale it",
    ),
    "twice the same": (
        lambda: Path("ok/images/b.png").write_bytes(Path("ok/images/a.png").read_bytes()),
        "images/b.png: is the same picture as images/a.png; remove one",
    ),
}
TUNE = "tune --space general.yaml --data ok".split()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bad_file_is_named_before_anything_is_begun(
    damage: str, here: Path, capsys: Capture
) -> None:
    spoil, line = DAMAGES[damage]
    spoil()
    first, second = refused(TUNE, capsys).splitlines()
    assert first == f"{here / 'ok'}: 1 problem in the data:"
    assert re.match(f"  {line}", second), second


def test_several_bad_files_are_listed_together(here: Path, capsys: Capture) -> None:
    Path("ok/masks/a.png").unlink()
    save("ok/images/b.png", HALF)
    save("ok/masks/c.png", EMPTY)
    first, *lines = refused(TUNE, capsys).splitlines()
    assert first == f"{here / 'ok'}: 3 problems in the data:"
    assert [line.split(":")[0] for line in lines] == [
        "  images/a.png",
        "  images/b.png",
        "  masks/c.png",
    ]


def test_an_empty_folder_is_refused(here: Path, capsys: Capture) -> None:
    Path("empty").mkdir()
    message = refused("tune --space general.yaml --data empty".split(), capsys)
    assert "empty: expected images/ with pictures and masks/" in message
    assert "or manifest.csv; found an empty folder" in message


def test_images_of_one_subject_are_refused(here: Path, write_folder: Make, capsys: Capture) -> None:
    write_folder(here / "one", ("anna/a", "anna/b", "anna/c"))
    message = refused("tune --space general.yaml --data one".split(), capsys)
    assert message.startswith("all 3 images are of one subject (anna)")
    assert message.endswith("--set data.split=within_subject")


def test_launch_tune_is_the_same_command_from_any_folder(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, ROOT / "launch" / "tune.py", "--space", "quick.yaml", "--trials", "0"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert ran.returncode == 2
    assert ran.stderr == (
        "r2search: argument --trials: write a whole number from 1 on, not '0'; "
        "see r2search tune --help\n"
    )


@pytest.mark.parametrize(("command", "package"), [("tune", "ray"), ("train", "plotly")])
def test_a_missing_package_of_the_search_is_named_with_its_remedy(
    command: str, package: str
) -> None:
    code = (
        f"import sys; sys.modules['{package}'] = None\n"
        f"from r2search.cli import main; sys.exit(main(['{command}', '--space', 'quick.yaml']))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 2
    assert ran.stderr.startswith(f"r2search: {package}")
    assert ran.stderr.endswith(
        "is not installed; searching and training need pip install -c constraints.txt '.[search]'\n"
    )


# Surroundings


def test_a_command_and_what_it_starts_have_the_settings_of_processes(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "assert 'torch' not in sys.modules\n"
        "from r2search.cli import main; main(['evaluate', 'gone'])\n"
        "assert 'torch' in sys.modules\n"
        "from r2search.environment import PROCESS_SETTINGS\n"
        "assert PROCESS_SETTINGS.items() <= os.environ.items()"
    )
    told = {key: value for key, value in os.environ.items() if key not in PROCESS_SETTINGS}
    subprocess.run([sys.executable, "-c", code], env=told, check=True, cwd=tmp_path)


# Exit codes


@pytest.mark.parametrize(
    ("status", "signal", "code"),
    [
        ("completed", None, 0),
        ("partial", None, 3),
        ("failed", None, 1),
        ("interrupted", 2, 130),
        ("interrupted", 15, 143),
    ],
)
def test_the_exit_code_tells_how_a_study_ended(status: str, signal: int | None, code: int) -> None:
    assert exit_code({"status": status, "signal": signal}) == code


def test_ctrl_c_while_the_data_is_read_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(COMMANDS, "train", (interrupted, *COMMANDS["train"][1:]))
    assert main(["train", "--space", "quick.yaml"]) == 130
    assert capsys.readouterr().err == "r2search: interrupted\n"


def test_a_mistake_of_our_own_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> int:
        raise ValueError("ours")

    monkeypatch.setitem(COMMANDS, "train", (broken, *COMMANDS["train"][1:]))
    assert issubclass(Misuse, ValueError)  # which is why a plain one must not be caught
    with pytest.raises(ValueError, match="ours"):
        main(["train", "--space", "quick.yaml"])


def test_a_data_set_is_fetched_into_a_folder_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for other in ("hrf", "chase_db1"):  # of another, which is no hindrance, and in the way
        (tmp_path / "data" / other).mkdir(parents=True)
        (tmp_path / "data" / other / "mine.txt").touch()
    assert main(["data", "fetch", "chase_db1", "--yes"]) == 2
    folder = tmp_path / "data" / "chase_db1"
    assert f"{folder}: is there already, and was not fetched" in capsys.readouterr().err
