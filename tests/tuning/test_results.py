"""The results of a run folder as lines of text: what comes back, and what is refused."""

import base64
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2search.config import Misuse
from r2search.tuning.results import CHUNK, MARK, PLACE, receive, send

FILES = {
    "summary.json": b'{"status": "completed"}',
    "trials.jsonl": b"",
    "report.html": "Größe".encode(),
    "bundle/model.safetensors": bytes(range(256)) * (CHUNK // 200),
    "bundle/card.md": b"# card\n",
}


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    root = tmp_path / "run"
    others = {"checkpoints/t0001.safetensors": b"large", "wandb/x.wandb": b"", ".driver": b""}
    for name, data in {**FILES, **others}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    (root / "bundle/link").symlink_to("/etc/hostname")
    return root


def lines_of(*events: dict[str, object]) -> list[str]:
    return [MARK + json.dumps(event) + "\n" for event in events]


def file_lines(name: str, data: bytes) -> list[str]:
    return lines_of(
        {"file": name, "size": len(data)},
        {"data": base64.b64encode(data).decode()},
        {"sha256": hashlib.sha256(data).hexdigest()},
    )


def test_what_is_sent_arrives(run_dir: Path, tmp_path: Path) -> None:
    noise = ["Running entrypoint for job x: python\n", *(f"{line}\n" for line in send(run_dir))]
    names = receive(noise, tmp_path / "out")
    assert set(names) == set(FILES)
    assert {name: (tmp_path / "out" / name).read_bytes() for name in names} == FILES
    found = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(found) == len(FILES)  # no checkpoints, no W&B, nothing that a link leads to


def test_no_line_is_longer_than_a_message_may_be(run_dir: Path) -> None:
    assert max(map(len, send(run_dir))) < 4 * 2**20


def test_a_folder_without_a_run_says_so_on_the_other_side(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="gone: holds no run of r2search"):
        receive(send(tmp_path / "gone"), tmp_path / "out")


def refused(lines: Iterable[str], tmp_path: Path, limit: int = 1000) -> str:
    before = set(tmp_path.rglob("*"))
    with pytest.raises(Misuse) as raised:
        receive(lines, tmp_path / "out", limit)
    assert set(tmp_path.rglob("*")) == before, "something was left"
    return str(raised.value)


END = lines_of({"end": 1})


@pytest.mark.parametrize(
    "name",
    [
        "../summary.json",
        "/etc/passwd",
        "bundle/../../x",
        "bundle/.hidden",
        "checkpoints/t0001.safetensors",
        "bundle/a/b",
        "summary.json\n",
        "",
    ],
)
def test_a_name_outside_the_run_folder_is_refused(name: str, tmp_path: Path) -> None:
    assert "is no file of a run folder" in refused([*file_lines(name, b"x"), *END], tmp_path)


@given(st.text() | st.from_regex(PLACE))
def test_only_plain_names_are_taken(name: str) -> None:
    if PLACE.fullmatch(name):
        path = Path("root", name)
        assert path.resolve().is_relative_to(Path("root").resolve())
        assert not any(part.startswith(".") for part in path.parts)


GOOD = file_lines("summary.json", b"12345")
DAMAGE: dict[str, tuple[list[str], str]] = {
    "no end": (GOOD, "it ends too early"),
    "other end": ([*GOOD, *lines_of({"end": 2})], "it ends too early"),
    "a cut line": ([GOOD[0], GOOD[1][:-8]], "a line is cut"),
    "a lost line": ([GOOD[0], GOOD[2], *END], "summary.json is cut off"),
    "a doubled line": ([GOOD[0], GOOD[1], GOOD[1], GOOD[2], *END], "the checksum of summary.json"),
    "a changed byte": (
        [GOOD[0], *file_lines("summary.json", b"12346")[1:2], GOOD[2], *END],
        "the checksum of summary.json is another",
    ),
    "more bytes than said": (
        [GOOD[0], *file_lines("summary.json", b"123456")[1:], *END],
        "too long",
    ),
    "twice one file": ([*GOOD, *GOOD, *END], "'summary.json' is no file"),
    "too large": (lines_of({"file": "summary.json", "size": 1001}), "would have 1001 bytes"),
    "a negative size": (lines_of({"file": "summary.json", "size": -1}), "would have -1 bytes"),
    "no number": (lines_of({"file": "summary.json", "size": "5"}), "would have '5' bytes"),
    "no base64": ([GOOD[0], *lines_of({"data": "!!"}), GOOD[2]], "is cut off"),
    "a list": ([f"{MARK}[]\n"], "a line is of another kind"),
    "nothing": ([], "it ends too early"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_lines_leave_nothing_behind(damage: str, tmp_path: Path) -> None:
    lines, said = DAMAGE[damage]
    message = refused(lines, tmp_path)
    assert said in message
    assert message.endswith("fetch again")


def test_all_files_together_have_a_limit(tmp_path: Path) -> None:
    lines = [*file_lines("summary.json", bytes(600)), *file_lines("report.html", bytes(600))]
    assert "report.html would have 600 bytes" in refused([*lines, *lines_of({"end": 2})], tmp_path)


def test_a_folder_in_use_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    assert "out: not an empty folder; name a new one" in refused([*GOOD, *END], tmp_path)
