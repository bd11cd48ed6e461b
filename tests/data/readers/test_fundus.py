"""The lit disc of a photograph of the retina."""

import numpy as np

from r2search.data.readers.fundus import field_of_view


def test_the_field_of_view_is_the_bright_disc_with_its_dark_spots_and_without_specks() -> None:
    rows, columns = np.mgrid[:60, :80]
    disc = (rows - 30) ** 2 + (columns - 40) ** 2 < 28**2
    image = np.random.default_rng(0).integers(0, 12, (60, 80, 3), dtype=np.uint8)
    image[disc] = (160, 90, 40)
    image[25:35, 30:40] = 0  # a dark spot inside
    image[2:4, 2:4] = 255  # a speck outside
    assert (field_of_view(image) == disc).all()


def test_a_black_image_is_all_inside() -> None:
    assert field_of_view(np.zeros((5, 6, 3), np.uint8)).all()
