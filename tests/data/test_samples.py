"""Splits, fingerprints and standardization."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2search.config import Misuse
from r2search.data.samples import (
    MIN_STD,
    Sample,
    fingerprint,
    rng_for,
    split_by_subject,
    split_within_subject,
    standardization,
    standardize,
)


def sample(
    name: str, subject: str = "s", value: int = 7, shape: tuple[int, int] = (2, 3)
) -> Sample:
    return Sample(
        image=np.full((*shape, 3), value, np.uint8),
        mask=np.eye(*shape, dtype=np.uint8),
        fov=np.ones(shape, np.bool_),
        subject=subject,
        id=name,
    )


def ids(samples: tuple[Sample, ...]) -> list[str]:
    return [s.id for s in samples]


@st.composite
def data_sets(draw: st.DrawFn, min_subjects: int = 3) -> list[Sample]:
    counts = draw(st.lists(st.integers(1, 4), min_size=min_subjects, max_size=12))
    return [sample(f"{s}-{i}", str(s)) for s, count in enumerate(counts) for i in range(count)]


@settings(deadline=None)
@given(data_sets(), st.integers(0, 2**32))
def test_a_split_by_subject_keeps_every_sample_and_no_subject_on_two_sides(
    samples: list[Sample], seed: int
) -> None:
    parts = split_by_subject(samples, seed=seed)
    assert sorted(name for part in parts for name in ids(part)) == sorted(s.id for s in samples)
    subjects = [{s.subject for s in part} for part in parts]
    assert all(subjects)
    assert sum(map(len, subjects)) == len(set.union(*subjects))


@settings(deadline=None)
@given(data_sets(min_subjects=2), st.integers(0, 2**32), st.randoms())
def test_a_split_depends_on_the_seed_and_not_on_the_order_of_the_samples(
    samples: list[Sample], seed: int, random: object
) -> None:
    shuffled = sorted(samples, key=lambda s: random.random())  # type: ignore[attr-defined]
    parts, again = split_by_subject(samples, seed=seed), split_by_subject(shuffled, seed=seed)
    assert [set(ids(part)) for part in parts] == [set(ids(part)) for part in again]


def test_another_seed_gives_another_split() -> None:
    samples = [sample(str(n), str(n)) for n in range(10)]
    assert len({tuple(ids(split_by_subject(samples, seed=seed)[2])) for seed in range(8)}) > 3


@pytest.mark.parametrize(
    ("subjects", "sizes"), [(3, (1, 1, 1)), (4, (2, 1, 1)), (10, (6, 2, 2)), (15, (9, 3, 3))]
)
def test_the_parts_have_three_to_one_to_one_of_the_subjects(
    subjects: int, sizes: tuple[int, int, int]
) -> None:
    samples = [sample(str(n), str(n)) for n in range(subjects)]
    assert tuple(map(len, split_by_subject(samples, seed=0))) == sizes


def test_two_subjects_leave_the_test_part_empty() -> None:
    samples = [sample("a", "1"), sample("b", "2"), sample("c", "2")]
    train, val, test = split_by_subject(samples, seed=0)
    assert len(train) + len(val) == 3
    assert train
    assert val
    assert test == ()


def test_one_subject_is_refused_with_the_way_out() -> None:
    with pytest.raises(Misuse, match=r"of one subject \(s\).*--set data.split=within_subject"):
        split_by_subject([sample("a"), sample("b")], seed=0)


def test_no_images_at_all_are_refused() -> None:
    with pytest.raises(Misuse, match="no images"):
        split_by_subject([], seed=0)


@settings(deadline=None)
@given(st.integers(2, 20), st.integers(0, 99))
def test_a_split_within_a_subject_keeps_every_image_once(count: int, seed: int) -> None:
    parts = split_within_subject([sample(str(n)) for n in range(count)], seed=seed)
    assert sorted(name for part in parts for name in ids(part)) == sorted(map(str, range(count)))
    assert all(parts[:2])
    assert bool(parts[2]) == (count > 2)


def test_one_image_cannot_be_split_within_its_subject() -> None:
    with pytest.raises(Misuse, match=r"one image only \(a\).*add an image"):
        split_within_subject([sample("a")], seed=0)


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


def test_standardization_is_the_mean_and_deviation_of_each_channel() -> None:
    # Channel 0: 0, 0, 10, 10 has mean 5 and deviation 5. Channel 1: 1, 3, 5, 7 has mean 4 and
    # variance (9 + 1 + 1 + 9) / 4 = 5.
    image = np.array([[[0, 1], [0, 3]], [[10, 5], [10, 7]]], np.uint8)
    mean, std = standardization(image)
    assert mean.dtype == std.dtype == np.float32
    assert mean.tolist() == [5, 4]
    assert std == pytest.approx([5, np.sqrt(5)])


def test_a_standardized_image_has_mean_zero_and_deviation_one() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    result = standardize(image)
    assert result.dtype == np.float32
    assert result.shape == image.shape
    assert result.mean(axis=(0, 1)) == pytest.approx([0, 0, 0], abs=1e-5)
    assert result.std(axis=(0, 1)) == pytest.approx([1, 1, 1], abs=1e-5)


def test_a_constant_image_becomes_zero() -> None:
    image = np.full((4, 4, 1), 200, np.uint8)
    assert standardization(image)[1] == [MIN_STD]
    assert (standardize(image) == 0).all()


def test_a_random_stream_belongs_to_a_seed_and_a_name() -> None:
    first = rng_for(0, "patches", 3).integers(0, 1000, 5)
    assert (first == rng_for(0, "patches", 3).integers(0, 1000, 5)).all()
    for other in (rng_for(1, "patches", 3), rng_for(0, "augment", 3), rng_for(0, "patches", 4)):
        assert (first != other.integers(0, 1000, 5)).any()
