"""An exported network at work: files in, masks out; labelled images in, scores out."""

import csv
import sys
from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from r2search.bundle import Bundle, Prediction, load_bundle
from r2search.config import Misuse
from r2search.data import POOL, load
from r2search.data.readers.images import SUFFIXES, list_images, name_of
from r2search.data.readers.volumes import (
    DICOM,
    NIFTI,
    is_kind,
    list_volumes,
    read_nifti,
    read_picture,
    require_grey,
    write_nifti_mask,
)
from r2search.data.samples import Sample, SampleSet
from r2search.report.pictures import overlay
from r2search.report.screen import say
from r2search.report.wording import SYNTHETIC, by_class
from r2search.train.hardware import apply
from r2search.train.trainer import Metrics, evaluate


def predict_files(
    bundle_dir: Path,
    inputs: list[Path],
    out_dir: Path,
    threshold: float | None,
    console: Console,
) -> int:
    """Write mask, probability and overlay for every image, as `write_prediction` has them.

    All have the image's own size. Of a NIfTI volume there is NAME_mask.nii.gz alone, in the
    volume's own grid. A bad file is named at the end and costs only itself; the result is the
    exit code, 1 when there was one.
    """
    if threshold is not None and not 0 < threshold < 1:
        raise Misuse(f"--threshold {threshold}: must lie between 0 and 1")
    bundle = load_bundle(bundle_dir)
    config = bundle.manifest.config
    if threshold is not None and config.model.classes > 2:
        raise Misuse(
            f"--threshold {threshold}: this network tells {config.model.classes} classes apart, "
            "each pixel gets the likeliest; leave it out"
        )
    files = find_images(inputs)
    if out_dir.resolve() in {path.parent.resolve() for path in files.values()}:
        raise Misuse(
            f"-o {out_dir}: holds images to predict, and masks beside them could be overwritten; "
            "name another folder"
        )
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Misuse(f"-o {out_dir}: cannot be made ({error.strerror}); name another") from None
    if bundle.manifest.synthetic:
        console.print("This network was trained on synthetic data: its masks mean nothing.")
    bad: list[str] = []
    for name, path in track(files.items(), "predicting", len(files), console=console):
        try:
            _predict_file(bundle, path, out_dir, name, threshold)
        except Misuse as error:
            bad.append(str(error))
    say(console, f"{len(files) - len(bad)} of {len(files)} images predicted, in {out_dir}")
    for problem in bad:
        print(f"r2search: {problem}", file=sys.stderr)
    return 1 if bad else 0


def _predict_file(
    bundle: Bundle, path: Path, out_dir: Path, name: str, threshold: float | None
) -> None:
    data = bundle.manifest.config.data
    if not is_kind(path, NIFTI):
        image = read_picture(path, data)
        write_prediction(out_dir, name, image, bundle.predict(image, threshold), data.labels)
        return
    require_grey(path, data)
    volume, header = read_nifti(path)
    masks = [bundle.predict(image, threshold).mask for image in volume.pictures(data.window)]
    values = np.array((0, *(data.labels or (1,))), np.uint8)
    write_nifti_mask(out_dir / f"{name}_mask.nii.gz", values[np.stack(masks)], header)


def find_images(inputs: list[Path]) -> dict[str, Path]:
    """Output name -> file, for images, DICOM slices and NIfTI volumes, and for folders of them.

    Raises Misuse for what does not exist, for an empty folder and for two files of one name.
    """
    paths: list[Path] = []
    for path in inputs:
        if path.is_dir():
            inside = [*list_images(path), *list_volumes(path, (*DICOM, *NIFTI))]
            if not inside:
                known = " ".join([*sorted(SUFFIXES), *DICOM, *NIFTI])
                raise Misuse(f"{path}: no images in this folder; known: {known}")
            paths += inside
        elif path.is_file():
            paths.append(path)
        else:
            raise Misuse(f"{path}: no such file; give an image or a folder of images")
    found: dict[str, Path] = {}
    for path in paths:
        name = name_of(path)
        if found.setdefault(name, path) != path:
            raise Misuse(
                f"{path}: would overwrite the results of {found[name]}; "
                "predict them into different folders"
            )
    return found


def write_prediction(
    out_dir: Path,
    name: str,
    image: NDArray[np.uint8],
    prediction: Prediction,
    labels: tuple[int, ...],
    files: Collection[str] = ("mask", "probability", "overlay"),
) -> None:
    """NAME_mask.png, NAME_probability.png (0..65535 for 0..1) and NAME_overlay.png; or fewer.

    The mask is 0 and 255. Of several classes it has their `labels`, as the masks trained on, and
    each class K has its NAME_probability_classK.png.
    """
    several = len(prediction.probability) > 1
    values = np.array((0, *labels) if several else (0, 255), np.uint8)
    if "mask" in files:
        Image.fromarray(values[prediction.mask]).save(out_dir / f"{name}_mask.png")
    wanted = prediction.probability if "probability" in files else ()
    for index, probability in enumerate(wanted, start=1):
        deep = np.round(probability * 65535).astype(np.uint16)
        of = f"_class{index}" if several else ""
        Image.fromarray(deep).save(out_dir / f"{name}_probability{of}.png")
    if "overlay" in files:
        Image.fromarray(overlay(image, prediction.mask)).save(out_dir / f"{name}_overlay.png")


def evaluate_bundle(
    bundle_dir: Path,
    data_root: str | None,
    reader: str | None,
    split: str,
    csv_path: Path,
    console: Console,
) -> int:
    """Predict labelled images anew, print the metrics and write them per image as CSV.

    No stored score is read: other weights give another answer. The split is the one that the
    study made of the same images, with the same seed; of other images it is a new one, and that
    is said.
    """
    bundle = load_bundle(bundle_dir, verify=False)
    loaded = _load_data(bundle, data_root, reader)
    samples = _part(loaded, split)
    if not samples:
        raise Misuse(f"--split {split}: no image in it; choose another split")
    if loaded.synthetic:
        console.print(SYNTHETIC)
    if loaded.fingerprint != bundle.manifest.data["fingerprint"]:
        console.print(
            "These are not the images of the study, or not all of them: what was trained on "
            "may be among them, whatever the split."
        )
    apply(bundle.predictor.hardware)
    try:
        metrics, per_image = evaluate(bundle.predictor, samples)
    except FloatingPointError as error:
        raise Misuse(f"{bundle_dir}: {error}; export the bundle again") from None
    console.print(_score_table(metrics, f"{len(samples)} images, split {split}"))
    _write_csv(csv_path, per_image)
    say(console, f"per image: {csv_path}")
    return 0


def _score_table(metrics: Metrics, title: str) -> Table:
    """A line a metric; of several classes the mean over them, then a column each."""
    mean, *classes = by_class(metrics).values()
    heads = [f"class {index}" for index, _ in enumerate(classes, start=1)]
    table = Table("metric", "mean" if heads else "value", *heads, title=title)
    for name in mean:
        table.add_row(name, *(f"{each[name]:.8f}" for each in (mean, *classes)))
    return table


def _load_data(bundle: Bundle, data_root: str | None, reader: str | None) -> SampleSet:
    """The images of the study, or those given; never synthetic ones in the place of others."""
    config = bundle.manifest.config
    channels = bundle.manifest.data.get("channels", config.model.in_channels)
    update: dict[str, object] = {
        "reader": reader or config.data.reader,
        "otherwise": "error",
        # As the study read them, for other channels of some trials: the fingerprint tells.
        "channels": "grey" if channels == 1 else "rgb",
    }
    if data_root is not None:
        update["root"] = Path(data_root)
    if reader not in (None, POOL):
        update["pool"] = ()
    return load(config.data.model_copy(update=update), seed=config.seed)


def _part(samples: SampleSet, split: str) -> tuple[Sample, ...]:
    parts = {"train": samples.train, "val": samples.val, "test": samples.test}
    return sum(parts.values(), ()) if split == "all" else parts[split]


def _write_csv(path: Path, per_image: list[tuple[str, Metrics]]) -> None:
    """One line an image: its id and every metric."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["id", *per_image[0][1]])
            writer.writeheader()
            writer.writerows({"id": name} | scores for name, scores in per_image)
    except OSError as error:
        raise Misuse(f"-o {path}: cannot be written ({error.strerror}); name another") from None
