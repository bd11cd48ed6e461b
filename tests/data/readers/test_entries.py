"""What all readers of files share: finding the folder, pairing names, uniting masks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from r2search.config import DataConfig, Misuse
from r2search.data.readers.entries import (
    MOST_NAMES,
    BadData,
    Entry,
    by_name,
    by_stem,
    find_root,
    missing,
    read_entries,
)

Draw = Callable[..., Image.Image]
CONFIG = DataConfig()


@pytest.fixture
def entry(tmp_path: Path, picture: Draw, mask: Draw) -> Entry:
    """An image with three masks, `_mask(0)` to `_mask(2)`."""
    picture(0).save(tmp_path / "a.png")
    masks = tuple(tmp_path / f"a_{number}.png" for number in range(3))
    for number, path in enumerate(masks):
        mask(number).save(path)
    return Entry(id="a", subject="a", image=tmp_path / "a.png", mask=masks)


def misuse(entries: list[Entry], root: Path) -> BadData:
    with pytest.raises(BadData) as caught:
        read_entries(entries, root, CONFIG, [])
    return caught.value


def test_several_masks_are_united(tmp_path: Path, entry: Entry) -> None:
    (sample,) = read_entries([entry], tmp_path, CONFIG, [])
    # _mask(n) covers three columns from 8 + n on, in rows 5 to 14
    expected = np.zeros((20, 24), np.uint8)
    expected[5:15, 8:13] = 1
    assert (sample.mask == expected).all()


def test_united_masks_keep_their_classes(tmp_path: Path, entry: Entry) -> None:
    assert isinstance(entry.mask, tuple)
    for label, path in enumerate(entry.mask, start=3):
        pixels = np.zeros((20, 24), np.uint8)
        pixels[label] = label
        Image.fromarray(pixels).save(path)
    config = DataConfig(labels=(3, 4, 5))
    (sample,) = read_entries([entry], tmp_path, config, [])
    assert sample.mask[:, 0].tolist() == [0, 0, 0, 1, 2, 3, *[0] * 14]


def test_each_of_several_masks_is_checked(tmp_path: Path, entry: Entry, mask: Draw) -> None:
    Image.new("L", (24, 20)).save(tmp_path / "a_0.png")
    mask(2, width=30).save(tmp_path / "a_2.png")
    error = misuse([entry], tmp_path)
    assert error.problems == [
        "a_0.png: is all empty; mark the foreground, or take the image out",
        "a_2.png: is 30 x 20 pixels, its image a.png is 24 x 20; save both at one size and "
        "orientation",
    ]
    assert error.samples == []


def test_masks_of_an_unreadable_image_are_checked_nevertheless(
    tmp_path: Path, entry: Entry, mask: Draw
) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    mask(1, width=30).save(tmp_path / "a_1.png")  # of what size the image is, nobody knows
    (tmp_path / "a_2.png").write_bytes(b"")
    assert [problem.split(":")[0] for problem in misuse([entry], tmp_path).problems] == [
        "a.png",
        "a_2.png",
    ]


def test_what_is_sound_is_handed_over_with_the_problems(
    tmp_path: Path, entry: Entry, picture: Draw
) -> None:
    picture(1).save(tmp_path / "b.png")
    other = Entry(id="b", subject="b", image=tmp_path / "b.png", mask=tmp_path / "no.png")
    assert [sample.id for sample in misuse([entry, other], tmp_path).samples] == ["a"]


def test_a_field_of_view_of_another_size_gives_way_to_the_rule(
    tmp_path: Path, entry: Entry, mask: Draw
) -> None:
    mask(0, height=10).save(tmp_path / "fov.png")
    with_fov = Entry(
        id="a", subject="a", image=entry.image, mask=entry.mask, fov=tmp_path / "fov.png"
    )
    error = misuse([with_fov], tmp_path)
    assert len(error.problems) == 1
    assert error.samples[0].fov.all()


def test_a_data_set_without_any_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match=f"{tmp_path}: none of its images has a mask; add"):
        read_entries([], tmp_path, CONFIG, [])


def test_names_are_told_by_the_group_of_their_pattern() -> None:
    paths = [Path(name) for name in ("b/02_x.tif", "01_x.png.gz", "01_y.png", "03_x_more.png")]
    problems: list[str] = []
    assert by_name(paths, r"(\d+)_x", problems) == {"02": paths[0], "01": paths[1]}
    assert problems == []


def test_two_names_of_one_group_are_a_problem() -> None:
    problems: list[str] = []
    paths = [Path("01_training.tif"), Path("01_test.tif")]
    assert by_name(paths, r"(\d+)_(?:training|test)", problems) == {"01": paths[0]}
    assert problems == ["01_test.tif: stands beside 01_training.tif for one image; remove one"]


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_a_file_without_partner_is_told_and_no_other(files: set[int], partners: set[int]) -> None:
    def paths(numbers: set[int]) -> dict[str, Path]:
        return {f"{n}": Path(f"{n}.png") for n in numbers}

    told = missing(paths(files), paths(partners), "mask {}_mask.png")
    assert sorted(told) == sorted(
        f"{n}.png: its mask {n}_mask.png is missing; add it" for n in files - partners
    )


def test_a_packed_file_has_the_stem_of_what_is_in_it(tmp_path: Path) -> None:
    paths = [tmp_path / "p1" / "a.ppm.gz", tmp_path / "b.c.png"]
    assert by_stem(paths, tmp_path, []) == {"p1/a": paths[0], "b.c": paths[1]}


def test_of_many_fitting_folders_only_some_are_named(tmp_path: Path) -> None:
    for number in range(MOST_NAMES + 3):
        (tmp_path / f"set{number}").mkdir()
    with pytest.raises(Misuse, match=rf"\(set0, .*set{MOST_NAMES - 1} and 3 more\); point"):
        find_root(tmp_path, lambda folder: folder != tmp_path, "sets")
