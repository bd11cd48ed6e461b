"""CHAOS: abdominal CT of healthy donors with their livers, DICOM slices.

A. E. Kavur et al., Medical Image Analysis 69:101950, 2021.
"""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2search.config import DataConfig, Misuse
from r2search.data.readers.entries import find_root, require_none
from r2search.data.readers.images import list_images, read_mask
from r2search.data.readers.volumes import (
    DICOM,
    SOFT_TISSUE,
    Volume,
    Window,
    is_ct,
    list_volumes,
    read_dicom,
    read_volumes,
    samples_of,
)
from r2search.data.samples import Sample

EXPECTED = "the CT of CHAOS (CT/1/DICOM_anon/*.dcm, CT/1/Ground/*.png, ...)"
SLICES, MASKS = "DICOM_anon", "Ground"
UNEVEN = 0.5  # of the distance from slice to slice: a gap that is further off lacks a slice


def chaos(root: Path | None, config: DataConfig) -> list[Sample]:
    """The slices of all volumes, in the order of their file names; the subject is the folder, `3`.

    `root` holds CT/, or is that folder or a volume's own. Slices stand as they are stored and are
    shown by `config.window` or as soft tissue. Their masks follow in the order of file names, too.
    """
    root = find_root(root, lambda folder: bool(_folders(folder)), EXPECTED)
    read = partial(_read, root, config)
    return read_volumes({path.absolute().name: path for path in _folders(root)}, read, root, [])


def window(root: Path, config: DataConfig) -> Window:
    """How the volumes are shown, whatever lies in `root`."""
    return config.window or SOFT_TISSUE


def read_series(root: Path, config: DataConfig, folder: Path) -> tuple[Volume, NDArray[np.uint8]]:
    """A volume in Hounsfield units and its mask of class indices, both (S, H, W).

    Misuse lists the files that are wrong, by their place in `root`, or says that slices are
    missing, double or of several series.
    """
    paths = list_volumes(folder / SLICES, DICOM)
    mask_paths = list_images(folder / MASKS)
    if len(paths) < 2 or len(paths) != len(mask_paths):
        raise Misuse(
            f"{folder}: has {len(paths)} slices in {SLICES} and {len(mask_paths)} masks in "
            f"{MASKS}; add what is missing: two or more slices, and a mask for each"
        )
    slices, problems = list[_Slice](), list[str]()
    for path, mask_path in zip(paths, mask_paths, strict=True):
        try:
            slices.append(_read_slice(path, mask_path, config.labels))
        except Misuse as error:
            problems.append(str(error))
    require_none(problems, root)
    if len({(one.values.shape, one.spacing, one.normal) for one in slices}) > 1:
        raise Misuse(
            f"{folder / SLICES}: the slices differ in size, PixelSpacing or orientation; keep "
            "those of one series"
        )
    between = _distance(paths, [one.position for one in slices])
    volume = Volume(np.stack([one.values for one in slices]), (between, *slices[0].spacing))
    return volume, np.stack([one.mask for one in slices])


class _Slice(NamedTuple):
    values: NDArray[np.float32]  # (H, W), Hounsfield units
    mask: NDArray[np.uint8]  # (H, W)
    spacing: tuple[float, float]  # mm down and across
    normal: tuple[float, ...]  # direction that the slice faces
    position: float  # mm along it


def _folders(root: Path) -> list[Path]:
    """The folders of volumes: below CT/, or below `root`, or `root` itself."""
    if (root / SLICES).is_dir():
        return [root]
    folder = root / "CT" if (root / "CT").is_dir() else root
    return sorted(path for path in folder.iterdir() if (path / SLICES).is_dir())


def _read(root: Path, config: DataConfig, subject: str, folder: Path) -> list[Sample]:
    volume, mask = read_series(root, config, folder)
    return samples_of(subject, volume, mask, window(root, config), config.max_side)


def _read_slice(path: Path, mask_path: Path, labels: tuple[int, ...]) -> _Slice:
    tags, values = read_dicom(path)
    if not is_ct(tags):
        raise Misuse(f"{path}: is {tags.get('Modality')}; point --data to the CT of CHAOS")
    mask = read_mask(mask_path, labels, may_be_empty=True)
    if mask.shape != values.shape:
        (height, width), (slice_height, slice_width) = mask.shape, values.shape
        raise Misuse(
            f"{mask_path}: is {width} x {height} pixels, its slice {path.name} is "
            f"{slice_width} x {slice_height}; save both at one size"
        )
    try:
        down, across = map(float, tags.PixelSpacing)
        directions = np.array(tags.ImageOrientationPatient, np.float64).reshape(2, 3)
        place = np.array(tags.ImagePositionPatient, np.float64).reshape(3)
    except (AttributeError, TypeError, ValueError):
        raise Misuse(
            f"{path}: does not say where it lies; export it again with PixelSpacing, "
            "ImageOrientationPatient and ImagePositionPatient"
        ) from None
    normal = np.cross(*directions)
    return _Slice(values, mask, (down, across), tuple(normal.round(3)), float(normal @ place))


def _distance(paths: list[Path], positions: list[float]) -> float:
    """Millimetres from slice to slice; Misuse names the first place where they are not even."""
    order = np.argsort(positions)
    gaps = np.diff(np.array(positions)[order])
    usual = float(np.median(gaps))
    for before, after, gap in zip(order[:-1], order[1:], gaps, strict=True):
        if gap == 0 or abs(gap - usual) > UNEVEN * usual:
            raise Misuse(
                f"{paths[after]}: lies {gap:g} mm from {paths[before].name}, and slices elsewhere "
                f"are {usual:g} mm apart; add the missing slices, or remove a double one"
            )
    return usual
