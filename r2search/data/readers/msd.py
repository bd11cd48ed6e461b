"""Medical Segmentation Decathlon: volumes of one task with the labels of its organs, as slices.

M. Antonelli et al., Nature Communications 13:4128, 2022.
"""

from collections.abc import Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from nibabel.nifti1 import Nifti1Header
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from r2search.config import DataConfig, Misuse
from r2search.data.readers.entries import by_stem, find_root
from r2search.data.readers.images import class_indices, name_of
from r2search.data.readers.volumes import (
    NIFTI,
    SOFT_TISSUE,
    Window,
    list_volumes,
    read_nifti,
    read_volumes,
    samples_of,
)
from r2search.data.samples import Sample

EXPECTED = "a task of the Medical Segmentation Decathlon (dataset.json, imagesTr/, labelsTr/)"
IMAGES, LABELS = "imagesTr", "labelsTr"
APART = 0.5  # voxels that a label may be off its image


class _Case(BaseModel):
    image: Path


class _Task(BaseModel):
    """What is used of dataset.json."""

    modality: dict[str, str]
    labels: dict[str, str] = {}
    training: tuple[_Case, ...] = ()


def msd(root: Path | None, config: DataConfig) -> list[Sample]:
    """The axial slices of all training volumes; the subject is the volume, as in `spleen_2`.

    Slices stand upright and run from the feet to the head, however they are stored; of several
    modalities the first is read. `config.labels` are label values, all others background; without
    them every label is foreground. CT is shown by `config.window` or as soft tissue, all else by
    the 0.5 and 99.5 percentiles of the volume. `imagesTs` has no labels and is left out.
    """
    root = find_root(root, _fits, EXPECTED)
    task, problems = _read_task(root), list[str]()
    images, labels = (
        by_stem(list_volumes(root / folder, NIFTI), root / folder, problems)
        for folder in (IMAGES, LABELS)
    )
    listed = [name_of(case.image) for case in task.training]
    for folder, files in ((IMAGES, images), (LABELS, labels)):
        problems += [
            f"{root / folder / name}.nii.gz: is missing; add it, or take {name} out of the task"
            for name in sorted({*listed, *images, *labels} - {*files})
        ]
    both = {name: path for name, path in images.items() if name in labels}
    read = partial(_read, labels, config, _window(task, config))
    samples = read_volumes(both, read, root, problems)
    _require_labels(samples, root, task, config)
    return samples


def window(root: Path, config: DataConfig) -> Window | None:
    """How volumes of this task are shown: by Hounsfield units if they are CT, else by contrast."""
    return _window(_read_task(find_root(root, _fits, EXPECTED)), config)


def _window(task: _Task, config: DataConfig) -> Window | None:
    return (config.window or SOFT_TISSUE) if task.modality["0"].upper() == "CT" else None


def _fits(root: Path) -> bool:
    return (root / "dataset.json").is_file() and all((root / d).is_dir() for d in (IMAGES, LABELS))


def _read_task(root: Path) -> _Task:
    path = root / "dataset.json"
    try:
        task = _Task.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise Misuse(f"{path}: {where}: {first['msg']}; download the task again") from None
    if "0" not in task.modality:
        raise Misuse(f'{path}: modality: names none; write {{"0": "CT"}}, or what else it is')
    return task


def _read(
    labels: Mapping[str, Path], config: DataConfig, shown: Window | None, name: str, path: Path
) -> list[Sample]:
    label, label_header = read_nifti(labels[name])
    mask = _classes(labels[name], label.values, config.labels)
    volume, header = read_nifti(path)
    _require_alike(labels[name], label_header, header)
    return samples_of(name, volume, mask, shown, config.max_side)


def _classes(path: Path, values: NDArray[Any], labels: tuple[int, ...]) -> NDArray[np.uint8]:
    """Class indices of label values: their places in `labels`, or 1 for all above 0."""
    if values.dtype.kind == "f" and not np.array_equal(values, np.rint(values)):
        raise Misuse(f"{path}: has values that are no whole numbers; save the labels, not an image")
    return class_indices(values, labels) if labels else np.asarray(values > 0, np.uint8)


def _require_alike(path: Path, label: Nifti1Header, image: Nifti1Header) -> None:
    """Misuse unless the label has its image's voxels, in its image's place."""
    shape, expected = (header.get_data_shape() for header in (label, image))
    if shape[:3] != expected[:3] or np.prod(shape[3:]) != 1:
        raise Misuse(
            f"{path}: is {' x '.join(map(str, shape))} voxels, its image "
            f"{' x '.join(map(str, expected[:3]))}; save both in one grid"
        )
    corners = np.array(list(product(*((0, size - 1) for size in shape[:3]))))
    to_image = np.linalg.inv(image.get_best_affine()) @ label.get_best_affine()
    apart = float(np.abs(apply_affine(to_image, corners) - corners).max())
    if apart > APART:
        raise Misuse(
            f"{path}: lies up to {apart:.1f} voxels away from its image, by their affines; save "
            "both in one grid"
        )


def _require_labels(samples: list[Sample], root: Path, task: _Task, config: DataConfig) -> None:
    """Misuse for a label that no volume has: there is nothing to learn of it."""
    for index, label in enumerate(config.labels or ("above 0",), start=1):
        if not any(index in sample.mask for sample in samples):
            named = ", ".join(f"{value} {name}" for value, name in task.labels.items())
            raise Misuse(
                f"{root}: no voxel of {len(samples)} slices has the label {label}; dataset.json "
                f"names {named or 'no labels'}; choose from these by data.labels"
            )
