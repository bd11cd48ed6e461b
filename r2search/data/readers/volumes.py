"""Volumes to pictures: NIfTI and DICOM files to grey levels, axial slices to samples."""

import gzip
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from nibabel.affines import voxel_sizes
from nibabel.nifti1 import Nifti1Header
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from numpy.typing import NDArray

from r2search.config import DataConfig, Misuse
from r2search.data.prepare import at_most, mask_at_most
from r2search.data.readers.entries import BadData, everything, require_none
from r2search.data.readers.images import read_image
from r2search.data.samples import Sample

Window = tuple[float, float]  # the values shown as black and as white

SOFT_TISSUE: Window = (-160.0, 240.0)  # Hounsfield units
CONTRAST = (0.5, 99.5)  # percentiles of what has no unit, such as MR
UPRIGHT = axcodes2ornt("LPS")  # axes towards the patient's left, back and head
CHUNK = 1 << 20  # bytes
MOST_RATIO = 1032  # of a file packed by gzip, which packs no better
NIFTI, DICOM = (".nii", ".nii.gz"), (".dcm",)


@dataclass(frozen=True, slots=True)
class Volume:
    """The axial slices of a volume, each upright: the front up, the patient's right on the left."""

    values: NDArray[Any]  # (S, H, W), real numbers; of CT Hounsfield units
    spacing: tuple[float, float, float]  # mm from slice to slice, down, across

    def pictures(self, window: Window | None) -> Iterator[NDArray[np.uint8]]:
        """The slices (H, W, 1) as grey levels; without a window, by the contrast of the volume."""
        shown = window or contrast(self.values)
        return (to_grey(values, shown) for values in self.values)


def to_grey(values: NDArray[Any], window: Window) -> NDArray[np.uint8]:
    """Values (H, W) as grey levels (H, W, 1), 0..255 over the window; what is no number is 0."""
    low, high = window
    share = np.nan_to_num((values.astype(np.float32) - low) / (high - low), nan=0.0)
    return np.ascontiguousarray(np.rint(share.clip(0, 1) * 255), np.uint8)[:, :, None]


def contrast(values: NDArray[Any]) -> Window:
    """A window over all but the extreme values, for what has no unit."""
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, CONTRAST) if finite.size else (0.0, 0.0)
    return float(low), float(high if high > low else low + 1)


def samples_of(
    subject: str, volume: Volume, mask: NDArray[np.uint8], window: Window | None, side: int | None
) -> list[Sample]:
    """One sample a slice, reduced to `side` pixels; slice 42 of `spleen_2` is `spleen_2_0042`.

    `mask` (S, H, W) has class indices; a slice may have none.
    """
    samples: list[Sample] = []
    for number, picture in enumerate(volume.pictures(window)):
        image = at_most(picture, side)
        _, down, across = volume.spacing
        height, width = image.shape[:2]
        samples.append(
            Sample(
                image=image,
                mask=np.ascontiguousarray(mask_at_most(mask[number], side)),
                fov=samples[0].fov if samples else everything(image),  # one for all: they are many
                subject=subject,
                id=f"{subject}_{number:04}",
                spacing=(down * (picture.shape[0] / height), across * (picture.shape[1] / width)),
            )
        )
    return samples


def read_volumes(
    volumes: Mapping[str, Path],
    read: Callable[[str, Path], list[Sample]],
    root: Path,
    problems: Iterable[str],
) -> list[Sample]:
    """The samples of all subjects, one volume in memory at a time.

    Raises BadData with `problems` and all that is wrong with the volumes: what `read` refuses, and
    one volume under two names.
    """
    found, samples = list(problems), list[Sample]()
    first: dict[str, Path] = {}
    for subject, path in volumes.items():
        try:
            own = read(subject, path)
        except BadData as error:
            found += error.problems
            continue
        except Misuse as error:
            found.append(str(error))
            continue
        digest = hashlib.sha256()
        for sample in own:
            digest.update(sample.image.data)
        earlier = first.setdefault(digest.hexdigest(), path)
        if earlier is not path:
            found.append(f"{path}: is the same volume as {earlier}; remove one")
        samples += own
    require_none(found, root, samples)
    return samples


def list_volumes(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The NIFTI or DICOM files of a folder, sorted; hidden ones (macOS writes ._*) are left out."""
    return sorted(
        path
        for path in folder.iterdir()
        if is_kind(path, suffixes) and not path.name.startswith(".") and path.is_file()
    )


def is_kind(path: Path, suffixes: tuple[str, ...]) -> bool:
    return path.name.lower().endswith(suffixes)


def read_nifti(path: Path) -> tuple[Volume, Nifti1Header]:
    """A .nii or .nii.gz file, of a 4-D one the first volume, as axial slices from feet to head.

    Misuse names a file that is damaged, incomplete or no volume of numbers in a known place.
    """
    try:
        with gzip.open(path) if is_kind(path, (".gz",)) else path.open("rb") as stream:
            magic = stream.read(8)[4:7]
            stream.seek(0)
            kind = nibabel.Nifti2Image if magic == b"n+2" else nibabel.Nifti1Image
            image = kind.from_stream(stream)
            _require_content(image, path)
            values = np.asarray(image.dataobj[(..., *[0] * (image.ndim - 3))])
            while stream.read(CHUNK):  # gzip has its checksum at the end
                pass
    except Exception as error:  # decoders raise anything on damaged bytes
        raise _unreadable(path, "NIfTI", error, "copy or download it again") from None
    if values.ndim != 3 or not values.size or values.dtype.kind not in "biuf":
        raise Misuse(
            f"{path}: expected a volume of numbers, found {values.dtype} of shape {values.shape}; "
            "save it as a 3-D image"
        )
    if not np.isfinite(image.affine).all() or np.linalg.matrix_rank(image.affine) < 4:
        raise Misuse(f"{path}: its affine gives no place in the body; save it with a valid one")
    if values.dtype.kind == "f":
        values = values.astype(np.float32, copy=False)
    turn = ornt_transform(io_orientation(image.affine), UPRIGHT)
    sizes = voxel_sizes(image.affine @ inv_ornt_aff(turn, values.shape))
    across, down, between = (float(size) for size in sizes)
    slices = apply_orientation(values, turn).transpose(2, 1, 0)
    return Volume(slices, (between, down, across)), image.header


def _require_content(image: nibabel.Nifti1Image, path: Path) -> None:
    """ValueError when a file cannot hold what its header announces: nothing is allocated for it."""
    announced = math.prod(image.shape) * image.get_data_dtype().itemsize
    if announced > path.stat().st_size * (MOST_RATIO if is_kind(path, (".gz",)) else 1):
        raise ValueError(f"it announces {announced:,} bytes and is too small for them")


def write_nifti_mask(path: Path, mask: NDArray[np.uint8], header: Nifti1Header) -> None:
    """Save label values (S, H, W) as `read_nifti` has slices, in the place that `header` says."""
    affine = header.get_best_affine()
    turn = ornt_transform(UPRIGHT, io_orientation(affine))
    image = nibabel.Nifti1Image(apply_orientation(mask.transpose(2, 1, 0), turn), affine, header)
    image.set_data_dtype(np.uint8)
    nibabel.save(image, path)


def read_dicom(path: Path) -> tuple[pydicom.Dataset, NDArray[np.float32]]:
    """The tags of one slice and its values (H, W), of CT in Hounsfield units.

    Misuse names a file that is damaged, incomplete or no grey slice, and CT without a scale.
    """
    try:
        tags = pydicom.dcmread(path)
        stored = tags.pixel_array
        kind, ct = tags.get("PhotometricInterpretation"), is_ct(tags)
        scale = [tags.get(name) for name in ("RescaleSlope", "RescaleIntercept")]
        slope, intercept = (None if value is None else float(value) for value in scale)
    except Exception as error:  # decoders raise anything on damaged bytes
        remedy = "copy or download it again, or save it uncompressed"
        raise _unreadable(path, "DICOM", error, remedy) from None
    if stored.ndim != 2 or kind != "MONOCHROME2":
        raise Misuse(
            f"{path}: expected one grey slice (MONOCHROME2), found {kind} of shape {stored.shape}; "
            "save the slices one by one in grey"
        )
    if slope is None or intercept is None:
        if ct:
            raise Misuse(
                f"{path}: has no RescaleSlope and RescaleIntercept, without which its values are "
                "no Hounsfield units; export it again with these tags"
            )
        slope, intercept = 1, 0
    return tags, stored.astype(np.float32) * slope + intercept


def is_ct(tags: pydicom.Dataset) -> bool:
    return bool(tags.get("Modality") == "CT")


def read_picture(path: Path, config: DataConfig) -> NDArray[np.uint8]:
    """An image file or one slice of DICOM, (H, W, C), as `config` reads images.

    CT is shown by `config.window` or as soft tissue, other DICOM by its contrast. Misuse as of
    `read_image` and `read_dicom`, and for a volume.
    """
    if is_kind(path, NIFTI):
        raise Misuse(
            f"{path}: is a volume, not a picture; predict it by `r2search predict BUNDLE {path}`"
        )
    if not is_kind(path, DICOM):
        return read_image(path, config.reading)
    require_grey(path, config)
    tags, values = read_dicom(path)
    window = (config.window or SOFT_TISSUE) if is_ct(tags) else contrast(values)
    return to_grey(values, window)


def require_grey(path: Path, config: DataConfig) -> None:
    if config.reading != "grey":
        raise Misuse(
            f"{path}: is grey, and the network was trained on colours; choose a network that was "
            "trained with data.channels=grey"
        )


def _unreadable(path: Path, kind: str, error: Exception, remedy: str) -> Misuse:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return Misuse(f"{path}: cannot be read as {kind} ({reason}); {remedy}")
