"""What predicting writes of an image, whole or not at all, and the list of what is written."""

import json
import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from nibabel.nifti1 import Nifti1Header
from numpy.typing import NDArray
from PIL import Image

from r2search.bundle import Prediction
from r2search.data.archives import require_space
from r2search.data.readers.large import LargeTiff
from r2search.data.readers.volumes import write_nifti_mask
from r2search.report.pictures import line_width, overlay

RECORD = "predictions.jsonl"  # of a folder of results
DEPTH = 65535  # of a probability of 1 in a 16-bit file
DRAWN = 1024  # rows of a large overlay drawn at a time


class Record:
    """The list of a folder of results: one line an image, once all of its files are written.

    `by` says with which network and settings (plain values): an image is predicted again when it,
    they or its files have changed.
    """

    def __init__(self, folder: Path, by: dict[str, Any]) -> None:
        self._path, self._by = folder / RECORD, by
        self._past = {line["name"]: line for line in _lines(self._path)}

    def has(self, name: str, image: Path) -> bool:
        """Whether the results of this image are all there."""
        line = self._past.get(name, {})
        files: dict[str, int] = line.get("files", {})
        return bool(files) and line == self._line(name, image, files) and self._intact(files)

    def add(self, name: str, image: Path, files: dict[str, int]) -> None:
        """Write down that these files, with their sizes in bytes, are the results of an image."""
        line = json.dumps(self._line(name, image, files)) + "\n"
        with self._path.open("a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read() == b"\n" else "\n" + line  # the last one was cut short
            file.write(line.encode())

    def _line(self, name: str, image: Path, files: dict[str, int]) -> dict[str, Any]:
        found = image.stat()
        seen = {"bytes": found.st_size, "modified_ns": found.st_mtime_ns}
        return {"name": name, "image": str(image.resolve()), **seen, **self._by, "files": files}

    def _intact(self, files: dict[str, int]) -> bool:
        paths = {self._path.parent / name: size for name, size in files.items()}
        return all(path.is_file() and path.stat().st_size == size for path, size in paths.items())


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a record; a damaged one, as a killed process leaves it, is passed over."""
    for text in path.read_text("utf-8", "replace").splitlines() if path.is_file() else ():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and {"name", "files"} <= line.keys():
            yield line


@contextmanager
def whole(out_dir: Path) -> Iterator[tuple[Path, dict[str, int]]]:
    """A folder to write results into, which then come to `out_dir`; all of them, or none.

    The mapping has their names and sizes, once that is done.
    """
    files: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix=".predicting-", dir=out_dir) as name:
        yield Path(name), files
        for path in sorted(Path(name).iterdir()):
            files[path.name] = path.stat().st_size
            os.replace(path, out_dir / path.name)


def write_prediction(
    out_dir: Path,
    name: str,
    image: NDArray[np.uint8],
    prediction: Prediction,
    labels: tuple[int, ...],
    files: Collection[str] = ("mask", "probability", "overlay"),
) -> None:
    """NAME_mask.png, NAME_probability.png (0..65535 for 0..1) and NAME_overlay.png; or fewer.

    The mask is 0 and 255. Of several classes it has their `labels`, as the masks trained on, and
    each class K has its NAME_probability_classK.png.
    """
    classes = len(prediction.probability)
    values = _values(classes, labels)
    if "mask" in files:
        Image.fromarray(values[prediction.mask]).save(out_dir / f"{name}_mask.png")
    wanted = prediction.probability if "probability" in files else ()
    for kind, probability in zip(_kinds(classes), wanted, strict=False):
        Image.fromarray(_deep(probability)).save(out_dir / f"{name}_{kind}.png")
    if "overlay" in files:
        Image.fromarray(overlay(image, prediction.mask)).save(out_dir / f"{name}_overlay.png")


def write_volume(
    out_dir: Path,
    name: str,
    masks: Sequence[NDArray[np.uint8]],
    labels: tuple[int, ...],
    header: Nifti1Header,
) -> None:
    """NAME_mask.nii.gz of the class indices of all slices, in the grid that `header` says."""
    values = np.array((0, *(labels or (1,))), np.uint8)
    write_nifti_mask(out_dir / f"{name}_mask.nii.gz", values[np.stack(masks)], header)


def write_large(
    out_dir: Path,
    name: str,
    image: LargeTiff,
    predictions: Iterable[Prediction],
    labels: tuple[int, ...],
    reach: Callable[[float], None],
) -> None:
    """As `write_prediction`, but TIFF files, and never with all of the image in memory.

    `predictions` are of its rows from top to bottom; `reach` is told the share that is done.
    They are not packed; OSError when the disk has no room for them.
    """
    height, width, _ = image.shape
    classes = max(1, len(labels))
    require_space(out_dir, height * width * (4 + 2 * classes))
    values = _values(classes, labels)
    indices = np.zeros(256, np.uint8)
    indices[values] = np.arange(len(values))
    mask = _large_file(out_dir / f"{name}_mask.tif", (height, width), np.uint8)
    deep = [
        _large_file(out_dir / f"{name}_{kind}.tif", (height, width), np.uint16)
        for kind in _kinds(classes)
    ]
    top = 0
    for part in predictions:
        rows = slice(top, top + part.mask.shape[0])
        mask[rows] = values[part.mask]
        for file, probability in zip(deep, part.probability, strict=True):
            file[rows] = _deep(probability)
        top = rows.stop
        reach(top / height)
    drawn = _large_file(out_dir / f"{name}_overlay.tif", (height, width, 3), np.uint8)
    line = line_width((height, width))
    for top in range(0, height, DRAWN):
        first, last = max(0, top - line), min(height, top + DRAWN + line)
        picture = overlay(image[first:last], indices[mask[first:last]], line)
        drawn[top : top + DRAWN] = picture[top - first :][:DRAWN]
    for written in (mask, *deep, drawn):
        written.flush()


def _large_file(path: Path, shape: tuple[int, ...], dtype: type) -> np.memmap[Any, Any]:
    """A new TIFF file whose pixels are written as those of an array."""
    colours = "rgb" if len(shape) == 3 else "minisblack"
    file: np.memmap[Any, Any] = tifffile.memmap(
        path, shape=shape, dtype=dtype, photometric=colours, bigtiff=True
    )
    return file


def _values(classes: int, labels: tuple[int, ...]) -> NDArray[np.uint8]:
    """What stands in a mask for each class index; `classes` are those of the foreground."""
    return np.array((0, *labels) if classes > 1 else (0, 255), np.uint8)


def _kinds(classes: int) -> list[str]:
    """The names of the files of probabilities."""
    several = [f"probability_class{index}" for index in range(1, classes + 1)]
    return several if classes > 1 else ["probability"]


def _deep(probability: NDArray[np.float32]) -> NDArray[np.uint16]:
    scaled = probability * np.float32(DEPTH)
    return np.round(scaled, out=scaled).astype(np.uint16)
