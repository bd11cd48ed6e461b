"""Folds: every subject that is not kept for the test validates once."""

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import replace

from r2search.config import Misuse
from r2search.data.samples import Sample, SampleSet

Fold = tuple[int, int]  # which, of how many
OWN: Fold = (0, 1)  # the split of the study


def folded(samples: SampleSet, fold: Fold) -> SampleSet:
    """The same images, split for a fold; the test split is that of the study in all of them.

    Fold 0 is the study's own split. The subjects that it trains on are dealt out to the others, the
    one with the most images first, to the fold that has the fewest: each validates on its own, and
    trains on all else. A study that is split within subjects deals out images. Nothing is drawn, so
    all workers deal alike. Misuse for more folds than there are subjects to validate on.
    """
    which, folds = fold
    if not which:
        return samples
    mine = _deal(samples, folds - 1)[which - 1]
    rest = (*samples.val, *(s for s in samples.train if _owner(samples, s) not in mine))
    own = tuple(s for s in samples.train if _owner(samples, s) in mine)
    return replace(samples, train=rest, val=own)


def require_folds(samples: SampleSet, folds: int) -> None:
    """Misuse unless a study can have so many."""
    if folds > 1:
        _deal(samples, folds - 1)


def _deal(samples: SampleSet, folds: int) -> list[set[Hashable]]:
    counts: dict[Hashable, int] = defaultdict(int)
    for sample in samples.train:
        counts[_owner(samples, sample)] += 1
    if folds > len(counts):
        what = "images" if samples.split == "within_subject" else "subjects"
        raise Misuse(
            f"confirm.folds: {folds + 1} are too many for {len(counts)} {what} to train on; "
            f"--set confirm.folds={len(counts) + 1} is the most"
        )
    dealt: list[set[Hashable]] = [set() for _ in range(folds)]
    images = [0] * folds
    for owner in sorted(counts, key=lambda owner: (-counts[owner], owner)):
        least = images.index(min(images))
        dealt[least].add(owner)
        images[least] += counts[owner]
    return dealt


def _owner(samples: SampleSet, sample: Sample) -> tuple[str, str]:
    name = sample.id if samples.split == "within_subject" else sample.subject
    return sample.source, name
