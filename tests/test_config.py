"""The settings: what they accept, what they refuse, and that they survive being written down."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from r2search.config import (
    PER_STUDY,
    BudgetConfig,
    ConfirmConfig,
    DataConfig,
    EarlyTerminateConfig,
    InferenceConfig,
    MetricConfig,
    ModelConfig,
    ResourcesConfig,
    SearchConfig,
    TrainConfig,
    TrialConfig,
    hint,
)


def test_a_trial_config_survives_a_json_round_trip() -> None:
    config = TrialConfig(
        data=DataConfig(root="images"), train=TrainConfig(class_weights=(1.0, 2.5)), seed=3
    )
    assert TrialConfig.model_validate(json.loads(config.model_dump_json())) == config


def test_settings_cannot_be_changed_after_they_are_made() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        TrialConfig().seed = 1  # type: ignore[misc]


def test_a_setting_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValidationError, match="dpeth"):
        ModelConfig.model_validate({"dpeth": 3})


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (ModelConfig, {"depth": 0}),
        (ModelConfig, {"depth": 8}),
        (ModelConfig, {"dropout": 1.0}),
        (ModelConfig, {"block": "transformer"}),
        (TrainConfig, {"lr": 0.0}),
        (TrainConfig, {"lr": float("nan")}),
        (TrainConfig, {"warmup_epochs": float("inf")}),
        (TrainConfig, {"class_weights": 0.0}),
        (TrainConfig, {"class_weights": float("nan")}),
        (TrainConfig, {"class_weights": (1.0, -1.0)}),
        (TrainConfig, {"class_weights": (1.0,)}),
        (InferenceConfig, {"threshold": 1.0}),
        (ResourcesConfig, {"workers": 0}),
        (EarlyTerminateConfig, {"type": "ray_asha", "unit": "seconds"}),
        (MetricConfig, {"against": ["price"]}),
        (ResourcesConfig, {"gpu_share": 0.0}),
        (ConfirmConfig, {"seeds": 0}),
        (BudgetConfig, {"time": 0}),
    ],
)
def test_a_value_outside_its_limits_is_refused(model: type, values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        model(**values)


def test_a_network_whose_blocks_are_computed_again_is_not_compiled() -> None:
    with pytest.raises(ValidationError, match="exclude each other"):
        TrainConfig(compile=True, checkpoint_activations=True)


def test_tiles_must_advance() -> None:
    # overlap 128 of tile 256 is just half: every pixel is in at most two tiles a side
    assert InferenceConfig(tile=256, overlap=128).overlap == 128
    with pytest.raises(ValidationError, match="overlap 129 is over half of tile 256"):
        InferenceConfig(tile=256, overlap=129)


def test_yaml_s_1e_4_is_a_number_where_a_number_is_meant() -> None:
    # YAML 1.1 reads 1e-4, without a point, as a string
    assert TrainConfig(lr="1e-4").lr == 1e-4
    assert TrainConfig(epoch_pixels="3e6").epoch_pixels == 3_000_000
    assert TrainConfig(class_weights=["1e0", "2e0"]).class_weights == (1.0, 2.0)


@pytest.mark.parametrize(
    ("model", "field", "remedy"),
    [
        (SearchConfig, "seed", "write a number"),
        (TrainConfig, "lr", "write a number"),
        (ResourcesConfig, "workers", "write a number"),
        (ModelConfig, "norm", "put the word in quotes"),
        (DataConfig, "reader", "put the word in quotes"),
    ],
)
def test_a_boolean_is_no_number_and_no_word(model: type, field: str, remedy: str) -> None:
    with pytest.raises(ValidationError, match="YAML reads no, off, yes and on") as caught:
        model(**{field: False})
    assert remedy in str(caught.value)


def test_a_boolean_in_a_list_of_numbers_is_refused_too() -> None:
    with pytest.raises(ValidationError, match="write a number"):
        TrainConfig(class_weights=[1.0, True])


def test_a_boolean_setting_takes_a_boolean() -> None:
    assert ModelConfig(conv_bias=True).conv_bias is True


def test_a_hint_names_the_nearest_and_all() -> None:
    assert hint("dpeth", ["width", "depth"]) == "did you mean 'depth'? known: depth, width"


def test_a_hint_for_a_strange_name_names_all_only() -> None:
    assert hint("zzz", ["width", "depth"]) == "known: depth, width"


@pytest.mark.parametrize("key", sorted(PER_STUDY))
def test_what_is_one_value_for_a_study_is_a_setting_of_a_trial(key: str) -> None:
    value: object = TrialConfig()
    for part in key.split("."):
        value = getattr(value, part)


@pytest.mark.parametrize(
    ("resize", "patch_size", "patch", "tile"),
    [
        ("native", 96, 96, 1024),
        ("native", 1200, 1200, 1200),
        (128, 256, 128, 128),  # seen whole, and predicted whole
        (256, 128, 128, 256),
        (2048, 64, 64, 1024),
    ],
)
def test_patches_and_tiles_are_no_larger_than_images_are_made(
    resize: Any, patch_size: int, patch: int, tile: int
) -> None:
    config = TrialConfig(data=DataConfig(resize=resize, patch_size=patch_size))
    assert (config.patch, config.tile) == (patch, tile)


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_a_tile_is_a_patch_where_norms_take_its_own_statistics(norm: str) -> None:
    config = TrialConfig.model_validate({"data": {"patch_size": 96}, "model": {"norm": norm}})
    # 113 patches have no more pixels than a tile of 1024.
    assert (config.tile, config.overlap, config.tile_batch) == (96, 24, 113)


def test_tiling_that_a_person_chose_is_kept() -> None:
    config = TrialConfig(inference=InferenceConfig(tile=512, overlap=16, batch_size=3))
    assert (config.tile, config.overlap, config.tile_batch) == (512, 16, 3)


@pytest.mark.parametrize(("tile", "overlap"), [("auto", 96), (256, 64), (100, 25)])
def test_tiles_share_96_pixels_or_a_quarter(tile: Any, overlap: int) -> None:
    config = TrialConfig(inference=InferenceConfig(tile=tile))
    assert (config.overlap, config.tile_batch) == (overlap, {"auto": 1, 256: 16, 100: 104}[tile])


def test_tiles_share_no_more_than_a_half_where_images_are_made_small() -> None:
    config = TrialConfig(data=DataConfig(resize=64), inference=InferenceConfig(overlap=100))
    assert config.overlap == 32


@pytest.mark.parametrize(
    ("classes", "weights", "said"),
    [
        (1, (1.0, 2.0, 3.0), "3 values for 2 classes"),
        (2, (1.0, 2.0, 3.0), "3 values for 2 classes"),
        (3, (1.0, 2.0), "2 values for 3 classes"),
    ],
)
def test_class_weights_of_another_number_of_classes_are_refused(
    classes: int, weights: tuple[float, ...], said: str
) -> None:
    data, model = DataConfig(labels=(1, 2)), ModelConfig(classes=classes)
    with pytest.raises(ValidationError, match=rf"class_weights has {said}: give one a class"):
        TrialConfig(data=data, model=model, train=TrainConfig(class_weights=weights))
