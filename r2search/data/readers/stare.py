"""STARE: 20 retinal photographs, vessels drawn by two observers.

A. Hoover, V. Kouznetsova, M. Goldbaum, IEEE Transactions on Medical Imaging 19(3):203-210, 2000.
"""

from pathlib import Path

from r2search.config import DataConfig
from r2search.data.readers.entries import Entry, by_name, find_root, missing, read_entries
from r2search.data.readers.fundus import field_of_view
from r2search.data.readers.images import list_images
from r2search.data.samples import Sample

IMAGE = r"(im\d{4})"
EXPECTED = "STARE (im0001.ppm, im0001.ah.ppm, ..., also with .gz, here or in sub-folders)"

# The project published some 400 images; vessels were drawn in these.
NUMBERS = "1 2 3 4 5 44 77 81 82 139 162 163 235 236 239 240 255 291 319 324"
DRAWN = {f"im{number:0>4}" for number in NUMBERS.split()}


def stare(root: Path | None, config: DataConfig) -> list[Sample]:
    """The images with vessels drawn, `.ppm` or `.ppm.gz`; each is a subject, named as the file.

    Images and masks may lie in one folder or in its sub-folders (stare-images/, labels-ah/,
    labels-vk/). `mask` is the first observer's (ah), `second_mask` the second's (vk) or None. The
    field of view is from `field_of_view`.
    """
    root = find_root(root, lambda folder: bool(by_name(_files(folder), IMAGE, [])), EXPECTED)
    problems: list[str] = []
    images, masks, seconds = (
        by_name(_files(root), pattern, problems)
        for pattern in (IMAGE, rf"{IMAGE}\.ah", rf"{IMAGE}\.vk")
    )
    wanted = {name: path for name, path in images.items() if name in {*DRAWN, *masks}}
    problems += missing(wanted, masks, "mask {}.ah.ppm")
    for others in (masks, seconds):
        problems += missing(others, images, "image {}.ppm")
    entries = [
        Entry(id=name, subject=name, image=path, mask=masks[name], second_mask=seconds.get(name))
        for name, path in wanted.items()
        if name in masks
    ]
    return read_entries(entries, root, config, problems, field_of_view)


def _files(root: Path) -> list[Path]:
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    return [path for folder in (root, *folders) for path in list_images(folder)]
