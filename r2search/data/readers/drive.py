"""DRIVE: retinal photographs of 40 patients, vessels drawn by one observer or two.

J. Staal et al., IEEE Transactions on Medical Imaging 23(4):501-509, 2004.
"""

from pathlib import Path

from r2search.config import DataConfig
from r2search.data.readers.entries import Entry, by_name, find_root, missing, read_entries
from r2search.data.readers.fundus import field_of_view
from r2search.data.readers.images import list_images
from r2search.data.samples import Part, Sample

PARTS: dict[str, Part] = {"training": "train", "test": "test"}  # by folder
MASKS = "1st_manual"
IMAGE = r"(\d+)_(?:training|test)"
EXPECTED = "DRIVE (training/images/21_training.tif, training/1st_manual/21_manual1.gif, test/, ...)"


def drive(root: Path | None, config: DataConfig) -> list[Sample]:
    """All images with a mask, in their official parts; the subject is the number, as in `21`.

    `mask` is the first observer's, `second_mask` the second's of the test images. `mask/` has the
    field of view; without that folder it is from `field_of_view`. Where the archive holds the test
    masks back, the test images are left out.
    """
    root = find_root(root, _fits, EXPECTED)
    problems: list[str] = []
    entries: list[Entry] = []
    for name, part in PARTS.items():
        if part == "train" or list_images(root / name / MASKS):
            entries += _entries(root / name, part, problems)
    return read_entries(entries, root, config, problems, field_of_view)


def _fits(folder: Path) -> bool:
    return any(by_name(list_images(folder / name / "images"), IMAGE, []) for name in PARTS)


def _entries(folder: Path, part: Part, problems: list[str]) -> list[Entry]:
    images, masks, seconds, fovs = (
        by_name(list_images(folder / name), pattern, problems)
        for name, pattern in (
            ("images", IMAGE),
            (MASKS, r"(\d+)_manual1"),
            ("2nd_manual", r"(\d+)_manual2"),
            ("mask", rf"{IMAGE}_mask"),
        )
    )
    problems += missing(images, masks, f"mask {MASKS}/{{}}_manual1.gif")
    if list_images(folder / "mask"):
        problems += missing(images, fovs, f"field of view mask/{{}}_{folder.name}_mask.gif")
    for others in (masks, seconds, fovs):
        problems += missing(others, images, f"image images/{{}}_{folder.name}.tif")
    return [
        Entry(
            id=f"{number}_{folder.name}",
            subject=number,
            image=path,
            mask=masks[number],
            fov=fovs.get(number),
            second_mask=seconds.get(number),
            part=part,
        )
        for number, path in images.items()
        if number in masks
    ]
