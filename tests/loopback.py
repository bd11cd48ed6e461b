"""A web server on this machine whose faults a test chooses."""

import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


@dataclass
class Served:
    """One file, and how it is served."""

    content: bytes
    version: dict[str, str] = field(default_factory=lambda: {"ETag": '"1"'})
    ranges: bool = True  # whether a Range is honoured
    cut_at: list[int] = field(default_factory=list)  # bytes of the file after which each try ends
    status: int = 200  # what is answered to everything, if another
    headers: dict[str, str] = field(default_factory=dict)  # over those that would be sent


class Loopback(ThreadingHTTPServer):
    """`with Loopback() as server`: serves `server.files[name]` at `server.url(name)`.

    `server.asked` has the Range of each request, "" where there was none.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, Served] = {}
        self.asked: list[str] = []

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.serve_forever, args=(0.005,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Loopback

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.server.asked.append(wanted)
        file = self.server.files.get(self.path.lstrip("/"))
        if file is None or file.status >= 400:
            self.send_error(404 if file is None else file.status)
            return
        begin, status, size = 0, file.status, len(file.content)
        headers = {"Content-Length": str(size), **file.version}
        same = self.headers.get("If-Range") in (None, *file.version.values())
        if (match := re.fullmatch(r"bytes=(\d+)-", wanted)) and file.ranges and same:
            begin, status = int(match[1]), 206
            headers["Content-Length"] = str(size - begin)
            headers["Content-Range"] = f"bytes {begin}-{size - 1}/{size}"
            if begin >= size:
                status, headers = 416, {"Content-Range": f"bytes */{size}", "Content-Length": "0"}
        self.send_response(status)
        for name, value in (headers | file.headers).items():
            self.send_header(name, value)
        self.end_headers()
        end = file.cut_at.pop(0) if file.cut_at else size
        self.wfile.write(file.content[begin:end])

    def log_message(self, format: str, *args: object) -> None:
        pass
