"""Uploads are decoded in a process of their own each: whatever it does, the server goes on.

Image decoders are large, old and written in C. A file that takes too long, too much memory or
crashes one costs that process only.
"""

import logging
import multiprocessing
import os
import signal
import tempfile
import warnings
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path

import numpy as np
import pydicom
import tifffile
from PIL import Image

from r2search.config import DataConfig, Misuse
from r2search.data.readers.volumes import DICOM, is_kind, read_picture
from r2search.serving.uploads import MOST_SIDE, Refused

DECODE_S = 10.0  # seconds that a file may take; 25 million pixels take about one
BASE_BYTES, PIXEL_BYTES = 256_000_000, 24  # memory of a decoder, and for each pixel allowed

Answer = tuple[int, str]  # status, 200 or what is wrong with the file


def decode(path: Path, out: Path, name: str, data: DataConfig, pixels: int) -> None:
    """Read the image at `path` as a prediction on the command line does; write it as .npy.

    Refused, by the upload's `name`, says what is wrong with it. Blocks, for `DECODE_S` at most.
    """
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = _context().Process(target=_work, args=(path, out, data, pixels, theirs), daemon=True)  # type: ignore[attr-defined]
    process.start()
    theirs.close()
    try:
        if not ours.poll(DECODE_S):
            raise Refused(422, f"{name}: takes over {DECODE_S:g} s to read; save it again as PNG")
        status, wrong = ours.recv()
    except EOFError:  # it died
        raise Refused(422, f"{name}: cannot be read as an image; save it again as PNG") from None
    finally:
        process.kill()
        process.join()
        process.close()
        ours.close()
    if status != 200:
        raise Refused(status, f"{name}: {wrong}")


def warm_up() -> None:
    """Start the process that the decoders fork from, before the first image asks for it.

    Misuse when the temporary folder's path is too long for the socket by which it is asked.
    """
    process = _context().Process(target=int)  # type: ignore[attr-defined]
    try:
        process.start()
    except OSError as error:
        if "AF_UNIX path too long" not in str(error):
            raise
        top = tempfile.gettempdir()
        raise Misuse(
            f"TMPDIR={top}: too long a path for a socket; set TMPDIR to a shorter one"
        ) from None
    process.join()


@cache
def _context() -> BaseContext:
    """Decoders fork from a small process that has the readers in memory, and no network."""
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload(["__main__", __name__])
    return context


def _work(path: Path, out: Path, data: DataConfig, pixels: int, pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server
    logging.disable()  # a damaged file is told to its sender, not to the terminal
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = pixels
    _bound_memory(BASE_BYTES + PIXEL_BYTES * pixels)
    pipe.send(_read(path, out, data, pixels))


def _read(path: Path, out: Path, data: DataConfig, pixels: int) -> Answer:
    try:
        wrong = _too_large(path, pixels)
        if wrong:
            return 413, wrong
        np.save(out, read_picture(path, data))
    except Misuse as error:
        return 422, str(error).removeprefix(f"{path}: ")
    except MemoryError:
        return 413, "takes too much memory to read; send it smaller"
    return 200, ""


def _too_large(path: Path, pixels: int) -> str:
    """What to say of more pixels than are taken; empty for others, and for what is no image."""
    try:
        width, height = _size(path)
    except Image.DecompressionBombError:
        width = height = MOST_SIDE + 1
        found = "has far too many pixels"
    except Exception:  # decoders raise anything on damaged bytes; the reader says what is wrong
        return ""
    else:
        found = f"is {width} x {height} pixels"
    if width * height <= pixels and max(width, height) <= MOST_SIDE:
        return ""
    return (
        f"{found}; at most {pixels / 1e6:g} million are taken here, and {MOST_SIDE} on a side: "
        "send it smaller, or use `r2search predict`"
    )


def _size(path: Path) -> tuple[int, int]:
    """Width and height as the file declares them; its pixels are not read."""
    if is_kind(path, DICOM):
        tags = pydicom.dcmread(path, stop_before_pixels=True)
        return int(tags.Columns), int(tags.Rows) * int(tags.get("NumberOfFrames") or 1)
    try:
        with Image.open(path) as picture:
            return picture.size
    except OSError:
        with tifffile.TiffFile(path) as tiff:  # some that Pillow cannot read
            page = tiff.pages.first
            return page.imagewidth, page.imagelength


def _bound_memory(more: int) -> None:
    """Let this process take so many bytes beside those it has; where that cannot be said, all."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        import resource

        have = int(statm.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (have + more, have + more))
