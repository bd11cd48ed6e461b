"""Frozen values that are checked when they are made, and what YAML does to numbers undone."""

import re
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)


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


def parse_size(value: Any) -> Any:
    """Bytes from `500MB`, `4GiB` or a plain number; anything else is a ValueError."""
    match = None
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        match = re.fullmatch(r"(\d+(?:\.\d*)?) ?(?:(?:([KMGT])(i?))?B)?", str(value).strip())
    if not match:
        raise ValueError("a size is written like 500MB or 4GiB")
    number, prefix, binary = match.groups()
    return float(number) * (1024 if binary else 1000) ** " KMGT".index(prefix or " ")


Size = Annotated[
    float,
    BeforeValidator(parse_size),
    Field(gt=0),
    WithJsonSchema({"type": ["string", "number"], "description": "as 500MB or 4GiB"}),
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
    if not isinstance(value, bool | list | tuple | str):
        return value  # most values, and looking at annotations takes time
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
