"""Several data sets read as one: the members of `data.pool`, each by its own reader."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from r2search.config import DataConfig, Misuse
from r2search.data import read
from r2search.data.readers.entries import BadData, require_none, same_pictures
from r2search.data.samples import Sample

HEADING = Path("data.pool")  # in the place of a folder, over the problems


def pool(root: Path | None, config: DataConfig) -> list[Sample]:
    """The samples of all members, in their order; `root` is not read.

    Ids and subjects begin with the `source`: the member's reader, numbered where one reader reads
    several (`chase_db1-Image_01L`, `folder_2-a`). All masks are of the same classes, since
    `config.labels` is every member's. Misuse lists what is wrong with the files of all members;
    one picture in two of them is a problem, other numbers of channels are too.
    """
    problems: list[str] = []
    samples: list[Sample] = []
    for source, member in _members(config).items():
        try:
            own = read(member)
        except BadData as error:
            problems += [f"{source}: {problem}" for problem in error.problems]
            own = list(error.samples)
        samples += [
            replace(s, id=f"{source}-{s.id}", subject=f"{source}-{s.subject}", source=source)
            for s in own
        ]
    require_none(problems, HEADING, samples)
    require_none(same_pictures(samples, {s.id: s.id for s in samples}), HEADING, samples)
    channels = {sample.source: sample.image.shape[2] for sample in samples}
    if len(set(channels.values())) > 1:
        found = ", ".join(f"{source} {count}" for source, count in channels.items())
        raise Misuse(
            f"data.pool: the members have different numbers of channels ({found}); read all as "
            "grey (--set data.channels=grey), or leave one kind out"
        )
    return samples


def _members(config: DataConfig) -> dict[str, DataConfig]:
    """What each member's reader is given, by the member's name."""
    times = Counter(member.reader for member in config.pool)
    seen: Counter[str] = Counter()
    found = {}
    for member in config.pool:
        seen[member.reader] += 1
        number = f"_{seen[member.reader]}" if times[member.reader] > 1 else ""
        update = {"reader": member.reader, "root": member.root, "pool": ()}
        found[f"{member.reader}{number}"] = config.model_copy(update=update)
    return found
