"""An exported network at work: files in, masks out; labelled images in, scores out."""

import csv
import hashlib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from r2search import __version__
from r2search.bundle import Bundle, load_bundle
from r2search.config import Misuse
from r2search.data import POOL, load
from r2search.data.readers.large import open_large
from r2search.data.readers.volumes import NIFTI, is_kind, read_nifti, read_picture, require_grey
from r2search.data.samples import Sample, SampleSet
from r2search.inputs import find_images
from r2search.outputs import Record, whole, write_large, write_prediction, write_volume
from r2search.pace import Pace
from r2search.report.screen import say
from r2search.report.wording import SYNTHETIC, by_class
from r2search.train.evaluation import evaluate
from r2search.train.hardware import apply
from r2search.train.image_metrics import ImageScorer
from r2search.train.metrics import Metrics


def predict_files(
    bundle_dir: Path,
    inputs: list[Path],
    out_dir: Path,
    threshold: float | None,
    console: Console,
    *,
    test_time: str | None = None,
    batch: int | None = None,
    device: Literal["cpu", "cuda"] | None = None,
) -> int:
    """Write mask, probability and overlay for every image, as `write_prediction` has them.

    All have the image's own size. Of a NIfTI volume there is NAME_mask.nii.gz alone, in the
    volume's own grid. What is there already, of the same image by the same network and settings,
    is not predicted again. A bad file is named at the end and costs only itself; the result is
    the exit code, 1 when there was one. None is the bundle's own setting.
    """
    bundle = _bundle(bundle_dir, threshold, test_time, batch, device)
    files = find_images(inputs)
    _require_folder(out_dir, files)
    if bundle.manifest.synthetic:
        console.print("This network was trained on synthetic data: its masks mean nothing.")
    record = Record(out_dir, _by(bundle))
    new = {name: path for name, path in files.items() if not record.has(name, path)}
    sizes = {name: path.stat().st_size for name, path in new.items()}
    bad: list[str] = []
    with Pace(console, len(new), sum(sizes.values())) as pace:
        for name, path in new.items():
            reach = partial(pace.reach, work=sizes[name])
            try:
                with whole(out_dir) as (folder, written):
                    _predict_file(bundle, path, folder, name, reach)
                record.add(name, path, written)
            except (Misuse, FloatingPointError, MemoryError) as error:
                bad.append(_problem(path, error))
            pace.finish(sizes[name])
    before = len(files) - len(new)
    done = f"{len(files) - len(bad)} of {len(files)} images predicted, in {out_dir}"
    say(console, f"{done}; {before} of them before" if before else done)
    for problem in bad:
        print(f"r2search: {problem}", file=sys.stderr)
    return 1 if bad else 0


def _bundle(
    bundle_dir: Path,
    threshold: float | None,
    test_time: str | None,
    batch: int | None,
    device: Literal["cpu", "cuda"] | None,
) -> Bundle:
    """The network with the settings that were given."""
    if threshold is not None and not 0 < threshold < 1:
        raise Misuse(f"--threshold {threshold}: must lie between 0 and 1")
    bundle = _with_threshold(load_bundle(bundle_dir, device=device), threshold)
    given = {"test_time": test_time, "batch_size": batch}
    return bundle.using(**{key: value for key, value in given.items() if value is not None})


def _with_threshold(bundle: Bundle, threshold: float | None) -> Bundle:
    """The bundle with another threshold than its own, if there is one."""
    if threshold is None:
        return bundle
    classes = bundle.manifest.config.model.classes
    if classes > 2:
        raise Misuse(
            f"--threshold {threshold}: this network tells {classes} classes apart, "
            "each pixel gets the likeliest; leave it out"
        )
    return bundle.using(threshold=threshold)


def _require_folder(out_dir: Path, files: dict[str, Path]) -> None:
    """Make the folder for the results, which must not be that of an image."""
    if out_dir.resolve() in {path.parent.resolve() for path in files.values()}:
        raise Misuse(
            f"-o {out_dir}: holds images to predict, and masks beside them could be overwritten; "
            "name another folder"
        )
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Misuse(f"-o {out_dir}: cannot be made ({error.strerror}); name another") from None


def _by(bundle: Bundle) -> dict[str, Any]:
    """What decides, beside the image, what is predicted. Device and batch change rounding only."""
    batch = {"config": {"inference": {"batch_size"}}}
    facts = bundle.manifest.model_dump_json(exclude=batch | {"others": {"__all__": batch}})
    inference = bundle.manifest.config.inference
    return {
        "r2search": __version__,
        "bundle": hashlib.sha256(facts.encode()).hexdigest(),
        "threshold": inference.threshold,
        "test_time": inference.test_time,
    }


def _problem(path: Path, error: Exception) -> str:
    """What is wrong with a file, in one sentence that names it."""
    if isinstance(error, MemoryError):
        return f"{path}: is too large for the memory of this machine; save it as a TIFF in tiles"
    text = str(error)
    return text if text.startswith(str(path)) else f"{path}: {text.removeprefix('image: ')}"


def _predict_file(
    bundle: Bundle, path: Path, folder: Path, name: str, reach: Callable[[float], None]
) -> None:
    """Write the results of one file into a folder; `reach` is told the share that is done."""
    data = bundle.manifest.config.data
    if is_kind(path, NIFTI):
        require_grey(path, data)
        volume, header = read_nifti(path)
        masks = []
        for image in volume.pictures(data.window):
            masks.append(bundle.predict(image).mask)
            reach(len(masks) / len(volume.values))
        write_volume(folder, name, masks, data.labels, header)
    elif large := open_large(path, data.reading):
        with large:
            write_large(folder, name, large, bundle.predict_rows(large), data.labels, reach)
    else:
        image = read_picture(path, data)
        write_prediction(folder, name, image, bundle.predict(image), data.labels)


def evaluate_bundle(
    bundle_dir: Path,
    data_root: str | None,
    reader: str | None,
    split: str,
    csv_path: Path,
    console: Console,
    threshold: float | None = None,
) -> int:
    """Predict labelled images anew, print the metrics and write them per image as CSV.

    `threshold` takes the place of the bundle's.

    No stored score is read: other weights give another answer. The split is the one that the
    study made of the same images, with the same seed; of other images it is a new one, and that
    is said.
    """
    bundle = _with_threshold(load_bundle(bundle_dir, verify=False), threshold)
    loaded = _load_data(bundle, data_root, reader)
    samples = _part(loaded, split)
    if not samples:
        raise Misuse(f"--split {split}: no image in it; choose another split")
    if loaded.synthetic:
        console.print(SYNTHETIC)
    opened = bundle.manifest.tested
    if loaded.fingerprint == bundle.manifest.data["fingerprint"] and split == "test" and opened:
        console.print(
            f"The test split was opened before: {'once' if opened == 1 else f'{opened} times'}, by "
            "the study itself. What you choose by these scores from now on is not tested by them."
        )
    if loaded.fingerprint != bundle.manifest.data["fingerprint"]:
        console.print(
            "These are not the images of the study, or not all of them: what was trained on "
            "may be among them, whatever the split."
        )
    elif bundle.manifest.data.get("trained_on") == "all":
        console.print("This network was trained on all of these images: this is no test.")
    apply(bundle.predictor.hardware)
    try:
        scorer = ImageScorer(samples, bundle.manifest.config.inference.threshold)
        metrics, per_image = evaluate(bundle.predictor, samples, scorer)
    except FloatingPointError as error:
        raise Misuse(f"{bundle_dir}: {error}; export the bundle again") from None
    level = f", threshold {bundle.manifest.config.inference.threshold:g}"
    about = "" if bundle.manifest.config.model.classes > 2 else level
    console.print(_score_table(metrics, f"{len(samples)} images, split {split}{about}"))
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
    seed = bundle.manifest.data.get("seed", config.seed)  # of the split; a finalist has another
    return load(config.data.model_copy(update=update), seed=seed)


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
