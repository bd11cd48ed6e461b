"""One driver at a time: alive, dead on this machine, dead on another."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from s3 import S3Server

from r2search.config import Misuse
from r2search.storage import Storage, StorageError
from r2search.storage.lease import LOCK, Lease, _process

RENEW_S, STALE_S = 0.3, 2.0


@pytest.fixture
def folder(s3: S3Server, request: pytest.FixtureRequest) -> Storage:
    return Storage(s3.url(f"leases/{request.node.name}"), patience_s=10.0, timeout_s=3.0)


@pytest.fixture
def take(folder: Storage) -> Iterator[Callable[[], Lease]]:
    taken: list[Lease] = []

    def take() -> Lease:
        taken.append(Lease(folder, lambda text: None, RENEW_S, STALE_S))
        return taken[-1]

    yield take
    for lease in taken:
        lease.release()


def leave(folder: Storage, **facts: object) -> None:
    """The lock of a driver that is gone."""
    folder.write(LOCK, json.dumps({"holder": "another", "count": 1, **facts}).encode())


def test_a_second_driver_is_refused_while_the_first_one_lives(take: Callable[[], Lease]) -> None:
    first = take()
    began = time.monotonic()
    with pytest.raises(Misuse, match="another driver works in it; wait for it, or stop it"):
        take()
    assert time.monotonic() - began < STALE_S
    assert not first.lost


def test_what_was_released_is_taken_at_once(folder: Storage, take: Callable[[], Lease]) -> None:
    take().release()
    assert not folder.exists(LOCK)
    began = time.monotonic()
    take()
    assert time.monotonic() - began < 1.0


def test_a_driver_that_died_elsewhere_is_waited_for(
    folder: Storage, take: Callable[[], Lease]
) -> None:
    leave(folder, machine="another", pid=1, began="0")
    began = time.monotonic()
    take()
    assert time.monotonic() - began >= STALE_S


def test_a_driver_that_died_here_is_not_waited_for(
    folder: Storage, take: Callable[[], Lease]
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    leave(folder, **_process() | {"pid": ended.pid})
    began = time.monotonic()
    take()
    assert time.monotonic() - began < 1.0


def test_a_lock_that_cannot_be_read_is_waited_for(
    folder: Storage, take: Callable[[], Lease]
) -> None:
    folder.write(LOCK, b"[")
    take()


def test_whoever_loses_the_folder_sees_it_and_leaves_the_lock(
    folder: Storage, take: Callable[[], Lease]
) -> None:
    first = take()
    leave(folder)
    until = time.monotonic() + 10
    while not first.lost and time.monotonic() < until:
        time.sleep(0.1)
    assert first.lost
    first.release()
    assert folder.exists(LOCK)


def test_after_a_suspension_the_store_is_asked_before_anything_is_written(
    folder: Storage,
) -> None:
    first = Lease(folder, lambda text: None, renew_s=30.0)
    first._renewed -= 3600.0  # as if this process had not run for an hour
    first.require()
    leave(folder)  # another one takes it
    first.require()  # renewed just now: not asked
    first._renewed -= 3600.0
    with pytest.raises(StorageError, match="another driver has taken it over"):
        first.require()
    assert first.lost
    first.release()


def test_a_store_that_does_not_answer_takes_nothing_away(
    s3: S3Server, take: Callable[[], Lease]
) -> None:
    first = take()
    with s3.silent():
        time.sleep(2 * STALE_S)
    time.sleep(3 * RENEW_S)
    assert not first.lost
    with pytest.raises(Misuse, match="another driver works in it"):
        take()
