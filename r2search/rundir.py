"""A run folder: made or found again, held by one driver, and what is about to run in it."""

import json
import shutil
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from r2search.config import Misuse, Study
from r2search.data.samples import SampleSet
from r2search.environment import machine, revision, versions
from r2search.finish import write_json
from r2search.records import CHECKPOINTS, FORMAT, RECORD, RESUMED
from r2search.space import dump_study
from r2search.tuning.budget import search_seconds
from r2search.tuning.events import Ledger, read_trials


def claim(run_dir: Path, resume: bool = False, *, remote: bool = False) -> Path:
    """Make the run folder; Misuse when something is in it already.

    `resume`: it must hold the record of a study, and its checkpoints, unless these are `remote`.
    """
    run_dir = run_dir.resolve()
    if resume:
        if not (run_dir / RECORD).is_file():
            raise Misuse(f"--resume {run_dir}: holds no {RECORD}; name the folder of a study")
        if not remote and not (run_dir / CHECKPOINTS).is_dir():
            raise Misuse(
                f"--resume {run_dir}: its checkpoints are gone, as by `r2search runs --clean`; "
                "begin a new study with its trials as evidence, by --warm-start"
            )
        return run_dir
    if run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
        raise Misuse(f"--out {run_dir}: not an empty folder; name a new one")
    try:
        (run_dir / CHECKPOINTS).mkdir(parents=True)
    except OSError as error:
        raise Misuse(f"--out {run_dir}: cannot be made ({error.strerror}); name another") from None
    return run_dir


def hold(run_dir: Path) -> FileLock:
    """Take a run folder for this driver alone, until the lock is left or the process ends."""
    lock = FileLock(run_dir / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise Misuse(f"{run_dir}: another driver works in it; wait for it, or stop it") from None
    return lock


def abandon(run_dir: Path) -> None:
    """Take a new run folder back, if no trial has begun in it."""
    record = run_dir / RECORD
    if not record.exists() or not read_trials(record):
        shutil.rmtree(run_dir, ignore_errors=True)


def open_ledger(run_dir: Path, samples: SampleSet) -> Ledger:
    """The record of the study, begun or taken up.

    Misuse when it is damaged, of another format, or of other images.
    """
    try:
        ledger = Ledger(run_dir / RECORD)
    except ValueError as error:
        raise Misuse(f"{error}; restore it, or begin a new study") from None
    for event in (event for event in ledger.past if event["event"] == "study"):
        if event["format"] != FORMAT:
            raise Misuse(
                f"--resume {run_dir}: its record has format {event['format']}, and this version "
                f"writes {FORMAT}; go on with the one that began it, which environment.json names"
            )
        if event["data"] != samples.fingerprint:
            raise Misuse(
                f"--resume {run_dir}: the images are not those that it began with; "
                "restore them, or begin a new study"
            )
    return ledger


def require_more(study: Study, run_dir: Path, ledger: Ledger) -> None:
    """Misuse when a study that has ended is given nothing more to do."""
    if not ledger.finished:
        return  # at least its end is to be written
    if study.budget.flops is not None and ledger.flops > study.budget.flops:
        raise Misuse(f"--resume {run_dir}: its FLOPs are spent; give it more, as by --flops +1e15")
    if ledger.elapsed() > search_seconds(study.budget):
        raise Misuse(f"--resume {run_dir}: its time is spent; give it more, as by --time +30m")
    if study.confirmation and ledger.plan is None:
        return  # the finalists are to be trained again
    drawn = [trial for trial in ledger.trials.values() if not trial.baseline]
    if len(drawn) >= study.budget.trials and not any(trial.may_go_on for trial in drawn):
        raise Misuse(f"--resume {run_dir}: its trials are done; give it more, as by --trials +50")


def open_run(study: Study, run_dir: Path, command: str) -> dict[str, Any]:
    """Write down what is about to run: space.yaml and environment.json.

    Of a study that goes on, environment.json keeps the sessions of before, as `earlier`, and
    summary.json says that it is theirs.
    """
    (run_dir / "space.yaml").write_text(dump_study(study), encoding="utf-8")
    facts: dict[str, Any] = {
        "command": command,
        "versions": versions(),
        "revision": revision(),
        "hardware": machine(),
    }
    path = run_dir / "environment.json"
    last = _read(path)
    earlier = [*last.pop("earlier", []), last] if last else []
    write_json(path, facts | {"seed": study.search.seed, "earlier": earlier})
    if summary := _read(run_dir / "summary.json"):
        write_json(run_dir / "summary.json", summary | {"status": RESUMED})
    return facts


def _read(path: Path) -> dict[str, Any]:
    """What a JSON file holds; nothing where it is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
