import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2search.report.pictures import ERRORS, PREDICTION, errors, overlay, sheet


def test_an_overlay_outlines_the_prediction_and_fills_it_translucently() -> None:
    image = np.zeros((7, 7, 3), np.uint8)
    prediction = np.zeros((7, 7), np.bool_)
    prediction[1:6, 1:6] = True
    picture = overlay(image, prediction)
    assert tuple(picture[1, 3]) == PREDICTION  # the outline hides what is below it
    assert tuple(picture[3, 3]) == (0, 103, 115)  # 0.45 of (0, 229, 255) over black
    assert tuple(picture[0, 0]) == (0, 0, 0)
    assert not image.any(), "the image itself must not change"


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_an_overlay_changes_nothing_but_the_predicted_pixels(
    height: int, width: int, channels: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 200, (height, width, channels), dtype=np.uint8)
    prediction = rng.random((height, width)) < 0.5
    picture = overlay(image, prediction)
    assert picture.shape == (height, width, 3)
    assert picture.dtype == np.uint8
    shown = image[..., :3] if channels >= 3 else np.repeat(image[..., :1], 3, axis=2)
    # blue of the colour is 255 and of the image below 200: every predicted pixel is seen to change
    np.testing.assert_array_equal((picture != shown).any(axis=2), prediction)


def test_a_one_pixel_wide_vessel_is_drawn_in_full_colour() -> None:
    prediction = np.zeros((9, 9), np.bool_)
    prediction[4] = True
    assert (overlay(np.zeros((9, 9, 1), np.uint8), prediction)[4] == PREDICTION).all()


def test_errors_have_a_colour_each_over_a_darkened_grey_image() -> None:
    image = np.full((1, 5, 3), 100, np.uint8)
    prediction = np.array([[True, True, False, False, True]])
    mask = np.array([[True, False, True, False, True]])
    fov = np.array([[True, True, True, True, False]])
    picture = errors(image, prediction, mask, fov)
    # 0.85 of the colour and 0.15 of the shade, which is 0.45 * 100 = 45: 6.75 more
    for column, name in enumerate(["found", "false alarm", "missed"]):
        expected = [round(0.85 * c + 6.75) for c in ERRORS[name]]
        assert picture[0, column].tolist() == expected, name
    assert picture[0, 3].tolist() == [45, 45, 45]
    assert picture[0, 4].tolist() == [18, 18, 18]  # outside the fov nothing is scored


def test_error_colours_differ_in_lightness() -> None:
    lightness = sorted(0.299 * r + 0.587 * g + 0.114 * b for r, g, b in ERRORS.values())
    assert min(np.diff(lightness)) > 25


@pytest.mark.parametrize("call", [overlay, lambda i, p: errors(np.zeros((4, 4, 3), "u1"), p, p, p)])
def test_arrays_of_another_size_are_refused(call: object) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=r"\(4, 4\).*\(4, 5\)"):
        call(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.bool_))


def test_a_sheet_has_a_cell_a_picture_and_keeps_proportions() -> None:
    image = np.full((20, 40, 3), (255, 0, 0), np.uint8)
    grey, mask = np.full((20, 40), 128, np.uint8), np.ones((20, 40), np.bool_)
    page = sheet([[image, grey, mask]] * 2, ["image", "grey", "mask"], legend={}, width=80)
    # 10 + 3 * (80 + 10) wide; 10 + 22 above, then twice 40 for the cells and 10 below
    assert page.size == (280, 132)
    for top in (32 + 20, 32 + 50 + 20):
        assert page.getpixel((50, top)) == (255, 0, 0)
        assert page.getpixel((140, top)) == (128, 128, 128)
        assert page.getpixel((230, top)) == (255, 255, 255)


def test_a_sheet_writes_titles_captions_and_the_legend() -> None:
    cell = np.zeros((30, 30), np.uint8)
    bare = sheet([[cell]], ["x"], legend={})
    full = sheet([[cell]], ["x"], captions=["a very long caption " * 9])
    assert full.height == bare.height + 22 + 22
    colours = {colour for _, colour in full.getcolors(100_000) or []}
    assert set(ERRORS.values()) <= colours


def test_a_sheet_with_a_missing_title_is_refused() -> None:
    with pytest.raises(ValueError, match="one title a column"):
        sheet([[np.zeros((4, 4), np.uint8)] * 2], ["image"])


def test_pictures_need_neither_plotly_nor_rich() -> None:
    code = "import sys, r2search.report.pictures; print({'plotly', 'rich'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
