"""Public data sets downloaded, checked and unpacked: there as a whole, or not at all.

Beside a data set's folder NAME there is NAME.download while it is not whole, with its archives
(one may be put there by hand) and what has come of them, and NAME.checksums.txt from then on.
"""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from r2search.config import Misuse, hint
from r2search.data import download
from r2search.data.archives import BadArchive, require_space, unpack
from r2search.data.catalogue import BY_HAND, CATALOGUE, Archive, DataSet

Report = Callable[[str, int, int | None], None]  # (what goes on, bytes done, bytes in all)


class FetchError(Exception):
    """Why a data set could not be fetched: one sentence with the remedy."""


def find(name: str) -> DataSet:
    """The entry of the catalogue; Misuse says where else to get it, or which names there are."""
    if name in BY_HAND:
        other = BY_HAND[name]
        raise Misuse(
            f"{name}: {other.title} is not downloaded, since {other.why}; get it from "
            f"{other.address} and give its folder with --data FOLDER --reader {other.reader}"
        )
    if name not in CATALOGUE:
        raise Misuse(f"{name}: no such data set; {hint(name, [*CATALOGUE, *BY_HAND])}")
    return CATALOGUE[name]


def is_here(data_set: DataSet, folder: Path) -> bool:
    """Whether an earlier fetch filled the folder; Misuse if it holds anything else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    if {archive.name for archive in data_set.archives} <= _read_checksums(folder).keys():
        return True
    raise Misuse(
        f"{folder}: is there already, and was not fetched as {data_set.name}; name another folder"
    )


def fetch(data_set: DataSet, folder: Path, report: Report) -> list[str]:
    """Fill a folder that is not there, or is empty, with a data set.

    Calling again after a FetchError goes on from where that came. The result names the archives
    of which no checksum was known before: this download is the measure of later ones.
    """
    work = folder.with_name(f"{folder.name}.download")
    unpacked = work / "unpacked"
    checksums = _read_checksums(folder)
    first = [a.name for a in data_set.archives if not (a.checksum or a.name in checksums)]
    try:
        shutil.rmtree(unpacked, ignore_errors=True)
        unpacked.mkdir(parents=True)
        there = sum(path.stat().st_size for path in work.iterdir() if path.is_file())
        require_space(work, 2 * data_set.size - there)  # the archives, and what they hold
        for archive in data_set.archives:
            known = archive.checksum or checksums.get(archive.name)
            path = _obtain(archive, work, known, partial(report, f"downloading {archive.name}"))
            _unpack(path, unpacked / archive.into, partial(report, f"unpacking {archive.name}"))
            checksums[archive.name] = known or _checksum(path, "sha256")
        _write_checksums(folder, data_set, checksums)
        unpacked.rename(folder)
    except OSError as error:
        raise FetchError(
            f"{error.filename or folder}: cannot be written ({error.strerror or error}); make room "
            "or name another folder, and run the command again"
        ) from None
    shutil.rmtree(work, ignore_errors=True)
    return first


def _obtain(archive: Archive, work: Path, known: str | None, report: download.Report) -> Path:
    """The archive in `work`, as it lay there or is downloaded; its checksum is right, if known."""
    pooch = _pooch()
    path, part = work / archive.name, work / f"{archive.name}.part"
    again = "remove it and run the command again to download it anew"
    if path.exists():
        if known and _checksum(path, known.partition(":")[0]) != known:
            raise FetchError(f"{path}: is not the file with the checksum {known}; {again}")
        return path
    try:
        pooch.retrieve(
            archive.url, known, archive.name, work, downloader=partial(_download, part, report)
        )
    except download.NotServed as error:
        raise FetchError(
            f"{error}; run the command again later, or get the file with a browser, put it at "
            f"{path} and run the command then"
        ) from None
    except ValueError:  # pooch found another checksum
        download.forget(part)
        raise FetchError(
            f"{archive.url}: what came is not the file with the checksum {known}; run the command "
            "again, and if it says the same, see what its publisher says and unpack it by hand"
        ) from None
    download.forget(part)
    return path


def _download(
    part: Path, report: download.Report, url: str, output_file: str, _pooch: object
) -> None:
    """What pooch calls; it deletes `output_file` when it is interrupted while it sums that up."""
    download.download(url, part, report)
    os.unlink(output_file)
    try:
        os.link(part, output_file)
    except OSError:  # a file system without links
        part.replace(output_file)


def _unpack(path: Path, folder: Path, report: Callable[[int, int], None]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        unpack(path, folder, report)
    except BadArchive as error:
        raise FetchError(
            f"{path}: {error}; remove it and run the command again to download it anew"
        ) from None


def _pooch() -> Any:
    try:
        import pooch
    except ModuleNotFoundError as error:
        raise Misuse(
            f"{error.name} is not installed; fetching data needs "
            "pip install -c constraints.txt '.[search]'"
        ) from None
    pooch.get_logger().setLevel("WARNING")  # it would tell of every download itself
    return pooch


def _checksum(path: Path, algorithm: str) -> str:
    return f"{algorithm}:{_pooch().file_hash(path, algorithm)}"


def checksums_path(folder: Path) -> Path:
    """Where the checksums of a data set's archives are kept: beside its folder."""
    return folder.with_name(f"{folder.name}.checksums.txt")


def _read_checksums(folder: Path) -> dict[str, str]:
    """Name of an archive -> its checksum when it was fetched; empty before the first time."""
    path = checksums_path(folder)
    if not path.exists():
        return {}
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    if any(len(line) != 3 for line in lines):
        raise Misuse(f"{path}: is damaged; remove it to take the next download as it comes")
    return {name: checksum for name, checksum, _ in lines}


def _write_checksums(folder: Path, data_set: DataSet, checksums: dict[str, str]) -> None:
    """A line for each archive, as pooch writes its registries: name, checksum, address."""
    lines = [f"{a.name} {checksums[a.name]} {a.url}\n" for a in data_set.archives]
    path = checksums_path(folder)
    written = path.with_name(f"{path.name}.part")
    written.write_text("".join(lines), encoding="utf-8")
    written.replace(path)
