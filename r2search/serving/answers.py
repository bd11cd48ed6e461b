"""What the server says: facts of its network, and of one image numbers and files."""

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field
from scipy import ndimage

from r2search.bundle import CARD, PREVIEW, Bundle
from r2search.config import DataConfig
from r2search.data import field_of_view
from r2search.data.prepare import at_most
from r2search.manifest import Manifest
from r2search.outputs import write_prediction
from r2search.report.pictures import CLASSES
from r2search.report.wording import class_names
from r2search.serving.uploads import KNOWN, Limits

# What a network of one class marks, by the reader of its images.
MARKED = {
    **dict.fromkeys(("chase_db1", "drive", "hrf", "stare", "synthetic_retina"), "vessels"),
    **dict.fromkeys(("isic", "synthetic_skin"), "lesion"),
    **dict.fromkeys(("dsb2018", "synthetic_nuclei"), "nuclei"),
    "chaos": "liver",
    "synthetic_ct": "spleen",
}
TOUCHING = np.ones((3, 3), np.uint8)  # pixels that touch at a corner are one piece
JPEG: dict[str, Any] = {"quality": 92, "subsampling": 0}  # fine lines keep their colours
CHUNK = 3 << 16  # bytes, a multiple of 3: base64 of the parts is that of the whole

File = Literal["mask", "probability", "overlay", "picture"]
FILES: tuple[File, ...] = ("mask", "probability", "overlay")


class ClassFacts(BaseModel):
    """One foreground class."""

    name: str
    colour: str = Field(description="of overlays, as #rrggbb")
    value: int = Field(description="in the mask")


class ModelFacts(BaseModel):
    """The network that is served."""

    study: str
    trial: str
    epoch: int
    synthetic: bool = Field(description="trained on synthetic images: its masks mean nothing")
    medical_device: Literal[False] = False
    classes: list[ClassFacts]
    threshold: float | None = Field(description="foreground from here on; null: several classes")
    channels: Literal["rgb", "grey"] = Field(description="grey: images without colour will do")
    reader: str
    split: str
    notes: list[str]
    metrics: dict[str, float] = Field(description="of the exported checkpoint, on validation")
    network: dict[str, str | int | float | bool]
    versions: dict[str, str]
    card: str = Field(description="the model card, Markdown")
    sample_picture: bool = Field(description="whether GET /sample.png has a picture of the study")
    takes: str = Field(description="kinds of images")
    most_bytes: int
    most_pixels: int


class Area(ClassFacts):
    """What the network marks as one class, in one image."""

    pixels: int
    percent: float = Field(description="of the pixels that `of` names")
    pieces: int = Field(description="connected, corners included")


class Answer(BaseModel):
    """One image, predicted."""

    name: str
    width: int
    height: int
    threshold: float | None = Field(description="null: several classes, each pixel the likeliest")
    of: Literal["image", "field of view"]
    of_pixels: int
    classes: list[Area]
    synthetic: bool
    seconds: float = Field(description="that the network and the files took")
    files: dict[File, list[str]] = Field(
        description="PNG files in base64, as `r2search predict` writes them: mask; probability, "
        "one a class (16 bit: 65535 is 1); overlay. picture: the image as it was read, JPEG"
    )


class Failure(BaseModel):
    """Why a request was refused."""

    error: str


def model_facts(manifest: Manifest, folder: Path, limits: Limits) -> ModelFacts:
    """What a person or a script wants to know of a bundle before sending it images."""
    config = manifest.config
    card = folder / CARD
    return ModelFacts(
        **manifest.model_dump(include={"study", "trial", "epoch", "synthetic", "metrics"}),
        classes=classes_of(config.data, config.model.classes),
        threshold=threshold_of(manifest, None),
        channels=config.data.reading,
        reader=config.data.reader,
        split=str(manifest.data.get("split", "")),
        notes=[str(note) for note in manifest.data.get("notes") or ()],
        network=config.model.model_dump(),
        versions=manifest.versions,
        card=card.read_text(encoding="utf-8", errors="replace") if card.is_file() else "",
        sample_picture=bool(sample_picture(folder)),
        takes=KNOWN,
        most_bytes=limits.bytes,
        most_pixels=limits.pixels,
    )


def sample_picture(folder: Path) -> bytes:
    """The picture of a validation image that lies in a bundle; empty when there is none."""
    path = folder / PREVIEW
    content = path.read_bytes() if path.is_file() else b""
    return content if content.startswith(b"\x89PNG\r\n\x1a\n") else b""


def classes_of(data: DataConfig, classes: int) -> list[ClassFacts]:
    """Name, colour and mask value of every foreground class."""
    names: list[str]
    values: tuple[int, ...]
    if classes <= 2:
        kinds = {MARKED.get(reader) for reader in [m.reader for m in data.pool] or [data.reader]}
        names, values = [(kinds.pop() if len(kinds) == 1 else None) or "foreground"], (255,)
    else:
        names, values = class_names(data.labels, classes), data.labels
    return [
        ClassFacts(name=name, colour=f"#{bytes(CLASSES[i % len(CLASSES)]).hex()}", value=value)
        for i, (name, value) in enumerate(zip(names, values, strict=True))
    ]


def threshold_of(manifest: Manifest, wanted: float | None) -> float | None:
    """The threshold of a prediction; None where a pixel gets the likeliest of several classes."""
    if manifest.config.model.classes > 2:
        return None
    return manifest.config.inference.threshold if wanted is None else wanted


def predict_upload(
    bundle: Bundle, folder: Path, name: str, threshold: float | None, files: list[File]
) -> Answer:
    """Predict folder/pixels.npy; the wanted files then lie in the folder.

    The `files` of the answer are still empty: `json_parts` has them.
    """
    started = time.perf_counter()
    data = bundle.manifest.config.data
    image: NDArray[np.uint8] = np.load(folder / "pixels.npy")
    prediction = bundle.predict(image, threshold)
    write_prediction(folder, "image", image, prediction, data.labels, files)
    if "picture" in files:
        shown = image[:, :, 0] if image.shape[2] == 1 else image
        Image.fromarray(shown).save(folder / "image_picture.jpg", **JPEG)
    height, width = image.shape[:2]
    fov = field_of_view(data, at_most(image, data.max_side))
    whole = height * width if fov is None else round(float(fov.mean()) * height * width)
    return Answer(
        name=name,
        width=width,
        height=height,
        threshold=threshold_of(bundle.manifest, threshold),
        of="image" if fov is None else "field of view",
        of_pixels=whole,
        classes=areas(
            prediction.mask, classes_of(data, bundle.manifest.config.model.classes), whole
        ),
        synthetic=bundle.manifest.synthetic,
        seconds=round(time.perf_counter() - started, 3),
        files={},
    )


def areas(mask: NDArray[np.uint8], classes: list[ClassFacts], whole: int) -> list[Area]:
    """How much of each class a mask (H, W) of class indices has; `whole` pixels are 100 %."""
    found = []
    for index, facts in enumerate(classes, start=1):
        own = mask == index
        pixels = int(own.sum())
        percent = round(100 * pixels / whole, 4) if whole else 0.0
        pieces = int(ndimage.label(own, TOUCHING)[1])
        found.append(Area(**facts.model_dump(), pixels=pixels, percent=percent, pieces=pieces))
    return found


def json_parts(answer: Answer, folder: Path, files: list[File]) -> Iterator[bytes]:
    """The answer as JSON, its files piece by piece: they may be too large to hold."""
    head = answer.model_dump_json(exclude={"files"}).removesuffix("}")
    yield f'{head},"files":{{'.encode()
    for number, file in enumerate(files):
        yield f"{',' * (number > 0)}{json.dumps(file)}:[".encode()
        for place, path in enumerate(sorted(folder.glob(f"image_{file}*"), key=_order)):
            yield b',"' if place else b'"'
            with path.open("rb") as content:
                while part := content.read(CHUNK):
                    yield base64.b64encode(part)
            yield b'"'
        yield b"]"
    yield b"}}"


def _order(path: Path) -> tuple[int, str]:
    return len(path.name), path.name  # class 2 before class 10
