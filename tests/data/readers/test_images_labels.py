"""Masks of several classes."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from r2search.config import Misuse
from r2search.data.readers.images import read_mask

ORGANS = np.array([[0, 5, 0, 3], [5, 5, 3, 0]], np.uint8)


def save(path: Path, pixels: NDArray[np.uint8]) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def test_labels_become_class_indices_in_their_order(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", ORGANS)
    assert read_mask(path, (3, 5)).tolist() == [[0, 2, 0, 1], [2, 2, 1, 0]]
    assert read_mask(path, (5, 3)).tolist() == [[0, 1, 0, 2], [1, 1, 2, 0]]


def test_the_index_into_a_palette_is_the_label(tmp_path: Path) -> None:
    picture = Image.fromarray(ORGANS)
    picture.putpalette([0, 0, 0, 9, 9, 9, 9, 9, 9, 255, 0, 0, 9, 9, 9, 0, 255, 0])
    picture.save(tmp_path / "a.png")
    assert picture.mode == "P"
    assert read_mask(tmp_path / "a.png", (3, 5)).tolist() == [[0, 2, 0, 1], [2, 2, 1, 0]]


def test_a_value_that_is_no_label_is_refused_with_its_share(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match=r"a.png: 37.50% of its .* not in data.labels \[3\] \(5\)"):
        read_mask(save(tmp_path / "a.png", ORGANS), (3,))  # three pixels of eight


def test_a_mask_without_any_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match=r"a.png: is all empty"):
        read_mask(save(tmp_path / "a.png", ORGANS * 0), (3, 5))
