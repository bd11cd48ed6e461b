"""A local folder and its copy in a store; the mark of a study's end."""

import time
from pathlib import Path

import pytest
from s3 import S3Server

from r2search.storage import Storage, StorageError
from r2search.storage.stop import STOP, StopMark, watch_stop
from r2search.storage.twin import Twin


@pytest.fixture
def store(s3: S3Server, request: pytest.FixtureRequest) -> Storage:
    return Storage(s3.url(f"twins/{request.node.name}"), patience_s=1.0, timeout_s=1.0)


def write(folder: Path, **files: str) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def test_what_is_new_is_put_and_what_is_gone_is_deleted(store: Storage, tmp_path: Path) -> None:
    twin = Twin(tmp_path / "t", store, "checkpoints/t")
    store.write("checkpoints/t2/other", b"1")
    write(tmp_path / "t", a="1", b="2")
    write(tmp_path / "t", **{".c.part": "3"})
    twin.push()
    (tmp_path / "t" / "a").unlink()
    twin.push()
    assert store.names() == ["checkpoints/t/b", "checkpoints/t2/other"]


def test_another_machine_gets_what_was_put(store: Storage, tmp_path: Path) -> None:
    write(tmp_path / "first", a="1", b="2")
    Twin(tmp_path / "first", store, "t").push()
    write(tmp_path / "second", old="of a worker that was killed here")
    second = Twin(tmp_path / "second", store, "t")
    second.pull()
    assert {path.name: path.read_text() for path in (tmp_path / "second").iterdir()} == {
        "a": "1",
        "b": "2",
    }
    (tmp_path / "second" / "a").unlink()
    second.push()
    assert store.names() == ["t/b"]
    second.remove()
    assert store.names() == ["t/b"]
    assert not (tmp_path / "second").exists()


def test_what_could_not_be_put_is_put_the_next_time(
    s3: S3Server, store: Storage, tmp_path: Path
) -> None:
    twin = Twin(tmp_path / "t", store, "t")
    write(tmp_path / "t", a="1")
    with s3.silent(), pytest.raises(StorageError):
        twin.push()
    write(tmp_path / "t", b="2")
    twin.push()
    assert store.names() == ["t/a", "t/b"]


def test_a_folder_that_could_not_be_pulled_deletes_nothing(
    s3: S3Server, store: Storage, tmp_path: Path
) -> None:
    store.write("t/a", b"1")
    twin = Twin(tmp_path / "t", store, "t")
    with s3.silent(), pytest.raises(StorageError):
        twin.pull()
    twin.push()
    assert store.names() == ["t/a"]


def test_workers_hear_that_the_study_ends(
    store: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("r2search.storage.stop.LOOK_S", 0.1)
    mark, heard = StopMark(tmp_path, store), tmp_path / "worker" / "heard"
    store.write(STOP, b"")  # of a study before
    mark.clear()
    watch_stop(store, heard)
    time.sleep(0.5)
    assert not heard.exists()
    mark.set()
    until = time.monotonic() + 10
    while not heard.exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert heard.exists()
    mark.clear()
    assert (store.exists(STOP), mark.path.exists()) == (False, False)
