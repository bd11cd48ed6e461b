"""A network scored on whole images."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from r2search.data.samples import Sample
from r2search.train.inference import Ensemble, Predictor
from r2search.train.metrics import Metrics, Tally, mean_of, score, summarize


def evaluate(
    predictor: Predictor | Ensemble,
    samples: Iterable[Sample],
    also: Callable[[Sample, NDArray[np.float32]], Metrics] | None = None,
) -> tuple[Metrics, list[tuple[str, Metrics]]]:
    """Metrics over whole images, and the same of each image by its id.

    At native resolution, inside the field of view, at the threshold of the config. `also` says
    more of an image by its probabilities (F, H, W), as an `ImageScorer` does; the mean over the
    images counts.
    """
    predictor = predictor.snapshot()
    threshold = predictor.config.inference.threshold
    per_image, others = [], list[Metrics]()

    def tallies() -> Iterator[tuple[Tally, ...]]:  # one by one: a tally holds a megabyte a class
        for sample in samples:
            probability = predictor.probability(sample.image, sample.fov)
            tally = score(probability, sample.mask, sample.fov, threshold)
            more = also(sample, probability) if also else {}
            others.append(more)
            per_image.append((sample.id, summarize([tally]) | more))
            yield tally

    return summarize(tallies()) | mean_of(others), per_image
