"""Images with their masks, the split of them by subject, and what is derived from their pixels."""

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from r2search.config import Misuse

Part = Literal["train", "val", "test"]
Split = Literal["by_subject", "within_subject"]

MIN_STD = 1.0  # one grey level: an image that deviates no more is taken for constant


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One image with what is known of it. The arrays may be read-only: copy before writing."""

    image: NDArray[np.uint8]  # (H, W, C), 0..255
    mask: NDArray[np.uint8]  # (H, W), class index: 0 background, 1 (2, ...) foreground
    fov: NDArray[np.bool_]  # (H, W), True inside the field of view: only there is scored
    subject: str  # the patient; never on two sides of a split
    id: str  # unique in its data set, usable as a file name
    second_mask: NDArray[np.uint8] | None = None  # a second human observer's
    part: Part | None = None  # of the official split, where there is one
    spacing: tuple[float, float] | None = None  # mm from pixel to pixel, down and across
    source: str = ""  # the member of a pool that it comes from


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleSet:
    """A data set, split. `test` may be empty and is opened once, at the end."""

    reader: str
    synthetic: bool
    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    test: tuple[Sample, ...]
    fingerprint: str  # hash over ids, images and masks
    split: str  # `by_subject`, or `within_subject` (which is flagged everywhere)
    classes: int = 2  # with the background
    notes: tuple[str, ...] = ()  # what a reader of the scores must know

    @property
    def channels(self) -> int:
        return int(self.train[0].image.shape[2])


Parts = tuple[tuple[Sample, ...], tuple[Sample, ...], tuple[Sample, ...]]  # train, val, test
TRAIN, VAL, TEST = 0.6, 0.2, 0.2  # shares of the subjects


def rng_for(seed: int, *name: str | int) -> np.random.Generator:
    """One independent stream per purpose; same seed and name, same numbers."""
    return np.random.default_rng([seed, *(zlib.crc32(str(part).encode()) for part in name)])


def split(samples: Sequence[Sample], how: Split, *, seed: int) -> Parts:
    """Train, validation and test, as `how` says; by subject, an official split goes first.

    The sources of a pool are split one by one, each by a stream of its own, and put together: who
    is in the test part of one does not depend on the others. A source that cannot be split is a
    Misuse that names it.
    """
    sources: dict[str, list[Sample]] = {}
    for sample in samples:
        sources.setdefault(sample.source, []).append(sample)
    parts = []
    for source, own in sources.items():
        rng = rng_for(seed, "split", source) if source else rng_for(seed, "split")
        try:
            parts.append(_split_source(own, how, rng))
        except Misuse as error:
            raise Misuse(f"{source}: {error}" if source else str(error)) from None
    if not parts:
        raise Misuse("there are no images to split; point --data to a folder that has some")
    train, val, test = (tuple(chain.from_iterable(part)) for part in zip(*parts, strict=True))
    return train, val, test


def _split_source(samples: Sequence[Sample], how: Split, rng: np.random.Generator) -> Parts:
    if how == "within_subject":
        return split_within_subject(samples, rng=rng)
    return split_by_part(samples, rng=rng) or split_by_subject(samples, rng=rng)


def split_by_subject(samples: Sequence[Sample], *, rng: np.random.Generator) -> Parts:
    """Train, validation and test, no subject in two of them, subjects drawn by `rng`.

    Three subjects or more: each part has at least one. Two: test is empty. One: Misuse.
    """
    subjects = sorted({sample.subject for sample in samples})
    if len(subjects) == 1:
        those = f"all {len(samples)} images are" if len(samples) > 1 else "the only image is"
        raise Misuse(
            f"{those} of one subject ({subjects[0]}), and a score needs a subject that was not "
            "trained on; add images of others, or accept images of one subject on both sides: "
            "--set data.split=within_subject"
        )
    keys = [sample.subject for sample in samples]
    return _parts(samples, keys, _sides(subjects, rng))


def split_within_subject(samples: Sequence[Sample], *, rng: np.random.Generator) -> Parts:
    """As `split_by_subject`, but image by image: images of one subject may be on two sides."""
    if len(samples) == 1:
        raise Misuse(
            f"there is one image only ({samples[0].id}), and a score needs an image that was not "
            "trained on; add an image"
        )
    keys = [sample.id for sample in samples]
    return _parts(samples, keys, _sides(sorted(keys), rng))


def split_by_part(samples: Sequence[Sample], *, rng: np.random.Generator) -> Parts | None:
    """The official split that the samples name; None unless all do, and name `train` and another.

    A part that the official split leaves out, validation or test, is drawn by subject from its
    training part: its share of all subjects that are in either. A subject in two parts is a
    Misuse.
    """
    named = {sample.part for sample in samples}
    if None in named or len(named) < 2 or "train" not in named:
        return None
    parts: dict[str, list[Sample]] = {"train": [], "val": [], "test": []}
    owner: dict[str, str] = {}
    for sample in samples:
        assert sample.part
        parts[sample.part].append(sample)
        if owner.setdefault(sample.subject, sample.part) != sample.part:
            raise Misuse(
                f"{sample.id}: its subject {sample.subject} is in {owner[sample.subject]} and in "
                f"{sample.part}; put all images of a subject into one part of the split"
            )
    for missing, fraction in (("val", VAL), ("test", TEST)):
        if missing not in named:
            drawn = _some_subjects(parts["train"], missing, fraction, rng)
            parts[missing] = [s for s in parts["train"] if s.subject in drawn]
            parts["train"] = [s for s in parts["train"] if s.subject not in drawn]
    return tuple(parts["train"]), tuple(parts["val"]), tuple(parts["test"])


def _some_subjects(
    training: list[Sample], missing: str, fraction: float, rng: np.random.Generator
) -> set[str]:
    """Those that leave the training part for one that is missing."""
    subjects = sorted({sample.subject for sample in training})
    if len(subjects) == 1:
        raise Misuse(
            f"the official training part is of one subject ({subjects[0]}), so that no {missing} "
            "part can be drawn from it; add images of others"
        )
    share = fraction / (TRAIN + fraction)
    count = max(1, min(round(share * len(subjects)), len(subjects) - 1))
    return {subjects[i] for i in rng.permutation(len(subjects))[:count]}


def _sides(keys: list[str], rng: np.random.Generator) -> dict[str, int]:
    """Each key's part (0 train, 1 validation, 2 test); two keys or more."""
    total = len(keys)
    num_val = max(1, min(round(total * VAL), total - 2))
    num_test = max(1, min(round(total * TEST), total - 1 - num_val)) if total > 2 else 0
    order = [keys[i] for i in rng.permutation(total)]
    side = [1] * num_val + [2] * num_test + [0] * (total - num_val - num_test)
    return dict(zip(order, side, strict=True))


def _parts(samples: Sequence[Sample], keys: list[str], sides: dict[str, int]) -> Parts:
    pairs = list(zip(samples, keys, strict=True))
    train, val, test = (tuple(s for s, key in pairs if sides[key] == side) for side in range(3))
    return train, val, test


def fingerprint(samples: Sequence[Sample]) -> str:
    """SHA-256 over ids, shapes and the bytes of image, mask and field of view, in hex.

    The order of the samples plays no part. Equal fingerprints: scores are of the same pixels.
    """
    digest = hashlib.sha256()
    for sample in sorted(samples, key=lambda sample: sample.id):
        digest.update(f"{sample.id}\0{sample.image.shape}".encode())
        for array in (sample.image, sample.mask, sample.fov):
            digest.update(array.tobytes())
    return digest.hexdigest()


def histograms(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pixels of each grey level, (C, 256); add those of several images."""
    channels = np.moveaxis(image, 2, 0)
    return np.stack([np.bincount(channel.ravel(), minlength=256) for channel in channels])


def moments(counts: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of each channel of histograms (C, 256), float32 (C,).

    The deviation is the population's. Both are exact, and 0 where there are no pixels.
    """
    levels, total = np.arange(256, dtype=np.float64), np.maximum(1, counts.sum(axis=1))
    mean = counts @ levels / total
    std = np.sqrt((counts * (levels - mean[:, None]) ** 2).sum(axis=1) / total)
    return mean.astype(np.float32), std.astype(np.float32)
