"""HRF: retinal photographs of 45 people: healthy, with glaucoma, with diabetic retinopathy.

A. Budai et al., International Journal of Biomedical Imaging 2013:154860, 2013.
"""

from pathlib import Path

from r2search.config import DataConfig
from r2search.data.readers.entries import Entry, by_name, find_root, missing, read_entries
from r2search.data.readers.fundus import field_of_view
from r2search.data.readers.images import list_images
from r2search.data.samples import Sample

IMAGE = r"(\d+_(?:dr|g|h))"  # diabetic retinopathy, glaucoma, healthy
EXPECTED = "HRF (images/01_dr.JPG, manual1/01_dr.tif, mask/01_dr_mask.tif, ...)"


def hrf(root: Path | None, config: DataConfig) -> list[Sample]:
    """All images; each is a subject of its own, named as the file, as in `01_dr`.

    `mask/` has the field of view; without that folder it is from `field_of_view`.
    """
    root = find_root(root, _fits, EXPECTED)
    problems: list[str] = []
    images, masks, fovs = (
        by_name(list_images(root / name), pattern, problems)
        for name, pattern in (("images", IMAGE), ("manual1", IMAGE), ("mask", f"{IMAGE}_mask"))
    )
    problems += missing(images, masks, "mask manual1/{}.tif")
    if list_images(root / "mask"):
        problems += missing(images, fovs, "field of view mask/{}_mask.tif")
    for others in (masks, fovs):
        problems += missing(others, images, "image images/{}.JPG")
    entries = [
        Entry(id=name, subject=name, image=path, mask=masks[name], fov=fovs.get(name))
        for name, path in images.items()
        if name in masks
    ]
    return read_entries(entries, root, config, problems, field_of_view)


def _fits(folder: Path) -> bool:
    return all(by_name(list_images(folder / name), IMAGE, []) for name in ("images", "manual1"))
