"""The flags of each command."""

import argparse
import os
from collections.abc import Callable

from r2search.settings import count, duration, flops, trials

ADDRESS = "RAY_API_SERVER_ADDRESS"  # Ray's own commands read it, too

# Of each command: what runs, what adds the flags, one line, description, examples.
Command = tuple[
    Callable[[argparse.Namespace], int], Callable[[argparse.ArgumentParser], None], str, str, str
]

RUN_DIR = "run folder to make, or s3://BUCKET/FOLDER (default: runs/NAME-DATE-TIME)"


def _add_study(
    command: argparse.ArgumentParser, out: str | None = RUN_DIR, *, resume: bool = False
) -> argparse._ActionsContainer:
    """The group of what the study is, of which one must be given, is returned."""
    study = command.add_argument_group("study")
    which = study.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--space",
        metavar="FILE",
        help="space file: a path, or a name in search_spaces/ (its README has the grammar)",
    )
    if resume:
        which.add_argument(
            "--resume",
            metavar="RUN",
            help="go on with the study in this folder, or URL; --time +30m, --trials +50 extend it",
        )
    study.add_argument("--data", metavar="FOLDER", help="the images (default: the space file's)")
    study.add_argument(
        "--reader",
        metavar="NAME",
        help="how that folder is laid out, as folder or isic (default: the space file's)",
    )
    _add_set(
        study, "fix any single field, as in model.depth=4 or budget.max_epochs=20; may be repeated"
    )
    study.add_argument(
        "--seed", type=count(0), metavar="N", help="of the split and of all else that is drawn"
    )
    if out:
        study.add_argument("--out", metavar="DIR", help=out)
    return which


def add_tune(command: argparse.ArgumentParser) -> None:
    _add_study(command, resume=True)
    _add_search(command)


def _add_search(command: argparse.ArgumentParser) -> None:
    _add_budget(command)
    command.add_argument(
        "--warm-start",
        nargs="+",
        default=[],
        metavar="RUN",
        help="run folders of earlier studies whose trials are evidence for what is tried next",
    )
    command.add_argument(
        "--final",
        choices=["none", "all"],
        default="none",
        help="all: train the best settings on all labelled images, too, after the time of the "
        "study; that network has no test score of its own",
    )
    command.add_argument(
        "--progress",
        choices=["auto", "plain", "json"],
        default="auto",
        help="a live screen where there is a terminal (default), lines, or one object a line",
    )
    tracking = command.add_argument_group("tracking")
    tracking.add_argument(
        "--wandb",
        choices=["auto", "online", "offline", "disabled"],
        default="auto",
        help="Weights & Biases: to the server, for `r2search sync` later, or not at all "
        "(default: online where a login is known, else offline)",
    )


def _add_budget(command: argparse.ArgumentParser) -> None:
    budget = command.add_argument_group("budget", "default: what the space file says")
    budget.add_argument(
        "--time", type=duration, help="wall clock of the whole study: 90s, 20m, 1h30m"
    )
    budget.add_argument(
        "--trials", type=trials, metavar="N", help="most trials beside the baselines"
    )
    budget.add_argument("--flops", type=flops, metavar="N", help="most of the training: 1e15")
    budget.add_argument("--workers", type=count(1), metavar="N", help="trials trained at a time")


def add_preview(command: argparse.ArgumentParser) -> None:
    _add_study(command, out=None)
    _add_budget(command)


def add_train(command: argparse.ArgumentParser) -> None:
    which = _add_study(command, "run folder to make (default: runs/NAME-train-DATE-TIME)")
    which.add_argument(
        "--final",
        metavar="RUN",
        help="train the best settings of this study on all its images, as RUN/bundle-final",
    )
    training = command.add_argument_group("training")
    training.add_argument(
        "--baseline", metavar="NAME", help="begin from this baseline of the space file; --set wins"
    )


def add_report(command: argparse.ArgumentParser) -> None:
    command.add_argument("run_dir", nargs="+", metavar="RUN", help="run folders of studies")
    page = "the page (default: RUN/report.html; of several runs comparison.html)"
    command.add_argument("-o", "--out", metavar="FILE", help=page)


def add_runs(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", nargs="?", default="runs", help="default: %(default)s")
    command.add_argument("--clean", action="store_true", help="remove old checkpoints")
    command.add_argument("--yes", action="store_true", help="do not ask before")


def add_sync(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", metavar="RUN", help="run folder of a study")


def add_check(command: argparse.ArgumentParser) -> None:
    command.add_argument("path", metavar="PATH", help="the folder with images and masks")
    command.add_argument(
        "--reader", metavar="NAME", help="how it is laid out (default: the space file's, or found)"
    )
    command.add_argument(
        "--space", metavar="FILE", help="read it as a study of this space file would"
    )
    _add_set(command, "fix how it is read, as in data.labels=[1,2]; may be repeated")
    command.add_argument("-o", "--out", metavar="PNG", help="write a sheet of pictures")


def add_fetch(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "name", nargs="?", metavar="NAME", help="which data set (default: list them)"
    )
    command.add_argument(
        "--out", metavar="DIR", help="the folder that will hold it (default: data/NAME)"
    )
    command.add_argument(
        "--yes", action="store_true", help="agree to its terms without being asked"
    )


def add_simulate(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "curves", metavar="CURVES", help="parquet file that benchmarks/record_curves.py wrote"
    )
    command.add_argument("--space", metavar="FILE", required=True, help="the space it is of")
    _add_set(command, "as in a search; may be repeated")
    _add_set(command, "compare settings: search.searcher=[tpe, random]; may be repeated", "--vary")
    command.add_argument("--workers", type=count(1), metavar="N", default=4, help="default: 4")
    command.add_argument("--time", type=duration, help="of each study (default: the space file's)")
    command.add_argument("--trials", type=trials, metavar="N", help="most beside the baselines")
    command.add_argument("--flops", type=flops, metavar="N", help="most of the training: 1e15")
    command.add_argument(
        "--seeds", type=count(1), metavar="N", default=10, help="studies of each (default: 10)"
    )
    command.add_argument("--json", metavar="FILE", help="write every study into this file, too")


def add_submit(command: argparse.ArgumentParser) -> None:
    add_cluster(command)
    out = "run folder to make, on storage all nodes share, or s3://...; must be given with --space"
    _add_study(command, out, resume=True)
    _add_search(command)


def add_cluster(command: argparse.ArgumentParser) -> None:
    cluster = command.add_argument_group("cluster")
    _add_address(cluster)
    cluster.add_argument(
        "--detach", action="store_true", help="only submit the study, do not wait for it"
    )
    cluster.add_argument(
        "--send-wandb-key",
        action="store_true",
        help="put this machine's WANDB_API_KEY into the job's environment, for --wandb online",
    )


def add_job(command: argparse.ArgumentParser) -> None:
    command.add_argument("id", metavar="ID", help="which study, by the name that was printed")
    _add_address(command)


def add_status(command: argparse.ArgumentParser) -> None:
    command.add_argument("id", nargs="?", metavar="ID", help="which study (default: list them)")
    _add_address(command)


def add_results(command: argparse.ArgumentParser) -> None:
    add_job(command)
    command.add_argument(
        "--out", metavar="DIR", help="the folder to make on this machine (default: runs/ID)"
    )


def add_slurm(command: argparse.ArgumentParser) -> None:
    add_nodes(command)
    _add_study(command, resume=True)
    _add_search(command)


def add_nodes(command: argparse.ArgumentParser) -> None:
    nodes = command.add_argument_group("nodes")
    nodes.add_argument("--nodes", type=count(1), metavar="N", default=1, help="default: 1")
    nodes.add_argument(
        "--cpus", type=count(1), metavar="N", default=8, help="of each node (default: 8)"
    )
    nodes.add_argument(
        "--gpus", type=count(0), metavar="N", default=0, help="of each node (default: 0)"
    )


def _add_address(command: argparse._ActionsContainer) -> None:
    command.add_argument(
        "--address",
        metavar="URL",
        default=os.environ.get(ADDRESS),
        help=f"of the cluster's dashboard, as http://HEAD:8265 (default: ${ADDRESS})",
    )


def _add_set(command: argparse._ActionsContainer, about: str, flag: str = "--set") -> None:
    command.add_argument(flag, action="append", default=[], metavar="KEY=VALUE", help=about)
