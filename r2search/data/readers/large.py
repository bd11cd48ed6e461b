"""TIFF images larger than memory, of which some rows are decoded at a time."""

from pathlib import Path
from typing import Literal

import numpy as np
import tifffile
from numpy.typing import NDArray

from r2search.config import Misuse

LARGE = 1 << 26  # pixels: a TIFF of more is read by rows
TALLEST = 4096  # rows of a strip or tile: whoever wants one row decodes as many
PLAIN = ("MINISBLACK", "RGB", "YCBCR")  # what decodes to grey levels or to RGB
ORIENTATION = 274  # the tag


class LargeTiff:
    """The picture of a TIFF file, (H, W, C) uint8: `picture[first:last]` decodes these rows.

    A context manager that closes the file. Of a pyramid it is the picture at full size. Misuse
    names a file that is damaged or cannot be read by rows; damage further down is found when its
    rows are asked for.
    """

    def __init__(self, path: Path, channels: Literal["rgb", "grey"]) -> None:
        self._path = path
        try:
            self._file = tifffile.TiffFile(path)
            self._page = self._file.pages.first.aspage()
            fault = _fault(self._file, self._page, channels)
            plain = not fault and self._page.is_memmappable
            self._plain = self._page.asarray(out="memmap") if plain else None
        except Exception as error:  # decoders raise anything on damaged bytes
            raise _damaged(path, error) from None
        if fault:
            self._file.close()
            raise Misuse(f"{path}: {fault}, and it is too large to be read at once; {REMEDY}")
        self.shape = (self._page.imagelength, self._page.imagewidth, self._page.samplesperpixel)

    def __enter__(self) -> "LargeTiff":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getitem__(self, rows: slice, /) -> NDArray[np.uint8]:
        begin, end, _ = rows.indices(self.shape[0])
        (_, width, channels), (tall, wide) = self.shape, _segment(self._page)
        if self._plain is not None:
            return np.array(self._plain[begin:end]).reshape(-1, width, channels)
        found = np.zeros((end - begin, width, channels), np.uint8)
        across = -(-width // wide)
        for index in range(begin // tall * across, -(-end // tall) * across):
            top, left = index // across * tall, index % across * wide
            block = self._decoded(index)
            first, last = max(top, begin), min(top + block.shape[0], end)
            part = found[first - begin : last - begin, left : left + wide]
            part[:] = block[first - top : last - top, : part.shape[1]]
        return found

    def _decoded(self, index: int) -> NDArray[np.uint8]:
        """One strip or tile (rows, columns, C)."""
        page = self._page
        try:
            self._file.filehandle.seek(page.dataoffsets[index])
            data = self._file.filehandle.read(page.databytecounts[index])
            block, *_ = page.decode(data or None, index, jpegtables=page.jpegtables)
            if block is None:  # a tile that was left out
                return np.zeros((*_segment(page), self.shape[2]), np.uint8)
            return np.asarray(block[0], np.uint8)
        except Exception as error:  # decoders raise anything on damaged bytes
            raise _damaged(self._path, error) from None


REMEDY = (
    "save it as a TIFF in tiles or strips, upright, 8-bit grey or RGB without transparency, "
    "the colours of a pixel together"
)


def open_large(path: Path, channels: Literal["rgb", "grey"]) -> LargeTiff | None:
    """The picture of a TIFF of over LARGE pixels; None for any other file, damaged ones included.

    Misuse as of LargeTiff.
    """
    if path.suffix.lower() not in (".tif", ".tiff"):
        return None
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first.aspage()
            large = page.imagelength * page.imagewidth > LARGE
    except Exception:  # decoders raise anything on damaged bytes
        return None
    return LargeTiff(path, channels) if large else None


def _fault(file: tifffile.TiffFile, page: tifffile.TiffPage, channels: str) -> str:
    """What keeps a file from being read by rows; nothing if it can be."""
    samples, turned = page.samplesperpixel, page.tags.valueof(ORIENTATION, 1) != 1
    colours = tifffile.PHOTOMETRIC(page.photometric).name
    if any(not other.aspage().is_reduced for other in list(file.pages)[1:]):
        return "holds several pictures"
    if page.dtype != np.uint8 or page.bitspersample != 8:
        return "has another depth than 8 bits"
    if colours not in PLAIN or samples not in (1, 3) or turned:
        return f"is {colours} of {samples} values a pixel{', turned' * turned}"
    if samples == 1 and channels == "rgb":
        return "is grey where RGB is expected"
    if min(page.imagelength, page.imagewidth, *_segment(page)) < 1:
        return "has no pixels"
    low = page.is_memmappable or _segment(page)[0] <= TALLEST
    if page.planarconfig != 1 or page.imagedepth != 1 or not low:
        return "is not stored in tiles or low strips"
    return ""


def _segment(page: tifffile.TiffPage) -> tuple[int, int]:
    """Rows and columns of its tiles or strips."""
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    return min(page.rowsperstrip, page.imagelength), page.imagewidth


def _damaged(path: Path, error: Exception) -> Misuse:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return Misuse(f"{path}: cannot be read as TIFF ({reason}); copy or save it again")
