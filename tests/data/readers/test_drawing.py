"""What the procedural data sets draw with."""

import os
import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from r2search.config import DataConfig
from r2search.data.readers.drawing import (
    MARGIN,
    as_read,
    blob,
    clouds,
    ellipse,
    pixel_grid,
    soft,
    stroke,
    walk,
)
from r2search.data.readers.synthetic_nuclei import synthetic_nuclei
from r2search.data.samples import Sample, fingerprint

SHAPE = (48, 64)


def sample(spacing: tuple[float, float] | None = None) -> Sample:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (100, 200, 3), np.uint8)
    mask = (image[..., 0] > 127).astype(np.uint8)
    fov = np.ones((100, 200), np.bool_)
    return Sample(
        image=image, mask=mask, second_mask=mask, fov=fov, subject="a", id="a", spacing=spacing
    )


def test_clouds_have_mean_0_and_deviation_1() -> None:
    drawn = clouds(np.random.default_rng(1), 6, shape=SHAPE)
    assert drawn.shape == SHAPE
    assert abs(drawn.mean()) < 1e-9
    assert abs(drawn.std() - 1) < 1e-9


def test_more_cells_make_finer_clouds() -> None:
    steps = [
        np.abs(np.diff(clouds(np.random.default_rng(1), cells, shape=SHAPE))).mean()
        for cells in (3, 9, 27)
    ]
    assert 2 * steps[0] < steps[1]
    assert 2 * steps[1] < steps[2]


def test_a_blob_is_1_in_its_centre_and_as_wide_as_asked() -> None:
    drawn = blob((20, 30), 4, 2, shape=SHAPE)
    assert drawn[20, 30] == drawn.max() == 1
    assert np.isclose(drawn[20, 34], np.exp(-0.5))
    assert np.isclose(drawn[28, 30], np.exp(-0.5))


@given(
    turn=st.floats(-7, 7),
    height=st.floats(0.5, 30),
    width=st.floats(0.5, 30),
    around=st.floats(-4, 4),
)
def test_the_rim_of_an_ellipse_is_1_from_its_centre(
    turn: float, height: float, width: float, around: float
) -> None:
    down, across = height * np.cos(around), width * np.sin(around)
    y = 5 + down * np.cos(turn) + across * np.sin(turn)
    x = 7 - down * np.sin(turn) + across * np.cos(turn)
    grid = np.array([[y]]), np.array([[x]])
    assert np.isclose(ellipse(grid, (5, 7), (height, width), turn), 1)


def test_a_soft_edge_goes_from_0_to_1() -> None:
    assert np.allclose(soft(np.array([-1e9, 0.0, 1e9])), [0, 0.5, 1])


def test_a_walk_without_bends_is_straight() -> None:
    path = walk((1.0, 2.0), np.pi / 2, np.zeros(4))
    assert np.allclose(path, np.array([[1.5, 2.0], [2.0, 2.0], [2.5, 2.0], [3.0, 2.0]]))


def test_a_stroke_is_as_wide_as_its_discs_and_the_highest_weight_wins() -> None:
    points = np.array([[20.0, 30.0, 3.0], [20.0, 30.0, 1.0]])
    drawn = stroke(points, np.array([0.4, 0.9]), shape=SHAPE)
    assert drawn[20, 30] == 0.9
    assert drawn[20, 33] == 0.4 * 0.5
    assert drawn[20, 34] == 0


def test_a_stroke_may_cross_the_edge_and_leave_the_picture() -> None:
    rows, columns = pixel_grid(SHAPE)
    points = np.array([[0.0, 0.0, 2.0], [-40.0, 900.0, 2.0]])
    drawn = stroke(points, np.ones(2), shape=SHAPE)
    assert drawn[0, 0] == 1
    assert not drawn[np.hypot(rows, columns) > MARGIN].any()


def test_a_sample_is_read_as_it_was_drawn_unless_asked_otherwise() -> None:
    drawn = sample()
    read = as_read(drawn, DataConfig())
    np.testing.assert_array_equal(read.image, drawn.image)
    np.testing.assert_array_equal(read.mask, drawn.mask)


def test_grey_is_the_luma() -> None:
    drawn = sample()
    grey = as_read(drawn, DataConfig(channels="grey")).image
    assert grey.shape == (100, 200, 1)
    luma = drawn.image @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey[..., 0] - luma).max() <= 1


def test_a_reduced_sample_has_larger_pixels() -> None:
    read = as_read(sample(spacing=(2.0, 1.0)), DataConfig(max_side=100))
    assert read.image.shape == (50, 100, 3)
    assert read.second_mask is not None
    assert read.mask.shape == read.second_mask.shape == read.fov.shape == (50, 100)
    assert read.fov.dtype == np.bool_
    assert read.spacing == (4.0, 2.0)


def test_another_process_draws_the_same() -> None:
    code = (
        "from r2search.config import DataConfig; from r2search.data.samples import fingerprint; "
        "from r2search.data.readers.synthetic_nuclei import synthetic_nuclei as draw; "
        "print(fingerprint(draw(None, DataConfig())))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"},
    )
    assert done.stdout.strip() == fingerprint(synthetic_nuclei(None, DataConfig()))
