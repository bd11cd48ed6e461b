"""Clients that send or read nothing: their connections end; others do not notice."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from r2search.serving import connections

# Bytes: more than the system keeps for a client that does not read. They are sent in pieces, as
# the files of an answer are: one that is read in time begins the wait anew.
MUCH, PIECE = 50_000_000, 250_000


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers at once, on /slow after a second, on /much with a lot."""
    if scope["path"] == "/slow":
        await asyncio.sleep(1.0)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/much":
        for _ in range(MUCH // PIECE):
            await send({"type": "http.response.body", "body": bytes(PIECE), "more_body": True})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server that waits for a third of a second only."""
    monkeypatch.setattr(connections, "HEAD_S", 0.3)
    monkeypatch.setattr(connections, "STUCK_S", 0.3)
    settings = {"ws": "none", "lifespan": "off", "log_config": None, "timeout_keep_alive": 60}
    server = uvicorn.Server(uvicorn.Config(app, http=connections.ImpatientProtocol, **settings))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join()


def connected(port: int, sent: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(sent)
    return connection


HEAD = b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("sent", [b"", b"GE", b"GET / HTTP/1.1\r\nHost: a\r\nX: "])
def test_a_head_that_does_not_come_ends_the_connection(sent: bytes, port: int) -> None:
    with connected(port, sent) as connection:
        assert ended(connection)


def ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1000) == b""
    except ConnectionResetError:
        return True


def test_so_does_one_after_an_answered_request(port: int) -> None:
    with connected(port, HEAD % b"/") as connection:
        assert b"200 OK" in connection.recv(1000)
        connection.sendall(b"GET / HT")
        while not ended(connection):
            pass


def test_a_request_that_takes_long_is_answered(port: int) -> None:
    assert httpx.get(f"http://127.0.0.1:{port}/slow", trust_env=False).text == "ok"


def test_an_answer_that_nobody_reads_ends_the_connection(port: int) -> None:
    with connected(port, HEAD % b"/much") as connection:
        time.sleep(1.0)
        got = 0
        try:
            while part := connection.recv(1 << 20):
                got += len(part)
        except ConnectionResetError:
            pass
        assert got < MUCH


def test_an_answer_that_is_read_slowly_arrives(port: int) -> None:
    with connected(port, HEAD % b"/much") as connection:
        got = 0
        while got < MUCH and (part := connection.recv(1_000_000)):
            got += len(part)
            time.sleep(0.01)
        assert got >= MUCH
