"""The reader of a person's own images, and all the ways in which a folder can be wrong."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from r2search.config import DataConfig, Misuse
from r2search.data.readers.entries import MOST_LINES
from r2search.data.readers.folder import folder
from r2search.data.samples import Sample

Make = Callable[..., Path]
Draw = Callable[..., Image.Image]
CONFIG = DataConfig(reader="folder")


def misuse(root: Path) -> str:
    with pytest.raises(Misuse) as caught:
        folder(root, CONFIG)
    return str(caught.value)


def problems(root: Path) -> list[str]:
    """The single problems of the one error, without the heading."""
    heading, *lines = misuse(root).splitlines()
    assert heading.startswith(f"{root}: ")
    return [line.strip() for line in lines]


def test_pictures_and_masks_are_paired_by_name(tmp_path: Path, make_folder: Make) -> None:
    samples = folder(make_folder(tmp_path), CONFIG)
    assert [(s.id, s.subject) for s in samples] == [(n, n) for n in "abcd"]
    # _mask(2) is three pixels wide from column 8 + 2 on, in rows 5 to 14
    expected = np.zeros((20, 24), np.uint8)
    expected[5:15, 10:13] = 1
    assert (samples[2].mask == expected).all()
    with Image.open(tmp_path / "images" / "c.png") as picture:
        assert (samples[2].image == np.asarray(picture)).all()


def test_without_fov_everything_counts(tmp_path: Path, make_folder: Make) -> None:
    assert all(s.fov.all() for s in folder(make_folder(tmp_path), CONFIG))


def test_a_fov_leaves_the_rest_out(tmp_path: Path, make_folder: Make, mask: Draw) -> None:
    make_folder(tmp_path, ("a", "b"))
    (tmp_path / "fov").mkdir()
    mask(0).save(tmp_path / "fov" / "a.gif")
    mask(1).save(tmp_path / "fov" / "b_fov.png")
    assert [int(s.fov.sum()) for s in folder(tmp_path, CONFIG)] == [30, 30]  # 10 rows of 3


@pytest.mark.parametrize("suffix", ["_mask", "_segmentation", "_label"])
def test_a_mask_may_have_a_suffix(tmp_path: Path, make_folder: Make, suffix: str) -> None:
    make_folder(tmp_path, ("a",))
    (tmp_path / "masks" / "a.png").rename(tmp_path / "masks" / f"a{suffix}.png")
    assert [s.id for s in folder(tmp_path, CONFIG)] == ["a"]


def test_an_image_whose_own_name_ends_in_mask_keeps_its_mask(
    tmp_path: Path, make_folder: Make
) -> None:
    samples = folder(make_folder(tmp_path, ("a", "a_mask")), CONFIG)
    assert [s.id for s in samples] == ["a", "a_mask"]
    assert samples[0].mask.argmax() != samples[1].mask.argmax()


def test_a_sub_folder_is_a_subject(tmp_path: Path, make_folder: Make) -> None:
    samples = folder(make_folder(tmp_path, ("lone", "p1/a", "p1/b", "p2/a", "p2/day2/a")), CONFIG)
    assert [(s.id, s.subject) for s in samples] == [
        ("lone", "lone"),
        ("p1_a", "p1"),
        ("p1_b", "p1"),
        ("p2_a", "p2"),
        ("p2_day2_a", "p2"),
    ]


def test_formats_may_be_mixed(tmp_path: Path, make_folder: Make, picture: Draw) -> None:
    make_folder(tmp_path, ("a", "b"))
    (tmp_path / "images" / "a.png").unlink()
    picture(0).save(tmp_path / "images" / "a.JPG")
    assert [s.id for s in folder(tmp_path, CONFIG)] == ["a", "b"]


def test_masks_may_have_several_classes(tmp_path: Path, make_folder: Make) -> None:
    make_folder(tmp_path, ("a", "b"))
    pixels = np.zeros((20, 24), np.uint8)
    pixels[3:6], pixels[10:12] = 80, 40
    Image.fromarray(pixels).save(tmp_path / "masks" / "a.png")
    config = DataConfig(labels=(40, 80, 255))
    organs, stroke = (s.mask for s in folder(tmp_path, config))
    assert (organs == np.select([pixels == 40, pixels == 80], [1, 2])).all()
    assert set(np.unique(stroke)) == {0, 3}
    with pytest.raises(Misuse, match=r"masks/b.png: .* not in data.labels \[40, 80\] \(255\)"):
        folder(tmp_path, DataConfig(labels=(40, 80)))


def test_large_images_are_reduced_on_loading(tmp_path: Path, make_folder: Make, mask: Draw) -> None:
    make_folder(tmp_path, ("a",))
    (tmp_path / "fov").mkdir()
    for kind in ("images", "masks", "fov"):
        with Image.open(tmp_path / (kind if kind != "fov" else "masks") / "a.png") as small:
            # Whole multiples, so that the small pictures come back.
            small.resize((240, 200), Image.Resampling.NEAREST).save(tmp_path / kind / "a.png")
    (sample,) = folder(tmp_path, DataConfig(max_side=120))
    assert sample.image.shape == (100, 120, 3)
    expected = np.asarray(mask(0)).repeat(5, axis=0).repeat(5, axis=1) > 0
    assert (sample.mask == expected).all()
    assert (sample.fov == expected).all()


def test_grey_images_are_read_when_asked_for(tmp_path: Path, make_folder: Make) -> None:
    samples: list[Sample] = folder(make_folder(tmp_path), DataConfig(channels="grey"))
    assert {s.image.shape for s in samples} == {(20, 24, 1)}


def test_the_data_may_lie_one_folder_deeper(tmp_path: Path, make_folder: Make) -> None:
    make_folder(tmp_path / "unpacked", ("a",))
    (tmp_path / "__MACOSX").mkdir()
    assert [s.id for s in folder(tmp_path, CONFIG)] == ["a"]


def test_two_data_sets_one_folder_deeper_are_refused(tmp_path: Path, make_folder: Make) -> None:
    make_folder(tmp_path / "one")
    make_folder(tmp_path / "two")
    assert "holds several data sets (one, two); point --data to one" in misuse(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path / 'no'}: there is no such folder" in misuse(tmp_path / "no")


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "data.zip").touch()
    assert "data.zip: is not a folder" in misuse(tmp_path / "data.zip")


def test_an_empty_folder_is_told_what_was_expected(tmp_path: Path) -> None:
    message = misuse(tmp_path)
    assert f"{tmp_path}: expected images/ with pictures and masks/" in message
    assert "found an empty folder" in message


def test_another_layout_is_told_what_was_found(tmp_path: Path, make_chase: Make) -> None:
    message = misuse(make_chase(tmp_path))
    assert "found Image_01L.jpg, Image_01L_1stHO.png" in message
    assert "and 13 more" in message  # 3 children, 2 eyes, 3 files: 18, less the 5 shown
    assert "--reader" in message


def test_a_folder_without_pictures_is_told_the_formats(tmp_path: Path, make_folder: Make) -> None:
    make_folder(tmp_path, ("a",))
    (tmp_path / "images" / "a.png").rename(tmp_path / "images" / "a.dcm")
    message = misuse(tmp_path)
    assert "images: holds no images" in message
    assert ".png" in message


def test_an_image_without_mask_is_a_problem(tmp_path: Path, make_folder: Make) -> None:
    make_folder(tmp_path)
    (tmp_path / "masks" / "b.png").unlink()
    assert problems(tmp_path) == ["images/b.png: has no mask; add masks/b.png, or remove the image"]


def test_a_mask_without_image_is_a_problem(tmp_path: Path, make_folder: Make) -> None:
    make_folder(tmp_path)
    (tmp_path / "images" / "b.png").unlink()
    assert problems(tmp_path) == [
        "masks/b.png: has no image in images/; add that, or remove the mask"
    ]


def test_two_masks_of_one_image_are_a_problem(tmp_path: Path, make_folder: Make) -> None:
    make_folder(tmp_path)
    shutil.copy(tmp_path / "masks" / "b.png", tmp_path / "masks" / "b_mask.png")
    assert problems(tmp_path) == ["masks/b_mask.png: b.png already has the mask b.png; remove one"]


def test_an_image_without_fov_is_a_problem_where_others_have_one(
    tmp_path: Path, make_folder: Make, mask: Draw
) -> None:
    make_folder(tmp_path, ("a", "b"))
    (tmp_path / "fov").mkdir()
    mask(0).save(tmp_path / "fov" / "a.png")
    assert problems(tmp_path) == ["images/b.png: has no fov; add fov/b.png, or remove the image"]


@pytest.mark.parametrize("kind", ["masks", "fov"])
def test_another_size_than_the_image_is_a_problem(
    tmp_path: Path, make_folder: Make, mask: Draw, kind: str
) -> None:
    make_folder(tmp_path, ("a",))
    (tmp_path / kind).mkdir(exist_ok=True)
    mask(0, height=24, width=20).save(tmp_path / kind / "a.png")
    assert problems(tmp_path) == [
        f"{kind}/a.png: is 20 x 24 pixels, its image a.png is 24 x 20; save both at one size "
        "and orientation"
    ]


def test_one_name_with_two_suffixes_is_a_problem(
    tmp_path: Path, make_folder: Make, picture: Draw
) -> None:
    make_folder(tmp_path)
    picture(9).save(tmp_path / "images" / "a.jpg")
    assert problems(tmp_path) == ["images/a.png: has the name of a.jpg; remove one"]


def test_one_picture_under_two_names_is_a_problem(
    tmp_path: Path, make_folder: Make, picture: Draw
) -> None:
    make_folder(tmp_path)
    picture(0).save(tmp_path / "images" / "d.png", compress_level=0)  # other bytes, same pixels
    assert problems(tmp_path) == ["images/d.png: is the same picture as images/a.png; remove one"]


def test_two_images_with_one_id_are_a_problem(tmp_path: Path, make_folder: Make) -> None:
    make_folder(tmp_path, ("p_a", "p/a"))
    assert problems(tmp_path) == ["images/p/a.png: gets the id of images/p_a.png; rename one"]


def test_several_problems_are_told_together(
    tmp_path: Path, make_folder: Make, picture: Draw, mask: Draw
) -> None:
    images, masks = make_folder(tmp_path, tuple("abcdefgh")) / "images", tmp_path / "masks"
    (masks / "a.png").unlink()
    (images / "b.png").write_bytes(b"no picture")
    Image.new("L", (24, 20)).save(masks / "c.png")
    picture(4).convert("L").save(masks / "d.png")
    picture(5).convert("L").save(images / "e.png")
    glass = picture(6)
    glass.putalpha(100)
    glass.save(images / "f.png")
    mask(7, height=10).save(masks / "g.png")
    told = problems(tmp_path)
    assert [line.split(":")[0] for line in told] == [
        "images/a.png",
        "images/b.png",
        "masks/c.png",
        "masks/d.png",
        "images/e.png",
        "images/f.png",
        "masks/g.png",
    ]
    assert all("; " in line for line in told)  # each has its remedy


def test_one_sample_may_have_several_problems(tmp_path: Path, make_folder: Make) -> None:
    make_folder(tmp_path, ("a",))
    (tmp_path / "images" / "a.png").write_bytes(b"")
    (tmp_path / "masks" / "a.png").write_bytes(b"")
    assert [line.split(":")[0] for line in problems(tmp_path)] == ["images/a.png", "masks/a.png"]


def test_a_long_list_of_problems_ends_in_a_count(tmp_path: Path, make_folder: Make) -> None:
    make_folder(tmp_path, tuple(f"{n:02}" for n in range(MOST_LINES + 3)))
    shutil.rmtree(tmp_path / "masks")
    (tmp_path / "masks").mkdir()
    told = problems(tmp_path)
    assert len(told) == MOST_LINES + 1
    assert told[-1] == "... and 3 more"
