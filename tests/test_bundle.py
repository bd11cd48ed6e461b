"""A bundle predicts by itself; whatever is wrong with one is said."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from r2search.bundle import (
    CARD,
    PREVIEW,
    SUMS,
    export_bundle,
    load_bundle,
    predict,
)
from r2search.config import DataConfig, Misuse, ModelConfig, TrialConfig
from r2search.data.prepare import Preparation, at_most, resize_probability
from r2search.data.readers.fundus import field_of_view
from r2search.data.readers.images import read_image
from r2search.data.samples import Sample, SampleSet
from r2search.manifest import CONFIG
from r2search.models.unet import build_model
from r2search.train.hardware import Hardware, apply, detect
from r2search.train.inference import Predictor
from r2search.train.trainer import Trainer
from r2search.weights import WEIGHTS, read_facts, read_weights, save_weights

Make = Callable[..., Path]
Facts = Callable[..., dict[str, Any]]


@pytest.fixture
def bundle_dir(tmp_path: Path, make_bundle: Make) -> Path:
    return make_bundle(tmp_path)


def noise(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    rng = np.random.default_rng(7)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def edit_config(bundle_dir: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = bundle_dir / CONFIG
    tree = yaml.safe_load(path.read_text())
    change(tree)
    path.write_text(yaml.safe_dump(tree))


# Round trip


def test_a_loaded_bundle_predicts_what_the_exported_network_predicted(
    bundle_dir: Path, facts: Facts
) -> None:
    config = facts()["config"]
    model = build_model(config.model, seed=0)
    hardware = Hardware("cpu", "float32", "contiguous", 1)
    apply(hardware)  # as the bundle does: in float32, two threads add up in another order
    image = noise(70, 50)
    expected = Predictor(model, config, Preparation(config.data), hardware).probability(image)
    np.testing.assert_array_equal(load_bundle(bundle_dir).predict(image).probability, expected)


def trained(**data: Any) -> tuple[Trainer, Sample]:
    """A tiny network after one short epoch, and a photograph-like image it has not seen."""
    labels = data.get("labels", ())
    config = TrialConfig.model_validate(
        {
            "data": {"patch_size": 32, "augmentation": "none", **data},
            "model": {
                "block": "conv",
                "depth": 1,
                "base_filters": 2,
                "in_channels": 3 if data.get("channels", "rgb") == "rgb" else 1,
                "classes": len(labels) + 1 if len(labels) > 1 else 1,
            },
            "train": {"lr": 0.01, "batch_size": 4, "epoch_pixels": 8192},
            "inference": {"tile": 32, "overlap": 8},
        }
    )
    samples = [photograph(number, max(1, len(labels)), config.data.max_side) for number in range(3)]
    parts = SampleSet(
        reader=config.data.reader,
        synthetic=False,
        train=tuple(samples[:2]),
        val=tuple(samples[2:]),
        test=(),
        fingerprint="",
        split="by_subject",
    )
    hardware = detect(config.train, threads=1)
    apply(hardware)
    trainer = Trainer(config, parts, horizon=1, hardware=hardware)
    trainer.run_epoch()
    return trainer, samples[2]


def photograph(number: int, foregrounds: int, max_side: int | None) -> Sample:
    """A lit disc of noise on black, as the readers give it."""
    rows, columns = np.mgrid[:90, :70]
    disc = np.hypot(rows - 45, columns - 35) < 34
    rng = np.random.default_rng(number)
    image = np.where(disc[..., None], rng.integers(90 + 20 * number, 200, (90, 70, 3)), 2)
    read = at_most(image.astype(np.uint8), max_side)
    return Sample(
        image=read,
        mask=rng.integers(0, foregrounds + 1, read.shape[:2]).astype(np.uint8),
        fov=field_of_view(read),
        subject=str(number),
        id=f"image{number}",
    )


def exported(trainer: Trainer, root: Path, facts: Facts) -> Path:
    """The bundle of a trainer's network, as `finish` writes it."""
    predictor = trainer.predictor
    save_weights(root / WEIGHTS, trainer.weights(), {})
    given = facts(
        config=predictor.config,
        dtype=predictor.hardware.dtype,
        memory_format=predictor.hardware.memory_format,
        threads=predictor.hardware.threads,
        mean=predictor.preparation.mean,
        std=predictor.preparation.std,
    )
    export_bundle(root / "bundle", root / WEIGHTS, given, "# card", b"")
    return root / "bundle"


@pytest.mark.parametrize(
    "data",
    [
        {"standardize": "dataset"},
        {"standardize": "unit", "resize": 40, "aspect": "stretch"},
        {"standardize": "image", "channels": "green", "enhance": "clahe", "resize": 40},
        {"standardize": "dataset", "channels": "grey", "labels": (1, 2)},
        {"standardize": "dataset", "reader": "chase_db1"},  # which knows a field of view
    ],
    ids=lambda data: " ".join(map(str, data.values())),
)
def test_a_bundle_predicts_bit_for_bit_what_its_trainer_predicts(
    tmp_path: Path, facts: Facts, data: dict[str, Any]
) -> None:
    trainer, sample = trained(**data)
    fov = sample.fov if "reader" in data else None
    expected = trainer.predictor.probability(sample.image, fov)
    found = load_bundle(exported(trainer, tmp_path, facts)).predict(sample.image)
    np.testing.assert_array_equal(found.probability, expected)
    assert expected.std() > 0


@pytest.mark.parametrize("reader", ["folder", "chase_db1"])
def test_a_large_image_is_predicted_as_it_was_read_in_training_and_enlarged(
    tmp_path: Path, facts: Facts, reader: str
) -> None:
    trainer, _ = trained(max_side=64, reader=reader)
    large, small = photograph(2, 1, None), photograph(2, 1, 64)
    assert small.image.shape == (64, 50, 3)
    fov = small.fov if reader == "chase_db1" else None
    expected = trainer.predictor.probability(small.image, fov)
    found = load_bundle(exported(trainer, tmp_path, facts)).predict(large.image).probability
    np.testing.assert_array_equal(found, resize_probability(expected, (90, 70)))
    assert found.shape == (1, 90, 70)


def test_it_is_loaded_as_it_was_scored_whatever_this_machine_would_choose(
    tmp_path: Path, make_bundle: Make
) -> None:
    bundle = load_bundle(make_bundle(tmp_path, dtype="bfloat16", memory_format="channels_last"))
    hardware, model = bundle.predictor.hardware, bundle.predictor.model
    assert (hardware.dtype, hardware.threads) == ("bfloat16", 1)
    kernels = [p for p in model.parameters() if p.ndim == 4 and min(p.shape[1:]) > 1]
    assert kernels
    assert all(k.is_contiguous(memory_format=torch.channels_last) for k in kernels)
    assert {k.device.type for k in kernels} == {hardware.device}


@pytest.mark.parametrize("shape", [(37, 53), (1, 1), (20, 200), (64, 64)])
def test_a_prediction_has_the_size_of_its_image(bundle_dir: Path, shape: tuple[int, int]) -> None:
    prediction = load_bundle(bundle_dir).predict(noise(*shape))
    assert prediction.probability.shape == (1, *shape)
    assert prediction.mask.shape == shape
    assert prediction.probability.dtype == np.float32
    assert prediction.mask.dtype == np.uint8
    assert 0 <= prediction.probability.min() <= prediction.probability.max() <= 1


def test_a_file_is_predicted_as_its_pixels_are(
    bundle_dir: Path, tmp_path: Path, write_image: Make
) -> None:
    path = write_image(tmp_path / "a.png")
    expected = load_bundle(bundle_dir).predict(read_image(path, "rgb"))
    for image in (path, str(path)):
        np.testing.assert_array_equal(predict(bundle_dir, image).probability, expected.probability)


def test_the_mask_is_where_the_probability_reaches_the_threshold(bundle_dir: Path) -> None:
    bundle, image = load_bundle(bundle_dir), noise(40, 40)
    prediction = bundle.predict(image)
    (probability,) = prediction.probability
    np.testing.assert_array_equal(prediction.mask, probability >= 0.5)
    # A pixel exactly at the threshold is foreground, and every less probable one is not.
    threshold = float(np.sort(probability.ravel())[100])
    assert threshold < 0.5
    mask = bundle.predict(image, threshold).mask
    np.testing.assert_array_equal(mask, probability >= threshold)
    assert mask[probability == np.float32(threshold)].all()
    assert 0 < mask.sum() < mask.size


def test_of_several_classes_the_mask_has_the_likeliest_at_any_threshold(
    tmp_path: Path, make_bundle: Make, several: TrialConfig
) -> None:
    bundle = load_bundle(make_bundle(tmp_path, config=several))
    prediction = bundle.predict(noise(40, 40))
    assert prediction.probability.shape == (2, 40, 40)
    assert prediction.probability.sum(axis=0).max() <= 1 + 1e-6
    likeliest = np.stack([1 - prediction.probability.sum(axis=0), *prediction.probability])
    np.testing.assert_array_equal(prediction.mask, likeliest.argmax(axis=0))
    assert len(np.unique(prediction.mask)) > 1
    np.testing.assert_array_equal(bundle.predict(noise(40, 40), 0.9).mask, prediction.mask)


@pytest.mark.parametrize(
    ("image", "seen"),
    [
        (noise(40, 40).astype(np.float32), "got float32 of shape (40, 40, 3)"),
        (noise(40, 40)[:, :, 0], "got uint8 of shape (40, 40)"),
        (noise(40, 40, 4), "got uint8 of shape (40, 40, 4)"),
    ],
)
def test_an_array_of_another_kind_is_refused(
    bundle_dir: Path, image: NDArray[Any], seen: str
) -> None:
    with pytest.raises(Misuse, match=re.escape(f"expected uint8 of shape (H, W, 3), {seen}")):
        load_bundle(bundle_dir).predict(image)


def test_a_network_of_grey_images_takes_colours_too(
    tmp_path: Path, make_bundle: Make, facts: Facts, write_image: Make
) -> None:
    config = facts()["config"]
    grey = config.model_copy(
        update={
            "data": DataConfig(channels="grey"),
            "model": config.model.model_copy(update={"in_channels": 1}),
        }
    )
    bundle = load_bundle(make_bundle(tmp_path, config=grey))
    path = write_image(tmp_path / "a.png")
    from_file = bundle.predict(path).probability
    for channels in ("rgb", "grey"):
        read = read_image(path, channels)
        np.testing.assert_array_equal(bundle.predict(read).probability, from_file)
    with pytest.raises(Misuse, match=re.escape("expected uint8 of shape (H, W, 1) or (H, W, 3)")):
        bundle.predict(noise(40, 40, 2))


def test_statistics_of_the_training_images_survive_the_file_exactly(
    tmp_path: Path, make_bundle: Make, facts: Facts
) -> None:
    mean = tuple(np.array([0.1, 1 / 3, 254.99999], np.float32).tolist())
    config = facts()["config"].model_copy(update={"data": DataConfig(standardize="dataset")})
    bundle_dir = make_bundle(tmp_path, config=config, mean=mean, std=mean[::-1])
    manifest = load_bundle(bundle_dir).manifest
    assert (manifest.mean, manifest.std) == (mean, mean[::-1])


# Damages


def truncate(bundle_dir: Path) -> None:
    path = bundle_dir / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])


def change_weights(bundle_dir: Path) -> None:
    path = bundle_dir / WEIGHTS
    save_file({key: value + 1 for key, value in load_file(path).items()}, path)


def python_tag(bundle_dir: Path) -> None:
    path = bundle_dir / CONFIG
    path.write_text(path.read_text() + 'extra: !!python/object/apply:os.system ["exit 1"]\n')


def pickle_weights(bundle_dir: Path) -> None:
    path = bundle_dir / WEIGHTS
    torch.save({key: value.clone() for key, value in load_file(path).items()}, path)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (lambda b: b.rename(b.with_name("gone")), f"no bundle here ({CONFIG} is missing"),
    "no config": (lambda b: (b / CONFIG).unlink(), f"no bundle here ({CONFIG} is missing)"),
    "no weights": (lambda b: (b / WEIGHTS).unlink(), f"{WEIGHTS}: missing; export"),
    "weights cut short": (truncate, f"{WEIGHTS}: not intact ("),
    "weights changed": (change_weights, f"{WEIGHTS}: not the file that was exported"),
    "weights of no format": (
        lambda b: (b / WEIGHTS).write_bytes(b"hello, this is no safetensors file"),
        f"{WEIGHTS}: not intact (",
    ),
    "pickled weights": (pickle_weights, f"{WEIGHTS}: not intact ("),
    "another threshold": (
        lambda b: edit_config(b, lambda tree: tree["config"]["inference"].update(threshold=0.25)),
        f"{CONFIG}: not the file that was exported; copy",
    ),
    "no card": (lambda b: (b / CARD).unlink(), f"{CARD}: missing; copy"),
    "a card of one other letter": (
        lambda b: (b / CARD).write_text("# cart\n"),
        f"{CARD}: not the file that was exported; copy",
    ),
    "no sample picture": (lambda b: (b / PREVIEW).unlink(), f"{PREVIEW}: missing; copy"),
    "no hashes": (lambda b: (b / SUMS).unlink(), f"{SUMS}: missing, or no text; copy"),
    "a later format": (
        lambda b: edit_config(b, lambda tree: tree.update(format=99)),
        f"{CONFIG}: format 99, this version reads 1 to 3; use the version",
    ),
    "a key that does not exist": (
        lambda b: edit_config(b, lambda tree: tree["config"]["model"].update(colour="red")),
        f"{CONFIG}: config.model.colour: Extra inputs are not permitted",
    ),
    "a value out of range": (
        lambda b: edit_config(b, lambda tree: tree["config"]["model"].update(depth=-1)),
        f"{CONFIG}: config.model.depth: Input should be greater than",
    ),
    "a key too few": (
        lambda b: edit_config(b, lambda tree: tree.pop("weights_sha256")),
        f"{CONFIG}: weights_sha256: Field required",
    ),
    "a config that is a list": (
        lambda b: (b / CONFIG).write_text("- 1\n"),
        f"{CONFIG}: file: Input should be",
    ),
    "an empty config": (
        lambda b: (b / CONFIG).write_text(""),
        f"{CONFIG}: file: Input should be",
    ),
    "a config that is no YAML": (
        lambda b: (b / CONFIG).write_text("format: [1\n"),
        f"{CONFIG}: not plain YAML: expected",
    ),
    "a config of bytes": (
        lambda b: (b / CONFIG).write_bytes(b"\xff\xfe\x00"),
        f"{CONFIG}: not plain YAML: ",
    ),
    "a config that would run code": (
        python_tag,
        f"{CONFIG}: not plain YAML: could not determine a constructor",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_bundle_is_refused_by_name(bundle_dir: Path, damage: str) -> None:
    do, message = DAMAGES[damage]
    do(bundle_dir)
    with pytest.raises(Misuse, match=re.escape(message)) as caught:
        load_bundle(bundle_dir)
    assert str(bundle_dir) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_weights_of_another_network_are_refused(
    tmp_path: Path, make_bundle: Make, facts: Facts
) -> None:
    bundle_dir = make_bundle(tmp_path)
    other = facts()["config"].model_copy(update={"model": ModelConfig(depth=2, base_filters=2)})
    edit_config(bundle_dir, lambda tree: tree.update(config=other.model_dump(mode="json")))
    with pytest.raises(Misuse, match=f"{WEIGHTS}: does not fit {CONFIG}: .*; copy or export"):
        load_bundle(bundle_dir)


def test_too_few_and_too_many_weights_are_refused(bundle_dir: Path) -> None:
    path = bundle_dir / WEIGHTS
    whole = load_file(path)
    kernel = next(name for name in whole if name.endswith(".weight"))
    less = {name: value for name, value in whole.items() if name != kernel}
    for tensors in (less, whole | {"stray": torch.ones(1)}):
        save_file(tensors, path)
        with pytest.raises(Misuse, match=f"{WEIGHTS}: does not fit {CONFIG}: "):
            load_bundle(bundle_dir, verify=False)


def test_changed_weights_are_used_when_nobody_asks_for_the_hash(bundle_dir: Path) -> None:
    image = noise(40, 40)
    before = load_bundle(bundle_dir).predict(image).probability
    change_weights(bundle_dir)
    after = load_bundle(bundle_dir, verify=False).predict(image).probability
    assert not np.array_equal(before, after)


def test_the_hashes_of_a_bundle_are_those_that_sha256sum_checks(bundle_dir: Path) -> None:
    subprocess.run(["sha256sum", "--strict", "-c", SUMS], cwd=bundle_dir, check=True)


def test_a_bundle_from_before_the_hashes_is_read(bundle_dir: Path) -> None:
    edit_config(bundle_dir, lambda tree: tree.update(format=1))
    (bundle_dir / SUMS).unlink()
    assert load_bundle(bundle_dir).manifest.trial == "t0001"


def test_a_loaded_bundle_needs_its_files_no_more(bundle_dir: Path) -> None:
    bundle, image = load_bundle(bundle_dir), noise(40, 40)
    before = bundle.predict(image).probability
    with (bundle_dir / WEIGHTS).open("r+b") as file:
        file.truncate(10)
    weights = bundle.predictor.model.state_dict()
    assert all(value.isfinite().all() for value in weights.values())
    np.testing.assert_array_equal(bundle.predict(image).probability, before)


# Export


def test_an_export_that_fails_leaves_nothing_behind(tmp_path: Path, facts: Facts) -> None:
    with pytest.raises(FileNotFoundError):
        export_bundle(tmp_path / "bundle", tmp_path / WEIGHTS, facts(), "# card", b"")
    (tmp_path / WEIGHTS).write_bytes(b"weights")
    with pytest.raises(TypeError):  # fails after the weights were copied
        export_bundle(tmp_path / "bundle", tmp_path / WEIGHTS, facts(), "# card", None)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == [WEIGHTS]


def test_an_export_that_fails_leaves_an_older_bundle_as_it_was(
    tmp_path: Path, make_bundle: Make, facts: Facts
) -> None:
    bundle_dir = make_bundle(tmp_path)
    with pytest.raises(TypeError):
        export_bundle(bundle_dir, tmp_path / WEIGHTS, facts(), "# card", None)  # type: ignore[arg-type]
    assert load_bundle(bundle_dir).manifest.trial == "t0001"


def test_a_new_export_replaces_an_older_one_whole(tmp_path: Path, make_bundle: Make) -> None:
    bundle_dir = make_bundle(tmp_path)
    (bundle_dir / "stray").touch()
    make_bundle(tmp_path, seed=1, trial="t0002")
    assert load_bundle(bundle_dir).manifest.trial == "t0002"
    assert {path.name for path in bundle_dir.iterdir()} == {WEIGHTS, CONFIG, CARD, PREVIEW, SUMS}


def test_writing_weights_that_fails_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / WEIGHTS
    save_weights(path, {"w": torch.ones(2)}, {})
    shared = torch.ones(4)
    with pytest.raises(RuntimeError, match="share memory"):
        save_weights(path, {"a": shared, "b": shared[:2]}, {})
    assert list(load_file(path)) == ["w"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):  # fails when the new file takes its name
        save_weights(tmp_path / "folder", {"w": torch.zeros(2)}, {})
    assert sorted(tmp_path.iterdir()) == [tmp_path / "folder", path]


def test_weights_tell_when_a_bit_of_them_or_of_their_facts_has_changed(tmp_path: Path) -> None:
    path = tmp_path / WEIGHTS
    save_weights(path, {"w": torch.ones(2, 3), "b": torch.zeros(())}, {"epoch": "7"})
    whole = path.read_bytes()
    weights, facts = read_weights(path)
    assert (sorted(weights), facts, read_facts(path)["epoch"]) == (["b", "w"], {"epoch": "7"}, "7")
    for damaged in (whole[:-2] + b"\x40" + whole[-1:], whole.replace(b'"7"', b'"8"')):
        assert damaged != whole
        path.write_bytes(damaged)
        with pytest.raises(Misuse, match=r"not intact \(its content has changed\)"):
            read_weights(path)
        read_weights(path, verify=False)


# Independence


WITHOUT = """
import sys
for name in "ray optuna wandb albumentations plotly".split():
    sys.modules[name] = None  # importing it now raises
from pathlib import Path
from r2search import predict
from r2search.cli import main
bundle, image, out = sys.argv[1:]
assert predict(bundle, image).mask.shape == (40, 48)
assert main(["predict", bundle, image, "-o", out]) == 0
data = str(Path(image).parent.parent)
assert main(["evaluate", bundle, "--data", data, "-o", out + "/s.csv"]) == 0
"""


def test_predicting_and_evaluating_need_nothing_of_the_search(
    tmp_path: Path, make_bundle: Make, write_folder: Make
) -> None:
    image = write_folder(tmp_path / "data") / "images" / "a.png"
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT, make_bundle(tmp_path), image, tmp_path / "out"],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert {"a_mask.png", "s.csv"} <= {path.name for path in (tmp_path / "out").iterdir()}


# Several networks


@pytest.fixture
def ensemble_dir(tmp_path: Path, facts: Facts) -> Path:
    """Two networks of other sizes, tiles and preparations, trained a little on the same images."""
    return ensemble(tmp_path, facts, standardize="image")


def ensemble(root: Path, facts: Facts, **data: Any) -> Path:
    predictors = members(**data)
    for number, each in enumerate(predictors):
        save_weights(
            root / f"{number}.safetensors",
            {k: v.contiguous() for k, v in each.model.state_dict().items()},
            {},
        )
    first, *others = (
        {
            "trial": f"t{number:04}",
            "epoch": number,
            "config": each.config,
            "dtype": each.hardware.dtype,
            "memory_format": each.hardware.memory_format,
            "mean": each.preparation.mean,
            "std": each.preparation.std,
        }
        for number, each in enumerate(predictors)
    )
    rest = [(root / f"{number}.safetensors", each) for number, each in enumerate(others, start=1)]
    given = facts(**first, threads=predictors[0].hardware.threads)
    export_bundle(root / "bundle", root / "0.safetensors", given, "# card", b"", rest)
    return root / "bundle"


def members(**data: Any) -> list[Predictor]:
    one, other = trained(**data)[0].predictor, trained(standardize="dataset")[0].predictor
    tree = other.config.model_dump()
    tree["model"] |= {"depth": 2, "base_filters": 3}
    tree["inference"] |= {"tile": 48}
    config = TrialConfig.model_validate(tree)
    larger = Predictor(build_model(config.model, seed=1), config, other.preparation, other.hardware)
    return [one, larger]


def test_several_networks_predict_the_mean_of_their_probabilities(ensemble_dir: Path) -> None:
    one, other = members(standardize="image")
    image = noise(70, 50)
    expected = (one.probability(image) + other.probability(image)) / 2
    bundle = load_bundle(ensemble_dir)
    np.testing.assert_allclose(bundle.predict(image).probability, expected, atol=1e-6)
    assert np.abs(one.probability(image) - other.probability(image)).max() > 0.01
    assert [each.trial for each in bundle.manifest.members] == ["t0000", "t0001"]
    subprocess.run(["sha256sum", "--strict", "-c", SUMS], cwd=ensemble_dir, check=True)


def test_several_networks_predict_a_large_image_by_rows(ensemble_dir: Path) -> None:
    bundle, image = load_bundle(ensemble_dir).using(batch_size=2), noise(150, 60)
    whole = bundle.predict(image)
    parts = list(bundle.predict_rows(image))
    assert len(parts) > 2
    for of in ("probability", "mask"):
        rows = np.concatenate([getattr(part, of) for part in parts], axis=-2)
        np.testing.assert_array_equal(rows, getattr(whole, of))


def test_settings_of_several_networks_are_changed_together(ensemble_dir: Path) -> None:
    bundle = load_bundle(ensemble_dir).using(test_time="flips", threshold=0.25)
    assert [p.config.inference.test_time for p in bundle.predictors] == ["flips", "flips"]
    assert [p.config.inference.tile for p in bundle.predictors] == [32, 48]
    assert [m.config.inference.threshold for m in bundle.manifest.members] == [0.25, 0.25]
    prediction = bundle.predict(noise(40, 40))
    np.testing.assert_array_equal(prediction.mask, prediction.probability[0] >= 0.25)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "model-2.safetensors: missing; export"),
        (lambda path: path.write_bytes(b"hello"), r"model-2.safetensors: not intact \("),
        (
            lambda path: path.write_bytes(path.with_name(WEIGHTS).read_bytes()),
            "model-2.safetensors: not the file that was exported",
        ),
    ],
)
def test_a_damaged_member_of_several_is_refused(
    ensemble_dir: Path, damage: Callable[[Path], object], said: str
) -> None:
    damage(ensemble_dir / "model-2.safetensors")
    with pytest.raises(Misuse, match=said):
        load_bundle(ensemble_dir)


def test_networks_that_see_other_images_are_not_averaged(tmp_path: Path, facts: Facts) -> None:
    with pytest.raises(ValueError, match="see other images or classes"):
        ensemble(tmp_path, facts, max_side=64)


def test_a_bundle_of_the_format_before_is_read(bundle_dir: Path) -> None:
    def older(tree: dict[str, Any]) -> None:
        tree["format"] = 2
        del tree["others"]

    edit_config(bundle_dir, older)
    sums = bundle_dir / SUMS
    digest = subprocess.check_output(["sha256sum", CONFIG], cwd=bundle_dir, text=True)
    kept = [line for line in sums.read_text().splitlines() if not line.endswith(CONFIG)]
    sums.write_text("\n".join([*kept, digest]))
    assert load_bundle(bundle_dir).manifest.others == ()
