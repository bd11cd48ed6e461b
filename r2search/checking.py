"""A data set looked at before it is trained on: figures, findings, and a sheet of pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table
from rich.text import Text

from r2search.config import DataConfig, Misuse
from r2search.data import POOL, READERS, SYNTHETIC, read, resolve
from r2search.data.check import Finding, find_faults
from r2search.data.facts import Row, facts, stored_masks
from r2search.data.prepare import resize
from r2search.data.readers.entries import BadData
from r2search.data.samples import Sample
from r2search.report.pictures import CLASSES, outline, write_line
from r2search.report.screen import say

GUESS = ""  # the name of the reader that is to be found

MOST_PICTURES = 24  # on a sheet, beside the suspicious ones
MOST_SUSPICIOUS = 96
COLUMNS, CELL = 4, 300  # pixels of a cell, its picture is as wide
THIN = 0.35  # share of a pixel that a mask must cover: half would lose fine vessels
GAP, LINE = 10, 20
INK, ALARM, NOTICE = (28, 36, 48), (214, 40, 40), (230, 145, 0)


class Reading(NamedTuple):
    """What a reader made of a folder."""

    config: DataConfig
    samples: Sequence[Sample]
    problems: Sequence[str]  # what it refuses


def check_data(config: DataConfig, console: Console, sheet_path: Path | None = None) -> int:
    """Show what a data set is like and what looks wrong with it; write a sheet if it has a path.

    `config.reader` may be GUESS. The result is the exit code: 1 when a finding is an error. Misuse
    when no reader makes anything of the folder.
    """
    assert config.root
    if sheet_path and sheet_path.suffix.lower() != ".png":
        raise Misuse(f"-o {sheet_path}: the sheet is a PNG; give it a name that ends in .png")
    if not config.root.is_dir():
        raise Misuse(f"{config.root}: there is no such folder; check the path")
    reading = guess_reader(config) if config.reader == GUESS else read_with(config)
    reader, samples = reading.config.reader, reading.samples
    rows = [*facts(samples, config.labels)] if samples else [("images", "none could be read")]
    say(console, f"{config.root}, read as {reader}")
    _show(rows + stored_masks(config.root), console)
    found = find_faults(samples, reading.problems, config.split)
    for finding in found:
        kind = "error" if finding.is_error else "notice"
        say(console, f"{kind}: {finding.kind}: {finding.text}")
    wrong = sum(finding.is_error for finding in found)
    say(console, f"{_number(wrong, 'error')}, {_number(len(found) - wrong, 'notice')}")
    if sheet_path and samples:
        _save(draw_sheet(samples, found), sheet_path)
        say(console, f"pictures: {sheet_path}")
    return 1 if wrong else 0


def read_with(config: DataConfig) -> Reading:
    """What the reader of the config makes of its folder, with the problems that it names."""
    config = resolve(config)
    try:
        return Reading(config, read(config), ())
    except BadData as error:
        return Reading(config, error.samples, error.problems)


def guess_reader(config: DataConfig) -> Reading:
    """What the one reader makes of the folder that fits its layout.

    A reader that finds no fault goes before those that do, and one that reads some images before
    those that read none. Misuse when none fits, or several do.
    """
    names = sorted(READERS.keys() - {POOL, *SYNTHETIC})
    fitting: list[Reading] = []
    refused: set[str] = set()
    for name in names:
        try:
            fitting.append(read_with(config.model_copy(update={"reader": name})))
        except Misuse as error:
            if ": expected " not in str(error):  # it is no other layout that keeps it from reading
                refused.add(str(error))
    sound = [reading for reading in fitting if not reading.problems]
    partly = [reading for reading in fitting if reading.samples]
    best = sound or partly or fitting
    if len(best) == 1:
        return best[0]
    if best:
        several = " and ".join(reading.config.reader for reading in best)
        raise Misuse(f"{config.root}: {several} read this layout; choose one by --reader")
    if len(refused) == 1:
        raise Misuse(refused.pop())
    raise Misuse(
        f"{config.root}: is laid out as no reader expects; choose one of {', '.join(names)} by "
        "--reader to hear what it misses"
    )


def draw_sheet(samples: Sequence[Sample], found: Sequence[Finding]) -> Image.Image:
    """Samples spread over the set, and all suspicious ones, with their masks outlined.

    Under each picture stand its id and part; a frame and a line below mark the suspicious ones.
    """
    marks = _marks(found)
    places = _chosen(samples, marks)
    columns = min(COLUMNS, len(places))
    rows = [places[n : n + columns] for n in range(0, len(places), columns)]
    cells = {n: outlined(samples[n]) for n in places}
    heights = [max(cells[n].height for n in row) for row in rows]
    size = (GAP + columns * (CELL + GAP), GAP + sum(heights) + (2 * LINE + GAP) * len(rows))
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        for column, place in enumerate(row):
            left, sample = GAP + column * (CELL + GAP), samples[place]
            page.paste(cells[place], (left, top))
            below = top + cells[place].height
            name = f"{sample.id} ({sample.part})" if sample.part else sample.id
            write_line(draw, (left, below + 2), name, CELL, INK)
            if mark := marks.get(sample.id):
                colour = ALARM if mark.is_error else NOTICE
                draw.rectangle((left - 3, top - 3, left + CELL + 2, below + 2), None, colour, 3)
                write_line(draw, (left, below + 2 + LINE), mark.kind, CELL, colour)
        top += height + 2 * LINE + GAP
    return page


def _marks(found: Sequence[Finding]) -> Mapping[str, Finding]:
    """By id, the first finding about it: errors come first."""
    marks: dict[str, Finding] = {}
    for finding in found:
        for name in finding.ids:
            marks.setdefault(name, finding)
    return marks


def _chosen(samples: Sequence[Sample], marks: Mapping[str, Finding]) -> list[int]:
    """Places of the samples to show: the suspicious ones first, pairs side by side."""
    place = {sample.id: n for n, sample in enumerate(samples)}
    suspicious = [place[name] for name in marks][:MOST_SUSPICIOUS]
    spread = np.linspace(0, len(samples) - 1, min(MOST_PICTURES, len(samples))).round().astype(int)
    others = [n for n in dict.fromkeys(spread.tolist()) if samples[n].id not in marks]
    return suspicious + others


def outlined(sample: Sample) -> Image.Image:
    """The image, CELL pixels wide, with a line round each class of its mask."""
    height, width = sample.mask.shape
    shape = max(1, round(height * CELL / width)), CELL
    picture = resize(sample.image, shape)
    page = np.broadcast_to(picture, (*shape, 3)).copy()
    for index in range(1, int(sample.mask.max()) + 1):
        area = (sample.mask == index).astype(np.float32)
        share = cv2.resize(area, shape[::-1], interpolation=cv2.INTER_AREA)
        page[outline(share > THIN)] = CLASSES[(index - 1) % len(CLASSES)]
    return Image.fromarray(page)


def _save(page: Image.Image, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        page.save(path)
    except OSError as error:
        raise Misuse(f"-o {path}: cannot be written ({error.strerror}); name another") from None


def _show(rows: Sequence[Row], console: Console) -> None:
    table = Table("what", "", show_header=False)
    for name, value in rows:
        table.add_row(Text(name), Text(value, overflow="fold"))
    console.print(table)


def _number(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"
