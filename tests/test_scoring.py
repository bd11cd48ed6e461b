"""Scores of a split with what intervals need, and the threshold that its curve chooses."""

import numpy as np
import pytest
from numpy.typing import NDArray

from r2search.data.samples import Sample
from r2search.intervals import interval
from r2search.scoring import (
    BLOCKS,
    INSIDE,
    THRESHOLDS,
    WHOLE,
    View,
    best_threshold,
    dice_over,
    has_surround,
    score_views,
)
from r2search.train.metrics import score, summarize

VIEWS = {INSIDE: View(0.5), WHOLE: View(0.5, inside=False)}
Pair = tuple[Sample, NDArray[np.float32]]


def images(count: int, seed: int = 0, surround: bool = True) -> list[Pair]:
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        mask = (rng.random((48, 64)) < 0.3).astype(np.uint8)
        fov = np.ones(mask.shape, np.bool_)
        if surround:
            fov[:, :3] = False
        probability = np.clip(0.3 * mask + 0.7 * rng.random(mask.shape), 0.001, 0.999)
        sample = Sample(
            image=np.zeros((*mask.shape, 3), np.uint8),
            mask=mask,
            fov=fov,
            subject=f"s{number // 2}",
            id=f"i{number}",
        )
        made.append((sample, probability[None].astype(np.float32)))
    return made


def test_a_view_has_the_metrics_of_all_images_and_of_each() -> None:
    pairs = images(4)
    views, _ = score_views(pairs, 4, VIEWS)
    for name, area in ((INSIDE, None), (WHOLE, True)):
        tallies = [
            score(p, s.mask, s.fov if area is None else np.ones_like(s.fov), 0.5) for s, p in pairs
        ]
        assert views[name].metrics == summarize(tallies)
        assert views[name].images == [summarize([each]) for each in tallies]
    assert views[INSIDE].metrics != views[WHOLE].metrics


def test_pseudo_values_of_a_mean_are_its_images() -> None:
    views, _ = score_views(images(4), 4, VIEWS)
    found = views[INSIDE]
    assert found.blocks["dice_mean"] == pytest.approx([i["dice_mean"] for i in found.images])


def test_pseudo_values_of_a_pooled_score_are_tukeys() -> None:
    pairs = images(5)
    views, _ = score_views(pairs, 5, VIEWS)
    tallies = [score(p, s.mask, s.fov, 0.5) for s, p in pairs]
    whole = summarize(tallies)["dice_pooled"]
    first = 5 * whole - 4 * summarize(tallies[1:])["dice_pooled"]
    assert views[INSIDE].blocks["dice_pooled"][0] == pytest.approx(first)
    _, low, high = interval([views[INSIDE].blocks["dice_pooled"]])
    assert low is not None
    assert high is not None
    assert low < whole < high


def test_many_images_are_put_into_blocks() -> None:
    views, _ = score_views(images(2 * BLOCKS + 3), 2 * BLOCKS + 3, {INSIDE: View(0.5)})
    assert len(views[INSIDE].blocks["auc_pr"]) == BLOCKS
    assert len(views[INSIDE].images) == 2 * BLOCKS + 3


def test_one_image_has_one_pseudo_value_and_no_interval() -> None:
    views, _ = score_views(images(1), 1, {INSIDE: View(0.5)})
    assert interval([views[INSIDE].blocks["dice_pooled"]]).low is None


def test_the_curve_is_the_dice_at_each_threshold() -> None:
    ((sample, probability),) = images(1)
    (tally,) = score(probability, sample.mask, sample.fov, 0.5)
    curve = dice_over(tally.histogram)
    for level, found in zip(THRESHOLDS, curve, strict=True):
        (at,) = score(probability, sample.mask, sample.fov, level)
        assert found == pytest.approx(summarize([(at,)])["dice_mean"], abs=5e-3), level


def test_the_threshold_of_the_best_mean_is_chosen_and_of_equals_that_nearest_the_middle() -> None:
    at = np.array(THRESHOLDS)
    assert best_threshold([-np.abs(at - 0.3)[None], -np.abs(at - 0.34)[None] * 3]) == 0.34
    assert best_threshold([np.ones((2, len(at)))]) == 0.5


def test_a_surround_is_seen() -> None:
    assert has_surround(sample for sample, _ in images(2))
    assert not has_surround(sample for sample, _ in images(2, surround=False))
