"""Whole images by tiles: geometry, blending, padding, and what must not change the result."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from r2search.config import InferenceConfig, ModelConfig, TrainConfig
from r2search.data.samples import standardize
from r2search.models.unet import build_model
from r2search.train.hardware import Hardware, detect, place_model
from r2search.train.inference import predict_probability

FLOAT = Hardware("cpu", "float32", "contiguous", 1)
SMALL = InferenceConfig(tile=32, overlap=8, batch_size=3)
TINY = ModelConfig(block="conv", depth=2, base_filters=4)


class FirstChannel(nn.Module):
    """Its logits are the first channel: pixelwise, so tiles must leave no trace."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.batches.append(tuple(x.shape))
        return x[:, :1]


def image(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("size", [(32, 32), (70, 33), (100, 41), (7, 90), (5, 3), (1, 1)])
def test_pixelwise_network_shows_no_seams_at_any_size(size: tuple[int, int]) -> None:
    photo = image(*size)
    expected = torch.sigmoid(torch.from_numpy(standardize(photo)[..., 0])).numpy()
    found = predict_probability(FirstChannel(), photo, SMALL, FLOAT)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_tiles_are_predicted_in_batches_of_the_configured_size() -> None:
    model = FirstChannel()
    predict_probability(model, image(32, 128), SMALL, FLOAT)
    # Tiles start every 24 pixels: 0, 24, 48, 72, 96.
    assert model.batches == [(3, 3, 32, 32), (2, 3, 32, 32)]


def test_tiles_outside_the_field_of_view_are_skipped_and_change_nothing_inside() -> None:
    photo = image(90, 90)
    fov = np.zeros((90, 90), np.bool_)
    fov[5:40, 10:50] = True
    model = build_model(TINY)
    whole = predict_probability(model, photo, SMALL, FLOAT)
    inside = predict_probability(model, photo, SMALL, FLOAT, fov)
    np.testing.assert_allclose(inside[fov], whole[fov], atol=1e-7)
    assert whole.all()
    assert not inside[~fov].any()


def test_image_without_field_of_view_is_all_zero() -> None:
    nothing = np.zeros((40, 40), np.bool_)
    assert not predict_probability(FirstChannel(), image(40, 40), SMALL, FLOAT, nothing).any()


@pytest.mark.parametrize("training", [True, False])
def test_model_predicts_in_evaluation_mode_and_keeps_its_own(training: bool) -> None:
    model = build_model(TINY.model_copy(update={"dropout": 0.5})).train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = (predict_probability(model, image(40, 40), SMALL, FLOAT) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert model.training == training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_broken_weights_raise_instead_of_predicting() -> None:
    model = build_model(TINY)
    nn.init.constant_(model.head.weight, float("nan"))
    with pytest.raises(FloatingPointError, match="not finite"):
        predict_probability(model, image(40, 40), SMALL, FLOAT)
    assert model.training


def test_native_precision_and_layout_change_probabilities_only_a_little() -> None:
    hardware = detect(TrainConfig(dtype="bfloat16", memory_format="channels_last"), threads=1)
    model = build_model(TINY)
    exact = predict_probability(model, image(40, 40), SMALL, FLOAT)
    place_model(model, hardware)
    rounded = predict_probability(model, image(40, 40), SMALL, hardware)
    assert 0 < np.abs(rounded - exact).max() < 0.05  # bfloat16 keeps 8 bits of each value
