"""The command line: `r2search COMMAND`. Thin: parses flags and calls the package."""

import argparse
import errno
import logging
import os
import shlex
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from r2search import __version__, exported, flags, manual, manual_jobs, settings, submitting
from r2search.config import Misuse, Study, hint
from r2search.environment import PROCESS_SETTINGS
from r2search.extras import installed
from r2search.storage import StorageError, check_url, is_url


class _Parser(argparse.ArgumentParser):
    """Says a mistake in one sentence, as the rest of the package does."""

    def error(self, message: str) -> NoReturn:
        raise Misuse(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Mistakes of the user end in one clear message."""
    for name, value in PROCESS_SETTINGS.items():
        os.environ.setdefault(name, value)
    arguments = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        options = build_parser().parse_args(arguments)
        options.command_line = shlex.join(["r2search", *arguments])
        code: int = options.run(options)
        return code
    except Misuse as error:
        submitting.say(str(error))
        return 2
    except StorageError as error:
        submitting.say(str(error))
        return 1
    except KeyboardInterrupt:
        submitting.say("interrupted")
        return 130
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "; make room, then go on (a study by --resume RUN)" if full else ""
        submitting.say(f"{error}{remedy}")
        return 1


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
    commands: dict[str, Any] = {}

    def open_group(name: str, page: argparse.ArgumentParser) -> None:
        commands[name] = page.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add_page(name: str, summary: str, about: str, examples: str) -> argparse.ArgumentParser:
        group, _, last = name.rpartition(" ")
        epilog = examples + manual.EXIT_CODES
        page: argparse.ArgumentParser = commands[group].add_parser(
            last, help=summary, description=about, epilog=epilog, formatter_class=layout
        )
        return page

    open_group("", parser)
    for name, (run, add, summary, about, examples) in COMMANDS.items():
        group = name.rpartition(" ")[0]
        if group not in commands:
            open_group(group, add_page(group, *GROUPS[group]))
        command = add_page(name, summary, about, examples)
        add(command)
        command.set_defaults(run=run)
    return parser


def _tune(options: argparse.Namespace) -> int:
    from r2search.space import load_study

    where = options.resume or options.out or ""
    given = None if options.resume else load_study(options.space, settings.assignments(options))
    with installed():
        from r2search.remote import RemoteRun
        from r2search.study import run_study
        from r2search.tracking import require
    require(options.tracker)
    run = partial(
        run_study,
        tracking=options.wandb,
        trackers=options.tracker,
        command=options.command_line,
        resume=options.resume is not None,
        warm_start=options.warm_start,
        progress=options.progress,
    )
    if is_url(where):
        if options.final == "all":
            raise Misuse(
                "--final all: trains in a local folder; fetch the run folder from the bucket, then "
                "r2search train --final RUN"
            )
        folder = _new_run_dir(where.rstrip("/").rpartition("/")[2])
        with RemoteRun(where, folder, options.resume is not None, submitting.say) as remote:
            summary = run(given or _resumed(options, folder), folder, remote=remote)
        submitting.say(f"it is all in {remote.url}, too")
        return exit_code(summary)
    folder = Path(where) if where else _new_run_dir(given.name if given else "")
    summary = run(given or _resumed(options, folder), folder)
    if options.final == "all" and summary["incumbent"] and summary["signal"] is None:
        return _final(folder) or exit_code(summary)
    return exit_code(summary)


def _final(run_dir: Path) -> int:
    with installed():
        from r2search.finals import train_final
    return train_final(run_dir, Console())


def _resumed(options: argparse.Namespace, folder: Path) -> Study:
    """The study of a run folder, its budget extended."""
    from r2search.space import load_study

    path = folder / "space.yaml"
    if not path.is_file():
        raise Misuse(f"--resume {options.resume}: holds no space.yaml; name the folder of a study")
    return settings.extended(load_study(path), options)


def _train(options: argparse.Namespace) -> int:
    from r2search.space import load_study

    if options.out and is_url(options.out):
        raise Misuse(
            f"--out {check_url(options.out)}: only `r2search tune` writes there; name a folder"
        )
    given = settings.assignments(options)
    if options.final is not None:
        if given or options.out or options.baseline:
            raise Misuse("--final RUN: takes all settings from that study; leave the others out")
        return _final(Path(options.final))
    study = load_study(options.space, given)
    if options.baseline is not None:
        if options.baseline not in study.baselines:
            raise Misuse(
                f"--baseline {options.baseline}: the space file names no such one; "
                f"{hint(options.baseline, list(study.baselines))}"
            )
        study = load_study(options.space, study.baselines[options.baseline].overrides | given)
    with installed():
        from r2search.single import train_one
    out = Path(options.out) if options.out else _new_run_dir(f"{study.name}-train")
    return exit_code(train_one(study, out, command=options.command_line))


def exit_code(summary: dict[str, Any]) -> int:
    """0 completed, 1 failed, 3 partial; 128 and the signal's number when it was interrupted."""
    if summary["signal"] is not None:
        return 128 + int(summary["signal"])
    return {"completed": 0, "partial": 3}.get(summary["status"], 1)


def _preview(options: argparse.Namespace) -> int:
    from r2search.space import load_study

    study = load_study(options.space, settings.assignments(options))
    with installed():
        from r2search.previewing import preview_study
    return preview_study(study, Console())


def _report(options: argparse.Namespace) -> int:
    with installed():
        from r2search.reporting import report_runs
        from r2search.tracking import sync_study
    if options.wandb:
        return max(sync_study(run, Console(), report=True) for run in options.run_dir)
    out = Path(options.out) if options.out else None
    return report_runs([Path(run) for run in options.run_dir], out, Console())


def _runs(options: argparse.Namespace) -> int:
    with installed():
        from r2search.housekeeping import show_runs
    return show_runs(Path(options.folder), Console(), clean=options.clean, yes=options.yes)


def _sync(options: argparse.Namespace) -> int:
    with installed():
        from r2search.tracking import sync_study
    return sync_study(options.folder, Console(), options.tracker)


def _check(options: argparse.Namespace) -> int:
    from r2search.checking import check_data

    out = Path(options.out) if options.out else None
    return check_data(settings.data_to_check(options), Console(), out)


def _fetch(options: argparse.Namespace) -> int:
    from r2search.fetching import fetch_data, list_data_sets

    if options.name is None:
        return list_data_sets(Console())
    out = Path(options.out) if options.out else Path("data") / options.name
    return fetch_data(options.name, out, Console(), accept=options.yes)


def _simulate(options: argparse.Namespace) -> int:
    given, variants = settings.assignments(options), settings.variants(options)
    with installed():
        from r2search.simulating import simulate_studies
    return simulate_studies(
        Path(options.curves),
        options.space,
        given,
        variants,
        workers=options.workers,
        seeds=options.seeds,
        console=Console(),
        json_path=Path(options.json) if options.json else None,
    )


def _new_run_dir(name: str) -> Path:
    return Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"


COMMANDS: dict[str, flags.Command] = {
    "tune": (_tune, flags.add_tune, *manual.TUNE),
    "preview": (_preview, flags.add_preview, *manual.PREVIEW),
    "train": (_train, flags.add_train, *manual.TRAIN),
    "report": (_report, flags.add_report, *manual.REPORT),
    "runs": (_runs, flags.add_runs, *manual.RUNS),
    "sync": (_sync, flags.add_sync, *manual.SYNC),
    "data check": (_check, flags.add_check, *manual.CHECK),
    "data fetch": (_fetch, flags.add_fetch, *manual.FETCH),
    "simulate": (_simulate, flags.add_simulate, *manual.SIMULATE),
    **exported.COMMANDS,
    **submitting.COMMANDS,
}
# commands that have commands of their own: one line, description, examples
GROUPS: dict[str, tuple[str, str, str]] = {"data": manual.DATA, "job": manual_jobs.JOB}

if __name__ == "__main__":
    sys.exit(main())
