"""Data: readers, samples, patches, augmentation."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2search.config import DataConfig, Misuse, hint
from r2search.data.samples import Sample, SampleSet, fingerprint, split

# A reader is a function (root: Path | None, config: DataConfig) -> list[Sample]. Named, not
# imported, so that one reader's libraries are no other's concern. A new data set is a line here.
READERS = {
    "chaos": "r2search.data.readers.chaos:chaos",
    "chase_db1": "r2search.data.readers.chase_db1:chase_db1",
    "drive": "r2search.data.readers.drive:drive",
    "dsb2018": "r2search.data.readers.dsb2018:dsb2018",
    "folder": "r2search.data.readers.folder:folder",
    "hrf": "r2search.data.readers.hrf:hrf",
    "isic": "r2search.data.readers.isic:isic",
    "msd": "r2search.data.readers.msd:msd",
    "pool": "r2search.data.readers.pool:pool",
    "stare": "r2search.data.readers.stare:stare",
    "synthetic_ct": "r2search.data.readers.synthetic_ct:synthetic_ct",
    "synthetic_nuclei": "r2search.data.readers.synthetic_nuclei:synthetic_nuclei",
    "synthetic_retina": "r2search.data.readers.synthetic:synthetic_retina",
    "synthetic_skin": "r2search.data.readers.synthetic_skin:synthetic_skin",
}
POOL = "pool"  # the reader of the data sets that `data.pool` names, by their own readers
# Readers that need no folder and hold nothing real.
SYNTHETIC = frozenset({"synthetic_ct", "synthetic_nuclei", "synthetic_retina", "synthetic_skin"})

# Readers whose pictures have a surround that shows nothing: (image) -> what lies inside.
FIELDS_OF_VIEW = {
    "chase_db1": "r2search.data.readers.fundus:field_of_view",
    "drive": "r2search.data.readers.fundus:field_of_view",
    "hrf": "r2search.data.readers.fundus:field_of_view",
    "stare": "r2search.data.readers.fundus:field_of_view",
    "synthetic_retina": "r2search.data.readers.fundus:field_of_view",
}

# Readers of volumes: (root, config) -> the values that they show as black and as white, or None.
WINDOWS = {
    "chaos": "r2search.data.readers.chaos:window",
    "msd": "r2search.data.readers.msd:window",
}


def resolve(config: DataConfig) -> DataConfig:
    """The config whose reader will be used, its folders absolute, with the window of its volumes.

    `otherwise` takes over when there is no data folder, or none of a pool's. A caller who was
    given the folder by a person sets `otherwise` to `error`: a missing one, or one that the
    reader would pass over, is a Misuse. So are unknown names, and a pool that nothing reads.
    """
    _require_names(config)
    if config.reader in {POOL, *SYNTHETIC}:
        if config.root is not None and config.otherwise == "error":
            pooled = "reads the folders of data.pool and no other"
            does = pooled if config.reader == POOL else "draws its images and reads no folder"
            raise Misuse(
                f"data.root: {config.reader} {does}, got {config.root}; leave it out, or say with "
                "--reader how the folder is laid out"
            )
        config = config.model_copy(update={"root": None})
    if config.reader in SYNTHETIC:
        return config
    roots = [member.root for member in config.pool] if config.pool else [config.root]
    missing = [root for root in roots if root is None or not root.expanduser().exists()]
    if not missing:
        return _with_window(_absolute(config))
    if len(missing) == len(roots) and config.otherwise != "error":
        update = {"reader": config.otherwise, "root": None, "pool": ()}
        return config.model_copy(update=update)
    if config.pool:
        member = next(member for member in config.pool if member.root in missing)
        raise Misuse(
            f"{member.root}: there is no such folder; check the root of the reader "
            f"{member.reader} in data.pool"
        )
    if config.root is None:
        raise Misuse(f"data.root: the reader {config.reader} needs a folder; give --data FOLDER")
    raise Misuse(f"{config.root}: there is no such folder; check data.root or --data")


def _require_names(config: DataConfig) -> None:
    """Misuse unless all readers are known, and a pool has a reader and members that fit."""
    members = [(f"data.pool.{n}", member.reader) for n, member in enumerate(config.pool)]
    for where, reader in [("data", config.reader), *members]:
        if reader not in READERS:
            raise Misuse(f"{where}.reader: unknown name {reader!r}; {hint(reader, list(READERS))}")
    if config.otherwise != "error" and config.otherwise not in SYNTHETIC:
        raise Misuse(
            f"data.otherwise: {config.otherwise!r} is no synthetic reader; "
            f"{hint(config.otherwise, ['error', *SYNTHETIC])}"
        )
    if config.pool and config.reader != POOL:
        raise Misuse(
            f"data.pool: is read by the reader {POOL} only, and data.reader is {config.reader}; "
            f"set data.reader={POOL}, or take the pool out by --set data.pool=[]"
        )
    if config.reader == POOL and not config.pool:
        raise Misuse(
            "data.pool: names no data sets to read as one; write [{reader: drive, root: FOLDER}, "
            "...], or choose another --reader"
        )
    for where, reader in members:
        if reader in {POOL, *SYNTHETIC}:
            raise Misuse(
                f"{where}.reader: {reader} reads no folder; pool readers of real images only"
            )


def _absolute(config: DataConfig) -> DataConfig:
    """With folders that mean the same from wherever they are read."""

    def absolute(path: Path | None) -> Path | None:
        return path.expanduser().resolve() if path else None

    pool = [m.model_copy(update={"root": absolute(m.root)}) for m in config.pool]
    return config.model_copy(update={"root": absolute(config.root), "pool": tuple(pool)})


def _with_window(config: DataConfig) -> DataConfig:
    """With the window that all its readers of volumes use: a bundle shows new volumes by it."""
    windows = {
        _named(WINDOWS[member.reader])(member.root, config)
        for member in config.pool or (config,)
        if member.reader in WINDOWS
    }
    return config.model_copy(update={"window": windows.pop()}) if len(windows) == 1 else config


def load(config: DataConfig, *, seed: int = 0) -> SampleSet:
    """Read, check and split the data that `resolve` chooses; `seed` draws the split.

    Misuse lists all that is wrong with the files.
    """
    config = resolve(config)
    samples = read(config)
    train, val, test = split(samples, config.split, seed=seed)
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
    samples: list[Sample] = _named(READERS[config.reader])(config.root, config)
    return samples


def field_of_view(config: DataConfig, image: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """Where a new image (H, W, C) of the kind that `config` reads can be judged.

    None where the kind has no surround, or none that the image itself shows.
    """
    rule = _surround(config)
    if rule is None:
        return None
    inside: NDArray[np.bool_] = _named(rule)(image)
    return inside


def has_surround(config: DataConfig) -> bool:
    """Whether the kind of image that `config` reads may show a surround: `field_of_view`."""
    return _surround(config) is not None


def _surround(config: DataConfig) -> str | None:
    """What tells the field of view of an image; a pool of different kinds has none in common."""
    rules = {FIELDS_OF_VIEW.get(reader) for reader in _readers_of(config)}
    return rules.pop() if len(rules) == 1 else None


def _readers_of(config: DataConfig) -> list[str]:
    return [member.reader for member in config.pool] or [config.reader]


def _named(path: str) -> Any:
    module, name = path.split(":")
    return getattr(import_module(module), name)
