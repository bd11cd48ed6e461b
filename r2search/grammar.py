"""What one entry under `parameters` means: values converted, ranges and conditions checked."""

import json
from collections.abc import Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np
from pydantic import BaseModel, ValidationError

from r2search.config import PER_STUDY, Parameter, TrialConfig, Value, hint
from r2search.spacefile import SECTIONS, ParameterEntry, Source, explain

STUDY_SECTIONS = ("metric", "budget", "search", "resources", "early_terminate")
# One value for the whole study, yet set among the parameters by `value`.
FIXABLE = frozenset({"train.epoch_pixels", "model.classes"})


def require_known(key: str, where: str, source: Source) -> None:
    section, _, name = key.partition(".")
    if key == "seed":
        return
    if section not in SECTIONS or not name:
        everything = [*SECTIONS, *STUDY_SECTIONS]
        raise source.error(where, f"unknown key; {hint(section, everything)}")
    fields = _section_fields(section)
    if name not in fields:
        raise source.error(where, f"unknown key; {hint(name, list(fields))}")


def require_searchable(key: str, where: str, source: Source) -> None:
    require_known(key, where, source)
    if key in PER_STUDY - FIXABLE:
        raise source.error(
            where,
            f"is one value for the whole study and cannot stand here; {_place_of(key)}",
        )


def _place_of(key: str) -> str:
    if key == "train.max_epochs":
        return "set budget.max_epochs"
    if key.startswith("data."):
        return "set it under the top-level `data:`"
    return "it follows from the data" if key == "model.in_channels" else "set search.seed"


def _section_fields(section: str) -> dict[str, Any]:
    model = TrialConfig.model_fields[section].annotation
    assert isinstance(model, type)
    assert issubclass(model, BaseModel)
    return dict(model.model_fields)


def _types_of(key: str) -> set[Any]:
    """The plain types that a setting accepts; a Literal counts as its values' types."""
    section, _, name = key.partition(".")
    annotation = int if key == "seed" else _section_fields(section)[name].annotation
    arms = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    types: set[Any] = set()
    for arm in arms:
        types |= {type(v) for v in get_args(arm)} if get_origin(arm) is Literal else {arm}
    return types


def convert(key: str, value: Any, where: str, source: Source) -> Any:
    """A value as the setting `key` wants it, or a Misuse that names the trap it fell into."""
    require_known(key, where, source)
    types = _types_of(key)
    if isinstance(value, bool) and bool not in types:
        raise source.error(
            where, f"got {value}; YAML reads no/off/yes/on as booleans: put the word in quotes"
        )
    if isinstance(value, str) and types & {int, float} and str not in types:
        try:
            value = json.loads(value) if value.startswith("[") else float(value)  # YAML: 1e-4
        except ValueError:
            raise source.error(where, f"expected a number, got {value!r}") from None
    if isinstance(value, list):
        value = tuple(value)
    if isinstance(value, float) and int in types and float not in types and value == int(value):
        value = int(value)
    config = config_with(TrialConfig(), {key: value}, "", source, where)
    if key == "seed":
        return config.seed
    section, name = key.split(".")
    return getattr(getattr(config, section), name)


def config_with(
    base: TrialConfig,
    overrides: Mapping[str, Any],
    prefix: str,
    source: Source,
    where: str | None = None,
) -> TrialConfig:
    tree = base.model_dump()
    for key, value in overrides.items():
        section, _, name = key.partition(".")
        if name:
            tree[section][name] = value
        else:
            tree[key] = value
    try:
        return TrialConfig.model_validate(tree)
    except ValidationError as error:
        if where is None:
            raise explain(error, TrialConfig, source, prefix) from None
        text = str(explain(error, TrialConfig, Source(file=""))).splitlines()[0]
        raise source.error(where, text.removeprefix(": ").partition(": ")[2]) from None


def build_parameter(
    key: str,
    entry: ParameterEntry,
    earlier: list[Parameter],
    fixed: Mapping[str, Any],
    source: Source,
) -> Parameter:
    where = f"parameters.{key}"
    if key in PER_STUDY:
        raise source.error(where, "is one value for the whole study; write {value: ...}")
    when = _when(key, entry, earlier, fixed, source)
    if entry.values is not None:
        if entry.min is not None or entry.max is not None:
            raise source.error(where, "has both values and a range; keep one")
        if entry.distribution not in (None, "categorical"):
            raise source.error(where, f"values go with categorical, not {entry.distribution}")
        values = tuple(convert(key, v, where, source) for v in entry.values)
        if len(set(values)) < len(values):
            raise source.error(where, f"a value stands twice in {entry.values}; weigh it instead")
        return Parameter(
            key=key,
            kind="choice",
            values=values,
            probabilities=_probabilities(entry, where, source),
            when=when,
        )
    if entry.min is None or entry.max is None:
        raise source.error(where, "needs value, values, or both min and max")
    return _range(key, entry, when, source)


def _probabilities(entry: ParameterEntry, where: str, source: Source) -> tuple[float, ...] | None:
    if entry.probabilities is None:
        return None
    weights = entry.probabilities
    if entry.values is None or len(weights) != len(entry.values):
        raise source.error(where, f"needs one probability a value, got {weights}")
    if min(weights) < 0 or not np.isclose(sum(weights), 1.0):
        raise source.error(where, f"probabilities must be >= 0 and add up to 1, got {weights}")
    return tuple(weight / sum(weights) for weight in weights)


def _range(
    key: str, entry: ParameterEntry, when: dict[str, tuple[Value, ...]], source: Source
) -> Parameter:
    where = f"parameters.{key}"
    types = _types_of(key)
    if not types & {int, float}:
        raise source.error(where, "is not a number and cannot have a range; list its values")
    if entry.probabilities is not None:
        raise source.error(where, "probabilities go with values, not with a range")
    low = convert(key, entry.min, where, source)
    high = convert(key, entry.max, where, source)
    if not low < high:
        raise source.error(where, f"empty range: min {low} is not below max {high}")
    log = entry.distribution == "log_uniform_values"
    if log and entry.q is not None:
        raise source.error(where, "a log range cannot be quantised; drop q, or list the values")
    if log and low <= 0:
        raise source.error(where, f"a log range must begin above 0, got min {low}")
    if entry.distribution in ("constant", "categorical"):
        raise source.error(where, f"{entry.distribution} needs value or values, not a range")
    kind: Literal["int", "float"] = "float" if float in types else "int"
    if kind == "float" and entry.distribution == "int_uniform":
        raise source.error(where, "is a float setting; use uniform, with q: 1 for whole numbers")
    if entry.q is not None:
        steps = (high - low) / entry.q
        if not np.isclose(steps, round(steps)):
            raise source.error(where, f"max {high} is not min {low} plus a multiple of q {entry.q}")
    return Parameter(key=key, kind=kind, low=low, high=high, step=entry.q, log=log, when=when)


def _when(
    key: str,
    entry: ParameterEntry,
    earlier: list[Parameter],
    fixed: Mapping[str, Any],
    source: Source,
) -> dict[str, tuple[Value, ...]]:
    where = f"parameters.{key}"
    known = {parameter.key for parameter in earlier} | set(fixed)
    conditions: dict[str, tuple[Value, ...]] = {}
    for other, allowed in (entry.when or {}).items():
        if other not in known:
            raise source.error(
                where,
                f"when refers to {other!r}, which is no earlier parameter; "
                f"{hint(other, sorted(known))}",
            )
        listed = allowed if isinstance(allowed, list) else [allowed]
        conditions[other] = tuple(convert(other, value, where, source) for value in listed)
    return conditions
