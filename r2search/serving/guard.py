"""What every request must be, and what every answer carries: the page is for its own browser tab.

A page elsewhere may make a browser send requests here, even to loopback. A name of its own that
leads here (DNS rebinding) does not pass `host_allowed`, and its requests are told by `Origin`.
"""

import ipaddress
import json
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",  # images of patients stay in no cache
}


def host_allowed(host: str, names: Collection[str]) -> bool:
    """Whether the `Host` of a request is a number, `localhost` or one of `names`; ports are free.

    A number cannot be turned to another machine by somebody's DNS.
    """
    name = _name_in(f"//{host}")
    if name is None:
        return False
    if name == "localhost" or name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def origin_allowed(origin: str | None, host: str) -> bool:
    """Whether a request comes from our own page, or from no page at all."""
    return origin is None or _name_in(origin) == _name_in(f"//{host}")


def _name_in(address: str) -> str | None:
    """The host of an address, without port; None where it cannot be understood."""
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


class Guard:
    """Refuses requests in another's name, and adds `HEADERS` to every answer."""

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        self.app = app
        self.names = frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = [(key.encode(), value.encode()) for key, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *given]
            await send(message)

        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {
            key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]
        }
        wrong = self._wrong(headers)
        if wrong:
            await _answer(403, wrong, send_guarded)
        else:
            await self.app(scope, receive, send_guarded)

    def _wrong(self, headers: dict[str, str]) -> str:
        host = headers.get("host", "")
        if not host_allowed(host, self.names):
            return f"{host[:100]!r} is no name of this server; start it with --allow NAME"
        if not origin_allowed(headers.get("origin"), host):
            return "asked by the page of another server; open this server's own page"
        return ""


async def _answer(status: int, message: str, send: Send) -> None:
    content = json.dumps({"error": message}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
