"""A folder in an object store: whole objects by name, and errors in one sentence.

Credentials come from the environment or the machine's role, never from the URL.
"""

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from r2search.config import Misuse, hint

SCHEMES = {"s3": "S3, or a store that speaks its protocol", "gs": "Google Cloud Storage"}
PATIENCE_S = 120.0  # that a store which does not answer is asked again
TIMEOUT_S = 60.0  # of one request; a large file is several
PAUSE_S, LONGEST_PAUSE_S = 0.25, 10.0  # between two tries; it doubles
PART = 8 * 2**20  # bytes of a large file that go in one request
Tag = dict[str, str]  # says which version of an object was seen
INSTALL = "pip install -c constraints.txt '.[storage]'"


class StorageError(Exception):
    """The store refuses, or did not answer for long: one sentence, with the remedy."""


def is_url(where: str) -> bool:
    """Whether a run folder is named that lies in a store."""
    return "://" in where


def check_url(url: str) -> str:
    """The URL as it is written down everywhere; Misuse when it is none of a folder in a bucket.

    Whatever might be a secret in it is not repeated.
    """
    parts = urlsplit(url)
    bare = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if "@" in parts.netloc:
        raise Misuse(
            f"{bare}: was given with a user or password; leave them out, and export "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (S3) or GOOGLE_APPLICATION_CREDENTIALS"
        )
    if parts.query or parts.fragment:
        raise Misuse(f"{bare}: was given with ? or #; write the bucket and the folder alone")
    if parts.scheme not in SCHEMES:
        raise Misuse(
            f"{bare}: {parts.scheme} is no store of r2search; {hint(parts.scheme, list(SCHEMES))}"
        )
    folder = parts.path.strip("/")
    if not parts.netloc or not re.fullmatch(r"[\w.+=-]+(/[\w.+=-]+)*", folder, re.ASCII):
        raise Misuse(
            f"{bare}: write {parts.scheme}://BUCKET/FOLDER, with letters, digits and ._+=- alone"
        )
    if {".", ".."} & set(folder.split("/")):
        raise Misuse(f"{bare}: write the folder without . and ..")
    return f"{parts.scheme}://{parts.netloc}/{folder}"


class Storage:
    """The objects below one URL. Every call tries for `patience_s`, then raises StorageError.

    It can be pickled; the credentials are those of the machine where it is used.
    """

    def __init__(self, url: str, patience_s: float = PATIENCE_S, timeout_s: float = TIMEOUT_S):
        """Nothing is asked yet. Misuse when the URL is wrong, or the library is not installed."""
        self.url = check_url(url)
        self._given = (url, patience_s, timeout_s)
        self._patience_s = patience_s
        try:
            import obstore
            import obstore.store
        except ModuleNotFoundError:
            raise Misuse(f"{url}: obstore is not installed; a store needs {INSTALL}") from None
        self._obstore = obstore
        endpoints = [os.environ.get(name, "") for name in ("AWS_ENDPOINT_URL_S3", *ENDPOINTS)]
        # Of a server of one's own: buckets of two servers may have one name.
        self.endpoint = next((url.rstrip("/") for url in endpoints if url), "")
        self._store = obstore.store.from_url(
            self.url,
            client_options={
                "timeout": f"{timeout_s}s",
                "connect_timeout": f"{min(timeout_s, 10.0)}s",
                # A server of one's own; without it obstore speaks https alone.
                "allow_http": any(url.startswith("http://") for url in endpoints),
            },
            # Within a call, of a file of many requests; the call itself is tried again by us.
            retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=timeout_s / 2)},
        )

    def __reduce__(self) -> tuple[type["Storage"], tuple[Any, ...]]:
        return Storage, self._given

    def patient(self, patience_s: float, timeout_s: float = TIMEOUT_S) -> "Storage":
        """The same folder, asked for longer or shorter."""
        return Storage(self.url, patience_s, timeout_s)

    def names(self, prefix: str = "") -> list[str]:
        """Of all objects below `prefix`, a folder."""

        def listed() -> list[str]:
            batches = self._obstore.list(self._store, prefix or None)
            return sorted(entry["path"] for batch in batches for entry in batch)

        return list(self._try(listed))

    def exists(self, name: str) -> bool:
        try:
            self._try(lambda: self._obstore.head(self._store, name))
        except FileNotFoundError:
            return False
        return True

    def read(self, name: str, size: int | None = None, start: int = 0) -> bytes:
        """The object, or `size` bytes of it; FileNotFoundError when there is none."""

        def got() -> bytes:
            if size is None:
                return bytes(self._obstore.get(self._store, name).bytes())
            return bytes(self._obstore.get_range(self._store, name, start=start, length=size))

        return bytes(self._try(got))

    def download(self, name: str, path: Path) -> None:
        """Write the object to a file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")

        def copied() -> None:
            size = self._obstore.head(self._store, name)["size"]
            with part.open("wb") as file:
                for start in range(0, size, PART):
                    length = min(PART, size - start)
                    file.write(
                        self._obstore.get_range(self._store, name, start=start, length=length)
                    )
            os.replace(part, path)

        try:
            self._try(copied)
        finally:
            part.unlink(missing_ok=True)

    def write(self, name: str, content: bytes | Path) -> None:
        """Put bytes or a file, whole: a reader sees the object before or after."""
        options = {"chunk_size": PART, "max_concurrency": 4}
        self._try(lambda: self._obstore.put(self._store, name, content, **options))

    def rename(self, old: str, new: str) -> None:
        """By copying within the store; nothing when `old` is gone."""
        try:
            self._try(lambda: self._obstore.rename(self._store, old, new))
        except FileNotFoundError:
            return

    def delete(self, names: Sequence[str]) -> None:
        """Those that are there."""
        if names:
            self._try(lambda: self._obstore.delete(self._store, list(names)))

    def create(self, name: str, content: bytes) -> Tag | None:
        """Put an object that is not there yet; its tag, or None when it is."""
        return self._put_if(name, content, "create")

    def update(self, name: str, content: bytes, tag: Tag) -> Tag | None:
        """Put an object if it still has this tag; its new tag, or None when it has another."""
        return self._put_if(name, content, tag)

    def read_tagged(self, name: str) -> tuple[bytes, Tag] | None:
        """An object and its tag; None when there is none."""

        def got() -> tuple[bytes, Tag]:
            result = self._obstore.get(self._store, name)
            return bytes(result.bytes()), _tag(result.meta)

        try:
            content, tag = self._try(got)
        except FileNotFoundError:
            return None
        return content, tag

    def _put_if(self, name: str, content: bytes, mode: Any) -> Tag | None:
        exceptions = self._obstore.exceptions

        def put() -> Tag | None:
            try:
                return _tag(self._obstore.put(self._store, name, content, mode=mode))
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
                return None

        try:
            tag: Tag | None = self._try(put)
        except FileNotFoundError:
            return None  # it was to be updated, and is gone
        return tag

    def _try(self, call: Callable[[], Any]) -> Any:
        """The call's result. Again and again, while the store does not answer."""
        until, pause = time.monotonic() + self._patience_s, PAUSE_S
        while True:
            try:
                return call()
            except (self._obstore.exceptions.BaseError, OSError) as error:
                said, passing = explain(error, self.url)
                if said is None:
                    raise
                if not passing or time.monotonic() + pause > until:
                    raise StorageError(said) from None
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)


def _tag(facts: Mapping[str, Any]) -> Tag:
    """S3 compares `e_tag`, Google `version`."""
    return {key: facts[key] for key in ("e_tag", "version") if facts[key] is not None}


ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT")


def explain(error: Exception, url: str) -> tuple[str | None, bool]:
    """What an error of the store means, in one sentence without secrets, and whether it may pass.

    None when it is no matter of the store as a whole: an object is not there, or a local disk full.
    """
    text, kind = str(error), type(error).__name__
    found = re.search(r"<Code>(\w+)</Code>", text)
    code = found[1] if found else ""
    if code == "NoSuchBucket" or (kind == "GenericError" and "404 Not Found" in text):
        return f"{url}: the bucket does not exist; make it, or name another", False
    if isinstance(error, OSError):
        return None, False
    if kind in ("PermissionDeniedError", "UnauthenticatedError"):
        reason = f" ({code})" if code else ""
        return (
            f"{url}: no permission{reason}; give this machine credentials that may list, read, "
            "write and delete there"
        ), False
    if re.search(r"169\.254\.|metadata\.google|computeMetadata|credential", text, re.IGNORECASE):
        return (
            f"{url}: this machine has no credentials; export AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY (S3) or GOOGLE_APPLICATION_CREDENTIALS, or give it a role"
        ), False
    if kind == "NotSupportedError" or code == "NotImplemented":
        return (
            f"{url}: the store has no conditional writes, by which a second driver is kept out; "
            "use one that has them"
        ), False
    if "redirect" in text or code in ("PermanentRedirect", "AuthorizationHeaderMalformed"):
        return f"{url}: the bucket is in another region; export AWS_REGION", False
    status = re.search(r"status code: (\d+)", text)
    if status and not status[1].startswith("5") and status[1] not in ("408", "409", "429"):
        return f"{url}: the store answers {code or status[1]}; see its own log", False
    return f"{url}: the store does not answer; check the network, or try again later", True
