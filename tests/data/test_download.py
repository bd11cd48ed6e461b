"""Downloads from a real server that breaks off, changes its file, or knows no ranges."""

import gzip
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import Loopback, Served

from r2search.data.download import NotServed, download

CONTENT = bytes(range(256)) * 40  # 10,240 bytes
OTHER = CONTENT[::-1]


def silent(done: int, total: int | None) -> None:
    pass


@pytest.fixture
def server(loopback: Loopback) -> Loopback:
    loopback.files = {"f": Served(CONTENT)}
    loopback.asked = []
    return loopback


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "f.part"


def broken_off(server: Loopback, part: Path, size: int) -> None:
    """Let the first `size` bytes come, and no more."""
    server.files["f"].cut_at = [size, size]
    with pytest.raises(NotServed):
        download(server.url("f"), part, silent)
    assert part.read_bytes() == server.files["f"].content[:size]
    server.asked = []


def test_the_whole_file_comes_and_the_way_is_told(server: Loopback, part: Path) -> None:
    reports: list[tuple[int, int | None]] = []
    download(server.url("f"), part, lambda *report: reports.append(report))
    assert part.read_bytes() == CONTENT
    assert (reports[0], reports[-1]) == ((0, len(CONTENT)), (len(CONTENT), len(CONTENT)))
    assert server.asked == [""]


def test_a_connection_that_breaks_off_is_taken_up_again(server: Loopback, part: Path) -> None:
    server.files["f"].cut_at = [3000, 7000]
    download(server.url("f"), part, silent)
    assert part.read_bytes() == CONTENT
    assert server.asked == ["", "bytes=3000-", "bytes=7000-"]


def test_one_that_brings_nothing_more_ends_and_a_later_call_goes_on(
    server: Loopback, part: Path
) -> None:
    broken_off(server, part, 4000)
    reports: list[tuple[int, int | None]] = []
    download(server.url("f"), part, lambda *report: reports.append(report))
    assert part.read_bytes() == CONTENT
    assert server.asked == ["bytes=4000-"]
    assert reports[0] == (4000, len(CONTENT))


def test_a_server_without_ranges_gives_all_again(server: Loopback, part: Path) -> None:
    broken_off(server, part, 4000)
    server.files["f"].ranges = False
    download(server.url("f"), part, silent)
    assert part.read_bytes() == CONTENT


def test_a_server_without_ranges_that_always_breaks_off_is_given_up(
    server: Loopback, part: Path
) -> None:
    server.files["f"].ranges = False
    server.files["f"].cut_at = [4000] * 9
    with pytest.raises(NotServed, match="breaks off"):
        download(server.url("f"), part, silent)
    assert len(server.asked) == 2


@pytest.mark.parametrize("name", ["ETag", "Last-Modified"])
def test_a_file_that_has_changed_begins_anew(server: Loopback, part: Path, name: str) -> None:
    old, new = ('"1"', '"2"') if name == "ETag" else ("Sat, 01 Jan 2022 00:00:00 GMT", "Sun, ...")
    server.files["f"].version = {name: old}
    broken_off(server, part, 4000)
    server.files["f"] = Served(OTHER, version={name: new})
    download(server.url("f"), part, silent)
    assert part.read_bytes() == OTHER
    assert server.asked == ["bytes=4000-"]


@pytest.mark.parametrize("version", [{}, {"ETag": 'W/"1"'}], ids=["nothing", "a weak ETag"])
def test_without_a_sure_sign_of_the_version_all_comes_again(
    server: Loopback, part: Path, version: dict[str, str]
) -> None:
    server.files["f"].version = version
    broken_off(server, part, 4000)
    download(server.url("f"), part, silent)
    assert part.read_bytes() == CONTENT
    assert server.asked == [""]


def test_an_answer_with_other_bytes_than_asked_for_is_not_joined(
    server: Loopback, part: Path
) -> None:
    broken_off(server, part, 4000)
    server.files["f"].headers = {"Content-Range": f"bytes 5000-{len(CONTENT) - 1}/{len(CONTENT)}"}
    download(server.url("f"), part, silent)
    assert part.read_bytes() == CONTENT
    assert server.asked == ["bytes=4000-", ""]


def test_a_piece_that_nobody_asked_for_is_refused(server: Loopback, part: Path) -> None:
    piece = Served(CONTENT[5000:], status=206)
    piece.headers = {"Content-Range": f"bytes 5000-{len(CONTENT) - 1}/{len(CONTENT)}"}
    server.files["f"] = piece
    with pytest.raises(NotServed, match="answers 206 Partial Content"):
        download(server.url("f"), part, silent)
    assert not part.exists()


@pytest.mark.parametrize("extra", [0, 5])
def test_a_part_as_long_as_the_file_is_all_and_a_longer_one_begins_anew(
    server: Loopback, part: Path, extra: int
) -> None:
    broken_off(server, part, 4000)
    part.write_bytes(CONTENT + bytes(extra))
    download(server.url("f"), part, silent)
    assert part.read_bytes() == CONTENT
    assert len(server.asked) == (2 if extra else 1)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, len(CONTENT)), max_size=6))
def test_wherever_it_breaks_off_what_comes_in_the_end_is_the_file(
    loopback: Loopback, cuts: list[int]
) -> None:
    loopback.files = {"f": Served(CONTENT, cut_at=list(cuts))}
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "f.part"
        for _ in range(len(cuts) + 1):
            try:
                download(loopback.url("f"), part, silent)
                break
            except NotServed:
                assert CONTENT.startswith(part.read_bytes() if part.exists() else b"")
        assert part.read_bytes() == CONTENT


@pytest.mark.parametrize(("status", "said"), [(404, "404 Not Found"), (503, "503 Service Unav")])
def test_a_server_that_refuses_is_quoted(
    server: Loopback, part: Path, status: int, said: str
) -> None:
    server.files["f"].status = status
    with pytest.raises(NotServed, match=rf"{server.url('f')}: answers {said}"):
        download(server.url("f"), part, silent)
    assert not part.exists()


def test_a_part_survives_a_server_that_is_out_of_order(server: Loopback, part: Path) -> None:
    broken_off(server, part, 4000)
    server.files["f"].status = 503
    with pytest.raises(NotServed):
        download(server.url("f"), part, silent)
    server.files["f"].status = 200
    download(server.url("f"), part, silent)
    assert server.asked == ["bytes=4000-", "bytes=4000-"]


def test_an_address_where_nobody_answers_is_named(part: Path) -> None:
    with Loopback() as gone:
        url = gone.url("f")
    with pytest.raises(NotServed, match=rf"^{url}: cannot be reached \(ConnectionError\)$"):
        download(url, part, silent)


def test_a_file_that_finds_no_room_is_not_begun(server: Loopback, part: Path) -> None:
    server.files["f"].headers = {"Content-Length": str(10**18)}
    with pytest.raises(OSError, match=r"1,000,000,000,000,000,000 bytes are needed"):
        download(server.url("f"), part, silent)
    assert not part.exists()


def test_a_compressed_archive_stays_compressed(server: Loopback, part: Path) -> None:
    # as Apache declares a .tar.gz
    archive = gzip.compress(CONTENT)
    server.files["f"] = Served(archive, headers={"Content-Encoding": "x-gzip"})
    download(server.url("f"), part, silent)
    assert part.read_bytes() == archive
