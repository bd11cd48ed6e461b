"""Shapes worked out by hand, a real volume with known answers, and what holds for every metric."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from r2search.config import DataConfig
from r2search.data.readers.chaos import read_series
from r2search.data.readers.images import list_images, read_mask
from r2search.data.samples import Sample
from r2search.train.image_metrics import (
    BINS,
    IMAGE_METRICS,
    LENGTHS,
    ImageScorer,
    View,
    image_scores,
    surface_distances,
)

CHAOS = Path(__file__).parents[2] / "../shared/data/chaos_ct"
BEST = {name: float(name == "cldice") for name in IMAGE_METRICS}  # all others are errors

Mask = NDArray[np.bool_]


def view(
    predicted: Mask,
    truth: Mask,
    fov: Mask | None = None,
    probability: NDArray[np.float32] | None = None,
    spacing: tuple[float, ...] | None = None,
) -> View:
    """A certain prediction, unless another probability is given."""
    inside = np.ones(truth.shape, np.bool_) if fov is None else fov
    sure = predicted.astype(np.float32) if probability is None else probability
    return View(predicted & inside, truth & inside, sure, inside, spacing or (1.0,) * truth.ndim)


def box(top: int, bottom: int, left: int, right: int, size: int = 40) -> Mask:
    mask = np.zeros((size, size), np.bool_)
    mask[top:bottom, left:right] = True
    return mask


NONE = box(0, 0, 0, 0)


# By hand


def test_a_vessel_drawn_thicker_keeps_its_centreline_and_a_broken_one_does_not() -> None:
    thin, thick = box(19, 22, 0, 40), box(16, 25, 0, 40)
    assert IMAGE_METRICS["cldice"](view(thick, thin)) == 1.0
    broken = thin & ~box(0, 40, 10, 20)
    # All of the broken one's centre is in the vessel, and 30 of 40 pixels of the vessel's in it;
    # a centreline ends short of a corner, so there is a pixel of room.
    assert IMAGE_METRICS["cldice"](view(broken, thin)) == pytest.approx(2 * 0.75 / 1.75, abs=0.02)
    assert IMAGE_METRICS["betti0_error"](view(broken, thin)) == 1.0
    assert IMAGE_METRICS["betti0_error"](view(thick, thin)) == 0.0


def test_pieces_that_touch_at_a_corner_are_one() -> None:
    two = box(0, 5, 0, 5) | box(5, 9, 5, 9)
    assert IMAGE_METRICS["betti0_error"](view(two, box(0, 5, 0, 5))) == 0.0
    three = two | box(20, 22, 20, 22) | box(30, 32, 30, 32)
    assert IMAGE_METRICS["betti0_error"](view(three, box(0, 5, 0, 5))) == 2.0


def test_boundaries_of_a_moved_box_are_as_far_as_it_was_moved() -> None:
    one, other = box(10, 20, 10, 20), box(10, 20, 13, 23)
    there, back = surface_distances(one, other, (1.0, 1.0))
    assert len(there) == len(back) == 36  # 10 x 10, without its 8 x 8 inside
    # Left edges, 10 pixels, are 3 apart; of the others of `one`, two rows of 10 less the corner,
    # those at columns 11 and 12 are 2 and 1 away, those from column 13 on are on the boundary. The
    # 8 pixels of its right edge are 3 from the other right edge, or nearer to a row: 1, 2, 3, 3.
    expected = [3] * 10 + [2, 2, 1, 1] + [0] * 14 + [1, 2, 3, 3, 3, 3, 2, 1]
    assert sorted(there) == sorted(expected)
    assert sorted(back) == sorted(expected)
    assert IMAGE_METRICS["assd"](view(one, other)) == pytest.approx(np.mean(expected))
    assert IMAGE_METRICS["hd95"](view(one, other)) == 3.0


def test_distances_are_counted_in_the_spacing_of_each_axis() -> None:
    one, other = box(10, 12, 10, 20), box(20, 22, 10, 20)
    across, down = view(one.T, other.T, spacing=(0.5, 2.0)), view(one, other, spacing=(0.5, 2.0))
    assert IMAGE_METRICS["hd95"](down) == pytest.approx(10 * 0.5)
    assert IMAGE_METRICS["hd95"](across) == pytest.approx(10 * 2.0)


def test_calibration_is_what_scikit_learn_finds() -> None:
    rng = np.random.default_rng(0)
    p = rng.beta(0.4, 0.6, (60, 70)).astype(np.float32)
    truth = rng.random(p.shape) < p**1.5  # too sure
    seen = view(p >= 0.5, truth, probability=p)
    found, said = calibration_curve(truth.ravel(), p.ravel(), n_bins=BINS)
    pixels = np.histogram(p, BINS, (0, 1))[0]
    expected = (np.abs(found - said) * pixels / p.size).sum()
    assert IMAGE_METRICS["ece"](seen) == pytest.approx(expected, rel=1e-6)
    assert IMAGE_METRICS["ece"](seen) > 0.05
    exact = brier_score_loss(truth.ravel(), p.ravel())
    assert IMAGE_METRICS["brier"](seen) == pytest.approx(exact, rel=1e-6)


def test_probabilities_that_come_true_are_well_calibrated() -> None:
    rng = np.random.default_rng(1)
    p = rng.random((300, 300)).astype(np.float32)
    assert IMAGE_METRICS["ece"](view(p >= 0.5, rng.random(p.shape) < p, probability=p)) < 0.01


# A real liver, and the answers that the organisers of CHAOS give for their sample submission


@pytest.mark.skipif(not CHAOS.is_dir(), reason=f"the volume of CHAOS is not in {CHAOS}")
def test_a_real_volume_has_the_known_surface_distances() -> None:
    volume, truth = read_series(CHAOS, DataConfig(reader="chaos"), CHAOS / "CT" / "3")
    files = list_images(CHAOS / "sample_submission")
    submitted = np.stack([read_mask(path, (), may_be_empty=True) for path in files])
    both = view(submitted > 0, truth > 0, spacing=volume.spacing)
    assert IMAGE_METRICS["assd"](both) == pytest.approx(0.713, abs=5e-4)  # 6-connected surfaces
    there, back = surface_distances(both.predicted, both.truth, both.spacing)
    assert max(there.max(), back.max()) == pytest.approx(14.0, abs=0.005)  # MSSD
    assert 0.713 < IMAGE_METRICS["hd95"](both) < 14.0


# What holds for every metric of the table


@pytest.mark.parametrize("name", IMAGE_METRICS)
def test_a_perfect_prediction_is_the_best_and_others_are_worse(name: str) -> None:
    metric, truth = IMAGE_METRICS[name], box(10, 20, 10, 20)
    assert metric(view(truth, truth)) == BEST[name]
    assert metric(view(NONE, NONE)) == BEST[name]
    for other in (NONE, box(30, 34, 5, 9) | box(0, 4, 30, 34)):
        assert abs(metric(view(other, truth)) - BEST[name]) > 1e-3


@pytest.mark.parametrize("name", IMAGE_METRICS)
def test_one_empty_mask_has_the_written_down_value(name: str) -> None:
    metric, truth = IMAGE_METRICS[name], box(0, 20, 0, 20)
    diagonal = 40 * 2**0.5
    expected = {"cldice": 0.0, "betti0_error": 1.0, "ece": 0.25, "brier": 0.25}
    for predicted, there in ((NONE, truth), (truth, NONE)):
        assert metric(view(predicted, there)) == pytest.approx(expected.get(name, diagonal))


@pytest.mark.parametrize("name", IMAGE_METRICS)
def test_what_lies_outside_the_field_of_view_does_not_count(name: str) -> None:
    metric, fov = IMAGE_METRICS[name], box(0, 40, 0, 25)
    truth, predicted = box(10, 20, 10, 20), box(11, 21, 10, 22)
    inside = metric(view(predicted, truth, fov))
    assert metric(view(predicted | box(0, 40, 30, 35), truth | box(5, 8, 26, 40), fov)) == inside
    assert metric(view(predicted, truth, NONE)) == BEST[name]  # there is nothing at all


MASKS = st.lists(
    st.tuples(*[st.integers(5, 20)] * 2, *[st.integers(1, 9)] * 2), min_size=1, max_size=3
)


def drawn(boxes: list[tuple[int, int, int, int]]) -> Mask:
    found = NONE.copy()
    for top, left, height, width in boxes:
        found |= box(top, top + height, left, left + width)
    return found


@pytest.mark.parametrize("name", IMAGE_METRICS)
@given(one=MASKS, other=MASKS, move=st.tuples(st.integers(-5, 10), st.integers(-5, 10)))
def test_moving_both_masks_changes_nothing(
    name: str,
    one: list[tuple[int, int, int, int]],
    other: list[tuple[int, int, int, int]],
    move: tuple[int, int],
) -> None:
    metric, a, b = IMAGE_METRICS[name], drawn(one), drawn(other)
    moved = view(np.roll(a, move, (0, 1)), np.roll(b, move, (0, 1)))
    assert metric(moved) == pytest.approx(metric(view(a, b)))


@pytest.mark.parametrize("name", IMAGE_METRICS)
@given(one=MASKS, other=MASKS)
def test_prediction_and_truth_may_change_places(
    name: str, one: list[tuple[int, int, int, int]], other: list[tuple[int, int, int, int]]
) -> None:
    metric, a, b = IMAGE_METRICS[name], drawn(one), drawn(other)
    assert metric(view(a, b)) == pytest.approx(metric(view(b, a)))
    assert np.isfinite(metric(view(a, b)))


# Of images


def test_the_scores_of_an_image_have_their_unit_and_its_classes() -> None:
    mask = np.zeros((30, 40), np.uint8)
    mask[5:10, 5:10], mask[20:25, 20:30] = 1, 2
    probability = np.stack([mask == 1, mask == 2]).astype(np.float32)
    fov = np.ones(mask.shape, np.bool_)
    found = image_scores(probability, mask, fov, 0.5, spacing=(0.5, 0.5))
    names = {name + "_mm" * (name in LENGTHS) for name in IMAGE_METRICS}
    assert found.keys() == {f"{n}{of}" for n in names for of in ("", "_class1", "_class2")}
    assert (found["cldice"], found["hd95_mm"]) == (1.0, 0.0)
    probability[1] = 0
    found = image_scores(probability, mask, fov, 0.5, spacing=(0.5, 0.5))
    assert (found["cldice_class1"], found["cldice_class2"], found["cldice"]) == (1.0, 0.0, 0.5)
    assert found["hd95_mm"] == pytest.approx(25 / 2)  # half the diagonal of 15 x 20 mm
    (one,) = {frozenset(image_scores(probability[:1], mask == 1, fov, 0.5))}
    assert {"hd95_px", "assd_px"} < one
    assert not [name for name in one if "class" in name]


def sample(spacing: tuple[float, float] | None) -> Sample:
    truth = box(10, 20, 10, 20)
    return Sample(
        image=np.zeros((40, 40, 3), np.uint8),
        mask=truth.astype(np.uint8),
        fov=np.ones_like(truth),
        subject="s",
        id="s",
        spacing=spacing,
    )


def test_distances_are_in_millimetres_where_all_images_tell_their_spacing() -> None:
    known, unknown = sample((0.5, 0.5)), sample(None)
    sure = known.mask[None].astype(np.float32)
    assert "hd95_mm" in ImageScorer([known, known], 0.5)(known, sure)
    assert "hd95_px" in ImageScorer([known, unknown], 0.5)(known, sure)


def test_a_reliability_curve_adds_all_images() -> None:
    one = sample(None)
    scorer = ImageScorer([one], 0.5)
    half = np.full((1, 40, 40), 0.5, np.float32)
    scorer(one, half)
    scorer(one, one.mask[None].astype(np.float32))
    assert scorer.reliability() == [
        {"pixels": 1500.0, "predicted": 0.0, "observed": 0.0},
        {"pixels": 1600.0, "predicted": 0.5, "observed": 100 / 1600},
        {"pixels": 100.0, "predicted": 1.0, "observed": 1.0},
    ]
