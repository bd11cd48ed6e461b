"""The command line: `r2search COMMAND`. Thin: parses flags and calls the package."""

import argparse
import logging
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from r2search import __version__
from r2search.config import Misuse, parse_duration

EXIT_CODES = """exit codes:
  0  completed      1  failed      2  misuse: nothing was started
  130, 143  interrupted by Ctrl-C or SIGTERM; what was finished is kept
"""

TUNE_EXAMPLES = """examples:
  r2search tune --space retina.yaml
      the shipped study of retinal vessels; without images, on synthetic ones
  r2search tune --space retina.yaml --data data/chase_db1 --time 20m
      the same on real photographs, for twenty minutes
  r2search tune --space general.yaml --data MY_FOLDER
      your own: MY_FOLDER/images/a.png with MY_FOLDER/masks/a.png, and so on
  r2search tune --space retina.yaml --set model.block=conv --set budget.max_epochs=20
      the same study with one setting fixed and another changed

Everything a study leaves behind lies in one run folder: report.html to look at,
summary.json for scripts, bundle/ to predict with.

"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Mistakes of the user end in one clear message."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    options.command_line = shlex.join([options.program, *arguments])
    try:
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
    parser = argparse.ArgumentParser(
        prog="r2search",
        description="Find, train and prove the best R2U-Net that your hardware can train in time.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"r2search {__version__}")
    parser.set_defaults(program="r2search")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (run, summary, add, epilog) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=epilog + EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
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
    study.add_argument("--data", metavar="PATH", help="folder with the images")
    study.add_argument(
        "--reader", metavar="NAME", help="how that folder is laid out: chase_db1, folder, ..."
    )
    study.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="fix any single field, as in model.depth=4 or budget.max_epochs=20; may be repeated",
    )
    study.add_argument("--seed", type=int, metavar="N", help="seed of the study (default: 0)")
    study.add_argument(
        "--out", metavar="DIR", help="run folder to make (default: runs/NAME-DATE-TIME)"
    )


def _add_tune(command: argparse.ArgumentParser) -> None:
    _add_study(command)
    budget = command.add_argument_group("budget")
    budget.add_argument(
        "--time", metavar="TIME", help="wall clock of the whole study: 90s, 20m, 1h30m"
    )
    budget.add_argument("--trials", type=int, metavar="N", help="most trials beside the baselines")
    budget.add_argument(
        "--workers", type=int, metavar="N", help="trials at a time (default: one a CPU core)"
    )
    command.add_argument(
        "--wandb",
        choices=["offline", "online", "disabled"],
        default="offline",
        help="Weights & Biases: into the run folder (default), to the server, or not at all",
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
    command.add_argument("--data", metavar="PATH", help="folder with images and masks")
    command.add_argument("--reader", metavar="NAME", help="its layout (default: the bundle's)")
    command.add_argument(
        "--split",
        choices=["train", "val", "test", "all"],
        default="val",
        help="which images (default: val)",
    )
    command.add_argument(
        "-o", "--out", metavar="CSV", help="per-image scores (default: evaluation-SPLIT.csv)"
    )


def assignments(options: argparse.Namespace) -> dict[str, Any]:
    """Flags as dotted keys over the space file; `--set` comes last and wins."""
    given: dict[str, Any] = {}
    if options.data is not None:
        given |= {"data.root": options.data, "data.otherwise": "error"}
    flags = {"reader": "data.reader", "seed": "search.seed", "trials": "budget.trials"}
    flags |= {"workers": "resources.workers"}
    for flag, key in flags.items():
        value = getattr(options, flag, None)
        if value is not None:
            given[key] = value
    if getattr(options, "time", None) is not None:
        try:
            given["budget.time"] = parse_duration(options.time)
        except ValueError as error:
            raise Misuse(f"--time {options.time}: {error}") from None
    for item in options.set:
        key, equals, text = item.partition("=")
        if not equals or not key:
            raise Misuse(f"--set {item}: write KEY=VALUE, as in --set model.depth=4")
        try:
            given[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise Misuse(f"--set {item}: the value is not YAML; put it in quotes") from None
    return given


def _tune(options: argparse.Namespace) -> int:
    from r2search.space import load_study

    study = load_study(options.space, assignments(options))
    try:
        from r2search.study import run_study
    except ModuleNotFoundError as error:
        raise _needs_search(error) from None
    out = Path(options.out) if options.out else _new_run_dir(study.name)
    summary = run_study(study, out, tracking=options.wandb, command=options.command_line)
    return exit_code(summary)


def exit_code(summary: dict[str, Any]) -> int:
    """0 completed, 1 failed, 130 or 143 interrupted."""
    if summary["status"] == "interrupted":
        return 128 + int(summary["signal"])
    return 0 if summary["incumbent"] and summary["status"] == "completed" else 1


def _train(options: argparse.Namespace) -> int:
    from r2search.space import load_study

    study = load_study(options.space, assignments(options))
    try:
        from r2search.single import train_one
    except ModuleNotFoundError as error:
        raise _needs_search(error) from None
    out = Path(options.out) if options.out else _new_run_dir(f"{study.name}-train")
    train_one(study, out, baseline=options.baseline, command=options.command_line)
    return 0


def _add_train(command: argparse.ArgumentParser) -> None:
    _add_study(command)
    command.add_argument(
        "--baseline", metavar="NAME", help="begin from this baseline of the space file"
    )


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
    Callable[[argparse.Namespace], int], str, Callable[[argparse.ArgumentParser], None], str
]
COMMANDS: dict[str, Command] = {
    "tune": (_tune, "search for the best network of a space file", _add_tune, TUNE_EXAMPLES),
    "train": (_train, "train one configuration, without a search", _add_train, ""),
    "predict": (_predict, "segment images with an exported network", _add_predict, ""),
    "evaluate": (_evaluate, "score an exported network anew on labelled images", _add_evaluate, ""),
}

if __name__ == "__main__":
    sys.exit(main())
