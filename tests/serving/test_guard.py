"""Which hosts and origins are ours."""

import pytest

from r2search.serving.guard import host_allowed, origin_allowed


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:8000", "localhost", "LOCALHOST:80", "[::1]:8000", "192.168.0.7:1"],
)
def test_numbers_and_localhost_are_allowed(host: str) -> None:
    assert host_allowed(host, ())


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.1",
        "evil.example@127.0.0.1.x",
        "[::1",
        "lab.example.org.",
    ],
)
def test_other_names_are_not(host: str) -> None:
    assert not host_allowed(host, {"lab.example.org"})


def test_a_name_can_be_allowed() -> None:
    assert host_allowed("Lab.example.org:8000", {"lab.example.org"})


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),  # no page asked
        ("http://lab:8000", True),
        ("https://lab", True),  # behind a proxy that adds TLS
        ("http://evil.example", False),
        ("null", False),
        ("http://[", False),
    ],
)
def test_only_our_own_page_may_send(origin: str | None, allowed: bool) -> None:
    assert origin_allowed(origin, "lab:8000") is allowed
