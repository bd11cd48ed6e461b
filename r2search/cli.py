"""The command line: `r2search COMMAND`. Thin: parses flags and calls the package."""

import argparse
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from rich.console import Console

from r2search import __version__, manual
from r2search.config import Misuse, hint, parse_duration


class _Parser(argparse.ArgumentParser):
    """Says a mistake in one sentence, as the rest of the package does."""

    def error(self, message: str) -> NoReturn:
        raise Misuse(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Mistakes of the user end in one clear message."""
    # Threads that wait by spinning take the cores from those they wait for: on a busy machine two
    # threads were ten times slower than one. A short spin costs a quiet one little, none at all
    # costs it a third (docs/experiments.md). Read when torch is loaded, and by Ray's workers.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    arguments = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        options = build_parser().parse_args(arguments)
        options.command_line = shlex.join(["r2search", *arguments])
        code: int = options.run(options)
        return code
    except Misuse as error:
        print(f"r2search: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("r2search: interrupted", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    """The parser with all commands."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="r2search",
        description="Find, train and prove the best R2U-Net that your hardware can train in time.",
        epilog=manual.EXAMPLES + manual.EXIT_CODES,
        formatter_class=layout,
    )
    parser.add_argument("--version", action="version", version=f"r2search {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (run, add, summary, about, examples) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=about,
            epilog=examples + manual.EXIT_CODES,
            formatter_class=layout,
        )
        add(command)
        command.set_defaults(run=run)
    return parser


def _add_study(command: argparse.ArgumentParser) -> None:
    study = command.add_argument_group("study")
    study.add_argument(
        "--space",
        required=True,
        metavar="FILE",
        help="space file: a path, or a name in search_spaces/ (its README has the grammar)",
    )
    study.add_argument("--data", metavar="FOLDER", help="the images (default: the space file's)")
    study.add_argument(
        "--reader",
        metavar="NAME",
        help="how that folder is laid out: folder, chase_db1 (default: the space file's)",
    )
    study.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="fix any single field, as in model.depth=4 or budget.max_epochs=20; may be repeated",
    )
    study.add_argument(
        "--seed", type=_count(0), metavar="N", help="of the split and of all else that is drawn"
    )
    study.add_argument(
        "--out", metavar="DIR", help="run folder to make (default: runs/NAME-DATE-TIME)"
    )


def _add_tune(command: argparse.ArgumentParser) -> None:
    _add_study(command)
    budget = command.add_argument_group("budget", "default: what the space file says")
    budget.add_argument("--time", type=_time, help="wall clock of the whole study: 90s, 20m, 1h30m")
    budget.add_argument(
        "--trials", type=_count(1), metavar="N", help="most trials beside the baselines"
    )
    budget.add_argument("--workers", type=_count(1), metavar="N", help="trials trained at a time")
    tracking = command.add_argument_group("tracking")
    tracking.add_argument(
        "--wandb",
        choices=["offline", "online", "disabled"],
        default="offline",
        help="Weights & Biases: into the run folder (default), to the server, or not at all",
    )


def _add_train(command: argparse.ArgumentParser) -> None:
    _add_study(command)
    training = command.add_argument_group("training")
    training.add_argument(
        "--baseline", metavar="NAME", help="begin from this baseline of the space file; --set wins"
    )


def _add_predict(command: argparse.ArgumentParser) -> None:
    command.add_argument("bundle", help="folder of an exported network, as RUN/bundle")
    command.add_argument("image", nargs="+", help="image files, or folders of images")
    command.add_argument("-o", "--out", required=True, metavar="DIR", help="where results go")
    command.add_argument(
        "--threshold", type=float, metavar="P", help="foreground from here on (default: bundle's)"
    )


def _add_evaluate(command: argparse.ArgumentParser) -> None:
    command.add_argument("bundle", help="folder of an exported network, as RUN/bundle")
    command.add_argument("--data", metavar="FOLDER", help="images and masks (default: the study's)")
    command.add_argument("--reader", metavar="NAME", help="its layout (default: the study's)")
    command.add_argument(
        "--split",
        choices=["train", "val", "test", "all"],
        default="val",
        help="which images (default: val)",
    )
    command.add_argument(
        "-o", "--out", metavar="CSV", help="per-image scores (default: evaluation-SPLIT.csv)"
    )


def _count(least: int) -> Callable[[str], int]:
    """The type of a flag: a whole number, `least` or more."""

    def parse(text: str) -> int:
        if not text.strip().lstrip("-").isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"write a whole number from {least} on, not {text!r}")
        return int(text)

    return parse


def _time(text: str) -> float:
    try:
        seconds = float(parse_duration(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}, not {text!r}") from None
    if seconds <= 0:
        raise argparse.ArgumentTypeError(f"must be longer than {text!r}")
    return seconds


def assignments(options: argparse.Namespace) -> dict[str, Any]:
    """Flags as dotted keys over the space file; `--set` comes last and wins."""
    given: dict[str, Any] = {}
    if options.data is not None:
        given |= {"data.root": options.data, "data.pool": [], "data.otherwise": "error"}
    flags = {"reader": "data.reader", "seed": "search.seed", "time": "budget.time"}
    flags |= {"trials": "budget.trials", "workers": "resources.workers"}
    for flag, key in flags.items():
        value = getattr(options, flag, None)
        if value is not None:
            given[key] = value
    for item in options.set:
        key, equals, text = item.partition("=")
        if not equals or not key:
            raise Misuse(f"--set {item}: write KEY=VALUE, as in --set model.depth=4")
        try:
            given[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise Misuse(f"--set {item}: the value is not YAML; put it in quotes") from None
    if given.get("data.pool"):  # as by --data: nothing stands in for folders that a person named
        given = {"data.root": None, "data.otherwise": "error"} | given
    return given


def _tune(options: argparse.Namespace) -> int:
    from r2search.space import load_study

    study = load_study(options.space, assignments(options))
    try:
        from r2search.study import run_study
    except ModuleNotFoundError as error:
        raise _needs_search(error) from None
    out = Path(options.out) if options.out else _new_run_dir(study.name)
    return exit_code(run_study(study, out, tracking=options.wandb, command=options.command_line))


def _train(options: argparse.Namespace) -> int:
    from r2search.space import load_study

    given = assignments(options)
    study = load_study(options.space, given)
    if options.baseline is not None:
        if options.baseline not in study.baselines:
            raise Misuse(
                f"--baseline {options.baseline}: the space file names no such one; "
                f"{hint(options.baseline, list(study.baselines))}"
            )
        study = load_study(options.space, study.baselines[options.baseline].overrides | given)
    try:
        from r2search.single import train_one
    except ModuleNotFoundError as error:
        raise _needs_search(error) from None
    out = Path(options.out) if options.out else _new_run_dir(f"{study.name}-train")
    return exit_code(train_one(study, out, command=options.command_line))


def exit_code(summary: dict[str, Any]) -> int:
    """0 completed, 1 failed or partial, 128 and the signal's number when it was interrupted."""
    if summary["signal"] is not None:
        return 128 + int(summary["signal"])
    return 0 if summary["status"] == "completed" else 1


def _predict(options: argparse.Namespace) -> int:
    from r2search.predicting import predict_files

    return predict_files(
        Path(options.bundle),
        [Path(image) for image in options.image],
        Path(options.out),
        options.threshold,
        Console(),
    )


def _evaluate(options: argparse.Namespace) -> int:
    from r2search.predicting import evaluate_bundle

    out = Path(options.out or f"evaluation-{options.split}.csv")
    return evaluate_bundle(
        Path(options.bundle), options.data, options.reader, options.split, out, Console()
    )


def _new_run_dir(name: str) -> Path:
    return Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"


def _needs_search(error: ModuleNotFoundError) -> Misuse:
    return Misuse(
        f"{error.name} is not installed; searching and training need "
        "pip install -c constraints.txt '.[search]'"
    )


Command = tuple[
    Callable[[argparse.Namespace], int], Callable[[argparse.ArgumentParser], None], str, str, str
]
# name: what runs, what adds the flags, one line, description, examples
COMMANDS: dict[str, Command] = {
    "tune": (_tune, _add_tune, *manual.TUNE),
    "train": (_train, _add_train, *manual.TRAIN),
    "predict": (_predict, _add_predict, *manual.PREDICT),
    "evaluate": (_evaluate, _add_evaluate, *manual.EVALUATE),
}

if __name__ == "__main__":
    sys.exit(main())
