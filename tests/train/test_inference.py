"""Whole images by tiles: geometry, blending, resizing, and what must not change the result."""

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from r2search.config import VIEWS, InferenceConfig, TrainConfig, TrialConfig
from r2search.data.prepare import Preparation
from r2search.models.unet import build_model
from r2search.train.hardware import Hardware, detect, place_model
from r2search.train.inference import Predictor

FLOAT = Hardware("cpu", "float32", "contiguous", 1)
SMALL: dict[str, Any] = {
    "data": {"patch_size": 16},
    "model": {"block": "conv", "depth": 2, "base_filters": 4},
    "inference": {"tile": 32, "overlap": 8, "batch_size": 3},
}
THREE = {"labels": [1, 2]}  # two foreground classes


class Pixelwise(nn.Module):
    """Its logits are the first channels: so tiles must leave no trace."""

    def __init__(self, classes: int = 1) -> None:
        super().__init__()
        self.classes = classes
        self.batches: list[tuple[int, ...]] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> "Pixelwise":
        return self  # there is nothing to fold, and the batches are counted in one place

    def forward(self, x: Tensor) -> Tensor:
        self.batches.append(tuple(x.shape))
        return x[:, : self.classes]


def config(model: dict[str, Any] | None = None, **data: Any) -> TrialConfig:
    tree = SMALL | {"data": SMALL["data"] | data, "model": SMALL["model"] | (model or {})}
    return TrialConfig.model_validate(tree)


def predictor(
    config: TrialConfig, model: nn.Module | None = None, hardware: Hardware = FLOAT
) -> Predictor:
    """Of an untrained network, unless another one is given."""
    scale = ((100.0,) * config.model.in_channels, (60.0,) * config.model.in_channels)
    preparation = Preparation(config.data, *scale)
    return Predictor(cast(Any, model or build_model(config.model)), config, preparation, hardware)


def image(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return torch.sigmoid(torch.from_numpy(x)).numpy()


# Tiles


@pytest.mark.parametrize("size", [(32, 32), (70, 33), (100, 41), (7, 90), (5, 3), (1, 1)])
def test_pixelwise_network_shows_no_seams_at_any_size(size: tuple[int, int]) -> None:
    photo = image(*size)
    seeing = predictor(config(), Pixelwise())
    expected = sigmoid(seeing.preparation.standardize(photo)[..., 0])
    found = seeing.probability(photo)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected[None], atol=1e-6)


def test_tiles_are_predicted_in_batches_of_the_configured_size() -> None:
    model = Pixelwise()
    predictor(config(), model).probability(image(32, 128))
    # Tiles start every 24 pixels: 0, 24, 48, 72, 96.
    assert model.batches == [(3, 3, 32, 32), (2, 3, 32, 32)]


def test_tiles_are_no_larger_than_an_image_and_a_multiple_for_its_network() -> None:
    model = Pixelwise()
    for size, expected in (((40, 23), (40, 24)), ((1100, 1025), (600, 568))):
        predictor(TrialConfig.model_validate({"model": {"depth": 3}}), model).probability(
            image(*size)
        )
        assert model.batches.pop() == (1, 3, *expected)


def overfitted(samples: list[NDArray[np.uint8]]) -> nn.Module:
    """A small R2U-Net that has learnt to mark what is brighter than its surroundings."""
    tree = {"block": "recurrent_residual", "depth": 2, "base_filters": 4, "recurrence": 1}
    model = build_model(config(tree).model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    preparation = Preparation(config().data)
    images = torch.stack(
        [torch.from_numpy(preparation.standardize(each)).permute(2, 0, 1) for each in samples]
    )
    blurred = torch.nn.functional.avg_pool2d(images, 15, 1, 7)
    target = (images > blurred).float().mean(1, keepdim=True).round()
    for _ in range(30):
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(images), target)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model


def test_tiled_prediction_equals_whole_image_prediction() -> None:
    photos = [
        np.asarray(Image.fromarray(image(24, 24)[..., ::-1]).resize((side, side)))
        for side in (96, 96, 203)
    ]
    model = overfitted(photos[:2])
    tree = {"block": "recurrent_residual", "depth": 2, "base_filters": 4, "recurrence": 1}
    whole, tiled = (
        predictor(
            config(tree).model_copy(update={"inference": InferenceConfig(tile=tile, overlap=32)}),
            model,
        ).probability(photos[2])
        for tile in (224, 96)
    )
    assert whole.std() > 0.2  # it has learnt something
    assert np.mean(np.abs(tiled - whole) <= 0.01) > 0.999


# Test-time augmentation


def test_the_symmetries_are_the_eight_of_a_square_and_the_flips_four_of_them() -> None:
    square = np.arange(4).reshape(2, 2)
    seen = {
        name: [np.rot90(square, turns)[:, :: -1 if mirrored else 1] for turns, mirrored in views]
        for name, views in VIEWS.items()
    }
    kinds = {name: {tuple(each.ravel().tolist()) for each in views} for name, views in seen.items()}
    assert kinds["none"] == {(0, 1, 2, 3)}
    assert kinds["flips"] == {(0, 1, 2, 3), (1, 0, 3, 2), (2, 3, 0, 1), (3, 2, 1, 0)}
    assert len(kinds["symmetries"]) == 8


@pytest.mark.parametrize(("test_time", "turned"), [("flips", False), ("symmetries", True)])
def test_views_make_prediction_blind_to_how_an_image_lies(test_time: str, turned: bool) -> None:
    photo = image(48, 32)
    seeing = predictor(config(standardize="unit"))
    inference = InferenceConfig.model_validate({"tile": 64, "test_time": test_time})
    views = replace(seeing, config=seeing.config.model_copy(update={"inference": inference}))
    expected = views.probability(photo)
    assert np.abs(seeing.probability(photo) - expected).max() > 0.01
    mirrored = views.probability(photo[:, ::-1])
    np.testing.assert_allclose(mirrored[..., ::-1], expected, atol=1e-5)
    across = np.rot90(views.probability(np.rot90(photo)), -1, (1, 2))
    assert (np.abs(across - expected).max() < 1e-5) == turned


def test_several_classes_are_blended_as_probabilities_that_sum_to_1() -> None:
    photo = image(70, 41)
    three = predictor(config({"classes": 3}, **THREE), Pixelwise(3))
    logits = torch.from_numpy(three.preparation.standardize(photo))
    expected = logits.softmax(2)[..., 1:].permute(2, 0, 1).numpy()
    found = three.probability(photo)
    assert found.shape == (2, 70, 41)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_two_channels_are_one_foreground_class() -> None:
    photo = image(40, 40)
    two = predictor(config({"classes": 2}), Pixelwise(2))
    standardized = two.preparation.standardize(photo)
    expected = sigmoid(standardized[..., 1] - standardized[..., 0])
    np.testing.assert_allclose(two.probability(photo), expected[None], atol=1e-6)


# The field of view


@pytest.mark.parametrize("classes", [1, 3])
def test_tiles_outside_the_field_of_view_are_skipped_and_change_nothing_inside(
    classes: int,
) -> None:
    photo = image(90, 90)
    fov = np.zeros((90, 90), np.bool_)
    fov[5:40, 10:50] = True
    seeing = predictor(config({"classes": classes}, **(THREE if classes == 3 else {})))
    whole, inside = seeing.probability(photo), seeing.probability(photo, fov)
    np.testing.assert_allclose(inside[:, fov], whole[:, fov], atol=1e-7)
    assert whole.all()
    assert not inside[:, ~fov].any()


def test_tiles_that_nobody_sees_cost_nothing() -> None:
    model, fov = Pixelwise(), np.zeros((32, 128), np.bool_)
    fov[:, :20] = True  # within the first of five tiles
    predictor(config(), model).probability(image(32, 128), fov)
    assert model.batches == [(1, 3, 32, 32)]


def test_image_without_field_of_view_is_all_zero() -> None:
    nothing = np.zeros((40, 40), np.bool_)
    assert not predictor(config(), Pixelwise()).probability(image(40, 40), nothing).any()


# Resizing


@pytest.mark.parametrize("aspect", ["keep", "stretch"])
def test_what_a_resized_network_says_comes_back_at_the_size_of_the_image(aspect: str) -> None:
    # Brightness rises from left to right, and so does what this network says.
    photo = np.tile(np.linspace(0, 255, 96).astype(np.uint8)[None, :, None], (64, 1, 3))
    model = Pixelwise()
    seeing = predictor(config(resize=48, aspect=aspect, standardize="unit"), model)
    found = seeing.probability(photo)
    # 64 x 96 becomes 32 x 48 in one tile's height, or 48 x 48 in two.
    assert sum(batch[0] for batch in model.batches) == (2 if aspect == "keep" else 4)
    assert found.shape == (1, 64, 96)
    np.testing.assert_allclose(
        found[0], sigmoid((photo[..., 0] / 255).astype(np.float32)), atol=0.01
    )


@pytest.mark.parametrize("aspect", ["keep", "stretch"])
def test_the_field_of_view_of_a_resized_image_is_cut_at_its_own_size(aspect: str) -> None:
    photo = image(90, 61)
    fov = np.zeros((90, 61), np.bool_)
    fov[11:40, 10:50] = True
    seeing = predictor(config(resize=40, aspect=aspect))
    whole, inside = seeing.probability(photo), seeing.probability(photo, fov)
    np.testing.assert_array_equal(inside[:, fov], whole[:, fov])
    assert not inside[:, ~fov].any()


@settings(deadline=None, max_examples=40)
@given(
    height=st.integers(1, 100),
    width=st.integers(1, 100),
    classes=st.sampled_from([1, 2, 3]),
    data=st.fixed_dictionaries(
        {
            "resize": st.sampled_from(["native", 32, 50]),
            "aspect": st.sampled_from(["keep", "stretch"]),
            "channels": st.sampled_from(["rgb", "grey", "green"]),
            "enhance": st.sampled_from(["none", "clahe"]),
            "standardize": st.sampled_from(["image", "dataset", "unit"]),
        }
    ),
)
def test_probabilities_have_the_size_of_the_image_and_lie_between_0_and_1(
    height: int, width: int, classes: int, data: dict[str, Any]
) -> None:
    channels = 3 if data["channels"] == "rgb" else 1
    labels = THREE if classes == 3 else {}
    tiny = {"classes": classes, "in_channels": channels, "depth": 1, "base_filters": 2}
    found = predictor(config(tiny, **data, **labels)).probability(image(height, width))
    assert found.shape == (max(1, classes - 1), height, width)
    assert found.dtype == np.float32
    assert 0 <= found.min() <= found.max() <= 1
    assert found.sum(axis=0).max() <= 1 + 1e-5


# The network


@pytest.mark.parametrize("training", [True, False])
def test_model_predicts_in_evaluation_mode_and_keeps_its_own(training: bool) -> None:
    seeing = predictor(config({"dropout": 0.5}))
    model = seeing.model.train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = (seeing.probability(image(40, 40)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert model.training == training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_snapshot_predicts_by_the_weights_of_its_time() -> None:
    photo, seeing = image(40, 40), predictor(config())
    before = seeing.probability(photo)
    snapshot = seeing.snapshot()
    nn.init.zeros_(seeing.model.head.weight)
    np.testing.assert_array_equal(snapshot.probability(photo), before)
    np.testing.assert_allclose(seeing.probability(photo), 0.5, atol=1e-6)


def test_broken_weights_raise_instead_of_predicting() -> None:
    seeing = predictor(config())
    nn.init.constant_(seeing.model.head.weight, float("nan"))
    with pytest.raises(FloatingPointError, match="not finite"):
        seeing.probability(image(40, 40))
    assert seeing.model.training


def test_native_precision_and_layout_change_probabilities_only_a_little() -> None:
    hardware = detect(TrainConfig(dtype="bfloat16", memory_format="channels_last"), threads=1)
    model = build_model(config().model)
    exact = predictor(config(), model).probability(image(40, 40))
    place_model(model, hardware)
    rounded = predictor(config(), model, hardware).probability(image(40, 40))
    assert 0 < np.abs(rounded - exact).max() < 0.05  # bfloat16 keeps 8 bits of each value
