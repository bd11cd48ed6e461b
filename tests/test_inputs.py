"""Which files are predicted, and what their results are called."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from r2search.config import Misuse
from r2search.inputs import find_images

Make = Callable[..., Path]


def test_two_images_of_one_name_are_refused(tmp_path: Path, write_image: Make) -> None:
    first, second = (write_image(tmp_path / name / "eye.png") for name in "ab")
    with pytest.raises(
        Misuse, match=re.escape(f"{second}: would overwrite the results of {first}")
    ):
        find_images([first, second])


def test_an_image_given_twice_is_predicted_once(tmp_path: Path, write_image: Make) -> None:
    path = write_image(tmp_path / "eye.png")
    assert find_images([path, tmp_path]) == {"eye": path}


def test_a_missing_image_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match=r"nothing.png: no such file; give an image"):
        find_images([tmp_path / "nothing.png"])
    with pytest.raises(Misuse, match=r"no images in this folder; known: .*.png"):
        find_images([tmp_path])


def test_a_pattern_finds_files_at_any_depth_it_asks_for(tmp_path: Path, write_image: Make) -> None:
    for name in ("a.png", "b.jpg", "in/c.png", "in/deeper/d.png"):
        write_image(tmp_path / name)
    assert set(find_images([tmp_path / "*.png"])) == {"a"}
    assert set(find_images([tmp_path / "**" / "*.png"])) == {"a", "c", "d"}
    assert set(find_images([tmp_path / "?.jp*g", tmp_path / "in"])) == {"b", "c"}
    with pytest.raises(Misuse, match=r"\*.tif: no file fits this pattern; check the folder"):
        find_images([tmp_path / "*.tif"])


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(
    tmp_path: Path, write_image: Make
) -> None:
    path = write_image(tmp_path / "eye[1].png")
    write_image(tmp_path / "eye1.png")
    assert find_images([path]) == {"eye[1]": path}
