"""Fetching data sets from a real server, with archives made of real images where they are here."""

import hashlib
import io
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from loopback import Loopback, Served

from r2search.config import DataConfig, Misuse
from r2search.data import READERS, read
from r2search.data.catalogue import BY_HAND, CATALOGUE, CC0, Archive, DataSet
from r2search.data.fetch import FetchError, _download, checksums_path, fetch, find, is_here

Make = Callable[..., Path]
REAL = Path(__file__).parents[2] / "../shared/data"


def silent(what: str, done: int, total: int | None) -> None:
    pass


def zipped(files: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return written.getvalue()


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


ONE = zipped({"a.txt": b"one", "in/b.txt": bytes(range(256)) * 20})
TWO = zipped({"a.txt": b"two", "in/b.txt": bytes(range(256)) * 20})


@pytest.fixture
def server(loopback: Loopback) -> Loopback:
    loopback.files = {"one.zip": Served(ONE)}
    loopback.asked = []
    return loopback


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "made"


def data_set(server: Loopback, checksum: str | None = None, name: str = "one.zip") -> DataSet:
    """An entry as those of the catalogue, for a file of the server."""
    return DataSet(
        name="made",
        title="Made",
        about="by a test",
        size=len(server.files[name].content) if name in server.files else 1,
        licence=CC0,
        page="http://127.0.0.1/",
        citation="nobody",
        archives=(Archive(url=server.url(name), checksum=checksum),),
        reader="folder",
    )


def failure(entry: DataSet, folder: Path) -> str:
    """The error of a fetch; the folder may not be there after it."""
    with pytest.raises(FetchError) as caught:
        fetch(entry, folder, silent)
    assert not folder.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def beside(folder: Path) -> set[str]:
    return {path.name for path in folder.parent.iterdir()}


# What comes


# Data set -> its archives -> what of the real images goes into each, as its publisher packs them.
OFFICIAL = {
    "chase_db1": {"CHASEDB1.zip": ("chase_db1", "Image_0[12]*")},
    "dsb2018": {"stage1_train.zip": ("dsb2018/stage1_train", "0[0-3]*/*/*.png")},
    "isic2017": {
        "ISIC-2017_Validation_Data.zip": ("isic2017", "*_Data/ISIC_0003805.jpg"),
        "ISIC-2017_Validation_Part1_GroundTruth.zip": ("isic2017", "*/ISIC_0003805_seg*.png"),
    },
}


@pytest.mark.skipif(not REAL.is_dir(), reason="the real images are not here")
@pytest.mark.parametrize(("name", "count"), [("chase_db1", 4), ("dsb2018", None), ("isic2017", 1)])
def test_real_images_packed_as_their_publisher_does_are_read_by_their_reader(
    server: Loopback, folder: Path, name: str, count: int | None
) -> None:
    archives = []
    for archive in CATALOGUE[name].archives:
        if archive.name not in OFFICIAL[name]:
            continue
        source, pattern = OFFICIAL[name][archive.name]
        files = sorted((REAL / source).glob(pattern))
        content = zipped({p.relative_to(REAL / source).as_posix(): p.read_bytes() for p in files})
        server.files[archive.name] = Served(content, cut_at=[len(content) // 2])
        archives.append(replace(archive, url=server.url(archive.name), checksum=sha256(content)))
        if count is None:
            count = sum(path.parent.name == "images" for path in files)
    entry = replace(CATALOGUE[name], archives=tuple(archives), size=10**6)
    assert len(archives) == len(OFFICIAL[name])
    assert fetch(entry, folder, silent) == []
    samples = read(DataConfig(reader=entry.reader, root=folder))
    assert len(samples) == count


def test_drawn_images_packed_as_chase_db1_are_read_by_its_reader(
    tmp_path: Path, server: Loopback, folder: Path, make_chase: Make
) -> None:
    drawn = make_chase(tmp_path / "drawn", 2)
    server.files["one.zip"].content = zipped({p.name: p.read_bytes() for p in drawn.iterdir()})
    fetch(data_set(server), folder, silent)
    samples = read(DataConfig(reader="chase_db1", root=folder))
    assert [s.id for s in samples] == ["Image_01L", "Image_01R", "Image_02L", "Image_02R"]


def test_several_archives_fill_one_folder_each_in_its_place(server: Loopback, folder: Path) -> None:
    server.files["two.zip"] = Served(zipped({"images/c.txt": b"c"}))
    one = Archive(url=server.url("one.zip"), checksum=sha256(ONE))
    two = Archive(url=server.url("two.zip"), checksum=None, into="stage1_train")
    entry = replace(data_set(server), archives=(one, two))
    assert fetch(entry, folder, silent) == ["two.zip"]
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert files == {"a.txt", "in/b.txt", "stage1_train/images/c.txt"}


def test_only_the_data_and_its_checksums_are_left(server: Loopback, folder: Path) -> None:
    entry = data_set(server)
    assert not is_here(entry, folder)
    fetch(entry, folder, silent)
    assert beside(folder) == {"made", "made.checksums.txt"}
    assert checksums_path(folder).read_text() == f"one.zip {sha256(ONE)} {server.url('one.zip')}\n"
    assert is_here(entry, folder)


def test_downloading_and_unpacking_are_told(server: Loopback, folder: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    fetch(data_set(server), folder, lambda *report: told.append(report))
    assert ("downloading one.zip", len(ONE), len(ONE)) in told
    assert told[-1] == ("unpacking one.zip", 5123, 5123)


def test_an_empty_folder_is_filled_and_another_is_left_alone(
    server: Loopback, folder: Path
) -> None:
    folder.mkdir(parents=True)
    fetch(data_set(server), folder, silent)
    assert (folder / "a.txt").read_bytes() == b"one"
    checksums_path(folder).unlink()
    with pytest.raises(Misuse, match="is there already, and was not fetched as made"):
        is_here(data_set(server), folder)


# What does not


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_another_checksum_is_an_error_and_nothing_is_kept(
    server: Loopback, folder: Path, algorithm: str
) -> None:
    right = f"{algorithm}:{hashlib.new(algorithm, ONE).hexdigest()}"
    server.files["one.zip"].content = TWO
    error = failure(data_set(server, right), folder)
    assert server.url("one.zip") in error
    assert right in error
    assert list((folder.parent / "made.download").glob("one.zip*")) == []
    server.files["one.zip"].content = ONE
    fetch(data_set(server, right), folder, silent)
    assert (folder / "a.txt").read_bytes() == b"one"


def test_without_a_published_checksum_later_downloads_are_compared_with_the_first(
    server: Loopback, folder: Path
) -> None:
    assert fetch(data_set(server), folder, silent) == ["one.zip"]
    (folder / "a.txt").unlink()
    (folder / "in" / "b.txt").unlink()
    (folder / "in").rmdir()
    folder.rmdir()
    server.files["one.zip"].content = TWO
    assert sha256(ONE) in failure(data_set(server), folder)
    checksums_path(folder).unlink()
    fetch(data_set(server), folder, silent)
    assert (folder / "a.txt").read_bytes() == b"two"


def test_a_damaged_file_of_checksums_is_named(server: Loopback, folder: Path) -> None:
    folder.parent.mkdir()
    checksums_path(folder).write_text("one.zip\n")
    with pytest.raises(Misuse, match=r"made.checksums.txt: is damaged; remove it"):
        fetch(data_set(server), folder, silent)


def test_a_download_that_breaks_off_goes_on_at_the_next_call(
    server: Loopback, folder: Path
) -> None:
    server.files["one.zip"].cut_at = [2000, 2000]
    assert "breaks off" in failure(data_set(server, sha256(ONE)), folder)
    server.asked = []
    fetch(data_set(server, sha256(ONE)), folder, silent)
    assert server.asked == ["bytes=2000-"]


def test_a_download_that_is_stopped_by_hand_goes_on_at_the_next_call(
    server: Loopback, folder: Path
) -> None:
    server.files["one.zip"] = Served(zipped({"a.bin": bytes(1_000_000)}))

    def stop(what: str, done: int, total: int | None) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(data_set(server), folder, stop)
    assert not folder.exists()
    server.asked = []
    fetch(data_set(server), folder, silent)
    (asked,) = server.asked
    assert re.fullmatch(r"bytes=[1-9]\d*-", asked)
    assert (folder / "a.bin").stat().st_size == 1_000_000


def test_a_download_outlives_the_file_that_pooch_deletes_when_it_is_stopped(
    server: Loopback, tmp_path: Path
) -> None:
    part, theirs = tmp_path / "one.zip.part", tmp_path / "theirs"
    theirs.write_bytes(b"")
    _download(part, lambda *report: None, server.url("one.zip"), str(theirs), None)
    theirs.unlink()
    assert part.read_bytes() == ONE


def test_what_an_unpacking_that_was_stopped_left_is_not_taken_for_data(
    server: Loopback, folder: Path
) -> None:
    def stop(what: str, done: int, total: int | None) -> None:
        if what.startswith("unpacking"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(data_set(server), folder, stop)
    assert not folder.exists()
    (folder.parent / "made.download" / "unpacked" / "stray.txt").write_text("")
    server.asked = []
    fetch(data_set(server), folder, silent)
    assert server.asked == []  # the archive was whole
    assert not (folder / "stray.txt").exists()


@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_server_that_refuses_is_answered_with_what_to_do_by_hand(
    server: Loopback, folder: Path, status: int
) -> None:
    server.files["one.zip"].status = status
    error = failure(data_set(server), folder)
    assert f"{server.url('one.zip')}: answers {status}" in error
    assert f"put it at {folder.parent / 'made.download' / 'one.zip'}" in error


def test_a_file_put_there_by_hand_is_used_without_the_network(
    server: Loopback, folder: Path
) -> None:
    work = folder.parent / "made.download"
    work.mkdir(parents=True)
    (work / "one.zip").write_bytes(ONE)
    fetch(data_set(server, sha256(ONE)), folder, silent)
    assert server.asked == []
    assert (folder / "a.txt").read_bytes() == b"one"


def test_a_wrong_file_put_there_by_hand_is_named(server: Loopback, folder: Path) -> None:
    path = folder.parent / "made.download" / "one.zip"
    path.parent.mkdir(parents=True)
    path.write_bytes(TWO)
    error = failure(data_set(server, sha256(ONE)), folder)
    assert error.startswith(f"{path}: is not the file with the checksum {sha256(ONE)}; remove it")
    assert server.asked == []


def test_a_web_page_in_place_of_the_archive_is_no_archive(server: Loopback, folder: Path) -> None:
    server.files["one.zip"].content = b"<html>Are you a robot?</html>"
    assert "one.zip: is damaged, or no archive of its kind" in failure(data_set(server), folder)
    assert not checksums_path(folder).exists()


def test_an_archive_that_reaches_out_of_the_folder_leaves_nothing(
    server: Loopback, folder: Path
) -> None:
    server.files["one.zip"].content = zipped({"good.txt": b"", "../../evil.txt": b"evil"})
    assert "its member '../../evil.txt' lies outside the folder" in failure(
        data_set(server), folder
    )
    assert beside(folder) == {"made.download"}
    assert not list(folder.parents[1].rglob("*.txt"))


def test_what_finds_no_room_is_not_begun(server: Loopback, folder: Path) -> None:
    error = failure(replace(data_set(server), size=10**18), folder)
    assert "2,000,000,000,000,000,000 bytes are needed" in error
    assert server.asked == []


def test_a_place_that_cannot_be_written_is_named(server: Loopback, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FetchError, match=r"file.*cannot be written"):
        fetch(data_set(server), tmp_path / "file" / "made", silent)


# The catalogue


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=list(CATALOGUE))
def test_an_entry_of_the_catalogue_is_complete(entry: DataSet) -> None:
    assert re.fullmatch(r"[a-z0-9_]+", entry.name)
    for archive in entry.archives:
        assert archive.url.startswith("https://")
        assert archive.name.endswith((".zip", ".tar", ".tar.gz"))
        lengths = {"md5": 32, "sha256": 64}
        if archive.checksum is not None:
            algorithm, _, digits = archive.checksum.partition(":")
            assert re.fullmatch(rf"[0-9a-f]{{{lengths[algorithm]}}}", digits)
        assert not PurePosixPath(archive.into).is_absolute()
    assert len({archive.name for archive in entry.archives}) == len(entry.archives)
    assert entry.size > 1_000_000
    assert entry.licence.address.startswith("https://creativecommons.org/")


@pytest.mark.parametrize("name", [*CATALOGUE, *BY_HAND])
def test_what_is_fetched_can_be_read(name: str) -> None:
    assert (CATALOGUE | BY_HAND)[name].reader in READERS


@pytest.mark.parametrize("name", BY_HAND)
def test_what_may_not_be_downloaded_is_answered_with_where_it_is(name: str) -> None:
    with pytest.raises(Misuse) as caught:
        find(name)
    assert BY_HAND[name].address in str(caught.value)
    assert f"--reader {BY_HAND[name].reader}" in str(caught.value)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    assert find("hrf") is CATALOGUE["hrf"]
    with pytest.raises(Misuse, match=r"did you mean 'isic2018'\? known: .*stare"):
        find("isic18")
