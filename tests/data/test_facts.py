"""What is said of a data set in figures."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from r2search.config import DataConfig
from r2search.data import read, resolve
from r2search.data.facts import facts, levels_inside, stored_masks
from r2search.data.samples import Sample, fingerprint

Make = Callable[..., Path]
REAL = Path(__file__).parents[2] / "../shared/data/chase_db1"


def make(name: str = "a", **changes: object) -> Sample:
    """8 x 10 pixels of 100, 50 and 0; the left half is foreground, the upper half is inside."""
    mask = np.zeros((8, 10), np.uint8)
    mask[:, :5] = 1
    fov = np.zeros((8, 10), np.bool_)
    fov[:4] = True
    image = np.broadcast_to(np.array([100, 50, 0], np.uint8), (8, 10, 3))
    whole = Sample(image=image, mask=mask, fov=fov, subject=name, id=name)
    return replace(whole, **changes)  # type: ignore[arg-type]


def test_images_are_counted_by_subject_and_part() -> None:
    samples = [make(f"{n}", subject=f"{n // 2}", part="train") for n in range(5)]
    told = dict(facts([*samples, make("x", part="test"), make("y")]))
    assert told["images"] == "7 images of 5 subjects, 1 to 2 each"
    assert told["official split, train"] == "5 images of 3 subjects, 1 to 2 each"
    assert told["official split, test"] == "1 image, each of another subject"
    assert told["official split, in no part"] == "1 image, each of another subject"
    assert dict(facts([make()]))["official split"] == "none"


def test_sizes_and_spacings_are_counted() -> None:
    other = make("b", mask=np.ones((6, 10), np.uint8), spacing=(0.5, 0.25))
    told = dict(facts([make(), make("c"), replace(other, fov=np.ones((6, 10), np.bool_))]))
    assert told["size, W x H"] == "10 x 8: 2, 10 x 6: 1"
    assert told["spacing, mm down x across"] == "0.5 x 0.25: 1"
    assert "spacing, mm down x across" not in dict(facts([make()]))


def test_intensities_are_those_inside_the_field_of_view() -> None:
    image = np.zeros((8, 10, 3), np.uint8)
    image[:4, :, 0] = np.arange(10) * 10
    image[4:] = 255
    told = dict(facts([make(image=image)]))
    assert told["red, 0..255"] == (
        "mean 45.0, deviation 28.7; 0 at 1 %, 40 at 50 %, 90 at 99 %"  # of 0, 10, ..., 90
    )
    assert told["blue, 0..255"].startswith("mean 0.0, deviation 0.0")
    assert levels_inside(make(image=image)).sum(axis=1).tolist() == [40, 40, 40]
    assert "grey, 0..255" in dict(facts([make(image=image[..., :1])]))


def test_the_foreground_is_shared_out_by_class() -> None:
    mask = np.zeros((8, 10), np.uint8)
    mask[:, :2], mask[:, 2:3] = 1, 2
    samples = [make("a", mask=mask), make("b", mask=mask * (mask == 1))]
    told = dict(facts(samples, labels=(63, 126)))
    assert told["foreground"] == "25.00% on average, 20.00% to 30.00%"
    assert told["class 1, value 63"] == "20.00% on average, 20.00% to 20.00%; in 2 of 2 images"
    assert told["class 2, value 126"] == "5.00% on average, 0.00% to 10.00%; in 1 of 2 images"


def test_empty_and_full_masks_are_counted() -> None:
    empty, full = np.zeros((8, 10), np.uint8), np.full((8, 10), 2, np.uint8)
    told = dict(facts([make("a", mask=empty), make("b", mask=full), make("c", mask=full), make()]))
    assert (told["masks empty"], told["masks full"]) == ("1", "2")


def test_the_field_of_view_is_told_where_it_leaves_something_out() -> None:
    assert dict(facts([make()]))["field of view"] == "50.00% on average, 50.00% to 50.00%"
    assert "field of view" not in dict(facts([make(fov=np.ones((8, 10), np.bool_))]))


def test_second_observers_are_counted_and_compared() -> None:
    second = np.zeros((8, 10), np.uint8)
    second[:, :4] = 1  # 16 of 20 pixels inside, and no others: 2 * 16 / 36
    told = dict(facts([make("a", second_mask=second), make("b")]))
    assert told["second observer"] == "1 of 2 images, Dice with the first 0.8889 on average"


def test_the_hash_is_that_of_a_study() -> None:
    samples = [make("a"), make("b")]
    assert dict(facts(samples))["fingerprint"] == fingerprint(samples)


@pytest.mark.parametrize(
    ("picture", "told"),
    [
        (Image.fromarray(np.eye(4, dtype=np.uint8) * 255), "8 bit: 0, 255 (a.png)"),
        (Image.fromarray(np.eye(4, dtype=np.uint8)), "8 bit: 0, 1 (a.png)"),
        (Image.fromarray(np.eye(4, dtype=np.uint8) * 63), "8 bit: 0, 63 (a.png)"),
        (Image.fromarray(np.eye(4, dtype=np.uint8) * 255).convert("1"), "1 bit: 0, 1 (a.png)"),
        (Image.fromarray(np.eye(4, dtype=np.uint8) * 255).convert("P"), "palette: 0, 255 (a.png)"),
        (Image.fromarray(np.eye(4, dtype=np.uint16) * 9), "16 bit: 0, 9 (a.png)"),
    ],
)
def test_it_is_told_how_masks_are_stored(picture: Image.Image, told: str, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    picture.save(tmp_path / "masks" / "a.png")
    assert stored_masks(tmp_path) == [("masks stored as", told)]


def test_pictures_and_damaged_files_are_no_masks(tmp_path: Path) -> None:
    levels = np.arange(100, dtype=np.uint8).reshape(10, 10)
    Image.fromarray(levels).save(tmp_path / "photo.png")
    Image.fromarray(levels * 0).save(tmp_path / "black.jpg")
    (tmp_path / "broken.png").write_bytes(b"no PNG")
    assert stored_masks(tmp_path) == []


def test_values_of_one_kind_are_put_together(tmp_path: Path, make_folder: Make) -> None:
    make_folder(tmp_path)
    Image.new("L", (5, 5)).save(tmp_path / "masks" / "empty.png")
    assert stored_masks(tmp_path) == [("masks stored as", "8 bit: 0, 255 (a.png and 4 more)")]


@pytest.mark.skipif(not REAL.is_dir(), reason="the CHASE_DB1 images are not here")
def test_the_real_figures_are_the_published_ones() -> None:
    told = dict(facts(read(resolve(DataConfig(reader="chase_db1", root=REAL)))))
    assert told["images"] == "20 images of 10 subjects, 2 each"
    assert told["size, W x H"] == "999 x 960: 20"
    assert told["foreground"] == "7.19% on average, 5.06% to 8.52%"  # shared/data/README.md
    assert told["second observer"].startswith("20 of 20 images")
    stored = dict(stored_masks(REAL))["masks stored as"].splitlines()
    assert [line.split(" (")[0] for line in stored] == ["1 bit: 0, 1", "palette: 0, 255"]
