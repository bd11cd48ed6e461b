"""The results of a run folder as lines of text, and back.

A cluster is reached through its dashboard alone, which shows what a job prints. So a job prints
the files (`python -m r2search.tuning.results RUN_DIR`) and `receive` writes them down. The lines
come from another machine: names, sizes and checksums are all checked.
"""

import base64
import hashlib
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from r2search.config import Misuse
from r2search.storage import Storage, StorageError, is_url

MARK = "r2search-results "  # begins each of our lines: Ray prints others between them
NAMES = (
    "summary.json",
    "report.html",
    "trials.jsonl",
    "space.yaml",
    "environment.json",
    "test_images.csv",
)
PLACE = re.compile(rf"{'|'.join(map(re.escape, NAMES))}|(?:bundle|pictures)/[A-Za-z0-9][\w.-]*")
LIMIT = 2**30  # bytes of all files: the lines lie in the head's log folder
CHUNK = 3 * 2**18  # bytes a line; a message of the dashboard holds no more than 4 MiB


def send(run_dir: Path) -> Iterator[str]:
    """The lines for what is worth having of a run folder: no checkpoints, no offline W&B runs."""
    paths = [run_dir / name for name in NAMES]
    paths += sorted([*(run_dir / "bundle").glob("*"), *(run_dir / "pictures").glob("*")])
    files = [path for path in paths if path.is_file() and not path.is_symlink()]
    files = [path for path in files if PLACE.fullmatch(path.relative_to(run_dir).as_posix())]
    size = sum(path.stat().st_size for path in files)
    if not files or size > LIMIT:
        wrong = (
            f"holds {size} bytes, more than {LIMIT}; copy it from the cluster's storage"
            if files
            else "holds no run of r2search that the head of the cluster can see; check --out"
        )
        yield _line(error=f"{run_dir}: {wrong}")
        return
    for path in files:
        yield _line(file=path.relative_to(run_dir).as_posix(), size=path.stat().st_size)
        digest = hashlib.sha256()
        left = path.stat().st_size  # a file that grows meanwhile is cut here
        with path.open("rb") as opened:
            while left and (data := opened.read(min(CHUNK, left))):
                digest.update(data)
                left -= len(data)
                yield _line(data=base64.b64encode(data).decode())
        yield _line(sha256=digest.hexdigest())
    yield _line(end=len(files))


def _line(**fields: Any) -> str:
    return MARK + json.dumps(fields)


def receive(lines: Iterable[str], out: Path, limit: int = LIMIT) -> list[str]:
    """Write what the lines hold into the new folder `out`; all of it or nothing. Returns the names.

    Raises Misuse when `out` has something in it, when the other side says what is wrong, when
    lines are missing or damaged, when a name is none of a run folder's, and above `limit` bytes.
    """
    out = out.resolve()
    require_new(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    except OSError as error:
        raise Misuse(f"--out {out}: cannot be made ({error.strerror}); name another") from None
    try:
        names = _Receiver(part, limit).read(lines)
        part.chmod(0o755)
        part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return names


def require_new(out: Path) -> None:
    """Raise Misuse when there is something in `out`."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Misuse(f"--out {out}: not an empty folder; name a new one")


class _Receiver:
    """Reads lines into files below `folder`."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._left = limit
        self._names: list[str] = []

    def read(self, lines: Iterable[str]) -> list[str]:
        events = (_event(line) for line in lines if line.startswith(MARK))
        for event in events:
            if "error" in event:
                raise Misuse(str(event["error"]))
            if "end" in event:
                if event["end"] == len(self._names):
                    return self._names
                break
            self._read_file(event, events)
        raise _damaged("it ends too early")

    def _read_file(self, event: dict[str, Any], events: Iterator[dict[str, Any]]) -> None:
        name, size = event.get("file"), event.get("size")
        if not isinstance(name, str) or not PLACE.fullmatch(name) or name in self._names:
            raise _damaged(f"{name!r} is no file of a run folder")
        if type(size) is not int or not 0 <= size <= self._left:
            raise _damaged(f"{name} would have {size!r} bytes")
        self._left -= size
        self._names.append(name)
        path = self._folder / name
        path.parent.mkdir(exist_ok=True)
        digest = hashlib.sha256()
        with path.open("xb") as opened:
            while size:
                data = _data(next(events, {}))
                if not 0 < len(data) <= size:
                    raise _damaged(f"{name} is cut off, or too long")
                size -= len(data)
                digest.update(data)
                opened.write(data)
        if next(events, {}).get("sha256") != digest.hexdigest():
            raise _damaged(f"the checksum of {name} is another")


def _data(event: dict[str, Any]) -> bytes:
    """The bytes of a line; none when it has no proper ones."""
    try:
        return base64.b64decode(event["data"], validate=True)
    except (KeyError, TypeError, ValueError):
        return b""


def _event(line: str) -> dict[str, Any]:
    try:
        event = json.loads(line.removeprefix(MARK))
    except ValueError:
        raise _damaged("a line is cut") from None
    if not isinstance(event, dict):
        raise _damaged("a line is of another kind")
    return event


def _damaged(what: str) -> Misuse:
    return Misuse(f"what came back from the cluster is damaged ({what}); fetch again")


def bring(storage: Storage, run_dir: Path) -> None:
    """Download what is worth having of a run folder in a store."""
    for name in storage.names():
        if PLACE.fullmatch(name):
            storage.download(name, run_dir / name)


def main(run_dir: str) -> int:
    """Print the lines of one run folder, which may lie in a store."""
    with tempfile.TemporaryDirectory() as local:
        folder = Path(local if is_url(run_dir) else run_dir)
        try:
            if is_url(run_dir):
                bring(Storage(run_dir), folder)
        except (Misuse, StorageError) as error:
            print(_line(error=str(error)))
            return 1
        for line in send(folder):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
