"""What a data set is like, in figures and a few words: its fingerprint, for the eye."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2search.config import Misuse
from r2search.data.readers.images import images_below, stored_values
from r2search.data.samples import Sample, fingerprint, histograms, moments

CHANNELS = {1: ("grey",), 3: ("red", "green", "blue")}
PERCENTILES = (1, 50, 99)
MOST_OPENED = 48  # files, to see how masks are stored
MOST_VALUES = 8  # of a mask; pictures have more
MOST_KINDS = 6  # of sizes and the like, in one cell
LOSSY = frozenset({".jpg", ".jpeg", ".webp"})  # hold pictures: masks in them would not be exact

Counts = NDArray[np.int64]
Row = tuple[str, str]  # what, and how much of it


def facts(samples: Sequence[Sample], labels: tuple[int, ...] = ()) -> list[Row]:
    """Counts, sizes, intensity, classes, observers, field of view and hash of one or more samples.

    `labels` are the mask values behind classes 1, 2, ...; intensities are inside the field of view,
    shares of the foreground are of whole images unless said.
    """
    return [
        ("images", _counted(samples)),
        *_parts(samples),
        ("size, W x H", _kinds(f"{s.mask.shape[1]} x {s.mask.shape[0]}" for s in samples)),
        *_spacing(samples),
        *_intensity(samples),
        *_foreground(samples, labels),
        *_observers(samples),
        ("fingerprint", fingerprint(samples)),
    ]


def levels_inside(sample: Sample) -> Counts:
    """Pixels of each grey level in the field of view, (C, 256)."""
    whole = bool(sample.fov.all())
    return histograms(sample.image if whole else sample.image[sample.fov][:, None])


def _counted(samples: Sequence[Sample]) -> str:
    counts = Counter(sample.subject for sample in samples).values()
    images = f"{len(samples)} image{'s' * (len(samples) > 1)}"
    if len(counts) == len(samples):
        return f"{images}, each of another subject"
    least, most = min(counts), max(counts)
    each = f"{least}" if least == most else f"{least} to {most}"
    return f"{images} of {len(counts)} subject{'s' * (len(counts) > 1)}, {each} each"


def _parts(samples: Sequence[Sample]) -> list[Row]:
    named = {
        part or "in no part": own
        for part in ("train", "val", "test", None)
        if (own := [s for s in samples if s.part == part])
    }
    if set(named) == {"in no part"}:
        return [("official split", "none")]
    return [(f"official split, {part}", _counted(own)) for part, own in named.items()]


def _kinds(values: Iterable[str]) -> str:
    """Each value with its number, the frequent ones first."""
    counts = Counter(values).most_common()
    told = ", ".join(f"{value}: {count}" for value, count in counts[:MOST_KINDS])
    others = sum(count for _, count in counts[MOST_KINDS:])
    return f"{told}, others: {others}" if others else told


def _spacing(samples: Sequence[Sample]) -> list[Row]:
    known = [s.spacing for s in samples if s.spacing]
    if not known:
        return []
    return [("spacing, mm down x across", _kinds(f"{d:.4g} x {a:.4g}" for d, a in known))]


def _intensity(samples: Sequence[Sample]) -> list[Row]:
    """Of each channel: mean, deviation and percentiles, all exact, 0..255."""
    rows = []
    for channels in sorted({sample.image.shape[2] for sample in samples}):
        own = [s for s in samples if s.image.shape[2] == channels]
        counts = np.sum([levels_inside(sample) for sample in own], axis=0)
        for name, *known in zip(CHANNELS[channels], *moments(counts), counts, strict=True):
            rows.append((f"{name}, 0..255", _levels(*known)))
    return rows


def _levels(mean: float, deviation: float, counts: Counts) -> str:
    places = np.searchsorted(counts.cumsum(), [counts.sum() * p / 100 for p in PERCENTILES])
    told = ", ".join(f"{place} at {p} %" for p, place in zip(PERCENTILES, places, strict=True))
    return f"mean {mean:.1f}, deviation {deviation:.1f}; {told}"


def _foreground(samples: Sequence[Sample], labels: tuple[int, ...]) -> list[Row]:
    rows = [("foreground", _shares([(s.mask > 0).mean() for s in samples]))]
    views = [s.fov.mean() for s in samples]
    if min(views) < 1:
        inside = [(s.mask[s.fov] > 0).mean() for s in samples if s.fov.any()]
        rows += [
            ("foreground in the field of view", _shares(inside)),
            ("field of view", _shares(views)),
        ]
    if len(labels) > 1:
        for index, label in enumerate(labels, start=1):
            shares = [(s.mask == index).mean() for s in samples]
            told = f"{_shares(shares)}; in {np.count_nonzero(shares)} of {len(samples)} images"
            rows.append((f"class {index}, value {label}", told))
    empty = sum(not s.mask.any() for s in samples)
    full = sum(bool(s.mask.all()) for s in samples)
    return [*rows, ("masks empty", str(empty)), ("masks full", str(full))]


def _shares(values: Sequence[np.floating[Any]]) -> str:
    return f"{np.mean(values):.2%} on average, {min(values):.2%} to {max(values):.2%}"


def _observers(samples: Sequence[Sample]) -> list[Row]:
    """How many images a second observer drew, and the mean Dice of both in the field of view."""
    scores = []
    for sample in samples:
        if sample.second_mask is not None:
            one, other = sample.mask[sample.fov] > 0, sample.second_mask[sample.fov] > 0
            both = np.count_nonzero(one) + np.count_nonzero(other)
            scores.append(2 * np.count_nonzero(one & other) / both if both else 1.0)
    if not scores:
        return [("second observer", "none")]
    told = f"{len(scores)} of {len(samples)} images, Dice with the first {np.mean(scores):.4f}"
    return [("second observer", f"{told} on average")]


def stored_masks(root: Path) -> list[Row]:
    """How masks are stored below `root`: the values of the image files that have few of them.

    MOST_OPENED files at most are opened, spread over the folders; lossy ones and volumes are not.
    """
    files = [p for p in images_below(root) if p.suffix.lower() not in LOSSY]
    step = max(1, -(-len(files) // MOST_OPENED))
    kinds: dict[str, list[Path]] = {}
    values: dict[str, set[int]] = {}
    for path in files[::step]:
        try:
            kind, own = stored_values(path)
        except Misuse:
            continue  # the reader has told it, if it is one of its files
        if len(own) <= MOST_VALUES:
            kinds.setdefault(kind, []).append(path)
            values.setdefault(kind, set()).update(own)
    told = [
        f"{kind}: {', '.join(map(str, sorted(values[kind])))} ({_named(paths)})"
        for kind, paths in sorted(kinds.items())
    ]
    return [("masks stored as", "\n".join(told))] if told else []


def _named(paths: list[Path]) -> str:
    return paths[0].name if len(paths) == 1 else f"{paths[0].name} and {len(paths) - 1} more"
