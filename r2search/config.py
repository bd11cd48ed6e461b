"""The settings of a study and of one trial, as frozen values checked when they are made.

A `TrialConfig` says everything that one training needs; a `Study` says what is searched, how and
for how long. Nothing here imports torch or Ray.
"""

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from r2search.strict import Duration, Size, Strict

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"  # of studies and baselines: they become folder names


class Misuse(ValueError):
    """A mistake of the person who called us; the message is one sentence with the remedy."""


def hint(name: str, known: list[str]) -> str:
    """The end of an error about an unknown name: the nearest known one, and all of them."""
    near = get_close_matches(name, known, n=1)
    guess = f"did you mean {near[0]!r}? " if near else ""
    return f"{guess}known: {', '.join(sorted(known))}"


class PoolMember(Strict):
    """One of the data sets that the reader `pool` reads as one."""

    reader: str
    root: Path


class DataConfig(Strict):
    """Which images, what is done to them before the network sees them, and how patches are cut."""

    reader: str = "folder"  # a name of the READERS table
    root: Path | None = None  # the folder with the images; None for synthetic readers
    otherwise: str = "error"  # a synthetic reader to use when `root` is missing, or `error`
    pool: tuple[PoolMember, ...] = Field((), description="reader pool: the sets read as one")
    split: Literal["by_subject", "within_subject"] = "by_subject"
    max_side: int | None = Field(
        None, ge=64, description="larger images and masks are reduced to this on loading, pixels"
    )
    labels: tuple[Annotated[int, Field(ge=1, le=255)], ...] = Field(
        (), description="mask values that are classes 1, 2, ...; none: whatever is not 0"
    )
    window: tuple[float, float] | None = Field(
        None, description="CT: Hounsfield units shown as black and as white"
    )
    channels: Literal["rgb", "grey", "green"] = Field("rgb", description="what the network sees")
    resize: Literal["native"] | Annotated[int, Field(ge=32, le=4096)] = Field(
        "native", description="edge in pixels to which images are brought; native: as they are"
    )
    aspect: Literal["keep", "stretch"] = Field(
        "keep", description="resize the longer edge and keep the shape, or stretch to a square"
    )
    enhance: Literal["none", "clahe"] = Field("none", description="local contrast, by CLAHE")
    standardize: Literal["image", "dataset", "unit"] = Field(
        "image", description="mean 0, deviation 1 by image or training set; unit: grey levels / 255"
    )
    patch_size: int = Field(96, ge=16, le=2048, description="edge of a training patch, pixels")
    augmentation: Literal["none", "flips", "geometry", "full"] = "full"

    @property
    def reading(self) -> Literal["rgb", "grey"]:
        """How files are read, for these `channels`."""
        return "grey" if self.channels == "grey" else "rgb"

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels {list(self.labels)} name a value twice: keep one of each")
        if self.window and not self.window[0] < self.window[1]:
            raise ValueError(f"window {list(self.window)} is empty: write [low, high]")
        return self


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
    classes: int = Field(
        1, ge=1, le=256, description="output channels; 1: foreground by sigmoid, else by softmax"
    )


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
    checkpoint_activations: bool = False  # compute blocks again for backward: less memory
    compile: bool = Field(
        False,
        description="compile the step, which takes a minute or more: for trainings of hours; needs "
        "a C++ compiler, and goes on without where there is none",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"

    @model_validator(mode="after")
    def _what_is_compiled_is_kept(self) -> Self:
        if self.compile and self.checkpoint_activations:
            raise ValueError(
                "compile and checkpoint_activations exclude each other: torch compiles no network "
                "whose blocks are computed again; switch one off"
            )
        return self


AUTO_TILE = 1024  # pixels
AUTO_OVERLAP = 96  # pixels

# How a tile is seen for one prediction: quarter turns, then whether mirrored. The mean counts.
VIEWS = {
    "none": ((0, False),),
    "flips": ((0, False), (0, True), (2, False), (2, True)),
    "symmetries": tuple((turns, mirrored) for turns in range(4) for mirrored in (False, True)),
}


class InferenceConfig(Strict):
    """How whole images are predicted; part of what makes a score reproducible."""

    tile: Literal["auto"] | Annotated[int, Field(ge=32, le=8192)] = Field(
        "auto",
        description="largest edge of a tile, pixels; auto: 1024 with batch norm, or the patch if "
        "that is larger; always the patch with other norms",
    )
    overlap: Literal["auto"] | Annotated[int, Field(ge=0)] = Field(
        "auto",
        description="pixels shared by neighbouring tiles, at least; auto: 96, or a quarter of the "
        "tile if that is less",
    )
    test_time: Literal["none", "flips", "symmetries"] = Field(
        "none", description="mean over a tile as it is, mirrored (4 ways) or also turned (8)"
    )
    batch_size: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto", description="tiles predicted together; auto: up to the pixels of one of 1024"
    )
    threshold: float = Field(0.5, gt=0.0, lt=1.0, description="foreground from here on")

    @model_validator(mode="after")
    def _tiles_advance(self) -> Self:
        tile = AUTO_TILE if self.tile == "auto" else self.tile
        if self.overlap != "auto" and self.overlap * 2 > tile:
            raise ValueError(
                f"overlap {self.overlap} is over half of tile {tile}: lower one or raise the other"
            )
        return self


class TrialConfig(Strict):
    """Everything one training needs; written beside every result."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    inference: InferenceConfig = InferenceConfig()
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _classes_have_labels(self) -> Self:
        classes, labels = self.model.classes, self.data.labels
        if len(labels) < 2 and classes > 2:
            raise ValueError(
                f"model.classes is {classes}, but the masks have one foreground class: name the "
                "mask values of several by data.labels, as in [1, 2]; model.classes follows"
            )
        weights, count = self.train.class_weights, max(2, classes)
        if isinstance(weights, tuple) and len(weights) != count:
            raise ValueError(
                f"train.class_weights has {len(weights)} values for {count} classes: give one a "
                "class, background first, or one number for all of the foreground"
            )
        return self

    @property
    def patch(self) -> int:
        """Edge of a training patch, pixels: no larger than the images are made."""
        data = self.data
        return data.patch_size if data.resize == "native" else min(data.patch_size, data.resize)

    @property
    def tile(self) -> int:
        """Largest edge of an inference tile, pixels.

        With batch norm larger tiles have fewer edges, where little is seen. Other norms take the
        statistics of a tile, which must be like those of a patch.
        """
        if self.inference.tile != "auto":
            return self.inference.tile
        if self.model.norm != "batch":
            return self.patch
        resize = self.data.resize
        return max(AUTO_TILE if resize == "native" else min(AUTO_TILE, resize), self.patch)

    @property
    def overlap(self) -> int:
        """Pixels that neighbouring tiles share at least: no more than half of a tile."""
        if self.inference.overlap == "auto":
            return min(AUTO_OVERLAP, self.tile // 4)
        return min(self.inference.overlap, self.tile // 2)

    @property
    def tile_batch(self) -> int:
        """Tiles predicted together."""
        if self.inference.batch_size != "auto":
            return self.inference.batch_size
        return max(1, AUTO_TILE**2 // self.tile**2)


# Fields of a TrialConfig that are one value for the whole study: they say what is compared.
PER_STUDY = frozenset(
    {
        "data.reader",
        "data.root",
        "data.otherwise",
        "data.pool",
        "data.split",
        "data.max_side",
        "data.labels",
        "data.window",
        "model.in_channels",
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
    when: dict[str, tuple[Value, ...]] = Field(
        {}, description="earlier parameter -> values under which it exists"
    )


Cost = Literal["parameters", "flops", "epoch_seconds", "memory"]  # of a trial's plan


class MetricConfig(Strict):
    name: str = "val/dice_mean"
    goal: Literal["maximize", "minimize"] = "maximize"
    against: tuple[Cost, ...] = Field(
        (), description="costs to be kept low as well: the search looks for the whole Pareto front"
    )


class BudgetConfig(Strict):
    time: Duration = Field(600.0, description="wall clock of the whole study")
    trials: int = Field(200, ge=1, description="trials beside the baselines")
    flops: float | None = Field(
        None, gt=0, description="of the training of all trials, three forward passes a patch"
    )
    max_epochs: int = Field(40, ge=1, description="longest training of one trial")


class SearchConfig(Strict):
    searcher: Literal["tpe", "random"] = "tpe"
    seed: int = Field(0, ge=0)
    prior: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="chance that a trial is drawn near a baseline: of the first; it fades with "
        "every trial, to a quarter after ten, so that a wrong one costs ten trials at most",
    )


class ResourcesConfig(Strict):
    workers: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"  # trials trained at a time
    gpu_share: Literal["auto"] | Annotated[float, Field(gt=0)] = "auto"  # of one GPU, a trial
    memory: Literal["auto"] | Size = "auto"  # that a trial may take in its worker


WAITING = ("asha", "pasha", "hyperband")  # with these types trials wait at rungs


class EarlyTerminateConfig(Strict):
    type: Literal["asha", "pasha", "hyperband", "median", "ray_asha", "none"] = Field(
        "asha",
        description="asha, pasha, hyperband: trials wait at rungs, and the best go on; "
        "ray_asha, median: the others are stopped",
    )
    grace_period: int = Field(2, ge=1, description="epochs that every trial gets")
    reduction_factor: int = Field(4, ge=2, description="one in so many passes a rung")
    unit: Literal["epochs", "seconds"] = Field(
        "epochs", description="trials meet at a rung after as many epochs, or as many seconds"
    )

    @model_validator(mode="after")
    def _has_rungs_in_seconds(self) -> Self:
        if self.unit == "seconds" and self.type not in WAITING:
            raise ValueError(
                f"unit seconds is for the types {', '.join(WAITING)}: take one of them in place of "
                f"{self.type}, or leave unit out"
            )
        return self


class ConfirmConfig(Strict):
    """How the finalists and the baselines are trained again, so that one of them is chosen."""

    finalists: int = Field(3, ge=0, description="best configs that are trained again; 0: none")
    seeds: int = Field(3, ge=1, description="trainings of each, fewer where time is short")
    folds: int = Field(1, ge=1, description="by subject; 1: only as the study is split")
    share: float = Field(0.4, gt=0.0, le=0.4, description="of the time, at most")


PUBLISHED_STEPS = "published_steps"  # the one key of a baseline that is no setting


class Baseline(Strict):
    """A published setting to compare with."""

    overrides: dict[str, Any] = Field({}, description="dotted key -> value")
    published_steps: int | None = Field(None, ge=1)  # optimizer steps of its publication

    def published_pixels(self, config: TrialConfig) -> int | None:
        """Training pixels of the published schedule, of a baseline whose config this is."""
        if self.published_steps is None:
            return None
        return self.published_steps * config.train.batch_size * config.patch**2


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
    baselines: dict[str, Baseline] = Field({})
    starts: dict[str, dict[str, Value]] = Field({}, description="draws that come first, by name")

    @property
    def confirmation(self) -> ConfirmConfig | None:
        """How finalists are trained again; None where they are not."""
        return self.confirm if self.confirm and self.confirm.finalists else None

    @property
    def search_budget(self) -> BudgetConfig:
        """The budget without what is kept for the confirmation."""
        kept = self.confirmation.share if self.confirmation else 0.0
        return self.budget.model_copy(update={"time": (1 - kept) * self.budget.time})
