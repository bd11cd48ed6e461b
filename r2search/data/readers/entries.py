"""The files of each sample, read and checked together; all problems end up in one Misuse."""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from r2search.config import DataConfig, Misuse
from r2search.data.prepare import at_most, mask_at_most
from r2search.data.readers.images import name_of, read_image, read_mask
from r2search.data.samples import Part, Sample

MOST_LINES = 20  # of problems shown at once
MOST_NAMES = 5  # of what is in a folder
NUM_THREADS = 4  # decoding releases the GIL

Mask = NDArray[np.uint8]  # (H, W), class index


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """Where one sample lies. Without `fov`, the reader's rule gives the field of view."""

    id: str
    subject: str
    image: Path
    mask: Path | tuple[Path, ...]  # several, such as one a nucleus, are united
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

    Found here: what `read_image` and `read_mask` refuse, other sizes than the image's, equal
    pictures under two names, and a data set of no entries. Images and masks over
    `config.max_side` are reduced. Paths are told relative to `root`.
    """
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        results = list(pool.map(lambda entry: _read(entry, config, field_of_view), entries))
    found = [*problems, *(problem for _, own in results for problem in own)]
    samples = [sample for sample, _ in results if sample is not None]
    found += same_pictures(samples, {entry.id: entry.image for entry in entries})
    require_none(found, root, samples)
    if not samples:
        raise Misuse(f"{root}: none of its images has a mask; add the masks that belong to it")
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
    """The sample, if its picture and mask are sound, and what is wrong with its files."""
    problems: list[str] = []
    image = None
    try:
        image = read_image(entry.image, config.reading)
    except Misuse as error:
        problems.append(str(error))

    def read(path: Path, labels: tuple[int, ...] = config.labels) -> Mask | None:
        return _read_mask_like(path, labels, entry, image, problems)

    paths = (entry.mask,) if isinstance(entry.mask, Path) else entry.mask
    mask = reduce(_united, map(read, paths))  # looks at all, and keeps one in memory
    fov = read(entry.fov, ()) if entry.fov else None
    second_mask = read(entry.second_mask) if entry.second_mask else None
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


def _united(mask: Mask | None, other: Mask | None) -> Mask | None:
    return None if mask is None or other is None else np.maximum(mask, other)


def _read_mask_like(
    path: Path,
    labels: tuple[int, ...],
    entry: Entry,
    image: NDArray[np.uint8] | None,
    problems: list[str],
) -> Mask | None:
    """The mask, if it is sound and of its image's size; what is wrong with it joins `problems`."""
    try:
        mask = read_mask(path, labels, may_be_empty=entry.may_be_empty)
    except Misuse as error:
        problems.append(str(error))
        return None
    if image is None:
        return None
    if mask.shape != image.shape[:2]:
        (height, width), (image_height, image_width) = mask.shape, image.shape[:2]
        problems.append(
            f"{path}: is {width} x {height} pixels, its image {entry.image.name} is "
            f"{image_width} x {image_height}; save both at one size and orientation"
        )
        return None
    return mask


def same_pictures(samples: Iterable[Sample], names: Mapping[str, Path | str]) -> list[str]:
    """A problem for every sample whose picture an earlier one has; `names` are told, by id.

    Samples of one id are left to those who give ids.
    """
    first: dict[tuple[tuple[int, ...], str], Sample] = {}
    problems = []
    for sample in samples:
        content = hashlib.sha256(sample.image.tobytes()).hexdigest()
        earlier = first.setdefault((sample.image.shape, content), sample)
        known = bool(sample.source) and sample.source == earlier.source
        if earlier.id != sample.id and not known:  # a member of a pool has been checked by itself
            problems.append(
                f"{names[sample.id]}: is the same picture as {names[earlier.id]}; remove one"
            )
    return problems


def by_stem(paths: Iterable[Path], root: Path, problems: list[str]) -> dict[str, Path]:
    """Paths by their place under `root` without suffix; one stem with two suffixes is a problem."""
    found: dict[str, Path] = {}
    for path in paths:
        stem = path.relative_to(root).with_name(name_of(path)).as_posix()
        earlier = found.setdefault(stem, path)
        if earlier is not path:
            problems.append(f"{path}: has the name of {earlier.name}; remove one")
    return found


def by_name(paths: Iterable[Path], pattern: str, problems: list[str]) -> dict[str, Path]:
    """Paths whose name without suffix is as `pattern` says, by its first group; others are left.

    Two files of one group are a problem.
    """
    found: dict[str, Path] = {}
    for path in paths:
        match = re.fullmatch(pattern, name_of(path))
        if match and found.setdefault(match[1], path) is not path:
            problems.append(f"{path}: stands beside {found[match[1]]} for one image; remove one")
    return found


def missing(files: Mapping[str, Path], partners: Mapping[str, Path], partner: str) -> list[str]:
    """A problem for each file whose key has no partner.

    `partner` names that, with braces for the key, as in `mask {}_manual1.gif`.
    """
    return [
        f"{path}: its {partner.format(key)} is missing; add it"
        for key, path in files.items()
        if key not in partners
    ]


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
        names = _some([path.name for path in fitting])
        raise Misuse(f"{root}: holds several data sets ({names}); point --data to one of them")
    names = _some([f"{path.name}/" if path.is_dir() else path.name for path in inside])
    raise Misuse(
        f"{root}: expected {expected}; found {names or 'an empty folder'}; point --data to the "
        "folder, or choose another layout with --reader"
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _listed(root: Path, problems: list[str]) -> str:
    lines = [f"{root}: {len(problems)} problem{'s' * (len(problems) > 1)} in the data:"]
    lines += [f"  {problem}" for problem in problems[:MOST_LINES]]
    if len(problems) > MOST_LINES:
        lines.append(f"  ... and {len(problems) - MOST_LINES} more")
    return "\n".join(lines)
