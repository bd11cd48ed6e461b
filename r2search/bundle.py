"""A folder that predicts by itself: weights, settings, threshold, model card.

Loading needs neither Ray, Optuna nor W&B, and executes nothing: safetensors and plain YAML.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from r2search.config import InferenceConfig, Misuse, ModelConfig, TrialConfig
from r2search.data import field_of_view, has_surround
from r2search.data.prepare import (
    Preparation,
    Rows,
    at_most,
    resize_probability,
)
from r2search.data.readers.volumes import read_picture
from r2search.manifest import CONFIG, Manifest, Member, read_manifest
from r2search.models.unet import UNet
from r2search.train.hardware import apply, detect, place_model
from r2search.train.inference import Ensemble, Predictor
from r2search.train.metrics import classify
from r2search.weights import WEIGHTS, read_weights

CARD, PREVIEW = "card.md", "preview.png"
SUMS = "SHA256SUMS"  # of all files of a bundle, as `sha256sum -c` reads them


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the network says of one image, at the image's own size."""

    probability: NDArray[np.float32]  # (F, H, W), 0..1: of each foreground class
    mask: NDArray[np.uint8]  # (H, W), class index: 0 background, 1 (2, ...) foreground


@dataclass(frozen=True, slots=True)
class Bundle:
    """A loaded network, ready to predict."""

    manifest: Manifest
    predictor: Predictor | Ensemble

    @property
    def predictors(self) -> tuple[Predictor, ...]:
        """Its networks, one or several."""
        one = self.predictor
        return one.members if isinstance(one, Ensemble) else (one,)

    def predict(
        self, image: str | Path | NDArray[np.uint8], threshold: float | None = None
    ) -> Prediction:
        """Segment one image: a file, or an array (H, W, C) uint8; C is 3, or 1 if grey will do.

        A file may also be a DICOM slice: CT is shown by the window of the training images.
        Outside the field of view, where the kind of image shows one, the probability is 0. Of
        several foreground classes a pixel gets the likeliest, whatever the threshold.
        """
        config = self.manifest.config
        if not isinstance(image, np.ndarray):
            image = read_picture(Path(image), config.data)
        channels = {1, 3} if config.data.reading == "grey" else {3}
        if image.ndim != 3 or image.shape[2] not in channels or image.dtype != np.uint8:
            wanted = " or ".join(f"(H, W, {count})" for count in sorted(channels))
            raise Misuse(
                f"image: expected uint8 of shape {wanted}, got {image.dtype} of shape "
                f"{image.shape}; convert it first"
            )
        apply(self.predictor.hardware)
        read = at_most(image, config.data.max_side)  # from here on as in training
        seen = self.predictor.probability(read, field_of_view(config.data, read))
        probability = resize_probability(seen, image.shape[:2])
        level = config.inference.threshold if threshold is None else threshold
        return Prediction(probability=probability, mask=classify(probability, level))

    def predict_rows(self, image: Rows) -> Iterator[Prediction]:
        """Segment an image of which only some rows are in memory, from top to bottom.

        What comes of all of them together is what `predict` says of the image. Misuse where the
        network's preparation has to look at the whole of it.
        """
        data = self.manifest.config.data
        within = data.max_side is None or max(image.shape[:2]) <= data.max_side
        if not (within and self.predictor.pointwise) or has_surround(data):
            raise Misuse(
                "image: too large to be in memory, and this network looks at the whole of it "
                "(data.resize, max_side, enhance or the field of view); make it smaller"
            )
        apply(self.predictor.hardware)
        level = self.manifest.config.inference.threshold
        for probability in self.predictor.rows(image):
            yield Prediction(probability=probability, mask=classify(probability, level))

    def using(self, **inference: Any) -> "Bundle":
        """The same with other settings under `inference`: test_time, batch_size, threshold."""
        configs = [_with_inference(each.config, inference) for each in self.manifest.members]
        others = zip(self.manifest.others, configs[1:], strict=True)
        update = {
            "config": configs[0],
            "others": tuple(each.model_copy(update={"config": config}) for each, config in others),
        }
        members = zip(self.predictors, configs, strict=True)
        changed = [replace(member, config=config) for member, config in members]
        return Bundle(self.manifest.model_copy(update=update), _as_one(changed))


def _with_inference(config: TrialConfig, given: dict[str, Any]) -> TrialConfig:
    settings = InferenceConfig.model_validate(config.inference.model_dump() | given)
    return config.model_copy(update={"inference": settings})


def _as_one(members: Sequence[Predictor]) -> Predictor | Ensemble:
    return members[0] if len(members) == 1 else Ensemble(tuple(members))


def export_bundle(
    bundle_dir: Path,
    weights_path: Path,
    facts: dict[str, Any],
    card: str,
    preview: bytes,
    others: Sequence[tuple[Path, dict[str, Any]]] = (),
) -> Manifest:
    """Write a bundle whole: into a neighbour folder first, which then takes the name.

    `facts` are the fields of `Manifest` but for `weights_sha256` and `others`; `others` are further
    networks to average with, each its weights and the fields of `Member`.
    """
    paths = [weights_path, *(path for path, _ in others)]
    members = [Member(**given, weights_sha256=_sha256(path)) for path, given in others]
    manifest = Manifest(**facts, weights_sha256=_sha256(weights_path), others=tuple(members))
    names = _weights_names(manifest)
    part = Path(tempfile.mkdtemp(prefix=".bundle-", dir=bundle_dir.parent))
    try:
        for path, name in zip(paths, names, strict=True):
            shutil.copyfile(path, part / name)
        text = yaml.safe_dump(manifest.model_dump(mode="json"), sort_keys=False)
        (part / CONFIG).write_text(text, encoding="utf-8")
        (part / CARD).write_text(card, encoding="utf-8")
        (part / PREVIEW).write_bytes(preview)
        sums = [f"{_sha256(part / name)}  {name}\n" for name in (*names, CONFIG, CARD, PREVIEW)]
        (part / SUMS).write_text("".join(sums), encoding="utf-8")
        part.chmod(0o755)
        if bundle_dir.exists():
            shutil.rmtree(bundle_dir)
        part.rename(bundle_dir)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return manifest


def load_bundle(
    path: str | Path, *, verify: bool = True, device: Literal["cpu", "cuda"] | None = None
) -> Bundle:
    """Load a bundle strictly: settings, hashes and every tensor must fit, else Misuse says what.

    `verify=False` leaves the hashes alone: evaluating is how one learns what changed weights do.
    It runs on a GPU where there is one, unless another `device` is named.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise Misuse("device cuda: this machine, or its torch, has none; take cpu")
    folder = Path(path)
    manifest = read_manifest(folder)
    files = zip(manifest.members, _weights_names(manifest), strict=True)
    models = [_read_model(member, folder / name, verify) for member, name in files]
    if verify and manifest.format > 1:
        _check_sums(folder)
    loaded = zip(manifest.members, models, strict=True)
    predictors = [_placed(member, model, manifest.threads, device) for member, model in loaded]
    return Bundle(manifest, _as_one(predictors))


def _read_model(member: Member, path: Path, verify: bool) -> UNet:
    """The network of a file of weights; Misuse unless it is the one that was exported."""
    weights, _ = read_weights(path, verify=verify)
    if verify and _sha256(path) != member.weights_sha256:
        raise Misuse(f"{path}: not the file that was exported; copy the bundle again")
    return _filled(member.config.model, weights, path)


def _placed(
    member: Member, model: UNet, threads: int, device: Literal["cpu", "cuda"] | None
) -> Predictor:
    """A network on its hardware, as it was scored."""
    config = member.config
    update = {"dtype": member.dtype, "memory_format": member.memory_format}
    hardware = detect(config.train.model_copy(update=update), threads=threads, device=device)
    place_model(model, hardware)
    preparation = Preparation(config.data, member.mean, member.std)
    return Predictor(model, config, preparation, hardware).snapshot()


def _weights_names(manifest: Manifest) -> list[str]:
    """The files of weights: model.safetensors, and of several networks model-2.safetensors, ..."""
    stem, suffix = WEIGHTS.split(".")
    return [WEIGHTS, *(f"{stem}-{n + 2}.{suffix}" for n in range(len(manifest.others)))]


def _filled(config: ModelConfig, weights: dict[str, torch.Tensor], path: Path) -> UNet:
    """The network with these weights; Misuse when they are another network's.

    Memory is taken for what lies in the file, not for what the settings ask for.
    """
    with torch.device("meta"):
        model = UNet(config)
    expected = model.state_dict()
    try:
        other = [k for k, v in weights.items() if k in expected and v.dtype != expected[k].dtype]
        if other:
            raise RuntimeError(f"{other[0]} is {weights[other[0]].dtype}")
        model.load_state_dict(weights, strict=True, assign=True)
    except RuntimeError as error:
        raise Misuse(
            f"{path}: does not fit {CONFIG}: {str(error).splitlines()[-1].strip()}; "
            "copy or export the bundle again"
        ) from None
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()  # they lay in the file, which may change
    return model


def predict(bundle: str | Path, image: str | Path | NDArray[np.uint8]) -> Prediction:
    """Load a bundle and segment one image with it."""
    return load_bundle(bundle).predict(image)


def _check_sums(folder: Path) -> None:
    """Misuse unless every file is the one that was exported."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise Misuse(f"{folder / SUMS}: missing, or no text; copy the bundle again") from None
    for name in (CONFIG, CARD, PREVIEW):  # the weights have their hash in CONFIG
        path = folder / name
        if not path.is_file():
            raise Misuse(f"{path}: missing; copy the bundle again")
        if f"{_sha256(path)}  {name}" not in lines:
            raise Misuse(f"{path}: not the file that was exported; copy the bundle again")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
