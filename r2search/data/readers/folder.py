"""A person's own images: images/ and masks/, and fov/ if only a part counts; or a manifest."""

from pathlib import Path

from r2search.config import DataConfig, Misuse
from r2search.data.readers.entries import Entry, by_stem, find_root, read_entries
from r2search.data.readers.images import SUFFIXES, images_below
from r2search.data.readers.manifest import MANIFEST, read_manifest
from r2search.data.samples import Sample

EXPECTED = f"images/ with pictures and masks/ with their masks, or {MANIFEST}"
MASK_SUFFIXES = ("_mask", "_segmentation", "_label")
FOV_SUFFIXES = ("_fov", "_mask")


def folder(root: Path | None, config: DataConfig) -> list[Sample]:
    """Pairs of images/NAME.* and masks/NAME.*, in any common image format.

    A mask may also be called NAME_mask, NAME_segmentation or NAME_label. Images in sub-folders
    (images/SUBJECT/NAME.png, masks/SUBJECT/NAME.png) are of that subject; others are a subject
    each. Without fov/ all of an image is scored; with it, every image needs its field of view.
    Where there is a manifest.csv, it says all this instead: see `read_manifest`.
    """
    root = find_root(root, _fits, EXPECTED)
    problems: list[str] = []
    if (root / MANIFEST).is_file():
        entries = read_manifest(root / MANIFEST, config.split, problems)
    else:
        entries = _pairs(root, problems)
    ids: dict[str, Path] = {}
    for entry in entries:
        if ids.setdefault(entry.id, entry.image) is not entry.image:
            problems.append(f"{entry.image}: gets the id of {ids[entry.id]}; rename one")
    return read_entries(entries, root, config, problems)


def _fits(root: Path) -> bool:
    pairs = (root / "images").is_dir() and (root / "masks").is_dir()
    return pairs or (root / MANIFEST).is_file()


def _pairs(root: Path, problems: list[str]) -> list[Entry]:
    images = by_stem(images_below(root / "images"), root / "images", problems)
    if not images:
        raise Misuse(f"{root / 'images'}: holds no images; known: {', '.join(sorted(SUFFIXES))}")
    masks = _partners("mask", root / "masks", MASK_SUFFIXES, images, problems)
    has_fov = (root / "fov").is_dir()
    fovs = _partners("fov", root / "fov", FOV_SUFFIXES, images, problems) if has_fov else {}
    return [
        Entry(
            id=stem.replace("/", "_"),
            subject=stem.split("/")[0],
            image=path,
            mask=masks[stem],
            fov=fovs.get(stem),
        )
        for stem, path in images.items()
        if stem in masks
    ]


def _partners(
    kind: str,
    folder: Path,
    suffixes: tuple[str, ...],
    images: dict[str, Path],
    problems: list[str],
) -> dict[str, Path]:
    """The file of each image in masks/ or fov/; a file without image, or the reverse, is a problem.

    Of two images that fit, the one of exactly that name has the file.
    """
    partners: dict[str, Path] = {}
    for stem, path in by_stem(images_below(folder), folder, problems).items():
        bare = (stem.removesuffix(suffix) for suffix in suffixes)
        image = next((name for name in (stem, *bare) if name in images), None)
        if image is None:
            problems.append(f"{path}: has no image in images/; add that, or remove the {kind}")
        elif partners.setdefault(image, path) is not path:
            problems.append(
                f"{path}: {images[image].name} already has the {kind} {partners[image].name}; "
                "remove one"
            )
    problems += [
        f"{path}: has no {kind}; add {folder.name}/{stem}.png, or remove the image"
        for stem, path in images.items()
        if stem not in partners
    ]
    return partners
