"""The settings of a study and of one trial, as frozen values checked when they are made.

A `TrialConfig` says everything that one training needs; a `Study` says what is searched, how and
for how long. Nothing here imports torch or Ray.
"""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Misuse(ValueError):
    """A mistake of the person who called us; the message is one sentence with the remedy."""


class Strict(BaseModel):
    """Frozen, and a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class DataConfig(Strict):
    """Which images, and how patches are cut from them."""

    reader: str = "folder"  # a name of the READERS table
    root: Path | None = None  # the folder with the images; None for synthetic readers
    otherwise: str = "error"  # a synthetic reader to use when `root` is missing, or `error`
    split: Literal["by_subject", "within_subject"] = "by_subject"
    channels: Literal["rgb", "grey"] = "rgb"
    patch_size: int = Field(96, ge=16, le=2048, description="edge of a training patch, pixels")
    augmentation: Literal["none", "flips", "geometry", "full"] = "full"


class ModelConfig(Strict):
    """One member of the R2U-Net family."""

    block: Literal["conv", "residual", "preact_residual", "recurrent", "recurrent_residual"] = (
        "recurrent_residual"
    )
    depth: int = Field(4, ge=1, le=7, description="number of downsamplings")
    base_filters: int = Field(16, ge=1, le=512, description="filters of the first level")
    recurrence: int = Field(2, ge=0, le=6, description="t: t+1 convolutions, shared weights")
    recurrent_norm: Literal["per_step", "shared"] = "per_step"
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    norm: Literal["batch", "instance", "group"] = "batch"
    upsampling: Literal["transpose2", "transpose3", "nearest"] = "transpose2"
    downsampling: Literal["maxpool", "stride"] = "maxpool"
    skip: Literal["concat", "add"] = "concat"
    activation: Literal["relu", "leaky_relu", "elu", "gelu", "silu"] = "relu"
    initializer: Literal["torch", "he_normal", "he_uniform", "xavier_normal", "orthogonal"] = (
        "he_normal"
    )
    conv_bias: bool = False  # a bias before a norm is redundant; published networks have it
    in_channels: int = Field(3, ge=1, le=16)
    classes: int = Field(1, ge=1, le=255, description="1: one foreground class, by sigmoid")


class TrainConfig(Strict):
    """How one network is trained."""

    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    lr: float = Field(1e-3, gt=0.0, le=10.0)
    weight_decay: float = Field(1e-4, ge=0.0, le=1.0)
    lr_schedule: Literal["constant", "cosine", "plateau"] = "cosine"
    warmup_epochs: float = Field(1.0, ge=0.0, description="linear warm-up from 0, in epochs")
    batch_size: int = Field(16, ge=1, le=4096, description="patches a step")
    loss: Literal["bce", "dice", "bce_dice", "focal", "tversky"] = "bce_dice"
    class_weights: float | tuple[float, ...] = 1.0  # weight of the foreground, or one a class
    max_epochs: int = Field(40, ge=1, description="length of the lr_schedule, in epochs")
    epoch_pixels: int = Field(
        3_000_000, ge=1_000, description="training pixels of one epoch, equal for all configs"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"

    @field_validator("class_weights")
    @classmethod
    def _positive(cls, value: float | tuple[float, ...]) -> float | tuple[float, ...]:
        if min(value, default=0.0) <= 0 if isinstance(value, tuple) else value <= 0:
            raise ValueError("class_weights must be above 0")
        return value


class InferenceConfig(Strict):
    """How whole images are predicted; part of what makes a score reproducible."""

    tile: int = Field(256, ge=32, le=8192, description="edge of a tile, pixels")
    overlap: int = Field(32, ge=0, description="pixels shared by neighbouring tiles")
    batch_size: int = Field(4, ge=1, description="tiles predicted together")
    threshold: float = Field(0.5, gt=0.0, lt=1.0, description="foreground from here on")

    @model_validator(mode="after")
    def _tiles_advance(self) -> Self:
        if self.overlap * 2 > self.tile:
            raise ValueError(f"overlap {self.overlap} is over half of tile {self.tile}")
        return self


class TrialConfig(Strict):
    """Everything one training needs; written beside every result."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    inference: InferenceConfig = InferenceConfig()
    seed: int = Field(0, ge=0)


# Fields of a TrialConfig that are one value for the whole study: they say what is compared.
PER_STUDY = frozenset(
    {
        "data.reader",
        "data.root",
        "data.otherwise",
        "data.split",
        "data.channels",
        "model.in_channels",
        "model.classes",
        "train.max_epochs",
        "train.epoch_pixels",
        "seed",
    }
)

Value = bool | int | float | str | tuple[float, ...]


class Parameter(Strict):
    """One thing that varies. Both ends of a range can be drawn."""

    key: str  # dotted, as in `model.depth`
    kind: Literal["choice", "int", "float"]
    values: tuple[Value, ...] = ()  # choice only
    probabilities: tuple[float, ...] | None = None  # choice only; weigh random draws
    low: float = 0.0
    high: float = 0.0
    step: float | None = None  # quantised ranges
    log: bool = False
    when: dict[str, tuple[Value, ...]] = {}  # earlier parameter -> values under which it exists


class MetricConfig(Strict):
    name: str = "val/dice_mean"
    goal: Literal["maximize", "minimize"] = "maximize"


class BudgetConfig(Strict):
    time: float = Field(600.0, gt=0.0, description="wall clock of the whole study, seconds")
    trials: int = Field(200, ge=1, description="trials beside the baselines")
    max_epochs: int = Field(40, ge=1, description="longest training of one trial")


class SearchConfig(Strict):
    searcher: Literal["tpe", "random"] = "tpe"
    seed: int = Field(0, ge=0)


class ResourcesConfig(Strict):
    workers: Literal["auto"] | int = "auto"  # trials trained at the same time
    gpu_share: Literal["auto"] | float = "auto"  # of one GPU, for one trial


class EarlyTerminateConfig(Strict):
    type: Literal["asha", "none"] = "asha"
    grace_period: int = Field(2, ge=1, description="epochs that every trial gets")
    reduction_factor: int = Field(3, ge=2, description="one in so many passes a rung")


class ConfirmConfig(Strict):
    """How the finalists are to be trained again."""

    finalists: int = Field(3, ge=1)
    seeds: int = Field(3, ge=1)


class Study(Strict):
    """One search: data, parameters, objective, budget, algorithms and baselines."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    question: str = ""
    fixed: TrialConfig  # the settings that do not vary
    parameters: tuple[Parameter, ...]
    metric: MetricConfig = MetricConfig()
    budget: BudgetConfig = BudgetConfig()
    search: SearchConfig = SearchConfig()
    resources: ResourcesConfig = ResourcesConfig()
    early_terminate: EarlyTerminateConfig = EarlyTerminateConfig()
    confirm: ConfirmConfig | None = None
    baselines: dict[str, dict[str, Any]] = {}  # name -> {dotted key: value}
