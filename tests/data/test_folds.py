"""Every subject validates once, and is on one side of each split."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2search.config import Misuse
from r2search.data.folds import folded, require_folds
from r2search.data.samples import Sample, SampleSet


def sample(name: str, subject: str, source: str = "") -> Sample:
    shape = (2, 3)
    return Sample(
        image=np.zeros((*shape, 3), np.uint8),
        mask=np.zeros(shape, np.uint8),
        fov=np.ones(shape, np.bool_),
        subject=subject,
        id=name,
        source=source,
    )


def made(counts: list[int], split: str = "by_subject") -> SampleSet:
    """Subjects with so many images each; the first validates, the second is for the test."""
    parts = [
        tuple(sample(f"{subject}-{i}", str(subject)) for i in range(count))
        for subject, count in enumerate(counts)
    ]
    return SampleSet(
        reader="folder",
        synthetic=False,
        train=tuple(one for part in parts[2:] for one in part),
        val=parts[0],
        test=parts[1],
        fingerprint="f",
        split=split,
    )


@st.composite
def studies(draw: st.DrawFn) -> tuple[SampleSet, int]:
    counts = draw(st.lists(st.integers(1, 4), min_size=3, max_size=12))
    return made(counts), draw(st.integers(1, len(counts) - 1))


@given(studies())
def test_every_image_that_is_not_for_the_test_validates_once(
    study: tuple[SampleSet, int],
) -> None:
    samples, folds = study
    require_folds(samples, folds)
    every = [folded(samples, (fold, folds)) for fold in range(folds)]
    assert every[0] is samples
    validated = Counter(one.id for each in every for one in each.val)
    wanted = samples.val if folds == 1 else (*samples.train, *samples.val)
    assert validated == Counter(one.id for one in wanted)
    for each in every:
        assert each.test == samples.test
        assert {s.subject for s in each.train}.isdisjoint(s.subject for s in each.val)
        images = [s.id for s in (*each.train, *each.val)]
        assert sorted(images) == sorted(s.id for s in (*samples.train, *samples.val))
        assert each.train


def test_folds_are_as_large_as_each_other_where_that_can_be() -> None:
    samples = made([2, 2, 2, 2, 2, 2, 2, 2])  # as CHASE_DB1 is split, six children to train on
    sizes = [len(folded(samples, (fold, 4)).val) for fold in range(4)]
    assert sizes == [2, 4, 4, 4]


def test_a_study_that_is_split_within_subjects_deals_out_images() -> None:
    samples = made([1, 1, 6], "within_subject")
    assert [len(folded(samples, (fold, 3)).val) for fold in range(3)] == [1, 3, 3]


def test_subjects_of_two_sources_may_have_one_name() -> None:
    pool = made([1, 1])
    train = tuple(sample(f"{source}-1", "1", source) for source in ("drive", "stare"))
    samples = SampleSet(
        reader="pool",
        synthetic=False,
        train=train,
        val=pool.val,
        test=pool.test,
        fingerprint="f",
        split="by_subject",
    )
    assert [s.id for s in folded(samples, (1, 3)).val] == ["drive-1"]


def test_more_folds_than_subjects_are_refused_with_the_most_there_can_be() -> None:
    with pytest.raises(Misuse, match=r"5 are too many for 3 subjects .* confirm.folds=4 is the"):
        require_folds(made([1, 1, 2, 2, 2]), 5)
