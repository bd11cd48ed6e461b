"""ISIC challenges of 2016, 2017 and 2018, lesion segmentation: photographs of skin.

N. C. F. Codella et al., arXiv:1710.05006, 2017, and arXiv:1902.03368, 2018.
"""

from pathlib import Path

from r2search.config import DataConfig, Misuse
from r2search.data.readers.entries import Entry, by_name, find_root, missing, read_entries
from r2search.data.readers.images import list_images
from r2search.data.samples import Part, Sample

# The folders of a part: images, masks.
FOLDERS = {
    "2016": ("ISBI2016_ISIC_Part1_{}_Data", "ISBI2016_ISIC_Part1_{}_GroundTruth"),
    "2017": ("ISIC-2017_{}_Data", "ISIC-2017_{}_Part1_GroundTruth"),
    "2018": ("ISIC2018_Task1-2_{}_Input", "ISIC2018_Task1_{}_GroundTruth"),
}
PARTS: dict[str, Part] = {
    "Training": "train",
    "Validation": "val",
    "Test": "test",
    "Test_v2": "test",  # of 2017
}
IMAGE = r"(ISIC_\d+)"  # not ISIC_0000000_superpixels.png
MASK = r"(ISIC_\d+)_[Ss]egmentation"  # 2016 has the capital
EXPECTED = (
    "ISIC 2016, 2017 or 2018 (ISIC-2017_Training_Data/, ISIC-2017_Training_Part1_GroundTruth/, ...)"
)


def isic(root: Path | None, config: DataConfig) -> list[Sample]:
    """All images with a mask of one year, in their official parts; each is a subject.

    A validation or test part without masks, as it was while the challenge ran, is left out. An
    image that lies in two parts is a problem.
    """
    root = find_root(root, lambda folder: bool(_years(folder)), EXPECTED)
    years = _years(root)
    if len(years) > 1:
        raise Misuse(
            f"{root}: holds ISIC of {' and '.join(years)}, and one year is read at a time; move "
            "each into a folder of its own and point --data to one"
        )
    problems: list[str] = []
    entries: list[Entry] = []
    for name, part in PARTS.items():
        images_dir, masks_dir = (root / folder.format(name) for folder in FOLDERS[years[0]])
        if part == "train" or _files(masks_dir):
            entries += _entries(images_dir, masks_dir, part, problems)
    problems += _in_two_parts(entries)
    return read_entries(entries, root, config, problems)


def _years(folder: Path) -> list[str]:
    """The challenges of which `folder` holds images."""
    return [
        year
        for year, (images, _) in FOLDERS.items()
        if any((folder / images.format(name)).is_dir() for name in PARTS)
    ]


def _files(folder: Path) -> list[Path]:
    """The image files of a folder, or of the one of its name in it: so do some unpack archives."""
    inner = folder / folder.name
    return list_images(inner if inner.is_dir() else folder)


def _entries(images_dir: Path, masks_dir: Path, part: Part, problems: list[str]) -> list[Entry]:
    images = by_name(_files(images_dir), IMAGE, problems)
    masks = by_name(_files(masks_dir), MASK, problems)
    problems += missing(images, masks, f"mask {masks_dir.name}/{{}}_segmentation.png")
    problems += missing(masks, images, f"image {images_dir.name}/{{}}.jpg")
    return [
        Entry(id=name, subject=name, image=path, mask=masks[name], part=part)
        for name, path in images.items()
        if name in masks
    ]


def _in_two_parts(entries: list[Entry]) -> list[str]:
    first: dict[str, Entry] = {}
    return [
        f"{entry.image}: is in {entry.part}, and in {earlier.part} as {earlier.image}; remove one"
        for entry in entries
        if (earlier := first.setdefault(entry.id, entry)) is not entry
    ]
