import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2search.report.pictures import CLASSES, ERRORS, errors, legend_of, overlay, sheet


def test_an_overlay_outlines_the_prediction_and_fills_it_translucently() -> None:
    image = np.zeros((7, 7, 3), np.uint8)
    prediction = np.zeros((7, 7), np.bool_)
    prediction[1:6, 1:6] = True
    picture = overlay(image, prediction)
    assert tuple(picture[1, 3]) == CLASSES[0]  # the outline hides what is below it
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
    assert (overlay(np.zeros((9, 9, 1), np.uint8), prediction)[4] == CLASSES[0]).all()


def test_an_overlay_has_a_colour_and_an_outline_for_every_class() -> None:
    mask = np.zeros((7, 14), np.uint8)
    mask[:, 2:7], mask[:, 7:12] = 1, 2
    picture = overlay(np.zeros((7, 14, 3), np.uint8), mask)
    first, second = (np.array(colour) for colour in CLASSES[:2])
    assert (picture[:, [2, 6]] == first).all(), "outlined where the other class begins, too"
    assert (picture[:, [7, 11]] == second).all()
    assert (picture[:, 3:6] == np.rint(0.45 * first)).all()
    assert (picture[:, 8:11] == np.rint(0.45 * second)).all()
    assert not picture[:, [0, 1, 12, 13]].any()


def test_an_overlay_has_a_colour_for_the_last_of_255_classes() -> None:
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = overlay(np.zeros((16, 16, 3), np.uint8), mask)
    assert [tuple(pixel) for pixel in picture.reshape(-1, 3)[1:9]] == list(CLASSES)
    assert tuple(picture[15, 15]) == CLASSES[254 % len(CLASSES)]


def test_neighbouring_class_colours_differ_in_lightness() -> None:
    lightness = [0.299 * r + 0.587 * g + 0.114 * b for r, g, b in (*CLASSES, CLASSES[0])]
    assert min(abs(np.diff(lightness))) > 30


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


def test_a_pixel_of_the_wrong_class_has_an_error_colour_of_its_own() -> None:
    image, fov = np.zeros((1, 5, 3), np.uint8), np.ones((1, 5), np.bool_)
    prediction = np.array([[2, 1, 2, 0, 0]], np.uint8)
    mask = np.array([[2, 2, 0, 1, 0]], np.uint8)
    picture = errors(image, prediction, mask, fov)
    kinds = ["found", "wrong class", "false alarm", "missed"]
    expected = [[round(0.85 * c) for c in ERRORS[kind]] for kind in kinds]
    assert picture[0, :4].tolist() == expected
    assert not picture[0, 4].any()


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
    full = sheet([[cell]], ["x"], captions=["a very long caption " * 9], legend=ERRORS)
    # The caption is a line; the four keys need two lines of the 340 pixels.
    assert full.height == bare.height + 22 + 2 * 22
    colours = {colour for _, colour in full.getcolors(100_000) or []}
    assert set(ERRORS.values()) <= colours


def test_a_legend_names_every_class_and_stays_on_the_page() -> None:
    names = [f"class {index} (mask value {index + 100})" for index in range(1, 105)]
    cell = np.zeros((4, 4), np.uint8)
    page = sheet([[cell]], ["x"], legend=legend_of(names), width=320)
    # Titles, cell and gap, then a line for each class: two do not fit into 340 pixels.
    assert page.height > 10 + 22 + 320 + 10 + 22 * 104
    right = [page.getpixel((338, y)) for y in range(page.height)]
    assert set(right) == {(255, 255, 255)}
    drawn = {colour for _, colour in page.getcolors(1_000_000) or []}
    assert {*CLASSES, *ERRORS.values()} <= drawn


def test_the_legend_of_one_class_is_of_its_errors_alone() -> None:
    assert list(legend_of(["class 1"])) == ["found", "false alarm", "missed"]
    both = legend_of(["class 1", "class 2"])
    assert list(both) == ["class 1", "class 2", *ERRORS]
    assert both["class 2"] == CLASSES[1]


def test_a_sheet_with_a_missing_title_is_refused() -> None:
    with pytest.raises(ValueError, match="one title a column"):
        sheet([[np.zeros((4, 4), np.uint8)] * 2], ["image"])


def test_pictures_need_neither_plotly_nor_rich() -> None:
    code = "import sys, r2search.report.pictures; print({'plotly', 'rich'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
