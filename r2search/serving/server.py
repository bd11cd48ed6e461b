"""`r2search serve`: one bundle, one process, on loopback unless told otherwise."""

import ipaddress
import logging
import socket
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from rich.console import Console

from r2search.bundle import load_bundle
from r2search.config import Misuse
from r2search.interrupt import Interrupt
from r2search.report.screen import say
from r2search.scratch import own_scratch
from r2search.serving.app import build_app
from r2search.serving.connections import ImpatientProtocol
from r2search.serving.decoding import warm_up
from r2search.serving.gallery import find
from r2search.serving.uploads import Limits

CONNECTIONS = 100  # at once; more are told to come again
END_S = 5  # seconds that answers under way get at the end


def serve_bundle(
    folder: Path,
    host: str,
    port: int,
    limits: Limits,
    allow: Sequence[str],
    console: Console,
    *,
    browser: bool = False,
) -> int:
    """Serve the page of a bundle until Ctrl-C or SIGTERM; the result is the exit code.

    Misuse when the bundle or the address cannot be had. A run folder has a bundle, and beside it
    its study is shown. Port 0 is a free one. `allow`: other names by which the server may be asked.
    """
    bundle_dir, study = find(folder)
    bundle = load_bundle(bundle_dir)
    with _bound(host, port) as listener, own_scratch("serve") as scratch, Interrupt() as interrupt:
        app, desk = build_app(bundle, bundle_dir, limits, [host, *allow], scratch, study)
        warm_up()
        address = _address(host, listener.getsockname()[1])
        say(console, f"{bundle_dir} is at {address} (Ctrl-C ends it)")
        if not _is_loopback(host):
            say(console, "Whoever reaches this machine may send images: nothing asks who they are.")
        if browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        # Invalid requests are told to those who send them.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        config = uvicorn.Config(
            app,
            http=ImpatientProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=END_S,
        )
        uvicorn.Server(config).run(sockets=[listener])
        desk.close()
    return 0 if interrupt.signal is None else 128 + interrupt.signal


def _bound(host: str, port: int) -> socket.socket:
    """A socket that listens there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except socket.gaierror:
        raise Misuse(f"--host {host}: is no address of this machine; leave it out") from None
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Misuse(f"--port {port}: cannot listen there ({reason}); name another") from None


def _address(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
