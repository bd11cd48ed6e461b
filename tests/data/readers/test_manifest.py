"""manifest.csv in a folder: what it says, how it may be written, and every way to get it wrong."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from r2search.config import DataConfig, Misuse
from r2search.data import load
from r2search.data.readers.folder import folder
from r2search.data.samples import Sample

Make = Callable[..., Path]
Draw = Callable[..., Image.Image]
Write = Callable[..., Path]
CONFIG = DataConfig(reader="folder")


@pytest.fixture
def write(tmp_path: Path, make_folder: Make) -> Write:
    """`write(line, ...)` makes images and masks a to d, and a manifest of these lines."""
    make_folder(tmp_path)

    def write(*lines: str, encoding: str = "utf-8", end: str = "\n") -> Path:
        text = "".join(line + end for line in lines)
        (tmp_path / "manifest.csv").write_bytes(text.encode(encoding))
        return tmp_path

    return write


def row(name: str, *more: str) -> str:
    return ",".join([f"images/{name}.png", f"masks/{name}.png", *more])


def misuse(root: Path, config: DataConfig = CONFIG) -> str:
    with pytest.raises(Misuse) as caught:
        folder(root, config)
    return str(caught.value)


def problems(root: Path, config: DataConfig = CONFIG) -> list[str]:
    """The single problems of the one error, without the heading."""
    return [line.strip() for line in misuse(root, config).splitlines()[1:]]


def same(one: list[Sample], other: list[Sample]) -> bool:
    return [(s.id, s.subject, s.image.tobytes(), s.mask.tobytes()) for s in one] == [
        (s.id, s.subject, s.image.tobytes(), s.mask.tobytes()) for s in other
    ]


# What it says


def test_a_manifest_of_all_pairs_gives_what_the_folder_gives(write: Write, tmp_path: Path) -> None:
    pairs = folder(tmp_path, CONFIG)
    assert same(folder(write("image,mask", *map(row, "abcd")), CONFIG), pairs)


def test_only_what_the_manifest_names_is_read(write: Write) -> None:
    root = write("image,mask", row("c"), row("a"))
    (root / "images" / "d.png").write_bytes(b"no picture")
    assert [s.id for s in folder(root, CONFIG)] == ["c", "a"]


def test_files_may_lie_anywhere_below_the_folder(tmp_path: Path, picture: Draw, mask: Draw) -> None:
    (tmp_path / "day 1" / "left").mkdir(parents=True)
    picture(0).save(tmp_path / "day 1" / "left" / "é.png")
    mask(0).save(tmp_path / "day 1" / "é truth.png")
    (tmp_path / "manifest.csv").write_text(
        "mask,image\nday 1/é truth.png,./day 1/left/é.png\n", encoding="utf-8"
    )
    (sample,) = folder(tmp_path, CONFIG)
    assert (sample.id, sample.subject) == ("day 1_left_é", "day 1_left_é")
    assert sample.mask.sum() == 30  # 10 rows of 3


def test_all_columns_are_read_and_others_are_passed_over(write: Write, mask: Draw) -> None:
    root = write(
        "Subject, image ,camera,mask,FOV,second_mask,split",
        "p1,images/a.png,Canon,masks/a.png,masks/b.png,masks/c.png,train",
        "p2,images/b.png,,masks/b.png,masks/b.png,,test",
    )
    first, second = folder(root, CONFIG)
    assert (first.id, first.subject, first.part) == ("a", "p1", "train")
    assert (second.id, second.subject, second.part) == ("b", "p2", "test")
    assert (first.fov == (np.asarray(mask(1)) > 0)).all()
    assert first.second_mask is not None
    assert (first.second_mask == (np.asarray(mask(2)) > 0)).all()
    assert second.second_mask is None


def test_the_words_for_the_parts_are_those_in_use(write: Write) -> None:
    words = ["train", "Training", "VALID", "validation", "val", "test", "testing"]
    root = write("image,mask,split", *(row("a", word) for word in words))
    for n, name in enumerate("abcdefg"):
        pixels = np.full((20, 24, 3), n, np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{name}.png")
        Image.fromarray(pixels[..., 0] * 0 + 255).save(root / "masks" / f"{name}.png")
    write("image,mask,split", *(row(n, word) for n, word in zip("abcdefg", words, strict=True)))
    parts = ["train", "train", "val", "val", "val", "test", "test"]
    assert [s.part for s in folder(root, CONFIG)] == parts


def test_the_split_of_a_manifest_is_the_split_of_the_study(write: Write) -> None:
    root = write(
        "image,mask,split", row("a", "test"), row("b", "train"), row("c", "val"), row("d", "test")
    )
    for seed in range(3):
        data = load(DataConfig(reader="folder", root=root), seed=seed)
        parts = [[s.id for s in part] for part in (data.train, data.val, data.test)]
        assert parts == [["b"], ["c"], ["a", "d"]]


def test_without_a_subject_column_a_folder_in_images_is_a_subject(
    tmp_path: Path, make_folder: Make
) -> None:
    names = ("p1/a", "p1/b", "c")
    make_folder(tmp_path, names)
    (tmp_path / "manifest.csv").write_text("image,mask\n" + "\n".join(map(row, names)))
    samples = folder(tmp_path, CONFIG)
    assert [(s.id, s.subject) for s in samples] == [("p1_a", "p1"), ("p1_b", "p1"), ("c", "c")]


def test_masks_of_several_classes_are_read_by_the_labels(write: Write) -> None:
    root = write("image,mask", row("a"))
    pixels = np.zeros((20, 24), np.uint8)
    pixels[3:6], pixels[10:12] = 2, 7
    Image.fromarray(pixels).save(root / "masks" / "a.png")
    (sample,) = folder(root, DataConfig(labels=(7, 2)))
    assert (sample.mask == np.select([pixels == 7, pixels == 2], [1, 2])).all()


# How it may be written


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_spreadsheet_of_any_country_is_understood(
    write: Write, delimiter: str, encoding: str, end: str
) -> None:
    pairs = folder(write("image,mask,subject", row("a", "Müller"), row("b", "Ōe")), CONFIG)
    lines = ["image,mask,subject", row("a", "Müller"), row("b", "Ōe"), ",,"]
    root = write(*(s.replace(",", delimiter) for s in lines), encoding=encoding, end=end)
    assert same(folder(root, CONFIG), pairs)
    assert [s.subject for s in pairs] == ["Müller", "Ōe"]


def test_paths_may_be_written_as_windows_does(write: Write) -> None:
    (sample,) = folder(write("image,mask", r"images\a.png,.\masks\a.png"), CONFIG)
    assert (sample.id, sample.subject) == ("a", "a")


def test_a_path_with_a_comma_stands_in_quotes(write: Write) -> None:
    root = write("image,mask", '"images/a, left.png",masks/a.png')
    (root / "images" / "a.png").rename(root / "images" / "a, left.png")
    assert [s.id for s in folder(root, CONFIG)] == ["a, left"]


def test_the_data_may_lie_one_folder_deeper(write: Write, tmp_path: Path) -> None:
    write("image,mask", row("a"))
    inner = tmp_path / "inner"
    inner.mkdir()
    for name in ("images", "masks", "manifest.csv"):
        (tmp_path / name).rename(inner / name)
    assert [s.id for s in folder(tmp_path, CONFIG)] == ["a"]


# What is wrong with the file


def test_a_missing_column_is_named_with_the_columns_there_are_to_give(write: Write) -> None:
    root = write("image,truth", row("a"))
    assert misuse(root) == (
        f"{root}/manifest.csv:1: has no column mask; name the columns in line 1: image, mask, and "
        "where wanted fov, second_mask, subject, split"
    )


def test_a_table_without_a_heading_is_told_so(write: Write) -> None:
    assert "manifest.csv:1: has no column image and no column mask; name" in misuse(write(row("a")))


def test_a_column_given_twice_is_named(write: Write) -> None:
    root = write("image,mask,Mask", row("a", "masks/a.png"))
    assert "manifest.csv:1: has the column mask twice; remove one" in misuse(root)


def test_columns_that_are_passed_over_may_stand_twice(write: Write) -> None:
    root = write("image,mask,note,note,,", row("a", "x", "y", "", ""))
    assert [s.id for s in folder(root, CONFIG)] == ["a"]


@pytest.mark.parametrize("lines", [(), ("image,mask",), ("image;mask", "", ";")])
def test_a_manifest_without_rows_is_refused(write: Write, lines: tuple[str, ...]) -> None:
    message = misuse(write(*lines))
    assert "manifest.csv" in message
    assert "has no column image and" in message if not lines else "names no images" in message


def test_another_encoding_than_utf_8_is_told_by_its_line(write: Write) -> None:
    root = write("image,mask,subject", row("a", "Muller"), row("b", "Müller"), encoding="latin-1")
    assert misuse(root) == (f"{root}/manifest.csv:3: is not UTF-8; save the table as CSV UTF-8")
    root = write("image,mask", row("a"), encoding="utf-16")
    assert "manifest.csv:1: is not UTF-8" in misuse(root)


def test_a_row_that_is_too_long_is_told_by_its_line(write: Write) -> None:
    root = write("image,mask", row("a"), "images/b, left.png,masks/b.png")
    assert misuse(root) == (
        f"{root}/manifest.csv:3: has more cells than the 2 columns of line 1; put a path that "
        "holds the delimiter in quotes"
    )


def test_broken_quotes_are_told_by_their_line(write: Write) -> None:
    assert "manifest.csv:2: is no CSV (" in misuse(write("image,mask", '"images"/a.png,masks'))


# What is wrong with its rows


def test_missing_files_are_told_by_line(write: Write) -> None:
    root = write("image,mask,fov", row("a", "fov/a.png"), "images/x.png,masks/b.png,masks/b.png")
    assert problems(root) == [
        "manifest.csv:2: fov fov/a.png: there is no such file; paths begin in the manifest's "
        "folder",
        "manifest.csv:3: image images/x.png: there is no such file; paths begin in the manifest's "
        "folder",
    ]


@pytest.mark.parametrize("path", ["../b.png", "images/../../b.png", r"..\b.png", "/tmp/b.png"])
def test_a_path_that_leaves_the_folder_is_refused(
    write: Write, picture: Draw, path: str, tmp_path: Path
) -> None:
    picture(1).save(tmp_path.parent / "b.png")
    assert problems(write("image,mask", row("a"), f"{path},masks/b.png")) == [
        f"manifest.csv:3: image {path}: lies outside of the manifest's folder; move it in and "
        "name it from there"
    ]


def test_a_path_may_go_up_within_the_folder(write: Write) -> None:
    (sample,) = folder(write("image,mask", "masks/../images/a.png,masks/a.png"), CONFIG)
    assert sample.id == "a"


def test_an_image_named_twice_is_told_with_both_lines(write: Write) -> None:
    assert problems(write("image,mask", row("a"), row("b"), "./images/a.png,masks/a.png")) == [
        "manifest.csv:4: image ./images/a.png: stands in line 2 already; remove one"
    ]


def test_one_picture_under_two_names_is_a_problem(write: Write, picture: Draw) -> None:
    root = write("image,mask", *map(row, "abcd"))
    picture(0).save(root / "images" / "d.png", compress_level=0)
    assert problems(root) == ["images/d.png: is the same picture as images/a.png; remove one"]


def test_two_images_with_one_id_are_a_problem(write: Write, picture: Draw) -> None:
    root = write("image,mask", row("a"), "images/a.bmp,masks/b.png")
    picture(9).save(root / "images" / "a.bmp")
    assert problems(root) == ["images/a.bmp: gets the id of images/a.png; rename one"]


def test_an_unknown_word_for_a_part_is_answered_with_the_known_ones(write: Write) -> None:
    (told,) = problems(write("image,mask,split", row("a", "train"), row("b", "tset")))
    assert told.startswith("manifest.csv:3: split tset: is no part; did you mean 'test'? known: ")
    assert told.endswith("test, testing, train, training, val, valid, validation")


def test_a_subject_in_two_parts_is_told_with_both_lines(write: Write) -> None:
    rows = [row("a", "p", "train"), row("b", "q", "test"), row("c", "p", "test")]
    assert problems(write("image,mask,subject,split", *rows)) == [
        "manifest.csv:4: subject p: is in test, and in line 2 in train; put all images of a "
        "subject into one part"
    ]


@pytest.mark.parametrize("column", ["subject", "split", "fov"])
def test_a_column_is_filled_in_every_row_or_in_none(write: Write, column: str) -> None:
    # A spreadsheet with merged cells leaves all but the first of them empty.
    filled = {"subject": "p", "split": "train", "fov": "masks/a.png"}[column]
    root = write(f"image,mask,{column}", row("a", filled), row("b", ""), row("c"))
    assert problems(root) == [
        f"manifest.csv:{line}: has no {column}, which other rows have; fill it in"
        for line in (3, 4)
    ]
    root = write(f"image,mask,{column}", row("a", ""), row("b", ""))
    assert len(folder(root, CONFIG)) == 2


def test_a_row_without_mask_is_told(write: Write) -> None:
    assert problems(write("image,mask", row("a"), "images/b.png,", ",masks/c.png")) == [
        "manifest.csv:3: has no mask; fill it in",
        "manifest.csv:4: has no image; fill it in",
    ]


def test_a_split_without_training_rows_is_refused(write: Write) -> None:
    assert problems(write("image,mask,split", row("a", "test"), row("b", "val"))) == [
        "manifest.csv:1: no row's split is train; name what to train on, or leave the column out"
    ]


def test_a_split_and_one_drawn_within_subjects_exclude_each_other(write: Write) -> None:
    root = write("image,mask,split", row("a", "train"), row("b", "test"))
    assert problems(root, DataConfig(split="within_subject")) == [
        "manifest.csv:1: has a split, and data.split=within_subject draws one; keep one of the two"
    ]


def test_problems_of_rows_and_of_files_are_told_together(write: Write) -> None:
    root = write(
        "image,mask,split", row("a", "train"), row("b", "tests"), row("c", "val"), row("x", "val")
    )
    (root / "masks" / "c.png").write_bytes(b"no picture")
    told = problems(root)
    assert [":".join(line.split(":")[:2]).split(": ")[0] for line in told] == [
        "manifest.csv:3",
        "manifest.csv:5",
        "manifest.csv:5",
        "masks/c.png",
    ]
    assert all("; " in line for line in told)  # each has its remedy


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
def test_whatever_stands_in_the_file_gives_samples_or_a_misuse(
    write: Write, content: bytes
) -> None:
    root = write()
    for heading in (b"", b"image,mask,split\nimages/a.png,masks/a.png,"):
        (root / "manifest.csv").write_bytes(heading + content)
        try:
            assert folder(root, CONFIG)
        except Misuse:
            continue
