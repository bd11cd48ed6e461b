"""CHASE_DB1: retinal photographs of both eyes of 14 children, vessels drawn by two observers.

M. M. Fraz et al., IEEE Transactions on Biomedical Engineering 59(9):2538-2548, 2012.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from r2search.config import DataConfig
from r2search.data.readers.entries import Entry, by_stem, find_root, read_entries
from r2search.data.readers.images import list_images
from r2search.data.samples import Part, Sample

NAME = re.compile(r"Image_(?P<child>\d+)[LR](?P<observer>_1stHO|_2ndHO)?")
EXPECTED = "CHASE_DB1 (Image_01L.jpg, Image_01L_1stHO.png, ...)"
FOV_DIR = "extra_fov_masks"  # not part of the archive: masks named as the images, when given
RIM = 0.15  # of the retina's brightness: the border with its JPEG noise is darker

# Number of children: the first of validation, the first of test (architecture.md, decision 9).
SPLITS = {14: (9, 11), 10: (7, 9)}


def chase_db1(root: Path | None, config: DataConfig) -> list[Sample]:
    """All images of the flat official layout; the subject is the child, as in `01`.

    `mask` is the first observer's, `second_mask` the second's or None. The field of view comes
    from `extra_fov_masks/Image_01L.*` where that exists, else from `field_of_view`.
    """
    root = find_root(root, lambda folder: any(map(_match, list_images(folder))), EXPECTED)
    problems: list[str] = []
    files = by_stem(filter(_match, list_images(root)), root, problems)
    fov_dir = root / FOV_DIR
    fovs = by_stem(list_images(fov_dir), fov_dir, problems) if fov_dir.is_dir() else {}
    entries = []
    for stem, path in files.items():
        match = _match(path)
        assert match
        if match["observer"]:
            image = stem.removesuffix(match["observer"])
            if image not in files:
                problems.append(f"{path}: its image {image}.jpg is missing; add it")
        elif f"{stem}_1stHO" not in files:
            problems.append(f"{path}: its mask {stem}_1stHO.png is missing; add it")
        else:
            entries.append(
                Entry(
                    id=stem,
                    subject=match["child"],
                    image=path,
                    mask=files[f"{stem}_1stHO"],
                    fov=fovs.get(stem),
                    second_mask=files.get(f"{stem}_2ndHO"),
                )
            )
    parts = usual_parts(entry.subject for entry in entries)
    entries = [replace(entry, part=parts.get(entry.subject)) for entry in entries]
    return read_entries(entries, root, config, problems, field_of_view)


def _match(path: Path) -> re.Match[str] | None:
    return NAME.fullmatch(path.stem)


def field_of_view(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The lit disc of a fundus photograph, (H, W): the largest bright region, its holes filled.

    Bright is what exceeds RIM of the upper quartile of brightness (the largest channel), so that
    a darker exposure gives the same disc. An image without a bright region is all inside.
    """
    brightness = image.max(axis=2)
    regions, num_regions = ndimage.label(brightness > RIM * np.percentile(brightness, 75))
    if num_regions == 0:
        return np.ones(brightness.shape, dtype=np.bool_)
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0  # the dark
    return np.asarray(ndimage.binary_fill_holes(regions == sizes.argmax()), dtype=np.bool_)


def usual_parts(children: Iterable[str]) -> dict[str, Part]:
    """Children 01-08, 09-10, 11-14 of all; 01-06, 07-08, 09-10 of the first ten; else none."""
    numbers = set(children)
    if len(numbers) not in SPLITS or numbers != {f"{n:02}" for n in range(1, len(numbers) + 1)}:
        return {}
    first_val, first_test = SPLITS[len(numbers)]
    return {
        child: "train" if int(child) < first_val else "val" if int(child) < first_test else "test"
        for child in numbers
    }
