"""Whether W&B can be reached, against servers of our own on the loopback."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import wandb

from r2search.tuning.trackers import account
from r2search.tuning.trackers.account import Server, find_server

KEY = "f0e1d2c3b4" * 4


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No login, no server, nothing outside the test's folder, whatever this machine has."""
    for name in ("API_KEY", "ENTITY", "PROJECT", "MODE"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    wandb.teardown()
    yield
    wandb.teardown()


class Answering:
    """A server that gives every request the same answer, and notes what it was asked."""

    def __init__(self, code: int, body: str) -> None:
        asked = self.asked = []  # type: list[dict[str, Any]]

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                query = self.rfile.read(int(self.headers["Content-Length"]))
                asked.append({"path": self.path, "login": self.headers["Authorization"]})
                assert json.loads(query)["query"]
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *args: Any) -> None:
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()

    def __enter__(self) -> "Answering":
        return self

    def __exit__(self, *exc: object) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"


@pytest.mark.parametrize("kept_in", ["environment", "netrc"])
def test_a_login_that_the_server_accepts_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kept_in: str
) -> None:
    with Answering(200, '{"data": {"viewer": {"id": "1"}}}') as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        if kept_in == "environment":
            monkeypatch.setenv("WANDB_API_KEY", KEY)
        else:
            host = server.url.removeprefix("http://")
            (tmp_path / "netrc").write_text(f"machine {host}\n  login user\n  password {KEY}\n")
        assert find_server(wandb) == (Server(server.url, KEY), "")
    assert [asked["path"] for asked in server.asked] == ["/graphql"]
    assert server.asked[0]["login"].startswith("Basic YXBpOm")  # base64 of `api:`


@pytest.mark.parametrize(
    ("code", "body", "reason"),
    [
        (401, "", "refuses the login; run `wandb login`"),
        (200, '{"data": {"viewer": null}}', "refuses the login; run `wandb login`"),
        (503, "", "answers 503"),
        (200, "<html>a proxy's page</html>", "does not answer as it should"),
        (200, "[]", "does not answer as it should"),
    ],
)
def test_what_a_server_answers_decides_and_is_told(code: int, body: str, reason: str) -> None:
    with Answering(code, body) as server:
        assert Server(server.url, KEY).obstacle() == reason


def test_a_server_that_is_not_there_or_says_nothing_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert Server("http://127.0.0.1:9", KEY).obstacle() == "cannot be reached"
    monkeypatch.setattr(account, "ANSWER_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert Server(url, KEY).obstacle().startswith("did not answer in")


def test_without_a_login_the_network_is_not_asked() -> None:
    assert find_server(wandb) == (None, "no W&B login is known; run `wandb login`")


@pytest.mark.parametrize(("name", "value"), [("API_KEY", "sh ort"), ("BASE_URL", "nonsense")])
def test_settings_that_wandb_refuses_are_told_without_showing_them(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"WANDB_{name}", value)
    server, why = find_server(wandb)
    assert server is None
    assert why.startswith("the W&B login or address is not valid")
    assert value not in why


def test_neither_the_address_nor_the_key_is_left_in_a_message() -> None:
    server = Server("https://wandb.hospital.example:8443/", KEY)
    said = f'Post "https://wandb.hospital.example:8443/graphql" by {KEY}: wandb.hospital.example'
    assert server.hidden(said) == 'Post ".../graphql" by ...: ...'
