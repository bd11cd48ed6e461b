"""Fetching from the terminal: terms before all else, and every failure in one line."""

import io
import os
import pty
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from loopback import Loopback, Served
from rich.console import Console

from r2search.config import Misuse
from r2search.data.catalogue import BY_HAND, CATALOGUE, CC_BY_NC, Archive, DataSet
from r2search.fetching import agrees, fetch_data, fetch_entry, list_data_sets


@pytest.fixture
def server(loopback: Loopback) -> Loopback:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("a.txt", b"alpha")
    loopback.files = {"made.zip": Served(written.getvalue())}
    loopback.asked = []
    return loopback


@pytest.fixture
def entry(server: Loopback) -> DataSet:
    return DataSet(
        name="made",
        title="Made [by hand]",
        about="ten pictures of nothing",
        size=1000,
        licence=CC_BY_NC,
        page="http://127.0.0.1/terms",
        citation="Nobody et al., Nowhere, 2026",
        archives=(Archive(url=server.url("made.zip"), checksum=None),),
        reader="folder",
    )


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))


def test_terms_are_shown_before_anything_comes_and_then_the_data_is_there(
    tmp_path: Path, entry: DataSet, console: Console
) -> None:
    assert fetch_entry(entry, tmp_path / "made", console, accept=True) == 0
    assert (tmp_path / "made" / "a.txt").read_text() == "alpha"
    text = text_of(console)
    for shown in (
        "Made [by hand]: ten pictures of nothing",
        "CC BY-NC 4.0, https://creativecommons.org/licenses/by-nc/4.0/",
        "non-commercial purposes only",
        "http://127.0.0.1/terms",
        "Nobody et al.",
    ):
        assert text.index(shown) < text.index("downloading made.zip")
    assert f"--data {tmp_path / 'made'} --reader folder" in text


def test_a_checksum_that_nobody_published_is_said_to_be_kept(
    tmp_path: Path, entry: DataSet, console: Console
) -> None:
    fetch_entry(entry, tmp_path / "made", console, accept=True)
    assert "No checksum of made.zip is published." in text_of(console)
    assert str(tmp_path / "made.checksums.txt") in text_of(console)


def test_what_is_here_already_is_not_fetched_again(
    tmp_path: Path, entry: DataSet, server: Loopback, console: Console
) -> None:
    fetch_entry(entry, tmp_path / "made", console, accept=True)
    server.asked = []
    assert fetch_entry(entry, tmp_path / "made", console, accept=False) == 0
    assert "is here already" in text_of(console)
    assert server.asked == []


@pytest.mark.usefixtures("no_terminal")
def test_where_nobody_can_agree_nothing_is_downloaded(
    tmp_path: Path, entry: DataSet, server: Loopback, console: Console
) -> None:
    with pytest.raises(Misuse, match=r"^made: .*add --yes if you agree"):
        fetch_entry(entry, tmp_path / "made", console, accept=False)
    assert "CC BY-NC 4.0" in text_of(console)
    assert server.asked == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_terminal")
def test_names_of_the_catalogue_are_known_and_others_are_not(
    tmp_path: Path, console: Console
) -> None:
    with pytest.raises(Misuse, match="add --yes"):
        fetch_data("isic2018", tmp_path / "isic", console, accept=False)
    assert "ISIC 2018" in text_of(console)
    with pytest.raises(Misuse, match=r"drive: .*https://drive.grand-challenge.org/"):
        fetch_data("drive", tmp_path / "drive", console, accept=True)


@pytest.mark.parametrize(
    ("answer", "agreed"), [("y", True), ("Yes", True), ("n", False), ("", False), ("yikes", False)]
)
def test_on_a_terminal_one_is_asked(console: Console, answer: str, agreed: bool) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as terminal:
        os.write(ours, f"{answer}\n".encode())
        assert agrees("made", console, terminal) is agreed
    os.close(ours)
    assert "under these terms? [y/N]" in text_of(console)


def test_who_does_not_agree_gets_nothing(
    tmp_path: Path,
    entry: DataSet,
    server: Loopback,
    console: Console,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as terminal:
        os.write(ours, b"n\n")
        monkeypatch.setattr(sys, "stdin", terminal)
        assert fetch_entry(entry, tmp_path / "made", console, accept=False) == 1
    os.close(ours)
    assert "Nothing was downloaded." in text_of(console)
    assert server.asked == []


def test_a_server_out_of_reach_is_one_line_with_what_to_do(
    tmp_path: Path, entry: DataSet, console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    with Loopback() as gone:
        address = gone.url("made.zip")
    entry = replace(entry, archives=(Archive(url=address, checksum=None),))
    assert fetch_entry(entry, tmp_path / "made", console, accept=True) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"r2search: {address}: cannot be reached")
    assert f"put it at {tmp_path / 'made.download' / 'made.zip'}" in line
    assert not (tmp_path / "made").exists()


def test_everything_that_can_be_had_is_listed_with_its_terms(console: Console) -> None:
    console.width = 300
    assert list_data_sets(console) == 0
    lines = text_of(console).splitlines()
    for name, entry in CATALOGUE.items():
        (line,) = (line for line in lines if f"│ {name} " in line)
        assert entry.licence.name in line
    for name, other in BY_HAND.items():
        (line,) = (line for line in lines if f"│ {name} " in line)
        assert other.address in line
