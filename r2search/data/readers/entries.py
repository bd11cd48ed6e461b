"""The files of each sample, read and checked together; all problems end up in one Misuse."""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from r2search.config import DataConfig, Misuse
from r2search.data.prepare import at_most, mask_at_most
from r2search.data.readers.images import read_image, read_mask
from r2search.data.samples import Part, Sample

MOST_LINES = 20  # of problems shown at once
NUM_THREADS = 4  # decoding releases the GIL


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """Where one sample lies. Without `fov`, the reader's rule gives the field of view."""

    id: str
    subject: str
    image: Path
    mask: Path
    fov: Path | None = None
    second_mask: Path | None = None
    part: Part | None = None  # of the official split
    may_be_empty: bool = False  # whether the mask may hold no foreground


def everything(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The field of view that leaves nothing out."""
    return np.ones(image.shape[:2], dtype=np.bool_)


def read_entries(
    entries: Sequence[Entry],
    root: Path,
    config: DataConfig,
    problems: Iterable[str],
    field_of_view: Callable[[NDArray[np.uint8]], NDArray[np.bool_]] = everything,
) -> list[Sample]:
    """Read all entries, or raise one Misuse with `problems` and all that is wrong with the files.

    Found here: what `read_image` and `read_mask` refuse, other sizes than the image's, and equal
    pictures under two names. Images and masks over `config.max_side` are reduced. Paths are told
    relative to `root`.
    """
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        results = list(pool.map(lambda entry: _read(entry, config, field_of_view), entries))
    found = [*problems, *(problem for _, own in results for problem in own)]
    samples = [sample for sample, _ in results if sample is not None]
    found += _same_pictures(samples, {entry.id: entry.image for entry in entries})
    require_none(found, root, samples)
    return samples


class BadData(Misuse):
    """All that is wrong with a data set, with what could be read of it nevertheless."""

    def __init__(self, root: Path, problems: list[str], samples: Sequence[Sample]) -> None:
        super().__init__(_listed(root, problems))
        self.problems = problems
        self.samples = samples


def require_none(problems: Sequence[str], root: Path, samples: Sequence[Sample] = ()) -> None:
    """Raise BadData if there are problems; paths are told relative to `root`."""
    if problems:
        told = [text.replace(f"{root}{os.sep}", "") for text in problems]
        raise BadData(root, told, samples)


def _read(
    entry: Entry,
    config: DataConfig,
    field_of_view: Callable[[NDArray[np.uint8]], NDArray[np.bool_]],
) -> tuple[Sample | None, list[str]]:
    """The sample, if its picture and mask are readable, and what is wrong with its files."""
    problems: list[str] = []
    image = mask = None
    try:
        image = read_image(entry.image, config.reading)
    except Misuse as error:
        problems.append(str(error))
    mask, fov, second_mask = (
        _read_mask_like(path, labels, entry, image, problems)
        for path, labels in (
            (entry.mask, config.labels),
            (entry.fov, ()),
            (entry.second_mask, config.labels),
        )
    )
    if image is None or mask is None:
        return None, problems
    image, side = at_most(image, config.max_side), config.max_side
    sample = Sample(
        image=image,
        mask=mask_at_most(mask, side),
        fov=field_of_view(image) if fov is None else mask_at_most(fov, side).astype(np.bool_),
        subject=entry.subject,
        id=entry.id,
        second_mask=None if second_mask is None else mask_at_most(second_mask, side),
        part=entry.part,
    )
    return sample, problems


def _read_mask_like(
    path: Path | None,
    labels: tuple[int, ...],
    entry: Entry,
    image: NDArray[np.uint8] | None,
    problems: list[str],
) -> NDArray[np.uint8] | None:
    if path is None:
        return None
    try:
        mask = read_mask(path, labels, may_be_empty=entry.may_be_empty)
    except Misuse as error:
        problems.append(str(error))
        return None
    if image is not None and mask.shape != image.shape[:2]:
        (height, width), (image_height, image_width) = mask.shape, image.shape[:2]
        problems.append(
            f"{path}: is {width} x {height} pixels, its image {entry.image.name} is "
            f"{image_width} x {image_height}; save both at one size and orientation"
        )
    return mask


def _same_pictures(samples: list[Sample], paths: dict[str, Path]) -> list[str]:
    first: dict[tuple[tuple[int, ...], str], Sample] = {}
    problems = []
    for sample in samples:
        content = hashlib.sha256(sample.image.tobytes()).hexdigest()
        earlier = first.setdefault((sample.image.shape, content), sample)
        if earlier is not sample:
            problems.append(
                f"{paths[sample.id]}: is the same picture as {paths[earlier.id]}; remove one"
            )
    return problems


def by_stem(paths: Iterable[Path], root: Path, problems: list[str]) -> dict[str, Path]:
    """Paths by their place under `root` without suffix; one stem with two suffixes is a problem."""
    found: dict[str, Path] = {}
    for path in paths:
        earlier = found.setdefault(path.relative_to(root).with_suffix("").as_posix(), path)
        if earlier is not path:
            problems.append(f"{path}: has the name of {earlier.name}; remove one")
    return found


def find_root(root: Path | None, fits: Callable[[Path], bool], expected: str) -> Path:
    """The folder that holds the data: `root`, or the one folder in it where archives unpack to.

    Misuse says what was expected and what is there instead.
    """
    if root is None:
        raise Misuse(f"data.root: no folder given; expected {expected}; give --data FOLDER")
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "there is no such folder"
        raise Misuse(f"{root}: {what}; expected {expected}; check data.root or --data")
    if fits(root):
        return root
    inside = sorted(path for path in root.iterdir() if not path.name.startswith("."))
    fitting = [path for path in inside if path.is_dir() and fits(path)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(path.name for path in fitting)
        raise Misuse(f"{root}: holds several data sets ({names}); point --data to one of them")
    names = ", ".join(f"{path.name}/" if path.is_dir() else path.name for path in inside[:5])
    more = f" and {len(inside) - 5} more" if len(inside) > 5 else ""
    raise Misuse(
        f"{root}: expected {expected}; found {names or 'an empty folder'}{more}; point --data to "
        "the folder, or choose another layout with --reader"
    )


def _listed(root: Path, problems: list[str]) -> str:
    lines = [f"{root}: {len(problems)} problem{'s' * (len(problems) > 1)} in the data:"]
    lines += [f"  {problem}" for problem in problems[:MOST_LINES]]
    if len(problems) > MOST_LINES:
        lines.append(f"  ... and {len(problems) - MOST_LINES} more")
    return "\n".join(lines)
