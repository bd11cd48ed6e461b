"""What the commands of `r2search job` do. Thin: the work is in tuning/jobs.py."""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from r2search import flags, manual_jobs, settings
from r2search.config import Misuse, Study
from r2search.records import RECORD
from r2search.storage import check_url, is_url


def command(arguments: Sequence[str]) -> list[str]:
    """The words of `r2search` for those of `python launch/submit.py`, which submits by default."""
    named = arguments and f"job {arguments[0]}" in COMMANDS
    return ["job", *arguments] if named else ["job", "submit", *arguments]


def _submit(options: argparse.Namespace) -> int:
    if options.resume is None:
        name, run_dir, content = _load(options).name, options.out, "code and space file"
    else:
        settings.require_extension(options)
        name, run_dir, content = _name_of(options.resume), options.resume, "code"
    if run_dir is None:
        raise Misuse("--out is missing: name the run folder to make, on storage that all nodes see")
    for flag in ("out", "resume", "data"):
        path = getattr(options, flag)
        if path is not None and flag != "data" and is_url(path):
            check_url(path)
        elif path is not None and not path.startswith("/"):
            raise Misuse(f"--{flag} {path}: is a path of the cluster's nodes; begin it with /")
    for path in options.warm_start:
        if not path.startswith("/"):
            raise Misuse(f"--warm-start {path}: is a path of the cluster's nodes; begin it with /")
    secret = _wandb_key() if options.send_wandb_key else {}
    from r2search.tuning.packing import pack, size_of

    package = pack(options.space)
    jobs, client = _cluster(options)
    words = _for_tune(options, flags.add_cluster)
    if package.space:
        words = ["--space", package.space, *words]
    job = jobs.submit(client, package, words, {"study": name, "run_dir": run_dir}, secret)
    say(f"sent {len(package.files)} files, {size_of(package.size)}: {content}, no data")
    if secret:
        say("sent WANDB_API_KEY, too: who can run jobs on the cluster can read it")
    say(f"the study is {job}")
    if options.detach:
        say(_ways_on(job, options.address))
        return 0
    return _watch(jobs, client, job, options.address, run_dir)


def _name_of(run_dir: str) -> str:
    """A name for a study whose space file lies on the cluster alone: that of its run folder."""
    return re.sub(r"[^\w.-]+", "-", Path(run_dir).name, flags=re.ASCII) or "study"


def _follow(options: argparse.Namespace) -> int:
    jobs, client = _cluster(options)
    run_dir = jobs.details_of(client, options.id).metadata["run_dir"]
    return _watch(jobs, client, options.id, options.address, run_dir)


def _watch(jobs: Any, client: Any, job: str, address: str, run_dir: str) -> int:
    def show(text: str) -> None:
        print(text, end="", flush=True)

    try:
        details = jobs.follow(client, job, show)
    except KeyboardInterrupt:
        say(f"the study goes on; {_ways_on(job, address)}")
        return 130
    except jobs.Forgotten:
        say(f"{address} was begun anew and knows {job} no more; {_resume(run_dir, address)}")
        return 1
    except jobs.LOST as error:
        why = str(error) or type(error).__name__  # a time that ran out says nothing
        say(f"{address} answers no more ({why}); the study may go on; {_ways_on(job, address)}")
        return 1
    if details.driver_exit_code is None and details.message:
        say(details.message.strip())
    say(jobs.describe(details))
    return _ended(jobs, details, address)


def _status(options: argparse.Namespace) -> int:
    jobs, client = _cluster(options)
    found = [jobs.details_of(client, options.id)] if options.id else jobs.studies(client)
    for details in found:
        print(jobs.describe(details))
    if not found:
        print("no study was submitted to this cluster")
    return 0


def _stop(options: argparse.Namespace) -> int:
    jobs, client = _cluster(options)
    details = jobs.stop(client, options.id)
    print(jobs.describe(details))
    if not details.status.is_terminal():
        return 1
    _ended(jobs, details, options.address)
    return 0


def _fetch(options: argparse.Namespace) -> int:
    jobs, client = _cluster(options)
    out = Path(options.out or f"runs/{options.id}")
    names = jobs.fetch(client, options.id, out)
    for name in names:
        print(out / name)
    if "summary.json" not in names:
        say("there is no summary.json: the study has not ended")
    return 0


def _slurm(options: argparse.Namespace) -> int:
    from r2search.tuning.slurm import render_slurm

    words = _for_tune(options, flags.add_nodes)
    if options.resume is None:
        study, spent = _load(options), 0.0
        words = ["--space", options.space, *words]
    else:
        study, spent = _begun(options)
    nodes, cpus, gpus = options.nodes, options.cpus, options.gpus
    time_s = max(0.0, study.budget.time - spent)
    print(render_slurm(study.name, words, nodes, cpus, gpus, time_s), end="")
    return 0


def _begun(options: argparse.Namespace) -> tuple[Study, float]:
    """The study of a run folder that this machine sees, and the seconds that it had."""
    from r2search.space import load_study
    from r2search.tuning.events import read_events

    folder = Path(options.resume)
    if not (folder / "space.yaml").is_file() or not (folder / RECORD).is_file():
        raise Misuse(f"--resume {folder}: holds no study; name its run folder, as it is seen here")
    study = settings.extended(load_study(folder / "space.yaml"), options)
    try:
        last = list(read_events(folder / RECORD))[-1:]
    except ValueError as error:
        raise Misuse(f"--resume {error}; restore it") from None
    return study, float(last[0]["t"]) if last else 0.0


def _for_tune(options: argparse.Namespace, add: Callable[[argparse.ArgumentParser], None]) -> Any:
    """The words that are launch/tune.py's own: all but those of `add`, and --space."""
    own = argparse.ArgumentParser(add_help=False)
    add(own)
    own.add_argument("--space")
    words = shlex.split(options.command_line)[3:]  # after `r2search job submit`
    return own.parse_known_args(words)[1]


def _load(options: argparse.Namespace) -> Study:
    """The study, so that whatever is wrong with it is said here and now."""
    from r2search.space import load_study, require_something_to_search

    study = load_study(options.space, settings.assignments(options))
    require_something_to_search(study)
    return study


def _cluster(options: argparse.Namespace) -> tuple[Any, Any]:
    """The module that knows Ray's jobs, and its client for the cluster."""
    if not options.address:
        raise Misuse(
            "--address is missing: give the dashboard's, as http://HEAD:8265, or export "
            f"{flags.ADDRESS}"
        )
    try:
        from r2search.tuning import jobs
    except ModuleNotFoundError as error:
        raise Misuse(
            f"{error.name} is not installed; a cluster needs "
            "pip install -c constraints.txt '.[cluster]'"
        ) from None
    return jobs, jobs.connect(options.address)


def _wandb_key() -> dict[str, str]:
    key = os.environ.get("WANDB_API_KEY")
    if not key:
        raise Misuse("--send-wandb-key: there is no WANDB_API_KEY in this environment; export it")
    return {"WANDB_API_KEY": key}


def _ways_on(job: str, address: str) -> str:
    ways = (f"python launch/submit.py {way} {job} --address {address}" for way in WAYS_ON)
    return "\n  ".join(["go on with one of", *ways])


def _ended(jobs: Any, details: Any, address: str) -> int:
    """The exit code of a study that has ended; said is how one goes on that ended too early."""
    code = int(jobs.exit_code(details))
    if code not in (0, 2):
        say(_resume(details.metadata["run_dir"], address))
    return code


def _resume(run_dir: str, address: str) -> str:
    command = f"python launch/submit.py --resume {shlex.quote(run_dir)} --address {address}"
    return f"it goes on with {command}"


def say(text: str) -> None:
    """Print to standard error: what a command says of itself; standard output has its results."""
    print(f"r2search: {text}", file=sys.stderr, flush=True)


WAYS_ON = ("follow", "status", "stop", "fetch")
# As COMMANDS of r2search.cli, and part of it.
COMMANDS: dict[str, flags.Command] = {
    "job submit": (_submit, flags.add_submit, *manual_jobs.SUBMIT),
    "job follow": (_follow, flags.add_job, *manual_jobs.FOLLOW),
    "job status": (_status, flags.add_status, *manual_jobs.STATUS),
    "job stop": (_stop, flags.add_job, *manual_jobs.STOP),
    "job fetch": (_fetch, flags.add_results, *manual_jobs.FETCH),
    "job slurm": (_slurm, flags.add_slurm, *manual_jobs.SLURM),
}
