"""A server that speaks S3's protocol, in a process of its own: moto's, on this machine."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

# Any will do, unless a test asks for permissions.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIAMADEUPFORTESTS00", "AWS_SECRET_ACCESS_KEY": "made/up"}
BUCKET = "bucket"


class S3Server:
    """`with S3Server() as server`: a store with one bucket, and the environment to reach it by."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.environment = CREDENTIALS | {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def url(self, folder: str) -> str:
        return f"s3://{BUCKET}/{folder}"

    def ask(self, method: str, path: str, body: bytes = b"") -> None:
        """A request past r2search, signed by nobody."""
        signed = "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/aws4_request, "
        request = urllib.request.Request(
            f"{self.endpoint}{path}",
            method=method,
            data=body,
            headers={
                "Authorization": signed + "SignedHeaders=host, Signature=none",
                "Content-Type": "application/octet-stream",
            },
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        opener.open(request, timeout=30).close()

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Connections are taken, and nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    @contextmanager
    def with_permissions(self) -> Iterator[None]:
        """Nobody has any."""
        self.ask("POST", "/moto-api/reset-auth", b"0")
        try:
            yield
        finally:
            self.ask("POST", "/moto-api/reset-auth", b"inf")

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": ""},
        )
        until = time.monotonic() + 60
        while True:
            try:
                self.ask("PUT", f"/{BUCKET}")
                return self
            except OSError:
                assert self._process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.1)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
