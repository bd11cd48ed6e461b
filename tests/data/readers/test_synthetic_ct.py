"""The procedural CT slices: deterministic, plausible, and no task for a threshold."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from r2search.config import DataConfig, Misuse
from r2search.data.readers.synthetic_ct import synthetic_ct
from r2search.data.samples import Sample

LABELS = (3, 1, 2)
KIDNEYS, SPLEEN, LIVER = 1, 2, 3  # classes, by these labels
WIDE = (-1000.0, 1000.0)  # HU


def draw(**settings: Any) -> list[Sample]:
    return synthetic_ct(None, DataConfig(reader="synthetic_ct", **settings))


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return draw()


@pytest.fixture(scope="module")
def organs() -> list[Sample]:
    """All organs, and nearly all Hounsfield units."""
    return draw(labels=LABELS, window=WIDE)


def hu(sample: Sample) -> NDArray[np.float64]:
    return WIDE[0] + (WIDE[1] - WIDE[0]) * sample.image[..., 0] / 255


def volumes(samples: list[Sample]) -> dict[str, list[Sample]]:
    return {
        name: [s for s in samples if s.subject == name] for name in {s.subject for s in samples}
    }


def test_there_are_14_slices_of_each_of_6_volumes(samples: list[Sample]) -> None:
    assert [s.id for s in samples] == [
        f"{v:02d}_{n:02d}" for v in range(1, 7) for n in range(1, 15)
    ]
    assert all(s.subject == s.id[:2] for s in samples)


def test_arrays_are_as_a_sample_promises(samples: list[Sample]) -> None:
    for s in samples:
        assert s.image.shape == (128, 128, 1)
        assert s.image.dtype == s.mask.dtype == np.uint8
        assert s.mask.shape == (128, 128)
        assert set(np.unique(s.mask)) <= {0, 1}
        assert s.fov.all()


def test_no_two_volumes_are_of_one_body(organs: list[Sample]) -> None:
    firsts = [slices[6].mask for slices in volumes(organs).values()]
    for number, one in enumerate(firsts):
        for other in firsts[:number]:
            assert (one != other).mean() > 0.02


def test_pixels_have_the_size_that_a_body_needs(samples: list[Sample]) -> None:
    for slices in volumes(samples).values():
        spacings = {s.spacing for s in slices}
        assert len(spacings) == 1
        down, across = spacings.pop() or (0, 0)
        assert down == across
        assert 2 < down < 3.5


def test_some_slices_of_every_volume_show_the_spleen_and_some_do_not(
    samples: list[Sample],
) -> None:
    empty = [not s.mask.any() for s in samples]
    assert 0.05 < np.mean(empty) < 0.35
    for slices in volumes(samples).values():
        assert sum(s.mask.any() for s in slices) >= 7


def test_neighbouring_slices_show_the_same_body(organs: list[Sample]) -> None:
    livers = {s.id: s.mask == LIVER for s in organs}
    overlaps = [
        (livers[a.id] & livers[b.id]).sum() / (livers[a.id] | livers[b.id]).sum()
        for slices in volumes(organs).values()
        for a, b in pairwise(slices)
        if min(livers[a.id].sum(), livers[b.id].sum()) > 500
    ]
    assert np.median(overlaps) > 0.7


def test_organs_lie_where_radiologists_look_for_them(organs: list[Sample]) -> None:
    """The patient's right is on the left, the back is below."""
    for slices in volumes(organs).values():
        places = {
            organ: np.concatenate([np.argwhere(s.mask == organ) for s in slices]).mean(axis=0)
            for organ in (SPLEEN, LIVER, KIDNEYS)
        }
        assert places[LIVER][1] < 60 < 68 < places[SPLEEN][1]
        assert places[KIDNEYS][0] > places[LIVER][0]
    assert {SPLEEN, LIVER, KIDNEYS} <= set(np.unique([s.mask for s in organs]))


def test_tissues_have_plausible_hounsfield_units(organs: list[Sample]) -> None:
    for slices in volumes(organs).values():
        values, masks = np.stack([hu(s) for s in slices]), np.stack([s.mask for s in slices])
        assert 45 < np.median(values[masks == SPLEEN]) < 135
        assert 45 < np.median(values[masks == LIVER]) < 125
        assert 30 < np.median(values[masks == KIDNEYS]) < 190
        assert 5 < values[masks == SPLEEN].std() < 45
        assert np.median(values[:, :4]) == WIDE[0]  # air, above the belly
        assert 0.02 < ((values > -130) & (values < -70)).mean() < 0.5  # fat
        assert values.max() > 350  # bone


def test_the_window_says_which_units_are_black_and_white(
    samples: list[Sample], organs: list[Sample]
) -> None:
    for usual, wide in zip(samples, organs, strict=True):
        expected = np.clip((hu(wide) + 160) / 400 * 255, 0, 255)
        error = np.abs(usual.image[..., 0] - expected)
        assert error.max() <= 1 + 255 / 400 * (WIDE[1] - WIDE[0]) / 255


def test_the_mask_is_the_spleen_unless_labels_number_the_organs(
    samples: list[Sample], organs: list[Sample]
) -> None:
    for plain, labelled in zip(samples, organs, strict=True):
        np.testing.assert_array_equal(plain.mask > 0, labelled.mask == SPLEEN)


def test_an_unknown_label_is_answered_with_the_known_ones() -> None:
    with pytest.raises(Misuse, match="no organ 63; choose from 1 spleen, 2 liver, 3 kidneys"):
        draw(labels=(1, 63))


def test_no_global_threshold_scores_over_045(
    samples: list[Sample], best_threshold: Callable[[Sequence[Sample]], float]
) -> None:
    assert best_threshold(samples) <= 0.45
