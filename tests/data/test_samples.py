"""Splits, fingerprints, and what is counted of the pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2search.config import Misuse
from r2search.data.samples import (
    Part,
    Parts,
    Sample,
    fingerprint,
    histograms,
    moments,
    rng_for,
    split,
    split_by_part,
    split_by_subject,
    split_within_subject,
)


def sample(
    name: str, subject: str = "s", value: int = 7, part: Part | None = None, source: str = ""
) -> Sample:
    shape = (2, 3)
    return Sample(
        image=np.full((*shape, 3), value, np.uint8),
        mask=np.eye(*shape, dtype=np.uint8),
        fov=np.ones(shape, np.bool_),
        subject=subject,
        id=name,
        part=part,
        source=source,
    )


def ids(samples: tuple[Sample, ...]) -> list[str]:
    return [s.id for s in samples]


def sizes(parts: Parts) -> tuple[int, ...]:
    return tuple(len(part) for part in parts)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@st.composite
def data_sets(draw: st.DrawFn, min_subjects: int = 3) -> list[Sample]:
    counts = draw(st.lists(st.integers(1, 4), min_size=min_subjects, max_size=12))
    return [sample(f"{s}-{i}", str(s)) for s, count in enumerate(counts) for i in range(count)]


def subjects_of(parts: Parts) -> list[set[str]]:
    return [{s.subject for s in part} for part in parts]


@settings(deadline=None)
@given(data_sets(), st.integers(0, 2**32))
def test_a_split_by_subject_keeps_every_sample_and_no_subject_on_two_sides(
    samples: list[Sample], seed: int
) -> None:
    parts = split_by_subject(samples, rng=rng(seed))
    assert sorted(name for part in parts for name in ids(part)) == sorted(s.id for s in samples)
    subjects = subjects_of(parts)
    assert all(subjects)
    assert sum(map(len, subjects)) == len(set.union(*subjects))


@settings(deadline=None)
@given(data_sets(min_subjects=2), st.integers(0, 2**32), st.randoms())
def test_a_split_depends_on_the_seed_and_not_on_the_order_of_the_samples(
    samples: list[Sample], seed: int, random: object
) -> None:
    shuffled = sorted(samples, key=lambda s: random.random())  # type: ignore[attr-defined]
    parts, again = split(samples, "by_subject", seed=seed), split(shuffled, "by_subject", seed=seed)
    assert [set(ids(part)) for part in parts] == [set(ids(part)) for part in again]


def test_another_seed_gives_another_split() -> None:
    samples = [sample(str(n), str(n)) for n in range(10)]
    assert len({tuple(ids(split(samples, "by_subject", seed=seed)[2])) for seed in range(8)}) > 3


@pytest.mark.parametrize(
    ("subjects", "expected"), [(3, (1, 1, 1)), (4, (2, 1, 1)), (10, (6, 2, 2)), (15, (9, 3, 3))]
)
def test_the_parts_have_three_to_one_to_one_of_the_subjects(
    subjects: int, expected: tuple[int, int, int]
) -> None:
    samples = [sample(str(n), str(n)) for n in range(subjects)]
    assert sizes(split_by_subject(samples, rng=rng())) == expected


def test_two_subjects_leave_the_test_part_empty() -> None:
    samples = [sample("a", "1"), sample("b", "2"), sample("c", "2")]
    train, val, test = split_by_subject(samples, rng=rng())
    assert len(train) + len(val) == 3
    assert train
    assert val
    assert test == ()


def test_one_subject_is_refused_with_the_way_out() -> None:
    with pytest.raises(Misuse, match=r"of one subject \(s\).*--set data.split=within_subject"):
        split_by_subject([sample("a"), sample("b")], rng=rng())


def test_no_images_at_all_are_refused() -> None:
    with pytest.raises(Misuse, match="no images"):
        split([], "by_subject", seed=0)


@settings(deadline=None)
@given(st.integers(2, 20), st.integers(0, 99))
def test_a_split_within_a_subject_keeps_every_image_once(count: int, seed: int) -> None:
    parts = split_within_subject([sample(str(n)) for n in range(count)], rng=rng(seed))
    assert sorted(name for part in parts for name in ids(part)) == sorted(map(str, range(count)))
    assert all(parts[:2])
    assert bool(parts[2]) == (count > 2)


def test_one_image_cannot_be_split_within_its_subject() -> None:
    with pytest.raises(Misuse, match=r"one image only \(a\).*add an image"):
        split_within_subject([sample("a")], rng=rng())


# The official split


def official(*parts: Part | None) -> list[Sample]:
    """A sample of a subject of its own for each of these parts."""
    return [sample(str(n), str(n), part=part) for n, part in enumerate(parts)]


def test_an_official_split_of_three_parts_is_taken_as_it_is() -> None:
    samples = official("val", "train", "test", "train")
    parts = split_by_part(samples, rng=rng())
    assert parts is not None
    assert [ids(part) for part in parts] == [["1", "3"], ["0"], ["2"]]
    assert split(samples, "by_subject", seed=0) == parts


@pytest.mark.parametrize(
    "samples",
    [
        official(None, None, None),
        official("train", "test", None),
        official("train", "train", "train"),
        official("val", "val", "val"),
        official("val", "test", "test"),
    ],
    ids=["none", "not all", "train alone", "one other alone", "no train"],
)
def test_without_a_training_part_and_another_there_is_no_official_split(
    samples: list[Sample],
) -> None:
    assert split_by_part(samples, rng=rng()) is None
    assert sizes(split(samples, "by_subject", seed=0)) == (1, 1, 1)


@pytest.mark.parametrize(("given", "drawn"), [("test", 1), ("val", 2)])
def test_a_missing_part_is_a_quarter_of_the_training_subjects(given: Part, drawn: int) -> None:
    # 0.6 : 0.2 is 3 : 1. Of twelve subjects three are drawn; each has two images.
    training = [sample(f"{n}{eye}", str(n), part="train") for n in range(12) for eye in "LR"]
    samples = [*training, sample("x", "x", part=given), sample("y", "y", part=given)]
    parts = split_by_part(samples, rng=rng())
    assert parts is not None
    assert sizes(parts)[0] == 18
    assert len(parts[drawn]) == 6
    assert ids(parts[3 - drawn]) == ["x", "y"]
    assert not subjects_of(parts)[0] & subjects_of(parts)[drawn]
    others = {tuple(ids(split(samples, "by_subject", seed=seed)[drawn])) for seed in range(8)}
    assert len(others) > 3


def test_a_part_is_drawn_of_two_training_subjects_and_not_of_one() -> None:
    parts = split_by_part(official("train", "train", "test"), rng=rng())
    assert parts is not None
    assert sizes(parts) == (1, 1, 1)
    with pytest.raises(Misuse, match=r"training part is of one subject \(0\).* no val part"):
        split_by_part(official("train", "test"), rng=rng())


def test_a_subject_in_two_official_parts_is_refused() -> None:
    samples = [sample("a", "p", part="train"), sample("b", "p", part="test")]
    with pytest.raises(Misuse, match="b: its subject p is in train and in test; put all images of"):
        split_by_part(samples, rng=rng())


def test_a_split_within_subjects_passes_the_official_one_over() -> None:
    samples = [sample(str(n), part="test" if n else "train") for n in range(10)]
    assert sizes(split(samples, "within_subject", seed=0)) == (6, 2, 2)


# Pools


def member(source: str, count: int) -> list[Sample]:
    return [sample(f"{source}-{n}", f"{source}-{n}", source=source) for n in range(count)]


def test_each_source_of_a_pool_is_split_by_itself() -> None:
    drive = [
        sample(f"drive-{n}", f"drive-{n}", part="train" if n < 8 else "test", source="drive")
        for n in range(16)
    ]
    train, val, test = split([*drive, *member("stare", 5)], "by_subject", seed=0)
    assert [s.source for s in test] == ["drive"] * 8 + ["stare"]
    assert [s.source for s in val] == ["drive"] * 2 + ["stare"]
    assert [s.source for s in train] == ["drive"] * 6 + ["stare"] * 3


def test_the_parts_of_a_source_do_not_depend_on_the_others() -> None:
    stare, folder = member("stare", 20), member("folder", 20)
    alone, pooled = (split(samples, "by_subject", seed=3) for samples in (stare, [*folder, *stare]))
    assert [ids(part) for part in alone] == [
        [name for name in ids(part) if name.startswith("stare")] for part in pooled
    ]


def test_two_sources_are_drawn_by_streams_of_their_own() -> None:
    test = split([*member("a", 20), *member("b", 20)], "by_subject", seed=0)[2]
    numbers = {source: [s.id[2:] for s in test if s.source == source] for source in "ab"}
    assert len(numbers["a"]) == len(numbers["b"]) == 4
    assert numbers["a"] != numbers["b"]


def test_a_source_that_cannot_be_split_is_named() -> None:
    samples = [*member("stare", 3), sample("drive-1", source="drive")]
    with pytest.raises(Misuse, match="drive: the only image is of one subject"):
        split(samples, "by_subject", seed=0)


# What is derived from the pixels


def test_a_fingerprint_does_not_depend_on_the_order() -> None:
    a, b = sample("a", value=1), sample("b", value=2)
    assert fingerprint([a, b]) == fingerprint([b, a])


@pytest.mark.parametrize("part", ["image", "mask", "fov", "id", "shape"])
def test_a_fingerprint_notices_a_change_of(part: str) -> None:
    before = sample("a")
    image, mask, fov, name = before.image.copy(), before.mask.copy(), before.fov.copy(), "a"
    if part == "image":
        image[1, 2, 0] += 1
    elif part == "mask":
        mask[1, 2] = 1
    elif part == "fov":
        fov[0, 0] = False
    elif part == "id":
        name = "b"
    else:  # the same bytes in another shape
        image, mask, fov = image.reshape(3, 2, 3), mask.reshape(3, 2), fov.reshape(3, 2)
    after = Sample(image=image, mask=mask, fov=fov, subject="s", id=name)
    assert fingerprint([before]) != fingerprint([after])


def test_a_fingerprint_is_that_of_the_written_down_bytes() -> None:
    # sha256(b"a\0(1, 1, 1)" + b"\x05" + b"\x01" + b"\x01"), computed with coreutils' sha256sum
    one = np.ones((1, 1), np.uint8)
    tiny = Sample(image=5 * one[..., None], mask=one, fov=one.astype(bool), subject="s", id="a")
    assert fingerprint([tiny]) == (
        "b53a58baa386fcafa23de22b29667b74565962c7073f32bcff6da432c73aae52"
    )


def test_histograms_count_the_pixels_of_every_grey_level() -> None:
    image = np.array([[[0, 1], [0, 3]], [[255, 3], [7, 3]]], np.uint8)
    counts = histograms(image)
    assert counts.shape == (2, 256)
    assert {level: n for level, n in enumerate(counts[0]) if n} == {0: 2, 7: 1, 255: 1}
    assert {level: n for level, n in enumerate(counts[1]) if n} == {1: 1, 3: 3}


def test_moments_are_the_mean_and_deviation_of_each_channel() -> None:
    # Channel 0: 0, 0, 10, 10 has mean 5 and deviation 5. Channel 1: 1, 3, 5, 7 has mean 4 and
    # variance (9 + 1 + 1 + 9) / 4 = 5.
    image = np.array([[[0, 1], [0, 3]], [[10, 5], [10, 7]]], np.uint8)
    mean, std = moments(histograms(image))
    assert mean.dtype == std.dtype == np.float32
    assert mean.tolist() == [5, 4]
    assert std == pytest.approx([5, np.sqrt(5)])


def test_the_moments_of_nothing_are_nought() -> None:
    mean, std = moments(np.zeros((1, 256), np.int64))
    assert (mean.tolist(), std.tolist()) == ([0], [0])


def test_a_random_stream_belongs_to_a_seed_and_a_name() -> None:
    first = rng_for(0, "patches", 3).integers(0, 1000, 5)
    assert (first == rng_for(0, "patches", 3).integers(0, 1000, 5)).all()
    for other in (rng_for(1, "patches", 3), rng_for(0, "augment", 3), rng_for(0, "patches", 4)):
        assert (first != other.integers(0, 1000, 5)).any()
