"""Data: readers, samples, patches, augmentation."""

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2search.config import DataConfig, Misuse, hint
from r2search.data.samples import (
    Parts,
    Sample,
    SampleSet,
    fingerprint,
    split_by_part,
    split_by_subject,
    split_within_subject,
)

# A reader is a function (root: Path | None, config: DataConfig) -> list[Sample]. Named, not
# imported, so that one reader's libraries are no other's concern. A new data set is a line here.
READERS = {
    "chase_db1": "r2search.data.readers.chase_db1:chase_db1",
    "folder": "r2search.data.readers.folder:folder",
    "synthetic_retina": "r2search.data.readers.synthetic:synthetic_retina",
}
SYNTHETIC = frozenset({"synthetic_retina"})  # readers that need no folder and hold nothing real

# Readers whose pictures have a surround that shows nothing: (image) -> what lies inside.
FIELDS_OF_VIEW = {
    "chase_db1": "r2search.data.readers.chase_db1:field_of_view",
    "synthetic_retina": "r2search.data.readers.chase_db1:field_of_view",
}


def resolve(config: DataConfig) -> DataConfig:
    """The config whose reader will be used: `otherwise` takes over when there is no data folder.

    A caller who was given the folder by a person sets `otherwise` to `error`: a missing one, or
    one that a synthetic reader would pass over, is a Misuse. So are unknown names.
    """
    if config.reader not in READERS:
        raise Misuse(
            f"data.reader: unknown name {config.reader!r}; {hint(config.reader, list(READERS))}"
        )
    if config.otherwise != "error" and config.otherwise not in SYNTHETIC:
        raise Misuse(
            f"data.otherwise: {config.otherwise!r} is no synthetic reader; "
            f"{hint(config.otherwise, ['error', *SYNTHETIC])}"
        )
    if config.reader in SYNTHETIC:
        if config.root is not None and config.otherwise == "error":
            raise Misuse(
                f"data.root: {config.reader} draws its images and reads no folder, got "
                f"{config.root}; leave it out, or say with --reader how the folder is laid out"
            )
        return config.model_copy(update={"root": None})
    if config.root is not None and config.root.expanduser().exists():
        return config
    if config.otherwise != "error":
        return config.model_copy(update={"reader": config.otherwise, "root": None})
    if config.root is None:
        raise Misuse(f"data.root: the reader {config.reader} needs a folder; give --data FOLDER")
    raise Misuse(f"{config.root}: there is no such folder; check data.root or --data")


def load(config: DataConfig, *, seed: int = 0) -> SampleSet:
    """Read, check and split the data that `resolve` chooses; `seed` draws the split.

    Misuse lists all that is wrong with the files.
    """
    config = resolve(config)
    samples = read(config)
    train, val, test = _split(config, samples, seed)
    notes = []
    if config.split == "within_subject":
        notes.append(
            "split within subjects: images of one subject may be on both sides of the split, so "
            "scores say little about a new subject"
        )
    if not test:
        notes.append("too few for a test split: no score is of images that no choice rested on")
    return SampleSet(
        reader=config.reader,
        synthetic=config.reader in SYNTHETIC,
        train=train,
        val=val,
        test=test,
        fingerprint=fingerprint(samples),
        split=config.split,
        classes=max(2, len(config.labels) + 1),
        notes=tuple(notes),
    )


def read(config: DataConfig) -> list[Sample]:
    """All samples of a resolved config, in the reader's order."""
    root = config.root.expanduser() if config.root else None
    samples: list[Sample] = _named(READERS[config.reader])(root, config)
    return samples


def field_of_view(config: DataConfig, image: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """Where a new image (H, W, C) of the kind that `config` reads can be judged.

    None where the kind has no surround, or none that the image itself shows.
    """
    rules = {FIELDS_OF_VIEW.get(reader) for reader in _readers_of(config)}
    rule = rules.pop()
    if rules or rule is None:  # a pool of different kinds has none in common
        return None
    inside: NDArray[np.bool_] = _named(rule)(image)
    return inside


def _readers_of(config: DataConfig) -> list[str]:
    return [member.reader for member in config.pool] or [config.reader]


def _split(config: DataConfig, samples: list[Sample], seed: int) -> Parts:
    if config.split == "within_subject":
        return split_within_subject(samples, seed=seed)
    return split_by_part(samples, seed=seed) or split_by_subject(samples, seed=seed)


def _named(path: str) -> Any:
    module, name = path.split(":")
    return getattr(import_module(module), name)
