"""Unpacking: what an archive may hold, and that nothing is written of one that holds more."""

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2search.data.archives import MOST_MEMBERS, BadArchive, Member, checked, place, unpack

FILES = {"a.txt": b"alpha", "images/b.png": b"\x89PNG" * 300, "images/deep/c.bin": b""}
KINDS = ("zip", "tar", "tar.gz")


def silent(done: int, total: int) -> None:
    pass


def pack(folder: Path, kind: str, files: dict[str, bytes]) -> Path:
    """An archive of these members, whatever their names."""
    path = folder / f"made.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def found(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def refusal(archive: Path, target: Path) -> str:
    """The error; nothing may have been written."""
    before = found(target.parent)
    with pytest.raises(BadArchive) as caught:
        unpack(archive, target, silent)
    assert found(target.parent) == before
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_unpack_to_the_same_files_and_tell_how_far_they_are(
    tmp_path: Path, target: Path, kind: str
) -> None:
    reports: list[tuple[int, int]] = []
    unpack(pack(tmp_path, kind, FILES), target, lambda *report: reports.append(report))
    assert found(target) == FILES
    total = sum(map(len, FILES.values()))
    assert reports[-1] == (total, total)


def test_folders_and_the_separators_of_windows_are_understood(tmp_path: Path, target: Path) -> None:
    unpack(pack(tmp_path, "zip", {"empty/": b"", "images\\a.txt": b"a"}), target, silent)
    assert (target / "empty").is_dir()
    assert found(target) == {"images/a.txt": b"a"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", ["/etc/x", "../x", "a/../../x", "..", "C:\\x", "C:x", "..\\x", "\\\\server\\share\\x"]
)
def test_a_member_outside_the_folder_is_named_and_nothing_is_written(
    tmp_path: Path, target: Path, kind: str, name: str
) -> None:
    error = refusal(pack(tmp_path, kind, {"good.txt": b"good", name: b"bad"}), target)
    assert error == f"its member {name!r} lies outside the folder"


@given(st.text(st.sampled_from("ab./\\:~ \n"), max_size=12) | st.text(max_size=12))
def test_whatever_a_member_is_called_it_lies_below_the_folder_or_is_refused(name: str) -> None:
    try:
        relative = place(name)
    except BadArchive:
        return
    assert not relative.is_absolute()
    assert ".." not in relative.parts
    assert Path("/base", relative).resolve().is_relative_to("/base")


def _link(kind: bytes) -> Callable[[tarfile.TarFile], None]:
    def add(archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo("odd")
        info.type, info.linkname = kind, "good.txt"
        archive.addfile(info)

    return add


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE],
    ids=["symbolic link", "hard link", "pipe", "character device", "block device"],
)
def test_a_link_or_device_in_a_tar_is_refused(tmp_path: Path, target: Path, kind: bytes) -> None:
    path = pack(tmp_path, "tar", {"good.txt": b"good"})
    with tarfile.open(path, "a") as archive:
        _link(kind)(archive)
    assert refusal(path, target) == "its member 'odd' is neither a file nor a folder"


def test_a_link_in_a_zip_is_refused(tmp_path: Path, target: Path) -> None:
    path = pack(tmp_path, "zip", {"good.txt": b"good"})
    link = zipfile.ZipInfo("odd")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    assert refusal(path, target) == "its member 'odd' is neither a file nor a folder"


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_that_unpacks_to_far_more_than_itself_is_refused(
    tmp_path: Path, target: Path, kind: str
) -> None:
    path = pack(tmp_path, kind, {"good.txt": b"good", "zeros": bytes(8_000_000)})
    assert refusal(path, target) == (
        "with its member 'zeros' it unpacks to 8,000,004 bytes, more than 100 times its own size"
    )


def test_too_many_members_are_refused() -> None:
    def nothing() -> io.BytesIO:
        raise AssertionError("read before all were judged")

    members = (Member(f"{n}.png", 0, "file", nothing) for n in range(MOST_MEMBERS + 5))
    with pytest.raises(BadArchive, match=r"'200000.png' is one more than 200,000"):
        checked(members, 10**9)


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_that_breaks_off_anywhere_is_refused(
    tmp_path: Path, target: Path, kind: str
) -> None:
    path = pack(tmp_path, kind, FILES)
    whole = path.read_bytes()
    # a tar ends with zero blocks, and is padded with more of them
    end = len(whole.rstrip(b"\0")) if kind == "tar" else len(whole) - 1
    for size in {*range(0, end, 512), *range(0, end, 97), end}:
        path.write_bytes(whole[:size])
        with pytest.raises(BadArchive, match="is damaged, or no archive of its kind"):
            unpack(path, target, silent)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_changed_byte_of_the_content_is_seen(tmp_path: Path, target: Path, kind: str) -> None:
    path = pack(tmp_path, kind, {"a.bin": bytes(range(256)) * 20})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadArchive):
        unpack(path, target, silent)


def test_a_damaged_header_in_a_tar_is_not_taken_for_its_end(tmp_path: Path, target: Path) -> None:
    path = pack(tmp_path, "tar", FILES)
    content = bytearray(path.read_bytes())
    content[1024] ^= 255  # the second header, behind the first and its one block of content
    path.write_bytes(content)
    assert "its end is missing" in refusal(path, target)


def test_a_zip_with_a_password_is_refused(tmp_path: Path, target: Path) -> None:
    path = pack(tmp_path, "zip", {"a.txt": b"a"})
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flag in the member's own header
    content[content.index(b"PK\1\2") + 8] |= 1  # and in the directory
    path.write_bytes(content)
    assert "encrypted" in refusal(path, target)
