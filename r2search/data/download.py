"""One file over HTTP, going on from where an earlier try broke off."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from r2search.data.archives import require_space

if TYPE_CHECKING:
    import requests

TIMEOUT_S = 30  # without an answer, or without a further byte
CHUNK = 1 << 18
CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")

Report = Callable[[int, int | None], None]  # (bytes there are, bytes in all if that is known)


class NotServed(Exception):
    """The address does not give the file, or not all of it; says the address and why."""


class _Cut(Exception):
    """The connection failed, or ended too early."""


def download(url: str, part: Path, report: Report) -> None:
    """Bring `part` to the whole of the file at `url`, from what it holds of it.

    What is there is kept only if the server confirms that the file is still the same (its ETag or
    date, kept beside `part`). A connection that breaks off is taken up again as long as each try
    brings more than all before. NotServed leaves what has come for the next call; OSError is the
    disk's.
    """
    most = _size(part)
    while True:
        try:
            return _go_on(url, part, report)
        except _Cut as cut:
            if _size(part) <= most:
                raise NotServed(f"{url}: {cut}") from None
            most = _size(part)


def forget(part: Path) -> None:
    """Remove what is there of a file."""
    part.unlink(missing_ok=True)
    _validator(part).unlink(missing_ok=True)


def _go_on(url: str, part: Path, report: Report) -> None:
    import requests

    have = _size(part)
    headers = {"Accept-Encoding": "identity"}
    if have and _validator(part).exists():
        validator = _validator(part).read_text(encoding="utf-8")
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    try:
        answer = requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S)
    except requests.RequestException as error:
        raise _Cut(f"cannot be reached ({type(error).__name__})") from None
    with answer:
        begin, total = _extent(answer)
        asked = "Range" in headers
        if asked and answer.status_code == 416 and total == have:
            report(have, total)
        elif asked and answer.status_code in (206, 416) and begin != have:
            forget(part)
            _go_on(url, part, report)
        elif begin is None or (begin and not asked):
            raise NotServed(f"{url}: answers {answer.status_code} {answer.reason}")
        else:
            _take(answer, part, begin, total, report)


def _take(
    answer: "requests.Response", part: Path, begin: int, total: int | None, report: Report
) -> None:
    """Write the body of an answer to `part` from byte `begin` on."""
    require_space(part.parent, (total or begin) - begin)
    done = begin
    report(done, total)
    with part.open("ab" if begin else "wb") as file:
        if not begin:
            _keep_validator(answer, part)
        for chunk in _chunks(answer):
            file.write(chunk)
            done += len(chunk)
            report(done, total)
    if total is not None and done != total:
        raise _Cut(f"breaks off after {done:,} of {total:,} bytes")


def _chunks(answer: "requests.Response") -> "Iterator[bytes]":
    """The body as the server sends it: a .tar.gz that is declared as compressed stays one."""
    from urllib3.exceptions import HTTPError

    try:
        yield from answer.raw.stream(CHUNK, decode_content=False)
    except (HTTPError, OSError) as error:
        raise _Cut(f"breaks off ({type(error).__name__})") from None


def _extent(answer: "requests.Response") -> tuple[int | None, int | None]:
    """The first byte of an answer's body, and the bytes of the whole file; None: not said."""
    if answer.status_code == 200:
        length = answer.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    match = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if answer.status_code not in (206, 416) or not match:
        return None, None
    first, total = match.groups()
    return int(first) if first else None, int(total) if total != "*" else None


def _keep_validator(answer: "requests.Response", part: Path) -> None:
    """Remember what tells this version of the file from others; a weak ETag does not."""
    etag = answer.headers.get("ETag", "")
    validator = etag if etag.startswith('"') else answer.headers.get("Last-Modified", "")
    if validator:
        _validator(part).write_text(validator, encoding="utf-8")
    else:
        _validator(part).unlink(missing_ok=True)


def _validator(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
