"""The settings of a study and of one trial, as frozen values checked when they are made.

A `TrialConfig` says everything that one training needs; a `Study` says what is searched, how and
for how long. Nothing here imports torch or Ray.
"""

import re
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"  # of studies and baselines: they become folder names


class Misuse(ValueError):
    """A mistake of the person who called us; the message is one sentence with the remedy."""


def hint(name: str, known: list[str]) -> str:
    """The end of an error about an unknown name: the nearest known one, and all of them."""
    near = get_close_matches(name, known, n=1)
    guess = f"did you mean {near[0]!r}? " if near else ""
    return f"{guess}known: {', '.join(sorted(known))}"


def parse_duration(value: Any) -> Any:
    """Seconds from `90`, `'90s'`, `'20m'`, `'1h30m'`; anything else is a ValueError."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("a duration is written like 90s, 20m or 1h30m")
    match = re.fullmatch(
        r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d*)?)s?)?", str(value).strip()
    )
    if not match or not any(match.groups()):
        raise ValueError("a duration is written like 90s, 20m or 1h30m")
    units = (86400, 3600, 60, 1)
    return sum(float(n or 0) * unit for n, unit in zip(match.groups(), units, strict=True))


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    Field(gt=0),
    WithJsonSchema({"type": ["string", "number"], "description": "as 90s, 20m or 1h30m"}),
]


def types_of(annotation: Any) -> set[Any]:
    """The types that an annotation accepts; a Literal counts as the types of its values."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return set[Any]().union(*map(types_of, args))
    if origin is Annotated:
        return types_of(args[0])
    return {type(value) for value in args} if origin is Literal else {annotation}


def undo_yaml(value: Any, annotation: Any) -> Any:
    """Mend what YAML makes of `1e-4`, a string; refuse a boolean where none is meant.

    Raises ValueError for the boolean: pydantic would take it for 0 or 1.
    """
    types = types_of(annotation)
    if isinstance(value, bool) and not types & {bool, Any}:
        remedy = "write a number" if types & {int, float} else "put the word in quotes"
        raise ValueError(f"YAML reads no, off, yes and on as booleans: {remedy}")
    if not types & {int, float}:
        return value
    if isinstance(value, list | tuple):
        return [undo_yaml(item, annotation) for item in value]
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


class Strict(BaseModel):
    """Frozen, and a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _undo_yaml(cls, value: Any, info: ValidationInfo) -> Any:
        assert info.field_name is not None
        return undo_yaml(value, cls.model_fields[info.field_name].annotation)


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


Weight = Annotated[float, Field(gt=0, le=1e6)]


class TrainConfig(Strict):
    """How one network is trained."""

    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    lr: float = Field(1e-3, gt=0.0, le=10.0)
    weight_decay: float = Field(1e-4, ge=0.0, le=1.0)
    lr_schedule: Literal["constant", "cosine", "plateau"] = "cosine"
    warmup_epochs: float = Field(1.0, ge=0.0, le=1e4, description="linear warm-up, in epochs")
    batch_size: int = Field(16, ge=1, le=4096, description="patches a step")
    loss: Literal["bce", "dice", "bce_dice", "focal", "tversky"] = "bce_dice"
    class_weights: Weight | Annotated[tuple[Weight, ...], Field(min_length=2)] = Field(
        1.0, description="weight of the foreground, or one a class"
    )
    max_epochs: int = Field(40, ge=1, description="length of the lr_schedule, in epochs")
    epoch_pixels: int = Field(
        4_000_000, ge=1_000, description="training pixels of one epoch, equal for all configs"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"


class InferenceConfig(Strict):
    """How whole images are predicted; part of what makes a score reproducible."""

    tile: int = Field(192, ge=32, le=8192, description="edge of a tile, pixels")
    overlap: int = Field(24, ge=0, description="pixels shared by neighbouring tiles")
    batch_size: int = Field(4, ge=1, description="tiles predicted together")
    threshold: float = Field(0.5, gt=0.0, lt=1.0, description="foreground from here on")

    @model_validator(mode="after")
    def _tiles_advance(self) -> Self:
        if self.overlap * 2 > self.tile:
            raise ValueError(
                f"overlap {self.overlap} is over half of tile {self.tile}: "
                "lower one or raise the other"
            )
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
    time: Duration = Field(600.0, description="wall clock of the whole study")
    trials: int = Field(200, ge=1, description="trials beside the baselines")
    max_epochs: int = Field(40, ge=1, description="longest training of one trial")


class SearchConfig(Strict):
    searcher: Literal["tpe", "random"] = "tpe"
    seed: int = Field(0, ge=0)


class ResourcesConfig(Strict):
    workers: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"  # trials trained at a time
    gpu_share: Literal["auto"] | Annotated[float, Field(gt=0)] = "auto"  # of one GPU, a trial


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

    name: str = Field(pattern=NAME)
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
