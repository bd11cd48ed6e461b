"""What trials predict of one validation image, at rungs and at their ends: files for W&B to show.

They lie in the folder PREDICTIONS of a run. Where there is none (W&B is disabled, or a worker has
no folder in common with the driver) none is written.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from r2search.data.samples import Sample

PREDICTIONS = "predictions"
EDGE = 512  # pixels of the longer side, at most
MOST = 2000  # files of a study; of later trials none is written
_REFERENCE = "image.npz"


@dataclass(frozen=True, slots=True)
class Reference:
    """The image of which all predictions are, as W&B shows it."""

    id: str
    image: NDArray[np.uint8]  # (H, W, C)
    mask: NDArray[np.uint8]  # (H, W) of class indices, as a person drew it
    names: list[str]  # of the foreground classes


def begin_predictions(run_dir: Path, sample: Sample, names: Sequence[str]) -> None:
    """Make the folder, with the image that predictions are of."""
    folder = run_dir / PREDICTIONS
    folder.mkdir(exist_ok=True)
    image = _reduced(sample.image, Image.Resampling.LANCZOS)
    mask = _reduced(sample.mask, Image.Resampling.NEAREST)
    draft = folder / f".{_REFERENCE}"  # a suffix that numpy leaves as it is
    np.savez_compressed(draft, id=sample.id, image=image, mask=mask, names=np.array(names))
    os.replace(draft, folder / _REFERENCE)


def keep_prediction(run_dir: Path, trial: str, epoch: int, mask: NDArray[np.uint8]) -> None:
    """Write the mask (H, W) of class indices that the network predicts of the image shown."""
    folder = run_dir / PREDICTIONS
    if not folder.is_dir() or len(os.listdir(folder)) > MOST:
        return
    path = _path(run_dir, trial, epoch)
    draft = path.with_name(f".{path.name}")
    Image.fromarray(_reduced(mask, Image.Resampling.NEAREST)).save(draft, "PNG", optimize=True)
    os.replace(draft, path)


def read_reference(run_dir: Path) -> Reference | None:
    """None where there is none, or it is damaged."""
    try:
        with np.load(run_dir / PREDICTIONS / _REFERENCE) as found:
            names = [str(name) for name in found["names"]]
            return Reference(str(found["id"]), found["image"], found["mask"], names)
    except (OSError, ValueError, LookupError, BadZipFile):
        return None


def read_prediction(run_dir: Path, trial: str, epoch: int) -> NDArray[np.uint8] | None:
    """The mask (H, W) of class indices that a trial left after an epoch, None if it left none."""
    try:
        with Image.open(_path(run_dir, trial, epoch)) as found:
            return np.array(found)
    except OSError:
        return None


def _path(run_dir: Path, trial: str, epoch: int) -> Path:
    return run_dir / PREDICTIONS / f"{trial}-{epoch:04}.png"


def _reduced(pixels: NDArray[np.uint8], how: Image.Resampling) -> NDArray[np.uint8]:
    """An image (H, W, C) or mask (H, W), its longer side EDGE at most."""
    grey = pixels.ndim == 3 and pixels.shape[2] == 1
    picture = Image.fromarray(pixels[..., 0] if grey else pixels)
    share = min(1.0, EDGE / max(picture.size))
    size = (max(1, round(picture.width * share)), max(1, round(picture.height * share)))
    small = np.asarray(picture.resize(size, how))
    return small[..., None] if grey else small
