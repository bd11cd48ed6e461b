"""Fetching public data sets from the terminal: terms first, then progress."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column, Table

from r2search.config import Misuse
from r2search.data.catalogue import BY_HAND, CATALOGUE, DataSet
from r2search.data.fetch import FetchError, Report, checksums_path, fetch, find, is_here
from r2search.report.screen import say


def fetch_data(name: str, out_dir: Path, console: Console, *, accept: bool) -> int:
    """Download a data set of the catalogue into `out_dir`, which must not be there or be empty.

    The terms are shown, and agreed to on the terminal unless `accept`; without either, Misuse.
    The result is the exit code: 1 when they are not agreed to, or when the download fails.
    """
    return fetch_entry(find(name), out_dir, console, accept=accept)


def fetch_entry(data_set: DataSet, out_dir: Path, console: Console, *, accept: bool) -> int:
    """What `fetch_data` does, for an entry that need not be in the catalogue."""
    folder = out_dir.expanduser().resolve()
    if is_here(data_set, folder):
        say(console, f"{data_set.title} is here already: {out_dir}")
        return 0
    _show_terms(data_set, console)
    if not accept and not agrees(data_set.name, console, sys.stdin):
        say(console, "Nothing was downloaded.")
        return 1
    try:
        with _bars(console) as report:
            unsummed = fetch(data_set, folder, report)
    except FetchError as error:
        print(f"r2search: {error}", file=sys.stderr)
        return 1
    for archive in unsummed:
        say(
            console,
            f"No checksum of {archive} is published. That of this download is in "
            f"{checksums_path(folder)}; later ones are compared with it.",
        )
    say(console, f"{data_set.title} is in {out_dir}")
    say(console, f"use it with: --data {out_dir} --reader {data_set.reader}")
    return 0


def list_data_sets(console: Console) -> int:
    """Show what can be fetched, and what has to be got by hand; the result is the exit code."""
    address = Column("what it is", overflow="fold")  # an address is told to its end
    table = Table("name", address, "download", "terms", "reader")
    for entry in CATALOGUE.values():
        table.add_row(
            entry.name, entry.about, decimal(entry.size), entry.licence.name, entry.reader
        )
    for other in BY_HAND.values():
        table.add_row(other.name, f"{other.title}: {other.address}", "by hand", "", other.reader)
    console.print(table)
    return 0


def agrees(name: str, console: Console, answers: TextIO | None) -> bool:
    """Ask whether the terms shown are agreed to; Misuse where nobody can answer."""
    if answers is None or not answers.isatty():
        raise Misuse(
            f"{name}: nobody is here to agree to its terms; add --yes if you agree to them"
        )
    answer = console.input("Download it under these terms? [y/N] ", markup=False, stream=answers)
    return answer.strip().lower() in ("y", "yes")


def _show_terms(data_set: DataSet, console: Console) -> None:
    for line in (
        f"{data_set.title}: {data_set.about}",
        f"download: {decimal(data_set.size)}",
        f"terms: {data_set.licence.name}, {data_set.licence.address}",
        f"  {data_set.licence.meaning}",
        f"  stated at {data_set.page}",
        f"cite: {data_set.citation}",
    ):
        say(console, line)


@contextmanager
def _bars(console: Console) -> Iterator[Report]:
    """A bar for each thing that goes on, with how fast it goes and how long is left."""
    progress = Progress(
        "{task.description}",
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    tasks: dict[str, TaskID] = {}

    def report(what: str, done: int, total: int | None) -> None:
        if what not in tasks:  # a download that is taken up again does not begin at 0
            tasks[what] = progress.add_task(what, total=total, completed=done)
        progress.update(tasks[what], completed=done, total=total)

    with progress:
        yield report
