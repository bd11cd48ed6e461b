"""manifest.csv: a table of images and masks, wherever below its folder they lie."""

import csv
import os
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

from r2search.config import Misuse, hint
from r2search.data.readers.entries import Entry
from r2search.data.samples import Part, Split

MANIFEST = "manifest.csv"
REQUIRED = ("image", "mask")
PATHS = (*REQUIRED, "fov", "second_mask")
WHOLE = (*REQUIRED, "fov", "subject", "split")  # filled in every row, or in none
COLUMNS = (*PATHS, "subject", "split")
PARTS: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
DELIMITERS = ",;\t"  # where the comma is the decimal point, spreadsheets write the second

Rows = dict[int, dict[str, str]]  # line in the file -> column -> what stands there, or ""
Problems = Iterator[tuple[int, str]]  # line, and what is wrong with it


def read_manifest(path: Path, split: Split, problems: list[str]) -> list[Entry]:
    """One entry for each row whose files are there; what is wrong with rows becomes problems.

    Columns: `image`, `mask`, and where wanted `fov`, `second_mask`, `subject` and `split` (train,
    val or test); others are passed over. Paths begin in the manifest's folder. Without `subject`,
    images/SUBJECT/NAME.png is of that subject, and another image is a subject of its own. Misuse
    when the file itself cannot be read.
    """
    rows = _read_rows(path)
    found = [*_gaps(rows), *_repeated(rows), *_parts(rows, split)]
    entries: dict[Path, Entry] = {}
    for line, row in rows.items():
        files: dict[str, Path] = {}
        for column in PATHS:
            if row[column]:
                try:
                    files[column] = _locate(path.parent, row[column])
                except Misuse as error:
                    found.append((line, f"{column} {row[column]}: {error}"))
        if all(column in files for column in REQUIRED):
            entry = Entry(
                id=_id(row),
                subject=_subject(row),
                image=files["image"],
                mask=files["mask"],
                fov=files.get("fov"),
                second_mask=files.get("second_mask"),
                part=PARTS.get(row["split"].lower()),
            )
            entries.setdefault(entry.image, entry)
    problems += [f"{path}:{line}: {text}" for line, text in sorted(found)]
    return list(entries.values())


def _read_rows(path: Path) -> Rows:
    try:
        text = path.read_bytes().decode("utf-8-sig")  # Excel begins a file with a mark
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise Misuse(f"{path}:{line}: is not UTF-8; save the table as CSV UTF-8") from None
    heading = text.splitlines()[0] if text else ""
    delimiter = max(DELIMITERS, key=heading.count)
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: Rows = {}
    try:
        columns = [name.strip().lower() for name in next(reader, [])]
        _require_columns(path, columns)
        for written in reader:
            cells = [cell.strip() for cell in written]
            if any(cells[len(columns) :]):
                raise Misuse(
                    f"{path}:{reader.line_num}: has more cells than the {len(columns)} columns of "
                    "line 1; put a path that holds the delimiter in quotes"
                )
            if any(cells):
                filled = dict(zip(columns, cells, strict=False))
                rows[reader.line_num] = {name: filled.get(name, "") for name in COLUMNS}
    except csv.Error as error:
        raise Misuse(f"{path}:{reader.line_num}: is no CSV ({error}); save it again") from None
    if not rows:
        raise Misuse(f"{path}: names no images; write a row for each")
    return rows


def _require_columns(path: Path, columns: list[str]) -> None:
    missing = [name for name in REQUIRED if name not in columns]
    twice = [name for name in COLUMNS if columns.count(name) > 1]
    if missing:
        raise Misuse(
            f"{path}:1: has no column {' and no column '.join(missing)}; name the columns in line "
            "1: image, mask, and where wanted fov, second_mask, subject, split"
        )
    if twice:
        raise Misuse(f"{path}:1: has the column {twice[0]} twice; remove one")


def _gaps(rows: Rows) -> Problems:
    """Cells that are empty where those of other rows are not."""
    for column in WHOLE:
        empty = [line for line, row in rows.items() if not row[column]]
        if column in REQUIRED or len(empty) < len(rows):
            others = "" if column in REQUIRED else ", which other rows have"
            yield from ((line, f"has no {column}{others}; fill it in") for line in empty)


def _repeated(rows: Rows) -> Problems:
    first: dict[str, int] = {}
    for line, row in rows.items():
        image = _plain(row["image"])
        if image and first.setdefault(image, line) != line:
            yield line, f"image {row['image']}: stands in line {first[image]} already; remove one"


def _parts(rows: Rows, split: Split) -> Problems:
    """Words that name no part, subjects in two of them, and a split that trains on nothing."""
    words = {line: row["split"].lower() for line, row in rows.items() if row["split"]}
    first: dict[str, int] = {}
    for line, word in words.items():
        if word not in PARTS:
            yield line, f"split {rows[line]['split']}: is no part; {hint(word, list(PARTS))}"
            continue
        subject = _subject(rows[line])
        earlier = first.setdefault(subject, line)
        part, other = PARTS[word], PARTS[words[earlier]]
        if subject and part != other:
            yield (
                line,
                f"subject {subject}: is in {part}, and in line {earlier} in {other}; put all "
                "images of a subject into one part",
            )
    if words and "train" not in {PARTS.get(word) for word in words.values()}:
        yield 1, "no row's split is train; name what to train on, or leave the column out"
    if words and split == "within_subject":
        yield 1, "has a split, and data.split=within_subject draws one; keep one of the two"


def _plain(text: str) -> str:
    """A path as we write it: with Windows' strokes turned, without `./` and the like."""
    return os.path.normpath(text.replace("\\", "/")) if text else ""


def _id(row: dict[str, str]) -> str:
    """The image's path without suffix, and without images/: as where there is no manifest."""
    stem = os.path.splitext(_plain(row["image"]))[0]
    return stem.removeprefix("images/").replace("/", "_")


def _subject(row: dict[str, str]) -> str:
    top, *inner = _plain(row["image"]).split("/")
    in_folder = top == "images" and len(inner) > 1
    return row["subject"] or (inner[0] if in_folder else _id(row))


def _locate(folder: Path, text: str) -> Path:
    """The file that a cell names. Misuse: none, or none in the folder."""
    inside = _plain(text)
    if os.path.isabs(inside) or inside.split("/")[0] == "..":
        raise Misuse("lies outside of the manifest's folder; move it in and name it from there")
    if not os.path.isfile(folder / inside):
        raise Misuse("there is no such file; paths begin in the manifest's folder")
    return folder / inside
