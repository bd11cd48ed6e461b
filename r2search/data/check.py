"""What looks wrong with a data set. Pure: samples in, findings out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from r2search.config import Misuse
from r2search.data.facts import Counts, levels_inside
from r2search.data.likeness import (
    FEWEST,
    Thumbnail,
    near_duplicates,
    swapped_masks,
    thumbnails,
)
from r2search.data.samples import MIN_STD, Sample, Split, moments, split

NEARLY_FULL = 0.995  # share of the image
FAR = 5.0  # robust deviations from the rest
LEAST_LEVELS, LEAST_LOGIT = 2.0, 0.25  # a deviation is at least this: of brightness, of shares
MOST_NAMES = 3  # in one finding


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or worth a look."""

    kind: str  # a word or two, as in `duplicate`
    text: str  # one sentence
    ids: tuple[str, ...] = ()  # the samples it is about
    is_error: bool = True  # else a notice


def find_faults(
    samples: Sequence[Sample], problems: Sequence[str] = (), how: Split = "by_subject"
) -> list[Finding]:
    """All findings about a data set, errors first.

    `samples` is what could be read of it, `problems` what its reader refuses, and `how` the way it
    is to be split.
    """
    found = [Finding("bad file", problem) for problem in problems]
    if samples:
        thumbs = thumbnails(samples)
        levels = [levels_inside(sample) for sample in samples]
        found += _blank(samples, levels)
        found += _in_two_parts(samples)
        found += _duplicates(samples, thumbs, problems)
        found += _swapped(samples, thumbs)
        found += _split_refused(samples, how, found)
        found += [*_odd_masks(samples), *_odd_brightness(samples, levels)]
    return sorted(found, key=lambda finding: not finding.is_error)


def _blank(samples: Sequence[Sample], levels: Sequence[Counts]) -> list[Finding]:
    """Images without content. With an empty mask, as slices beside the body, they are sound."""
    found = []
    for sample, counts in zip(samples, levels, strict=True):
        mean, deviation = moments(counts)
        if deviation.max() <= MIN_STD and sample.mask.any():
            text = f"{sample.id}: is all {_shade(mean)}, and its mask has foreground"
            remedy = "replace the image, or take it out"
            found.append(Finding("constant image", f"{text}; {remedy}", (sample.id,)))
    return found


def _shade(levels: NDArray[np.float32]) -> str:
    if levels.max() <= MIN_STD:
        return "black"
    return "white" if levels.min() >= 255 - MIN_STD else f"of one colour ({levels.mean():.0f})"


def _in_two_parts(samples: Sequence[Sample]) -> list[Finding]:
    """Subjects that an official split has on two sides."""
    parts: dict[str, dict[str, str]] = {}  # subject -> part -> the first id there
    for sample in samples:
        if sample.part:
            parts.setdefault(sample.subject, {}).setdefault(sample.part, sample.id)
    return [
        Finding(
            "leakage",
            f"subject {subject}: is in {' and in '.join(f'{p} ({i})' for p, i in own.items())}; "
            "put all its images into one part",
            tuple(own.values()),
        )
        for subject, own in parts.items()
        if len(own) > 1
    ]


def _duplicates(
    samples: Sequence[Sample], thumbs: Sequence[Thumbnail], problems: Sequence[str]
) -> list[Finding]:
    """Pictures under two names; across the parts of an official split they are leakage.

    Those of equal pixels in one part are left to the reader where it has named such.
    """
    told = any("is the same picture as" in problem for problem in problems)
    found = []
    # A subject whose images have a spacing is taken for a volume: its slices are alike.
    groups = [f"volume {s.subject}" if s.spacing else str(n) for n, s in enumerate(samples)]
    for pair in near_duplicates(thumbs, groups):
        one, other = samples[pair.first], samples[pair.second]
        same = np.array_equal(one.image, other.image)
        across = bool(one.part and other.part and one.part != other.part)
        if told and same and not across:
            continue
        how = "" if same else "nearly "
        way = ", mirrored or turned" if pair.turned else ""
        place = f", across the parts {one.part} and {other.part}" if across else ""
        found.append(
            Finding(
                "leakage" if across else "duplicate",
                f"{other.id}: is {how}the same picture as {one.id}{way} (correlation "
                f"{pair.value:.3f}){place}; remove one",
                (one.id, other.id),
            )
        )
    return found


def _swapped(samples: Sequence[Sample], thumbs: Sequence[Thumbnail]) -> list[Finding]:
    pairs = swapped_masks(thumbs, [sample.mask.shape for sample in samples])
    if pairs is None:
        return [
            Finding(
                "not checked",
                "whether masks are swapped: there are too few images, or their masks fit them "
                "hardly better than those of others",
                is_error=False,
            )
        ]
    return [
        Finding(
            "swapped masks",
            f"{samples[p.first].id} and {samples[p.second].id}: each one's mask fits the other's "
            "image better; look at both, and swap them back",
            (samples[p.first].id, samples[p.second].id),
        )
        for p in pairs
    ]


def _split_refused(
    samples: Sequence[Sample], how: Split, found: Sequence[Finding]
) -> list[Finding]:
    """What keeps the data from being split, if no finding says it yet."""
    if any(finding.kind == "leakage" for finding in found):
        return []
    named = sum(sample.part is not None for sample in samples)
    gaps = []
    if 0 < named < len(samples):
        text = f"{len(samples) - named} of {len(samples)} images are in no part of the official "
        gaps = [Finding("split", f"{text}split, which is therefore not used", is_error=False)]
    try:
        split(samples, how, seed=0)
    except Misuse as error:
        return [*gaps, Finding("split", f"a study would stop here: {error}", is_error=False)]
    return gaps


def _odd_masks(samples: Sequence[Sample]) -> list[Finding]:
    """Masks whose foreground is far larger or smaller than elsewhere; empty ones are counted."""
    marked = [sample for sample in samples if sample.mask.any()]
    shares = np.array([(sample.mask > 0).mean() for sample in marked])
    inside = np.clip(shares, 1e-6, 1 - 1e-6)
    odd = _far(np.log(inside / (1 - inside)), LEAST_LOGIT)
    found = []
    for kind, those in (
        ("nearly empty", (odd < 0) & (shares < 0.5)),
        ("nearly full", (shares > NEARLY_FULL) | ((odd > 0) & (shares > 0.5))),
    ):
        if those.any():
            text = _listed(marked, those, lambda n: f"{shares[n]:.2%}")
            usual = f"usual are {np.median(shares):.2%}"
            ids = tuple(marked[int(n)].id for n in np.flatnonzero(those))
            found.append(Finding(f"{kind} masks", f"{text}; {usual}", ids, is_error=False))
    return found


def _odd_brightness(samples: Sequence[Sample], levels: Sequence[Counts]) -> list[Finding]:
    means = np.array([float(moments(counts)[0].mean()) for counts in levels])
    odd = _far(means, LEAST_LEVELS)
    found = []
    for kind, those in (("dark images", odd < 0), ("bright images", odd > 0)):
        if those.any():
            text = _listed(samples, those, lambda n: f"{means[n]:.0f}")
            usual = f"usual is a mean of {np.median(means):.0f}"
            ids = tuple(samples[int(n)].id for n in np.flatnonzero(those))
            found.append(Finding(kind, f"{text}; {usual}", ids, is_error=False))
    return found


def _far(values: NDArray[np.float64], least: float) -> NDArray[np.int64]:
    """-1 or 1 where a value is FAR below or above the rest, else 0; the median and its deviation.

    Too few values have no rest to be far from.
    """
    if len(values) < FEWEST:
        return np.zeros(len(values), np.int64)
    off = values - np.median(values)
    deviation = max(least, 1.4826 * float(np.median(np.abs(off))))
    return np.where(np.abs(off) > FAR * deviation, np.sign(off), 0).astype(np.int64)


def _listed(
    samples: Sequence[Sample], those: NDArray[np.bool_], value: Callable[[int], str]
) -> str:
    """`a (3 %), b (4 %) and 7 more`."""
    places = [int(n) for n in np.flatnonzero(those)]
    told = ", ".join(f"{samples[n].id} ({value(n)})" for n in places[:MOST_NAMES])
    more = len(places) - MOST_NAMES
    return f"{told} and {more} more" if more > 0 else told
