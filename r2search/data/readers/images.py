"""Image files to arrays: 8-bit pictures and two-valued masks; a file that is neither is named.

Any of them may be packed by gzip, as `a.ppm.gz`; it is unpacked in memory.
"""

import gzip
import io
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin, UnidentifiedImageError

from r2search.config import Misuse

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".webp"}
)
GZIP = ".gz"
ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})  # Pillow's modes with transparency
STORED = {"1": "1 bit", "L": "8 bit", "P": "palette", "I;16": "16 bit"}  # Pillow's modes, in words
DEEP = "has more than 8 bits a value; rescale it to 8 bits"
MOST_PIXELS = 178_956_970  # Pillow's own limit: more in a small file is meant to do harm
MOST_VALUES = 4 * MOST_PIXELS  # of all channels, a byte each
HUGE = (
    f"has more than {MOST_PIXELS:,} pixels; make it smaller, or save it as a TIFF in tiles, which "
    "`r2search predict` reads by rows"
)


def list_images(folder: Path) -> list[Path]:
    """The image files of a folder, sorted; none where there is no such folder.

    Hidden ones (such as macOS writes) are left out.
    """
    return sorted(
        path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if _unpacked(path).suffix.lower() in SUFFIXES
        and not path.name.startswith(".")
        and path.is_file()
    )


def images_below(folder: Path) -> list[Path]:
    """The image files at any depth of a folder; hidden folders are left out."""
    inner = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    return [*list_images(folder), *(path for sub in inner for path in images_below(sub))]


def name_of(path: Path) -> str:
    """The name of an image file without its suffix: `im0001.ah` of `im0001.ah.ppm.gz`."""
    return _unpacked(path).stem


def _unpacked(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() == GZIP else path


def read_image(path: Path, channels: Literal["rgb", "grey"]) -> NDArray[np.uint8]:
    """The picture, (H, W, 3) for `rgb` or (H, W, 1) for `grey`, turned as its EXIF tag says.

    For `grey`, colours become luma (ITU-R BT.601). An alpha channel that hides nothing is left
    out. Misuse names a file that cannot be read, has another depth than 8 bits, transparent
    pixels, several pictures, or is grey where RGB is expected.
    """
    picture = _opaque(_decode(path), path)
    mode = picture.mode
    if mode in ("I", "F") or mode.startswith("I;"):
        raise Misuse(f"{path}: {DEEP}")
    if mode in ("1", "L") and channels == "rgb":
        raise Misuse(
            f"{path}: is grey where RGB is expected; convert it to RGB, or read all images as "
            "grey: --set data.channels=grey"
        )
    if mode not in ("1", "L", "P", "RGB"):
        raise Misuse(f"{path}: is {mode}; save it as 8-bit RGB")
    if mode == "P":
        picture = picture.convert("RGB")
    pixels = np.asarray(picture.convert("RGB" if channels == "rgb" else "L"))
    return pixels.reshape(*pixels.shape[:2], -1)


def read_mask(
    path: Path, labels: tuple[int, ...] = (), *, may_be_empty: bool = False
) -> NDArray[np.uint8]:
    """The mask, (H, W): 0 where the file is 0, 1 where it has its other value, whichever it is.

    With `labels`, the first of these values becomes 1, the second 2, and so on; there may be no
    others but 0. Misuse names a file that cannot be read, has colours or transparent pixels, other
    values than these, or no foreground at all unless it `may_be_empty`. A mask that is foreground
    everywhere is one.
    """
    picture = _opaque(_decode(path), path)
    pixels = np.asarray(picture.convert("L") if picture.mode == "P" and not labels else picture)
    if picture.mode == "RGB" and (pixels == pixels[:, :, :1]).all():
        pixels = pixels[:, :, 0]
    if pixels.ndim != 2:
        raise Misuse(f"{path}: is a colour picture; save the mask in black and white")
    if labels:
        return _by_labels(path, pixels, labels, may_be_empty)
    low, high = pixels.min(), pixels.max()
    between = (pixels != low) & (pixels != high)
    if between.any():
        raise Misuse(
            f"{path}: is not binary: {between.mean():.2%} of its pixels lie between {low} and "
            f"{high}; threshold the mask and save it as PNG"
        )
    if high == 0 and not may_be_empty:
        raise Misuse(f"{path}: is all empty; mark the foreground, or take the image out")
    if low not in (0, high):
        raise Misuse(f"{path}: has the values {low} and {high}; the background must be 0")
    return np.asarray(pixels != 0, dtype=np.uint8)


def class_indices(values: NDArray[Any], labels: tuple[int, ...]) -> NDArray[np.uint8]:
    """The places of label values in `labels`, from 1; 0 for all that is not among them."""
    mask = np.zeros(values.shape, np.uint8)
    for index, label in enumerate(labels, start=1):
        mask[values == label] = index
    return mask


def stored_values(path: Path) -> tuple[str, list[int]]:
    """How the pixels of a picture are stored, as in `8 bit`, and which values they have.

    Those of a palette are its grey levels, and of colours the values of all channels together.
    Misuse names a file that cannot be read.
    """
    picture = _decode(path)
    kind = STORED.get(picture.mode, picture.mode)
    pixels = picture.convert("L") if picture.mode == "P" else picture
    return kind, [int(value) for value in np.unique(np.asarray(pixels))]


def _by_labels(
    path: Path, pixels: NDArray[np.generic], labels: tuple[int, ...], may_be_empty: bool
) -> NDArray[np.uint8]:
    mask = class_indices(pixels, labels)
    strange = (mask == 0) & (pixels != 0)
    if strange.any():
        values = ", ".join(map(str, np.unique(pixels[strange])[:5]))
        raise Misuse(
            f"{path}: {strange.mean():.2%} of its pixels have values that are not in data.labels "
            f"{list(labels)} ({values}); add them, or set them to 0 in the mask"
        )
    if not may_be_empty and not mask.any():
        raise Misuse(f"{path}: is all empty; mark the foreground, or take the image out")
    return mask


def _opaque(picture: Image.Image, path: Path) -> Image.Image:
    """The picture without its alpha channel, which must hide nothing."""
    if picture.mode not in ALPHA:
        return picture
    if picture.getchannel("A").getextrema()[0] != 255 or picture.mode == "RGBa":
        raise Misuse(f"{path}: has transparent pixels; save it without transparency")
    return picture.convert("L" if picture.mode in ("LA", "La") else "RGB")


def _decode(path: Path) -> Image.Image:
    """The one picture of a file, in memory, in the mode that Pillow gives it."""
    if not path.is_file():
        raise Misuse(f"{path}: is not a file; check the path")
    content = _gunzip(path) if path.suffix.lower() == GZIP else path
    try:
        return _by_pillow(path, content)
    except Misuse:
        raise
    except Image.DecompressionBombError:
        raise Misuse(f"{path}: {HUGE}") from None
    except Exception as error:  # decoders raise anything on damaged bytes
        if _unpacked(path).suffix.lower() in (".tif", ".tiff"):
            return _by_tifffile(path, content)
        known = isinstance(error, UnidentifiedImageError)
        raise _unreadable(path, "not a known image format" if known else str(error)) from None


def _gunzip(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            content = file.read(MOST_VALUES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, str(error)) from None
    if len(content) > MOST_VALUES:
        raise Misuse(f"{path}: {HUGE}")
    return content


def _file(content: Path | bytes) -> Path | io.BytesIO:
    return io.BytesIO(content) if isinstance(content, bytes) else content


def _by_pillow(path: Path, content: Path | bytes) -> Image.Image:
    with Image.open(_file(content)) as picture:
        # An MPO is a JPEG with a preview behind it.
        if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":
            raise _several(path)
        # Pillow cuts 16-bit colour down to 8 bits, or misreads it, without a word.
        if len(picture.getbands()) > 1 and _is_deep(picture):
            raise Misuse(f"{path}: {DEEP}")
        picture.load()
        return ImageOps.exif_transpose(picture)


def _is_deep(picture: ImageFile.ImageFile) -> bool:
    """Whether the file has over 8 bits a value; asked before the pixels are loaded."""
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        return bool(max(picture.tag_v2[TiffImagePlugin.BITSPERSAMPLE]) > 8)
    modes = [tile.args if isinstance(tile.args, tuple) else (tile.args,) for tile in picture.tile]
    if picture.format == "PPM":
        return any(isinstance(arg, int) and arg > 255 for args in modes for arg in args)
    return any(";16" in str(args[0]) for args in modes)


def _by_tifffile(path: Path, content: Path | bytes) -> Image.Image:
    try:
        with tifffile.TiffFile(_file(content)) as tiff:
            if len(tiff.pages) > 1:
                raise _several(path)
            page = tiff.pages[0]
            if page.dtype not in (np.uint8, np.bool_):
                raise Misuse(f"{path}: {DEEP}")
            if page.size > MOST_VALUES:
                raise Misuse(f"{path}: {HUGE}")
            pixels = page.asarray()
            if page.axes == "SYX":
                pixels = np.moveaxis(pixels, 0, 2)
        return Image.fromarray(np.ascontiguousarray(pixels))
    except Misuse:
        raise
    except Exception as error:  # decoders raise anything on damaged bytes
        raise _unreadable(path, str(error)) from None


def _several(path: Path) -> Misuse:
    return Misuse(f"{path}: holds several pictures; save each as a file of its own")


def _unreadable(path: Path, reason: str) -> Misuse:
    return Misuse(f"{path}: cannot be read as an image ({reason}); copy or save it again")
