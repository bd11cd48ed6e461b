"""What an upload may be, decided before any of it is decoded. Nothing here touches a file."""

import re
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

MOST_SIDE = 16_384  # pixels: more than a browser can draw
MOST_NAME = 100  # characters of a name that are repeated to anybody
MOST_ADDRESSES = 1024  # that a rate is kept of

# How a file of each kind begins: offset, bytes, and the suffix by which our readers know it. All
# else is refused unseen, so that no decoder meets it: SVG, PDF, PostScript, archives.
KINDS = (
    (0, b"\x89PNG\r\n\x1a\n", ".png"),
    (0, b"\xff\xd8\xff", ".jpg"),
    (0, b"II*\0", ".tif"),
    (0, b"MM\0*", ".tif"),
    (0, b"II+\0", ".tif"),
    (0, b"MM\0+", ".tif"),
    (0, b"BM", ".bmp"),
    (0, b"GIF8", ".gif"),
    (8, b"WEBP", ".webp"),
    (128, b"DICM", ".dcm"),
    *((0, b"P%d" % number, ".ppm") for number in range(1, 7)),
)
KNOWN = "PNG, JPEG, TIFF, BMP, GIF, WebP, PPM or a DICOM slice"
HEAD = 132  # bytes that `kind_of` needs


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one server takes."""

    bytes: int = 20_000_000  # of one file
    pixels: int = 25_000_000  # of one image
    rate: int = 120  # images a minute from one address
    waiting: int = 16  # images in work, most of which wait for the network


class Refused(Exception):
    """An upload that is not predicted; says why, with an HTTP status."""

    def __init__(self, status: int, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.wait_s = wait_s  # after which it may be sent again; None: never as it is


def kind_of(name: str, head: bytes) -> str:
    """The suffix for a file by its first bytes, whatever its name says; else Refused."""
    for offset, magic, suffix in KINDS:
        if head[offset : offset + len(magic)] == magic:
            return suffix
    if not head:
        raise Refused(422, f"{name}: is empty; send the bytes of an image")
    raise Refused(415, f"{name}: is not an image of a known kind; send {KNOWN}")


def safe_name(given: str) -> str:
    """What to call an upload: no folders, no control characters, not long. Never a path."""
    last = re.split(r"[/\\]", given)[-1]
    printable = "".join(letter for letter in last if letter.isprintable()).strip(" .")
    return printable[:MOST_NAME] or "image"


def require_size(name: str, size: int, limits: Limits) -> None:
    """Refused when a file of so many bytes is too large."""
    if size > limits.bytes:
        raise Refused(
            413,
            f"{name}: is larger than {limits.bytes / 1e6:g} MB, the most that is taken here; "
            "send it smaller, or use `r2search predict`",
        )


class Rate:
    """How many images an address may send: a bucket of a minute's worth that fills steadily."""

    def __init__(self, a_minute: int) -> None:
        self.a_minute = a_minute
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # level, when

    def take(self, address: str, now: float) -> None:
        """Count one image at `now`, in seconds; Refused when the address has sent too many."""
        level, before = self._levels.pop(address, (float(self.a_minute), now))
        level = min(self.a_minute, level + (now - before) * self.a_minute / 60)
        self._levels[address] = (level - 1 if level >= 1 else level, now)
        while len(self._levels) > MOST_ADDRESSES:
            self._levels.popitem(last=False)
        if level < 1:
            raise Refused(
                429,
                f"more than {self.a_minute} images in a minute; wait a little",
                (1 - level) * 60 / self.a_minute,
            )


class Slots:
    """So many at a time, and no queue behind them."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.taken = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Hold a slot; Refused when there is none."""
        if self.taken >= self.number:
            raise Refused(503, f"busy with {self.number} images; try again in a second", 1.0)
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
