"""config.yaml of a bundle: which networks it holds, and what predicting and judging them needs."""

from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from r2search.config import Misuse, TrialConfig
from r2search.strict import Strict

CONFIG = "config.yaml"
FORMAT = 3  # of a bundle: 1 had no hashes of all files; 2 one network, and not `tested`
MOST = 64  # networks of one bundle


class Member(Strict):
    """One network of a bundle."""

    trial: str
    epoch: int
    config: TrialConfig  # its `inference` holds tile, overlap, batch and threshold
    # As trained and scored: the same machine repeats the score with it.
    dtype: Literal["float32", "bfloat16"]
    memory_format: Literal["contiguous", "channels_last"]
    mean: tuple[float, ...] = ()  # of the training images, for data.standardize: dataset
    std: tuple[float, ...] = ()
    weights_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _has_statistics(self) -> Self:
        wanted = self.config.model.in_channels if self.config.data.standardize == "dataset" else 0
        if not len(self.mean) == len(self.std) == wanted or min(self.std, default=1.0) <= 0:
            raise ValueError(f"mean and std must have {wanted} values, those of std above 0")
        return self


class Manifest(Member):
    """Everything that predicting and judging an exported network needs.

    Of several networks it is the first: `others` are those whose probabilities are averaged with
    its own, at its threshold.
    """

    format: int = FORMAT
    study: str
    threads: int = Field(ge=1, le=4096)
    metrics: dict[str, float]  # of what is exported
    data: dict[str, Any]  # reader, fingerprint, split
    synthetic: bool
    tested: int = Field(0, ge=0)  # how often the study had opened its test split
    versions: dict[str, str]
    others: tuple[Member, ...] = Field((), max_length=MOST - 1)

    @property
    def members(self) -> tuple[Member, ...]:
        """All its networks."""
        return self, *self.others

    @model_validator(mode="after")
    def _are_of_one_kind(self) -> Self:
        for other in self.others:
            if kind(other.config) != kind(self.config):
                raise ValueError(
                    f"{self.trial} and {other.trial} see other images or classes: their "
                    "probabilities cannot be averaged"
                )
        return self


def kind(config: TrialConfig) -> tuple[object, ...]:
    """What networks must have in common to be averaged: how images are read, and the classes."""
    data = config.data
    shared = data.reader, data.pool, data.max_side, data.labels, data.window, data.reading
    return *shared, config.model.classes


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a bundle; Misuse says what is wrong with it."""
    path = folder / CONFIG
    if not path.is_file():
        raise Misuse(f"{folder}: no bundle here ({CONFIG} is missing); give RUN/bundle")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        if isinstance(tree, dict) and tree.get("format", 0) not in range(1, FORMAT + 1):
            raise Misuse(
                f"{path}: format {tree.get('format')}, this version reads 1 to {FORMAT}; "
                "use the version of r2search that wrote it"
            )
        return Manifest.model_validate(tree)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise Misuse(f"{path}: not plain YAML: {reason}; copy the bundle again") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise Misuse(f"{path}: {where}: {first['msg']}; copy the bundle again") from None
