"""Data Science Bowl 2018 (BBBC038): microscope images of cell nuclei, each nucleus drawn.

J. C. Caicedo et al., Nature Methods 16:1247-1253, 2019.
"""

from pathlib import Path

from r2search.config import DataConfig
from r2search.data.readers.entries import Entry, find_root, read_entries
from r2search.data.readers.images import list_images
from r2search.data.samples import Sample

EXPECTED = "Data Science Bowl 2018 (stage1_train/ID/images/ID.png, stage1_train/ID/masks/*.png)"


def dsb2018(root: Path | None, config: DataConfig) -> list[Sample]:
    """All images of `stage1_train`, or of another such folder; each is a subject.

    The mask is the union of the image's nuclei.
    """
    root = find_root(root, lambda folder: any(map(_is_labelled, folder.iterdir())), EXPECTED)
    problems: list[str] = []
    entries = []
    for folder in sorted(path for path in root.iterdir() if _may_be_image(path)):
        images, masks = list_images(folder / "images"), list_images(folder / "masks")
        if len(images) != 1:
            wrong = f"has {len(images)} images in images/" if images else "has no image in images/"
            problems.append(f"{folder}: {wrong}; it needs one, {folder.name}.png")
        elif not masks:
            problems.append(f"{folder}: has no masks in masks/; add one a nucleus")
        else:
            entries.append(
                Entry(id=folder.name, subject=folder.name, image=images[0], mask=tuple(masks))
            )
    return read_entries(entries, root, config, problems)


def _is_labelled(folder: Path) -> bool:
    return (folder / "images").is_dir() and (folder / "masks").is_dir()


def _may_be_image(path: Path) -> bool:
    """Whether it is a folder, and not one that macOS puts into archives."""
    return path.is_dir() and not path.name.startswith((".", "__MACOSX"))
