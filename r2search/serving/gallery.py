"""The study that a network is of, image by image: what is shown of its best and its worst."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from r2search.config import Misuse
from r2search.manifest import CONFIG

SUMMARY, BUNDLE = "summary.json", "bundle"  # in a run folder
PNG = b"\x89PNG\r\n\x1a\n"
MOST = 50_000_000  # bytes of one picture


class Shown(BaseModel):
    """One picture: image, mask, prediction and errors side by side."""

    file: str = Field(pattern=r"^pictures/[\w-]+\.png$", description="where it is to be had")
    caption: str


class ImageScore(BaseModel):
    id: str
    value: float


class Gallery(BaseModel):
    """The validation images of the study, which its network was chosen by."""

    metric: str
    scores: list[ImageScore] = Field(description="of every image, best first")
    shown: list[Shown]


@dataclass(frozen=True)
class Study:
    """What is served beside a network."""

    gallery: Gallery | None = None
    pictures: dict[str, bytes] = field(default_factory=dict)  # PNG files, by `Shown.file`


def find(folder: Path) -> tuple[Path, Study]:
    """The bundle of a run folder with what is shown of its study; of a bundle the bundle alone.

    Misuse when the summary is damaged. A picture that is missing is left out.
    """
    bundle = folder / BUNDLE
    if (folder / CONFIG).exists() or not (bundle / CONFIG).exists():
        return folder, Study()
    path = folder / SUMMARY
    try:
        found = json.loads(path.read_bytes()).get("images") or None
        gallery = found and Gallery.model_validate(found)
    except (OSError, ValueError, AttributeError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise Misuse(
            f"{path}: missing or damaged ({reason}); serve its bundle alone: {bundle}"
        ) from None
    if not gallery:
        return bundle, Study()
    pictures = {shown.file: _picture(folder / shown.file) for shown in gallery.shown}
    there = {file: content for file, content in pictures.items() if content}
    gallery.shown = [shown for shown in gallery.shown if shown.file in there]
    return bundle, Study(gallery, there)


def _picture(path: Path) -> bytes:
    """A PNG file; empty where there is none."""
    if not path.is_file() or path.is_symlink() or path.stat().st_size > MOST:
        return b""
    content = path.read_bytes()
    return content if content.startswith(PNG) else b""
