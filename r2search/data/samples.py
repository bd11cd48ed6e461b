"""Images with their masks, and the split of them by subject."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One image with what is known of it. The arrays may be read-only: copy before writing."""

    image: NDArray[np.uint8]  # (H, W, C), 0..255
    mask: NDArray[np.uint8]  # (H, W), class index: 0 background, 1 foreground
    fov: NDArray[np.bool_]  # (H, W), True inside the field of view: only there is scored
    subject: str  # the patient; never on two sides of a split
    id: str  # unique in its data set, usable as a file name
    second_mask: NDArray[np.uint8] | None = None  # a second human observer's


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleSet:
    """A data set, split. `test` may be empty and is opened once, at the end."""

    reader: str
    synthetic: bool
    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    test: tuple[Sample, ...]
    fingerprint: str  # hash over ids, images and masks
    split: str  # `by_subject`, or `within_subject` (which is flagged everywhere)
    notes: tuple[str, ...] = ()  # what a reader of the scores must know

    @property
    def channels(self) -> int:
        return self.train[0].image.shape[2]
