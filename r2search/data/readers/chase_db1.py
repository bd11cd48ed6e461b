"""CHASE_DB1: retinal photographs of both eyes of 14 children, vessels drawn by two observers.

M. M. Fraz et al., IEEE Transactions on Biomedical Engineering 59(9):2538-2548, 2012.
"""

from pathlib import Path

from r2search.config import DataConfig
from r2search.data.readers.entries import Entry, by_name, find_root, missing, read_entries
from r2search.data.readers.fundus import field_of_view
from r2search.data.readers.images import list_images
from r2search.data.samples import Part, Sample

IMAGE = r"(Image_\d+[LR])"
EXPECTED = "CHASE_DB1 (Image_01L.jpg, Image_01L_1stHO.png, ...)"
FOV_DIR = "extra_fov_masks"  # not part of the archive: masks named as the images, when given

# Number of children: the first of validation, the first of test (architecture.md, decision 9).
SPLITS = {14: (9, 11), 10: (7, 9)}


def chase_db1(root: Path | None, config: DataConfig) -> list[Sample]:
    """All images of the flat official layout; the subject is the child, as in `01`.

    `mask` is the first observer's, `second_mask` the second's or None. The field of view comes
    from `extra_fov_masks/Image_01L.*` where that exists, else from `field_of_view`.
    """
    root = find_root(root, lambda folder: bool(_images(folder, [])), EXPECTED)
    problems: list[str] = []
    images = _images(root, problems)
    masks = by_name(list_images(root), f"{IMAGE}_1stHO", problems)
    seconds = by_name(list_images(root), f"{IMAGE}_2ndHO", problems)
    fovs = by_name(list_images(root / FOV_DIR), IMAGE, problems)
    problems += missing(images, masks, "mask {}_1stHO.png")
    problems += missing(masks, images, "image {}.jpg")
    problems += missing(seconds, images, "image {}.jpg")
    parts = usual_parts({_child(key) for key in images})
    entries = [
        Entry(
            id=key,
            subject=_child(key),
            image=path,
            mask=masks[key],
            fov=fovs.get(key),
            second_mask=seconds.get(key),
            part=parts.get(_child(key)),
        )
        for key, path in images.items()
        if key in masks
    ]
    return read_entries(entries, root, config, problems, field_of_view)


def _images(folder: Path, problems: list[str]) -> dict[str, Path]:
    return by_name(list_images(folder), IMAGE, problems)


def _child(key: str) -> str:
    return key.removeprefix("Image_")[:-1]


def usual_parts(children: set[str]) -> dict[str, Part]:
    """Children 01-08, 09-10, 11-14 of all; 01-06, 07-08, 09-10 of the first ten; else none."""
    if len(children) not in SPLITS or children != {f"{n:02}" for n in range(1, len(children) + 1)}:
        return {}
    first_val, first_test = SPLITS[len(children)]
    return {
        child: "train" if int(child) < first_val else "val" if int(child) < first_test else "test"
        for child in children
    }
