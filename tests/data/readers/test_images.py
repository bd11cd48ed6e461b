"""Image files of every kind, sound and not."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from r2search.config import Misuse
from r2search.data.readers.images import list_images, name_of, read_image, read_mask

COLOURS = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
STROKE = np.zeros((20, 24), np.uint8)
STROKE[5:15, 8:11] = 1


def save(path: Path, pixels: NDArray[np.generic], mode: str | None = None, **options: Any) -> Path:
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


def write_png16(path: Path, pixels: NDArray[np.uint16]) -> Path:
    """A 16-bit PNG with 1 to 4 channels, byte by byte: Pillow writes none with colours."""
    height, width, channels = pixels.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
    )
    return path


def test_lossless_formats_give_the_pixels_that_were_saved(tmp_path: Path) -> None:
    for suffix in ("png", "tif", "tiff", "bmp", "ppm", "PNG"):
        assert (read_image(save(tmp_path / f"a.{suffix}", COLOURS), "rgb") == COLOURS).all()
    lzw = save(tmp_path / "lzw.tif", COLOURS, compression="tiff_lzw")
    assert (read_image(lzw, "rgb") == COLOURS).all()


def test_a_jpeg_is_close_to_what_was_saved(tmp_path: Path) -> None:
    flat = np.full((20, 24, 3), (200, 100, 50), np.uint8)
    image = read_image(save(tmp_path / "a.jpg", flat), "rgb")
    assert np.abs(image.astype(int) - flat).max() <= 4


@pytest.mark.parametrize("planar", [False, True])
def test_a_tiff_that_pillow_cannot_read_is_read_by_tifffile(tmp_path: Path, planar: bool) -> None:
    path = tmp_path / "a.tif"
    pixels = np.moveaxis(COLOURS, 2, 0) if planar else COLOURS
    config = "separate" if planar else "contig"
    tifffile.imwrite(path, pixels, photometric="rgb", compression="lerc", planarconfig=config)
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(path)
    assert (read_image(path, "rgb") == COLOURS).all()


def test_a_palette_becomes_colours(tmp_path: Path) -> None:
    few = np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(few).quantize(2).save(path)
    assert Image.open(path).mode == "P"
    assert (read_image(path, "rgb") == few).all()


def test_grey_is_one_channel_and_colours_become_luma(tmp_path: Path) -> None:
    red = np.full((3, 4, 3), (200, 0, 0), np.uint8)
    assert (read_image(save(tmp_path / "red.png", red), "grey") == 60).all()  # 0.299 * 200 = 59.8
    grey = read_image(save(tmp_path / "grey.png", COLOURS[..., 0]), "grey")
    assert grey.shape == (20, 24, 1)
    assert (grey[..., 0] == COLOURS[..., 0]).all()


def test_a_photograph_is_turned_as_its_exif_tag_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    path = save(tmp_path / "a.png", COLOURS, exif=exif)
    assert (read_image(path, "rgb") == np.rot90(COLOURS, -1)).all()


def test_a_grey_image_where_rgb_is_expected_is_refused_with_the_setting(tmp_path: Path) -> None:
    for mode in ("L", "1"):
        path = save(tmp_path / f"{mode}.png", COLOURS[..., 0], mode)
        with pytest.raises(Misuse, match=rf"{mode}.png: is grey .*--set data.channels=grey"):
            read_image(path, "rgb")


def test_an_alpha_channel_that_hides_nothing_is_left_out(tmp_path: Path) -> None:
    assert (read_image(save(tmp_path / "a.png", COLOURS, "RGBA"), "rgb") == COLOURS).all()
    grey = read_image(save(tmp_path / "b.png", COLOURS[..., 0], "LA"), "grey")
    assert (grey[..., 0] == COLOURS[..., 0]).all()
    mask = read_mask(save(tmp_path / "c.png", STROKE * 255, "RGBA"))
    assert (mask == STROKE).all()


def test_a_grey_image_with_alpha_is_as_any_grey_image(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match=r"a.png: is grey where RGB is expected"):
        read_image(save(tmp_path / "a.png", COLOURS, "LA"), "rgb")


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_one_transparent_pixel_is_refused(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(COLOURS).convert(mode)
    alpha = np.full(STROKE.shape, 255, np.uint8)
    alpha[3, 4] = 254
    picture.putalpha(Image.fromarray(alpha))
    picture.save(tmp_path / "a.png")
    for read in (lambda path: read_image(path, "rgb"), read_mask):
        with pytest.raises(Misuse, match=r"a.png: has transparent pixels; save it without"):
            read(tmp_path / "a.png")


def test_cmyk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match=r"a.jpg: is CMYK; save it as 8-bit RGB"):
        read_image(save(tmp_path / "a.jpg", COLOURS, "CMYK"), "rgb")


DEEP = np.random.default_rng(0).integers(0, 65536, (6, 7, 4), dtype=np.uint16)
DEEP_FILES: dict[str, Callable[[Path], object]] = {
    "grey.png": lambda path: write_png16(path, DEEP[..., :1]),
    "grey_alpha.png": lambda path: write_png16(path, DEEP[..., :2]),
    "rgb.png": lambda path: write_png16(path, DEEP[..., :3]),
    "rgba.png": lambda path: write_png16(path, DEEP),
    "grey.tif": lambda path: tifffile.imwrite(path, DEEP[..., 0]),
    "rgb.tif": lambda path: tifffile.imwrite(path, DEEP[..., :3]),
    "lzw.tif": lambda path: tifffile.imwrite(path, DEEP[..., :3], compression="lzw"),
    "planar.tif": lambda path: tifffile.imwrite(
        path, np.moveaxis(DEEP[..., :3], 2, 0), photometric="rgb", planarconfig="separate"
    ),
    "float.tif": lambda path: tifffile.imwrite(path, DEEP[..., 0].astype(np.float32)),
    "float_rgb.tif": lambda path: tifffile.imwrite(
        path, DEEP[..., :3].astype(np.float32), photometric="rgb"
    ),
    "grey.pgm": lambda path: path.write_bytes(b"P5 7 6 65535\n" + DEEP[..., 0].tobytes()),
    "rgb.ppm": lambda path: path.write_bytes(b"P6 7 6 4095\n" + DEEP[..., :3].tobytes()),
}


@pytest.mark.parametrize("channels", ["rgb", "grey"])
@pytest.mark.parametrize("name", DEEP_FILES)
def test_more_than_eight_bits_are_refused(tmp_path: Path, name: str, channels: str) -> None:
    # Pillow itself cuts the coloured ones down to 8 bits, or misreads them, without a word.
    DEEP_FILES[name](tmp_path / name)
    with pytest.raises(Misuse, match=rf"{name}: has more than 8 bits a value; rescale"):
        read_image(tmp_path / name, channels)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "gif"])
def test_a_truncated_file_is_named(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / f"a.{suffix}", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(Misuse, match=rf"a.{suffix}: cannot be read as an image \(.+\); copy"):
        read_image(path, "rgb")


@pytest.mark.parametrize("content", [b"", b"hello"])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    for name in ("a.png", "a.tif"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(Misuse, match=rf"{name}: cannot be read as an image"):
            read_image(tmp_path / name, "rgb")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match=r"no.png: is not a file"):
        read_image(tmp_path / "no.png", "rgb")


def test_a_file_with_several_pictures_is_refused(tmp_path: Path) -> None:
    pages = [Image.fromarray(COLOURS), Image.fromarray(COLOURS[::-1])]
    for name in ("a.tif", "a.gif"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
        with pytest.raises(Misuse, match=rf"{name}: holds several pictures"):
            read_image(tmp_path / name, "rgb")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(suffix=st.sampled_from(["png", "jpg", "tif", "gif", "bmp", "ppm"]), data=st.data())
def test_damaged_bytes_give_an_image_or_a_misuse(
    tmp_path: Path, suffix: str, data: st.DataObject
) -> None:
    path = save(tmp_path / f"a.{suffix}", COLOURS)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    try:
        image = read_image(path, "rgb")
    except Misuse:
        return
    assert image.dtype == np.uint8
    assert image.shape[2] == 3


MASK_FILES: dict[str, Callable[[Path], object]] = {
    "bits.png": lambda path: save(path, STROKE * 255, "1"),
    "bits.tif": lambda path: save(path, STROKE * 255, "1", compression="group4"),
    "bits.pbm": lambda path: save(path, STROKE * 255, "1"),
    "ones.png": lambda path: save(path, STROKE),
    "bright.png": lambda path: save(path, STROKE * 255),
    "sixty_three.png": lambda path: save(path, STROKE * 63),
    "palette.gif": lambda path: save(path, STROKE * 255),
    "rgb.png": lambda path: save(path, np.repeat(STROKE[..., None] * 255, 3, axis=2)),
    "deep.png": lambda path: write_png16(path, STROKE[..., None].astype(np.uint16) * 65535),
    "deep_ones.tif": lambda path: tifffile.imwrite(path, STROKE.astype(np.uint16)),
    "bool.tif": lambda path: tifffile.imwrite(path, STROKE.astype(bool), photometric="minisblack"),
    "float.tif": lambda path: tifffile.imwrite(path, STROKE.astype(np.float32)),
    "lzw.tif": lambda path: save(path, STROKE * 255, compression="tiff_lzw"),
}


@pytest.mark.parametrize("name", MASK_FILES)
def test_a_mask_is_read_whatever_its_other_value_is(tmp_path: Path, name: str) -> None:
    MASK_FILES[name](tmp_path / name)
    mask = read_mask(tmp_path / name)
    assert mask.dtype == np.uint8
    assert (mask == STROKE).all()


@settings(deadline=None)
@given(st.integers(1, 255))
def test_any_two_values_of_which_one_is_zero_make_a_mask(
    tmp_path_factory: pytest.TempPathFactory, value: int
) -> None:
    path = save(tmp_path_factory.getbasetemp() / "any.png", STROKE * np.uint8(value))
    assert (read_mask(path) == STROKE).all()


def test_a_mask_may_be_foreground_everywhere(tmp_path: Path) -> None:
    assert (read_mask(save(tmp_path / "a.png", np.full((3, 4), 255, np.uint8))) == 1).all()


def test_grey_levels_in_a_mask_are_refused_with_their_share(tmp_path: Path) -> None:
    soft = STROKE * 255
    soft[0, :12] = 128  # 12 of 480 pixels: 2.5 %
    with pytest.raises(Misuse, match=r"a.png: is not binary: 2.50% of .* between 0 and 255"):
        read_mask(save(tmp_path / "a.png", soft))


def test_an_empty_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match=r"a.png: is all empty"):
        read_mask(save(tmp_path / "a.png", STROKE * 0))


def test_a_mask_without_zero_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match=r"a.png: has the values 1 and 2; the background must be 0"):
        read_mask(save(tmp_path / "a.png", STROKE + 1))


def test_a_coloured_mask_is_refused(tmp_path: Path) -> None:
    red = np.zeros((20, 24, 3), np.uint8)
    red[..., 0] = STROKE * 255
    with pytest.raises(Misuse, match=r"a.png: is a colour picture; save the mask in black"):
        read_mask(save(tmp_path / "a.png", red))


def test_a_mask_may_be_empty_where_that_is_said(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", STROKE * 0)
    for labels in ((), (1,)):
        assert not read_mask(path, labels, may_be_empty=True).any()


def test_hidden_files_and_others_are_not_listed(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "._a.jpg", "notes.txt", "Thumbs.db", "c.ppm.GZ", "d.nii.gz"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.jpg", "b.PNG", "c.ppm.GZ"]


def test_a_folder_that_is_not_there_has_no_images(tmp_path: Path) -> None:
    assert list_images(tmp_path / "no") == []


@pytest.mark.parametrize(
    ("file", "name"),
    [("a.png", "a"), ("im0001.ah.ppm", "im0001.ah"), ("im0001.ah.ppm.gz", "im0001.ah")],
)
def test_the_name_of_a_file_is_without_its_suffix(file: str, name: str) -> None:
    assert name_of(Path("folder") / file) == name
