"""A folder in an object store: what is put comes back, and what goes wrong is one sentence."""

import pickle
import threading
import time
from pathlib import Path

import pytest
from s3 import CREDENTIALS, S3Server

from r2search.config import Misuse
from r2search.storage import PART, Storage, StorageError, check_url, is_url


@pytest.fixture
def folder(s3: S3Server, request: pytest.FixtureRequest) -> Storage:
    return Storage(s3.url(f"tests/{request.node.name}"), patience_s=20.0, timeout_s=5.0)


def test_what_is_put_comes_back(folder: Storage, tmp_path: Path) -> None:
    path, back = tmp_path / "large", tmp_path / "new" / "back"
    path.write_bytes(bytes(range(256)) * (2 * PART // 256 + 1))  # more than one request holds
    folder.write("a/large", path)
    folder.write("b", b"12345")
    folder.download("a/large", back)
    assert back.read_bytes() == path.read_bytes()
    assert folder.read("b") == b"12345"
    assert folder.read("b", 2, start=3) == b"45"
    assert folder.names() == ["a/large", "b"]
    assert folder.names("a") == ["a/large"]
    assert [found.name for found in back.parent.iterdir()] == ["back"]


def test_an_object_is_renamed_and_deleted(folder: Storage) -> None:
    folder.write("old", b"1")
    folder.rename("old", "new")
    folder.rename("gone", "new")
    assert folder.names() == ["new"]
    folder.delete(["new", "gone"])
    folder.delete([])
    assert not folder.exists("new")


def test_what_is_not_there_is_a_file_not_found(folder: Storage, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        folder.read("gone")
    with pytest.raises(FileNotFoundError):
        folder.download("gone", tmp_path / "gone")
    assert folder.read_tagged("gone") is None
    assert list(tmp_path.iterdir()) == []


def test_an_object_is_made_once_and_changed_by_who_saw_it_last(folder: Storage) -> None:
    tag = folder.create("lock", b"1")
    assert tag is not None
    assert folder.create("lock", b"2") is None
    new = folder.update("lock", b"3", tag)
    assert new is not None
    assert folder.update("lock", b"4", tag) is None
    assert folder.read_tagged("lock") == (b"3", new)
    folder.delete(["lock"])
    assert folder.update("lock", b"5", new) is None


def test_it_goes_to_a_worker_without_credentials(folder: Storage) -> None:
    sent = pickle.dumps(folder)
    assert not any(secret.encode() in sent for secret in CREDENTIALS.values())
    folder.write("a", b"1")
    assert pickle.loads(sent).read("a") == b"1"


def test_a_store_that_does_not_answer_is_asked_again(s3: S3Server, folder: Storage) -> None:
    with s3.silent():
        writer = threading.Thread(target=folder.write, args=("a", b"1"))
        writer.start()
        time.sleep(6.0)  # a request has been given up by then
        assert writer.is_alive()
    writer.join(20)
    assert folder.read("a") == b"1"


def test_patience_has_an_end(s3: S3Server, folder: Storage) -> None:
    hasty = folder.patient(1.0, 0.5)
    with s3.silent(), pytest.raises(StorageError, match="the store does not answer; check the net"):
        hasty.exists("a")


def test_a_server_that_is_not_there_does_not_answer(
    folder: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match="the store does not answer"):
        folder.patient(0.5, 1.0).names()


def test_a_bucket_that_does_not_exist_is_said_at_once(s3: S3Server) -> None:
    nowhere = Storage("s3://nowhere/a")
    for ask in (nowhere.names, lambda: nowhere.write("b", b"1"), lambda: nowhere.read("b")):
        with pytest.raises(StorageError, match="s3://nowhere/a: the bucket does not exist; make"):
            ask()


def test_missing_permission_is_said_at_once_and_without_secrets(
    s3: S3Server, folder: Storage
) -> None:
    with s3.with_permissions(), pytest.raises(StorageError, match="no permission") as caught:
        folder.write("a", b"1")
    assert not any(secret in str(caught.value) for secret in CREDENTIALS.values())


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://me:secret@bucket/a", "s3://bucket/a: was given with a user or password; leave"),
        ("s3://secret@bucket/a", "s3://bucket/a: was given with a user or password; leave"),
        ("s3://bucket/a?X-Amz-Signature=secret", "s3://bucket/a: was given with . or #"),
        ("s3://bucket/a#secret", "s3://bucket/a: was given with . or #"),
        ("s4://bucket/a", "s4 is no store of r2search; known: gs, s3"),
        ("s3://bucket", "write s3://BUCKET/FOLDER"),
        ("s3://bucket/", "write s3://BUCKET/FOLDER"),
        ("s3:///a", "write s3://BUCKET/FOLDER"),
        ("s3://bucket/a b", "write s3://BUCKET/FOLDER"),
        ("s3://bucket/a//b", "write s3://BUCKET/FOLDER"),
        ("s3://bucket/a/../b", "without . and .."),
    ],
)
def test_a_wrong_url_is_refused_and_its_secret_not_repeated(url: str, said: str) -> None:
    assert is_url(url)
    with pytest.raises(Misuse, match=said) as caught:
        check_url(url)
    assert "secret" not in str(caught.value)


def test_a_url_is_written_in_one_way() -> None:
    assert check_url("s3://bucket/studies/retina-1/") == "s3://bucket/studies/retina-1"
    assert check_url("gs://bucket/a") == "gs://bucket/a"
    assert not is_url("/shared/runs/a")
