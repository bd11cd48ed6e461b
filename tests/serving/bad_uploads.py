"""Uploads that are refused: how each is made, the status, and what the answer says."""

import gzip
import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image
from servers import encoded, noise

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
UNKNOWN = "is not an image of a known kind"


def png_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that declares so many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(bytes(100_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )


def tiff_header(width: int, height: int) -> bytes:
    """A TIFF that only declares its size, packed by what Pillow does not know."""
    tags = [(256, width), (257, height), (258, 8), (259, 50000), (262, 1), (273, 8), (277, 1)]
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in [*tags, (279, 4)])
    return b"II*\0" + struct.pack("<IH", 8, len(tags) + 1) + body + bytes(4)


def deep_colour() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 65536, (40, 48, 3), np.uint16)
    return cv2.imencode(".png", pixels)[1].tobytes()


def frames(kind: str) -> bytes:
    others = [Image.fromarray(noise(seed=seed)) for seed in (1, 2)]
    return encoded(noise(), kind, save_all=True, append_images=others)


def see_through() -> bytes:
    return encoded(Image.new("RGBA", (48, 40), (1, 2, 3, 128)))


Bad = dict[str, tuple[Callable[[], bytes], int, str]]
BAD: Bad = {
    "nothing": (lambda: b"", 422, "is empty"),
    "text": (lambda: b"no image\n" * 99, 415, UNKNOWN),
    "a script": (lambda: b"<script>alert(1)</script>", 415, UNKNOWN),
    "SVG": (lambda: SVG, 415, UNKNOWN),
    "PostScript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415, UNKNOWN),
    "an archive": (lambda: gzip.compress(encoded(noise())), 415, UNKNOWN),
    "half a PNG": (lambda: encoded(noise(400, 400))[:9000], 422, "cannot be read as an image"),
    "half a JPEG": (
        lambda: encoded(noise(400, 400), "JPEG")[:9000],
        422,
        "cannot be read as an image",
    ),
    "no PNG": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(500), 422, "cannot be read as an image"),
    "no TIFF": (lambda: b"II*\0" + bytes(500), 422, "cannot be read as an image"),
    "no DICOM": (lambda: bytes(128) + b"DICM" + bytes(500), 422, "is grey, and the network was"),
    "a bomb": (lambda: png_header(60_000, 60_000), 413, "has far too many pixels"),
    "a small bomb": (lambda: png_header(6_000, 6_000), 413, "is 6000 x 6000 pixels; at most 25"),
    "a TIFF bomb": (lambda: tiff_header(60_000, 60_000), 413, "too many pixels"),
    "30,000 wide": (lambda: encoded(noise(2, 30_000)), 413, "is 30000 x 2 pixels; at most 25 m"),
    "16 bit": (lambda: encoded(noise()[:, :, 0].astype(np.uint16) * 257), 422, "more than 8 bits"),
    "16-bit colour": (deep_colour, 422, "more than 8 bits"),
    "CMYK": (lambda: encoded(Image.new("CMYK", (48, 40)), "JPEG"), 422, "is CMYK; save it as"),
    "an animated GIF": (lambda: frames("GIF"), 422, "holds several pictures"),
    "an animated PNG": (lambda: frames("PNG"), 422, "holds several pictures"),
    "an animated WebP": (lambda: frames("WEBP"), 422, "holds several pictures"),
    "pages": (lambda: frames("TIFF"), 422, "holds several pictures"),
    "transparent": (see_through, 422, "has transparent pixels"),
    "grey": (lambda: encoded(noise()[:, :, 0]), 422, "is grey where RGB is expected"),
    "too many bytes": (lambda: encoded(noise()) + bytes(20_000_000), 413, "is larger than 20 MB"),
}
