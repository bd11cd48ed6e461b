"""A split scored image by image, with what an interval needs: jackknife pseudo-values."""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2search.config import TrialConfig
from r2search.data.prepare import fit_preparation
from r2search.data.samples import Sample, SampleSet
from r2search.models.unet import build_model
from r2search.records import CHECKPOINTS, TrialOutcome
from r2search.train.hardware import apply, detect, place_model
from r2search.train.inference import Ensemble, Predictor
from r2search.train.metrics import BINS, LOGIT_RANGE, Metrics, Tally, mean_of, score, summarize
from r2search.weights import WEIGHTS, read_weights

# Views of a split: inside the field of view, over whole images, and at the threshold of the search
INSIDE, WHOLE, SEARCHED = "fov", "whole", "searched"
BLOCKS = 20  # of images at most: of so many, pseudo-values are computed
THRESHOLDS = tuple(round(0.02 * step, 2) for step in range(1, 50))

Tallies = tuple[Tally, ...]  # of each foreground class


class View(NamedTuple):
    """How a prediction is scored: which pixels count, and from where on they are foreground."""

    threshold: float
    inside: bool = True  # the field of view, or the whole image
    # What is said of images as wholes, besides; it costs more than all else
    also: Callable[[Sample, NDArray[np.float32]], Metrics] | None = None


@dataclass(frozen=True, slots=True)
class Scores:
    """What one network has in one view of a split."""

    metrics: Metrics  # over all images
    images: list[Metrics]  # of each
    # Tukey's pseudo-values of every metric, one a block of images: their mean is the metric with
    # less bias, and they spread as independent images would. Of a mean over up to BLOCKS images,
    # that of each image.
    blocks: dict[str, list[float]]


@dataclass(slots=True)
class _Gathered:
    """The tallies of one view, block by block: one of an image holds a megabyte a class."""

    images: list[Metrics] = field(default_factory=list)
    blocks: dict[int, Tallies] = field(default_factory=dict)
    more: dict[int, list[Metrics]] = field(default_factory=dict)  # of images as wholes, by block

    def add(self, tallies: Tallies, more: Metrics, block: int) -> None:
        self.images.append(summarize([tallies]) | more)
        sofar = self.blocks.get(block)
        self.blocks[block] = tallies if sofar is None else _added([sofar, tallies])
        self.more.setdefault(block, []).append(more)

    def scores(self) -> Scores:
        metrics = self._summary(list(self.blocks))
        count, values = len(self.blocks), dict[str, list[float]]()
        for left_out in self.blocks:
            rest = [block for block in self.blocks if block != left_out]
            without = self._summary(rest) if rest else metrics
            for name, value in metrics.items():
                pseudo = count * value - (count - 1) * without[name]
                values.setdefault(name, []).append(pseudo)
        return Scores(metrics, self.images, values)

    def _summary(self, blocks: Sequence[int]) -> Metrics:
        more = [each for block in blocks for each in self.more[block]]
        return summarize([self.blocks[block] for block in blocks]) | mean_of(more)


def score_views(
    predicted: Iterable[tuple[Sample, NDArray[np.float32]]],
    count: int,
    views: Mapping[str, View],
) -> tuple[dict[str, Scores], NDArray[np.float64]]:
    """The scores of every view, and the Dice of each image over THRESHOLDS, (I, T).

    `predicted`: `count` images with their probabilities (F, H, W), outside the field of view too.
    INSIDE is among the views; the curves are of it, and of the first foreground class.
    """
    gathered = {name: _Gathered() for name in views}
    curves = []
    for number, (sample, probability) in enumerate(predicted):
        block = number * min(count, BLOCKS) // count
        everywhere = np.ones_like(sample.fov)
        for name, view in views.items():
            area = sample.fov if view.inside else everywhere
            tallies = score(probability, sample.mask, area, view.threshold)
            more = view.also(sample, probability * area) if view.also else {}
            gathered[name].add(tallies, more, block)
            if name == INSIDE:
                curves.append(dice_over(tallies[0].histogram))
    return {name: each.scores() for name, each in gathered.items()}, np.stack(curves)


def score_network(
    predictor: Predictor | Ensemble, samples: Sequence[Sample], views: Mapping[str, View]
) -> tuple[dict[str, Scores], NDArray[np.float64]]:
    """The same of what a network says of a split; it sees every image once."""
    predictor = predictor.snapshot()
    anywhere = any(not view.inside for view in views.values())

    def predicted() -> Iterable[tuple[Sample, NDArray[np.float32]]]:
        for sample in samples:
            fov = None if anywhere else sample.fov
            yield sample, predictor.probability(sample.image, fov)

    return score_views(predicted(), len(samples), views)


def dice_over(histogram: NDArray[np.int64]) -> NDArray[np.float64]:
    """Dice of one image at each of THRESHOLDS, from pixels by truth and by bin of probability.

    Exact for probabilities rounded to a bin.
    """
    levels = np.array(THRESHOLDS)
    logits = np.log(levels / (1 - levels))
    bins = ((logits + LOGIT_RANGE) * BINS / (2 * LOGIT_RANGE)).astype(np.int64)
    background, foreground = histogram[:, ::-1].cumsum(axis=1)[:, ::-1]  # from a bin upwards
    tp, fp = foreground[bins], background[bins]
    whole = tp + fp + foreground[0]
    return np.where(whole > 0, 2 * tp / np.maximum(whole, 1), 1.0)


def best_threshold(curves: Sequence[NDArray[np.float64]]) -> float:
    """That of the best mean Dice over trainings and images (each (I, T)); of equals the nearest
    to 0.5.
    """
    mean = np.mean([curve.mean(0) for curve in curves], axis=0)
    best = mean.max()
    at = [level for level, value in zip(THRESHOLDS, mean, strict=True) if value >= best - 1e-12]
    return min(at, key=lambda level: abs(level - 0.5))


def has_surround(samples: Iterable[Sample]) -> bool:
    """Whether some pixels lie outside the field of view."""
    return any(not sample.fov.all() for sample in samples)


def at_threshold(config: TrialConfig, threshold: float | None) -> TrialConfig:
    """The same config with another threshold; None leaves it."""
    if threshold is None:
        return config
    inference = config.inference.model_copy(update={"threshold": threshold})
    return config.model_copy(update={"inference": inference})


def restore(
    run_dir: Path, trial: TrialOutcome, samples: SampleSet, threshold: float | None = None
) -> Predictor:
    """The network of a trial's best epoch, ready to predict on this machine.

    `threshold`: in place of that of its config.
    """
    config = at_threshold(TrialConfig.model_validate(trial.config), threshold)
    return network(config, run_dir / CHECKPOINTS / trial.trial / WEIGHTS, samples)


def network(config: TrialConfig, weights_path: Path, samples: SampleSet) -> Predictor:
    """The network of a config with weights of its own, trained on `samples`."""
    model = build_model(config.model)
    weights, _ = read_weights(weights_path)
    model.load_state_dict(weights)
    hardware = detect(config.train)
    apply(hardware)
    place_model(model, hardware)
    return Predictor(model, config, fit_preparation(config.data, samples.train), hardware)


def _added(tallies: Sequence[Tallies]) -> Tallies:
    return reduce(lambda sofar, each: tuple(map(operator.add, sofar, each)), tallies)
