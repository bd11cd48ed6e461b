"""Epochs of a tiny network on made-up images: it learns, repeats itself, and fails loudly."""

import json
import math
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from r2search.config import TrialConfig
from r2search.data.samples import Sample, SampleSet
from r2search.train.evaluation import evaluate
from r2search.train.hardware import Hardware, training_step
from r2search.train.metrics import METRICS, classify
from r2search.train.trainer import Trainer, TrainingState

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


def test_the_first_mask_is_what_the_network_says_of_the_first_validation_image(
    samples: SampleSet,
) -> None:
    training = trainer(tiny(), samples)
    assert training.first_mask is None
    training.run_epoch()
    first = samples.val[0]
    probability = training.predictor.probability(first.image, first.fov)
    assert (training.first_mask == classify(probability, tiny().inference.threshold)).all()


def test_a_training_loads_no_compiler() -> None:
    """In a worker that starts, torch's takes longer than the first step; nothing is compiled."""
    code = (
        "import sys\n"
        "import test_trainer as made\n"
        "training = made.trainer(made.tiny(), made.split(made.sample))\n"
        "training.run_epoch()\n"
        "training.restore(training.state())\n"
        "training.run_epoch()\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=True)


def test_computing_blocks_again_for_backward_changes_no_report(samples: SampleSet) -> None:
    plain, again = (
        trainer(tiny(checkpoint_activations=on), samples).run_epoch().metrics
        for on in (False, True)
    )
    assert again == plain


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ to compile with")
def test_a_compiled_step_trains_the_same_network(samples: SampleSet) -> None:
    from torch._dynamo.utils import counters

    model = {"block": "recurrent_residual", "dropout": 0.0}  # compiled, it draws other numbers
    reports, weights = [], []
    counters.clear()
    for compile in (False, True):
        training = trainer(tiny(model=model, compile=compile), samples)
        reports.append([training.run_epoch().metrics for _ in range(2)])
        weights.append(training.weights())
        assert training.notes == []
    for plain, fast in zip(*reports, strict=True):
        assert fast == pytest.approx(plain, rel=0.02, abs=0.02, nan_ok=True)
    assert weights[0].keys() == weights[1].keys()
    assert counters["stats"]["unique_graphs"] == 1  # all of it, and only what was asked for
    assert not counters["graph_break"]


def test_without_a_c_compiler_the_training_goes_on_and_says_so(
    samples: SampleSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import torch._inductor.config as settings

    monkeypatch.setattr(settings.cpp, "cxx", (None, "no-such-compiler"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # nothing compiled before
    training = trainer(tiny(compile=True), samples)
    report = training.run_epoch()
    assert report.metrics == trainer(tiny(), samples).run_epoch().metrics
    (note,) = training.notes
    assert note.startswith("epoch 1: could not be compiled and goes on without: ")
    assert "C++ compiler" in note


def test_checkpointing_reaches_the_network(samples: SampleSet) -> None:
    assert trainer(tiny(checkpoint_activations=True), samples).model.checkpoint_activations


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


# What a state must hold: each optimizer its own slots, dropout its generator, plateau its patience.
KINDS: dict[str, dict[str, Any]] = {
    "adam": {"optimizer": "adam", "lr_schedule": "plateau", "loss": "bce"},
    "adamw": {"optimizer": "adamw", "lr_schedule": "cosine", "warmup_epochs": 1},
    "sgd": {"optimizer": "sgd", "lr_schedule": "constant"},
    "bfloat16": {"dtype": "bfloat16", "lr_schedule": "plateau"},
    "micro-batches": {"optimizer": "adam"},
}
BFLOAT = Hardware("cpu", "bfloat16", "channels_last", 1)


def kind_of(kind: str, samples: SampleSet) -> Trainer:
    """A training of several steps an epoch, each with dropout."""
    config = tiny(model={"dropout": 0.3}, **KINDS[kind])
    hardware = BFLOAT if kind == "bfloat16" else FLOAT
    micro_batch = 3 if kind == "micro-batches" else None
    return Trainer(config, samples, horizon=3, hardware=hardware, micro_batch=micro_batch)


def written_and_read(state: TrainingState) -> TrainingState:
    """A state as it comes from a file: tensors and JSON, nothing else."""
    values = json.loads(json.dumps(state.values, allow_nan=False))
    return TrainingState(load(save(state.tensors)), values)


class Left(Exception):
    """An epoch was left."""


def leave_after(calls: int) -> Callable[[], None]:
    """A tick that leaves the epoch at its n-th call."""
    ticks = iter(range(1, calls + 1))

    def tick() -> None:
        if next(ticks) == calls:
            raise Left

    return tick


# Of 4 steps and 2 validation images: between two epochs, after steps 1 and 4, before an image.
@pytest.mark.parametrize("left_after", [0, 1, 4, 6])
@pytest.mark.parametrize("kind", KINDS)
def test_a_training_restored_goes_on_as_if_never_interrupted(
    samples: SampleSet, kind: str, left_after: int
) -> None:
    straight, first, second = (kind_of(kind, samples) for _ in range(3))
    expected = [straight.run_epoch() for _ in range(3)]
    reports = [first.run_epoch()]
    if left_after:
        with pytest.raises(Left):
            first.run_epoch(leave_after(left_after))
    second.restore(written_and_read(first.state()))
    del first
    reports += [second.run_epoch() for _ in range(2)]
    assert [replace(r, seconds={}) for r in reports] == [replace(r, seconds={}) for r in expected]
    weights = straight.weights()
    assert all(torch.equal(value, weights[name]) for name, value in second.weights().items())


def test_a_state_is_a_copy_and_reading_it_changes_nothing(samples: SampleSet) -> None:
    straight, watched = kind_of("adam", samples), kind_of("adam", samples)
    states: list[TrainingState] = []
    for _ in range(2):
        report = watched.run_epoch(lambda: states.append(watched.state()))
        assert replace(report, seconds={}) == replace(straight.run_epoch(), seconds={})
    assert len(states) == 2 * 6
    first, second = (state.tensors["model.head.weight"] for state in states[:2])
    assert not torch.equal(first, second)


def test_an_epoch_that_was_left_goes_on_where_it_was(samples: SampleSet) -> None:
    straight, left = kind_of("sgd", samples), kind_of("sgd", samples)
    with pytest.raises(Left):
        left.run_epoch(leave_after(2))
    report = left.run_epoch()
    assert replace(report, seconds={}) == replace(straight.run_epoch(), seconds={})
    assert set(report.seconds) == {"train", "feed", "validate"}


class Memory:
    """As much as `room` patches at once need; every step that wants more fails."""

    def __init__(self, room: int, monkeypatch: pytest.MonkeyPatch, after: int = 0) -> None:
        self.room, self.after, self.asked = room, after, 0
        monkeypatch.setattr("r2search.train.trainer.training_step", self.step)

    def step(self, model: Any, optimizer: Any, micro_batches: Any, hardware: Any) -> Any:
        self.asked += 1
        parts = list(micro_batches)
        if self.asked > self.after and max(len(images) for images, _ in parts) > self.room:
            logits = model(parts[0][0])  # held by the traceback of the error
            self.logits = weakref.ref(logits)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return training_step(model, optimizer, parts, hardware)


@pytest.mark.parametrize("after", [0, 2])  # steps that went well
def test_when_memory_runs_out_the_training_goes_on_with_half_the_micro_batch(
    samples: SampleSet, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    memory = Memory(4, monkeypatch, after)
    training = trainer(tiny(), samples)
    reports = [training.run_epoch() for _ in range(3)]
    assert training.micro_batch == 4  # half of 8
    assert training.notes == ["epoch 1: out of memory; goes on with micro-batches of 4"]
    assert memory.asked == 3 * 4 + 1
    assert [report.pixels for report in reports] == [32 * 16 * 16] * 3
    assert reports[-1].metrics["val/dice_mean"] > 0.7


@pytest.mark.parametrize(("micro_batch", "room"), [(None, 3), (1, 0)])
def test_when_memory_runs_out_again_or_nothing_can_be_halved_the_error_is_raised(
    samples: SampleSet, monkeypatch: pytest.MonkeyPatch, micro_batch: int | None, room: int
) -> None:
    Memory(room, monkeypatch)
    training = Trainer(tiny(), samples, horizon=1, hardware=FLOAT, micro_batch=micro_batch)
    with pytest.raises(torch.OutOfMemoryError):
        training.run_epoch()
    assert len(training.notes) == (micro_batch is None)


def test_a_training_restored_remembers_that_memory_ran_out(
    samples: SampleSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(4, monkeypatch)
    first, second = trainer(tiny(), samples), trainer(tiny(), samples)
    first.run_epoch()
    second.restore(first.state())
    assert second.micro_batch == 4
    memory.room = 3
    with pytest.raises(torch.OutOfMemoryError):
        second.run_epoch()


def test_another_error_of_a_step_is_raised_at_once(
    samples: SampleSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def step(*_: Any) -> None:
        asked.append(1)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr("r2search.train.trainer.training_step", step)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        trainer(tiny(), samples).run_epoch()
    assert asked == [1]


def test_nothing_of_a_failed_step_is_alive_when_the_training_goes_on(
    samples: SampleSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(4, monkeypatch)
    alive: list[bool] = []
    monkeypatch.setattr(
        "r2search.train.trainer.return_freed_memory",
        lambda: alive.append(memory.logits() is not None),
    )
    trainer(tiny(), samples).run_epoch()
    assert alive == [False]
