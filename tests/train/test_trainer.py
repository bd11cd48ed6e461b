"""Epochs of a tiny network on made-up images: it learns, repeats itself, and fails loudly."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from r2search.config import TrialConfig
from r2search.data.samples import Sample, SampleSet
from r2search.train.hardware import Hardware
from r2search.train.metrics import METRICS
from r2search.train.trainer import Trainer, evaluate

FLOAT = Hardware("cpu", "float32", "contiguous", 1)
TINY: dict[str, Any] = {
    "data": {"patch_size": 16, "augmentation": "none"},
    "model": {"block": "conv", "depth": 1, "base_filters": 4, "dropout": 0.1},
    "train": {"lr": 0.02, "batch_size": 8, "epoch_pixels": 8000, "warmup_epochs": 0},
    "inference": {"tile": 32, "overlap": 8},
}


def tiny(data: Any = None, model: Any = None, **train: Any) -> TrialConfig:
    changes = {"data": data or {}, "model": model or {}, "train": train}
    return TrialConfig.model_validate(
        {name: {**section, **changes.get(name, {})} for name, section in TINY.items()}
    )


def sample(number: int) -> Sample:
    """Noise with a bright disc, which is the foreground; the left border is out of view."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[:48, :40]
    disc = (rows - rng.integers(12, 36)) ** 2 + (columns - rng.integers(12, 28)) ** 2 < 64
    image = np.clip(rng.normal(100, 20, (48, 40, 3)) + 80 * disc[..., None], 0, 255)
    return Sample(
        image=image.astype(np.uint8),
        mask=disc.astype(np.uint8),
        fov=columns > 3,
        subject=str(number),
        id=f"image{number}",
    )


def sample_of_three(number: int) -> Sample:
    """Noise with a bright disc, class 1, and a dark square, class 2; one in three has no square."""
    plain = sample(number)
    rng = np.random.default_rng(number)
    top, left = rng.integers(0, 34), rng.integers(4, 26)
    image, mask = plain.image.copy(), plain.mask.copy()
    if number % 3:
        image[top : top + 14, left : left + 14] //= 4
        mask[top : top + 14, left : left + 14] = 2
    return replace(plain, image=image, mask=mask)


@pytest.fixture(scope="module")
def samples() -> SampleSet:
    return split(sample)


@pytest.fixture(scope="module")
def three_classes() -> SampleSet:
    return split(sample_of_three)


def split(draw: Callable[[int], Sample]) -> SampleSet:
    made = tuple(draw(number) for number in range(6))
    return SampleSet(
        reader="made",
        synthetic=True,
        train=made[:4],
        val=made[4:],
        test=(),
        fingerprint="",
        split="by_subject",
    )


def trainer(config: TrialConfig, samples: SampleSet, horizon: int = 4) -> Trainer:
    return Trainer(config, samples, horizon=horizon, hardware=FLOAT)


def test_network_learns_and_reports_every_metric(samples: SampleSet) -> None:
    training = trainer(tiny(), samples)
    reports = [training.run_epoch() for _ in range(4)]
    assert [report.epoch for report in reports] == [1, 2, 3, 4]
    assert reports[-1].metrics["train/loss"] < 0.7 * reports[0].metrics["train/loss"]
    assert reports[-1].metrics["val/dice_mean"] > 0.8
    expected = {f"val/{name}" for name in METRICS} | {"train/loss", "train/lr"}
    assert set(reports[0].metrics) == expected
    seconds = reports[0].seconds
    assert set(seconds) == {"train", "feed", "validate"}
    assert 0 < seconds["feed"] < seconds["train"]


THREE: dict[str, Any] = {"data": {"labels": [1, 2]}, "model": {"classes": 3}}


@pytest.mark.parametrize("loss", ["bce_dice", "focal"])
def test_network_learns_two_foreground_classes(three_classes: SampleSet, loss: str) -> None:
    config = tiny(**THREE, loss=loss, class_weights=(1.0, 2.0, 2.0), epoch_pixels=16000)
    training = trainer(config, three_classes, horizon=5)
    reports = [training.run_epoch() for _ in range(5)]
    last = reports[-1].metrics
    assert last["train/loss"] < 0.7 * reports[0].metrics["train/loss"]
    assert min(last["val/dice_pooled_class1"], last["val/dice_pooled_class2"]) > 0.5
    assert last["val/dice_pooled"] == pytest.approx(
        (last["val/dice_pooled_class1"] + last["val/dice_pooled_class2"]) / 2
    )
    own = {f"val/{name}_class{index}" for name in METRICS for index in (1, 2)}
    assert set(last) == {f"val/{name}" for name in METRICS} | own | {"train/loss", "train/lr"}


def test_two_channels_learn_one_foreground_class(samples: SampleSet) -> None:
    training = trainer(tiny(model={"classes": 2}), samples)
    reports = [training.run_epoch() for _ in range(4)]
    assert reports[-1].metrics["val/dice_mean"] > 0.8
    assert set(reports[0].metrics) == {f"val/{n}" for n in METRICS} | {"train/loss", "train/lr"}


WHOLE = {"resize": 64, "aspect": "stretch", "patch_size": 64}


def test_whole_images_of_one_size_are_learnt_and_scored_at_their_own(samples: SampleSet) -> None:
    training = trainer(tiny(WHOLE, batch_size=2, epoch_pixels=8 * 64**2), samples)
    reports = [training.run_epoch() for _ in range(4)]
    assert {report.pixels for report in reports} == {8 * 64 * 64}
    assert reports[-1].metrics["val/dice_mean"] > 0.8
    val = samples.val[0]
    assert training.predictor.probability(val.image).shape == (1, *val.mask.shape)


def test_a_patch_is_no_larger_than_the_images_are_made(samples: SampleSet) -> None:
    training = trainer(tiny(WHOLE | {"patch_size": 512}, epoch_pixels=8 * 64**2), samples)
    assert training.run_epoch().pixels == 8 * 64 * 64


@pytest.mark.parametrize("standardize", ["dataset", "unit"])  # the other tests have `image`
def test_network_learns_however_images_are_standardised(
    samples: SampleSet, standardize: str
) -> None:
    training = trainer(tiny({"standardize": standardize}), samples, horizon=8)
    reports = [training.run_epoch() for _ in range(8)]
    assert reports[-1].metrics["val/dice_mean"] > 0.7


def test_epoch_has_its_fixed_number_of_pixels(samples: SampleSet) -> None:
    # 8000 / 16^2 = 31.25 patches, so 32
    assert trainer(tiny(), samples).run_epoch().pixels == 32 * 16 * 16


def test_equal_configs_give_equal_reports_and_weights(samples: SampleSet) -> None:
    first, second = trainer(tiny(), samples), trainer(tiny(), samples)
    for _ in range(2):
        assert first.run_epoch().metrics == second.run_epoch().metrics
    other = second.weights()
    assert all(torch.equal(value, other[name]) for name, value in first.weights().items())


def test_another_seed_gives_another_training(samples: SampleSet) -> None:
    other = tiny().model_copy(update={"seed": 1})
    first, second = trainer(tiny(), samples).run_epoch(), trainer(other, samples).run_epoch()
    assert first.metrics["train/loss"] != second.metrics["train/loss"]


def test_torch_random_state_is_left_as_it_was(samples: SampleSet) -> None:
    before = torch.get_rng_state()
    trainer(tiny(), samples).run_epoch()
    assert torch.equal(torch.get_rng_state(), before)


def test_rate_follows_the_schedule_compressed_to_the_horizon(samples: SampleSet) -> None:
    training = trainer(tiny(lr_schedule="cosine"), samples, horizon=2)
    rates = [training.run_epoch().metrics["train/lr"] for _ in range(2)]
    # 4 steps an epoch, taken at their middles: the last ones lie at 7/16 and 15/16 of the way.
    expected = [0.01 * (1 + math.cos(math.pi * part / 16)) for part in (7, 15)]
    assert rates == pytest.approx(expected)


def test_plateau_lowers_the_rate_when_scores_stop_rising(samples: SampleSet) -> None:
    # A rate this small, without running statistics, cannot change the score: epochs 2, 3 and 4
    # bring nothing better than epoch 1.
    config = tiny(lr_schedule="plateau", lr=1e-12)
    model = config.model.model_copy(update={"norm": "instance"})
    training = trainer(config.model_copy(update={"model": model}), samples)
    rates = [training.run_epoch().metrics["train/lr"] for _ in range(5)]
    assert rates == pytest.approx([1e-12] * 4 + [5e-13])


def test_loss_that_is_not_finite_fails_with_epoch_and_step(samples: SampleSet) -> None:
    training = trainer(tiny(), samples)
    training.run_epoch()
    torch.nn.init.constant_(training.model.head.weight, float("nan"))
    with pytest.raises(FloatingPointError, match="epoch 2, step 1: loss is nan; trial fails"):
        training.run_epoch()


def test_output_that_is_not_finite_fails_with_the_epoch(samples: SampleSet) -> None:
    training = trainer(tiny(), samples)
    # Evaluation alone reads a running mean: training goes on unharmed.
    norm = next(m for m in training.model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    norm.register_buffer("running_mean", torch.full((4,), float("nan")))
    with pytest.raises(FloatingPointError, match=r"epoch 1, validation: .* not finite"):
        training.run_epoch()


def test_mask_of_grey_levels_is_refused(samples: SampleSet) -> None:
    good = samples.train[0]
    bad = replace(samples, train=(replace(good, mask=good.mask * 255, id="grey"),))
    with pytest.raises(AssertionError, match="grey"):
        trainer(tiny(), bad)


def test_a_class_too_many_is_refused(three_classes: SampleSet) -> None:
    with pytest.raises(AssertionError, match="image1"):
        trainer(tiny(), three_classes)


def test_weights_are_contiguous_copies(samples: SampleSet) -> None:
    last = Hardware("cpu", "float32", "channels_last", 1)
    training = Trainer(tiny(), samples, horizon=1, hardware=last)
    kept = training.weights()
    before = {name: value.clone() for name, value in kept.items()}
    training.run_epoch()
    assert all(value.is_contiguous() for value in kept.values())
    assert all(torch.equal(before[name], value) for name, value in kept.items())
    assert any(not torch.equal(before[name], value) for name, value in training.weights().items())


def test_evaluation_repeats_the_validation_of_the_report(samples: SampleSet) -> None:
    training = trainer(tiny(), samples)
    report = training.run_epoch()
    metrics, images = evaluate(training.predictor, samples.val)
    assert {f"val/{name}": value for name, value in metrics.items()}.items() <= (
        report.metrics.items()
    )
    assert [id for id, _ in images] == ["image4", "image5"]
    mean = np.mean([one["dice_mean"] for _, one in images])
    assert metrics["dice_mean"] == pytest.approx(mean)
