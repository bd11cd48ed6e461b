"""Archives unpacked with care: every member is judged before anything is written."""

import errno
import gzip
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Literal

MOST_MEMBERS = 200_000  # DSB 2018, the most of any data set known here, has 31,000
MOST_RATIO = 100  # of what is unpacked to the archive; deflate itself reaches 1,000 on zeros
CHUNK = 1 << 20
# RuntimeError is how zipfile speaks of a password and of unknown compression.
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    RuntimeError,
)


class BadArchive(Exception):
    """An archive that is damaged, or that holds what no data set needs; names the member."""


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of an archive, as the archive announces it."""

    name: str
    size: int  # bytes when unpacked
    kind: Literal["file", "folder", "other"]
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, folder: Path, report: Callable[[int, int], None]) -> None:
    """Unpack a .zip, .tar or .tar.gz; `report(bytes done, bytes in all)` as it goes on.

    BadArchive is raised before anything is written if a member would land outside `folder`, is
    a link or a device, or if there are too many or too large ones; and at any time if the archive
    is damaged, its end included. What is in `folder` by then is not whole. OSError means what it
    says, a full disk for one.
    """
    try:
        with _opened(archive) as announced:
            members = checked(announced, archive.stat().st_size)
            total = sum(member.size for member in members)
            require_space(folder, total)
            done = 0
            for member in members:
                _write(member, folder.joinpath(place(member.name)))
                done += member.size
                report(done, total)
    except DAMAGED as error:
        raise BadArchive(f"is damaged, or no archive of its kind ({error})") from None


def checked(members: Iterable[Member], archive_size: int) -> list[Member]:
    """All members, none of which is dangerous; the first that is raises BadArchive."""
    most = MOST_RATIO * archive_size
    passed: list[Member] = []
    total = 0
    for member in members:
        place(member.name)
        if member.kind == "other":
            raise BadArchive(f"its member {member.name!r} is neither a file nor a folder")
        total += member.size
        if total > most:
            raise BadArchive(
                f"with its member {member.name!r} it unpacks to {total:,} bytes, more than "
                f"{MOST_RATIO} times its own size"
            )
        if len(passed) == MOST_MEMBERS:
            raise BadArchive(f"its member {member.name!r} is one more than {MOST_MEMBERS:,}")
        passed.append(member)
    return passed


def require_space(folder: Path, size: int) -> None:
    """Raise OSError, as a full disk does, if so many bytes are not free in a folder."""
    free = shutil.disk_usage(folder).free
    if size > free:
        text = f"{size:,} bytes are needed, {free:,} are free"
        raise OSError(errno.ENOSPC, text, str(folder))


def place(name: str) -> PurePosixPath:
    """Where a member lies below the folder; BadArchive if that is not below it.

    Read as Windows reads a path, which knows both separators and drives: what is refused there
    is refused everywhere.
    """
    path = PureWindowsPath(name)
    if path.anchor or ".." in path.parts or "\0" in name:
        raise BadArchive(f"its member {name!r} lies outside the folder")
    return PurePosixPath(*path.parts)


@contextmanager
def _opened(archive: Path) -> Iterator[Iterable[Member]]:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as opened:
            yield _zip_members(opened)
    else:
        with tarfile.open(archive) as tar:
            yield _tar_members(tar)


def _zip_members(archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        mode = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was not made on Unix
        usual = mode in (0, stat.S_IFREG, stat.S_IFDIR)
        kind: Literal["file", "folder"] = "folder" if info.is_dir() else "file"
        yield Member(
            info.filename, info.file_size, kind if usual else "other", partial(archive.open, info)
        )


def _tar_members(archive: tarfile.TarFile) -> Iterator[Member]:
    for info in archive:
        kind: Literal["file", "folder", "other"] = (
            "file" if info.isreg() else "folder" if info.isdir() else "other"
        )
        yield Member(info.name, info.size, kind, partial(_open_tar_member, archive, info))
    # tarfile takes a file that breaks off between two members, or a damaged header, for the end.
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError("its end is missing")
    while archive.fileobj.read(CHUNK):  # the checksum of a .gz stands behind all
        pass


def _open_tar_member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    opened = archive.extractfile(info)
    assert opened is not None  # only of what is no file
    return opened


def _write(member: Member, target: Path) -> None:
    if member.kind == "folder":
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with member.open() as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink, CHUNK)
