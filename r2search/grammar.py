"""What one entry under `parameters` means: values converted, ranges and conditions checked."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import TypeAdapter, ValidationError

from r2search.config import (
    PER_STUDY,
    Parameter,
    TrialConfig,
    Value,
    hint,
)
from r2search.spacefile import (
    FIXABLE,
    SECTIONS,
    SETTINGS,
    ParameterEntry,
    Source,
    explain,
    sentence,
)
from r2search.strict import types_of, undo_yaml

# Settings that something else decides, and what a person does instead.
DERIVED = {
    "seed": "set search.seed",
    "train.max_epochs": "set budget.max_epochs",
    "model.in_channels": "it follows from the images, by data.channels",
}
# The keyword that decides what an entry is -> what may stand beside it.
FORMS = {
    "value": {"distribution"},
    "values": {"distribution", "probabilities", "when"},
    "min": {"max", "distribution", "q", "when"},
}
DISTRIBUTIONS = {
    "value": ("constant",),
    "values": ("categorical",),
    "min": ("int_uniform", "uniform", "q_uniform", "log_uniform_values"),
}


def require_setting(
    key: str, value: Any, where: str, source: Source, also: Sequence[str] = ()
) -> None:
    """Misuse unless `key` is a setting that a person may give; `also` are sections to suggest."""
    if key in DERIVED:
        raise source.error(where, f"cannot be set here, got {value!r}; {DERIVED[key]}")
    if key in SETTINGS:
        return
    section, _, name = key.partition(".")
    owners = [known for known in SETTINGS if known.endswith(f".{key}")]
    if owners:
        remedy = f"did you mean {' or '.join(owners)}?"
    elif section in SECTIONS and name:
        remedy = hint(name, list(SECTIONS[section].model_fields))
    elif section in (*SECTIONS, *also):
        remedy = "this is a section: name one field of it, as in model.depth"
    else:
        remedy = hint(section, [*SECTIONS, *also])
    raise source.error(where, f"unknown key (value {value!r}); {remedy}")


def require_searchable(key: str, entry: ParameterEntry, source: Source) -> None:
    """Misuse unless `key` may stand under `parameters`."""
    where, written = f"parameters.{key}", _written(entry)
    require_setting(key, written, where, source)
    if key in PER_STUDY - FIXABLE:
        raise source.error(
            where,
            f"is one value for the whole study, got {written}; set it under the top-level `data:`",
        )


def convert(key: str, value: Any, where: str, source: Source) -> Any:
    """A value as the setting `key` wants it, or a Misuse that names the trap it fell into."""
    try:
        return _adapter(key).validate_python(undo_yaml(value, SETTINGS[key].annotation))
    except ValidationError as error:
        items = error.errors()
        loc = items[0]["loc"]
        if loc and isinstance(loc[0], int):  # within a list; of a union, the name of an arm
            where = ".".join([where, *map(str, loc)])
            items = items[:1]
        raise source.error(where, sentence(items)) from None
    except ValueError as error:
        raise source.error(where, f"{error}, got {value}") from None


@cache
def _adapter(key: str) -> TypeAdapter[Any]:
    info = SETTINGS[key]
    annotation: Any = Annotated[info.annotation, info]
    return TypeAdapter(annotation)


def setting(config: TrialConfig, key: str) -> Any:
    """The value of a dotted key."""
    section, name = key.split(".")
    return getattr(getattr(config, section), name)


def config_with(
    base: TrialConfig, overrides: Mapping[str, Any], source: Source, prefix: str = ""
) -> TrialConfig:
    """`base` with some settings replaced. Raises Misuse when they contradict each other."""
    tree = base.model_dump()
    for key, value in overrides.items():
        section, _, name = key.partition(".")
        tree.setdefault(section, {})[name] = value
    _derive(tree)
    try:
        return TrialConfig.model_validate(tree)
    except ValidationError as error:
        raise explain(error, TrialConfig, source, prefix) from None


def _derive(tree: dict[str, Any]) -> None:
    """Set what follows from other settings: the channels in and, of several classes, out."""
    data, model = tree["data"], tree["model"]
    model["in_channels"] = 3 if data["channels"] == "rgb" else 1
    if len(data["labels"]) > 1:
        model["classes"] = len(data["labels"]) + 1


def form_of(key: str, entry: ParameterEntry, source: Source) -> str:
    """Which of FORMS an entry has; Misuse when it mixes them."""
    where = f"parameters.{key}"
    written = entry.model_fields_set
    form = next((word for word in FORMS if word in written), None)
    if form is None or (form == "min" and "max" not in written):
        raise source.error(
            where, f"needs value, values, or both min and max, got {_written(entry)}"
        )
    extra = sorted(written - FORMS[form] - {form})
    if extra:
        raise source.error(
            f"{where}.{extra[0]}",
            f"cannot stand beside {form}, got {_written(entry)}; keep one of the two",
        )
    if entry.distribution not in (None, *DISTRIBUTIONS[form]):
        raise source.error(
            f"{where}.distribution",
            f"{entry.distribution} does not go with {form}; "
            f"drop it or write {' or '.join(DISTRIBUTIONS[form])}",
        )
    return form


def _written(entry: ParameterEntry) -> dict[str, Any]:
    return entry.model_dump(exclude_unset=True)


def build_parameter(
    key: str,
    entry: ParameterEntry,
    earlier: Sequence[Parameter],
    fixed: Mapping[str, Any],
    source: Source,
) -> Parameter:
    """What an entry of values or of a range means."""
    where = f"parameters.{key}"
    form = form_of(key, entry, source)
    if key in PER_STUDY:
        raise source.error(
            where, f"is one value for the whole study, got {_written(entry)}; write {{value: ...}}"
        )
    when = _when(key, entry, earlier, fixed, source)
    if form == "min":
        return _range(key, entry, when, source)
    values = tuple(convert(key, v, f"{where}.values", source) for v in entry.values or ())
    if not values:
        raise source.error(f"{where}.values", "needs a list of at least one value, got nothing")
    if len(set(values)) < len(values):
        raise source.error(
            f"{where}.values", f"a value stands twice in {entry.values}; weigh it by probabilities"
        )
    probabilities = _probabilities(entry, f"{where}.probabilities", source)
    return Parameter(key=key, kind="choice", values=values, probabilities=probabilities, when=when)


def allows(p: Parameter, value: Any) -> bool:
    """Whether `p` can take a value: a listed one, or one in the range and on its steps."""
    if p.kind == "choice":
        return any(value == v and type(value) is type(v) for v in p.values)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if not p.low <= value <= p.high or (p.kind == "int" and value != int(value)):
        return False
    return p.step is None or _is_whole((value - p.low) / p.step)


def _is_whole(steps: float) -> bool:
    return math.isclose(steps, round(steps), rel_tol=1e-9, abs_tol=1e-9)


def _probabilities(entry: ParameterEntry, where: str, source: Source) -> tuple[float, ...] | None:
    weights = entry.probabilities
    if weights is None:
        return None
    if len(weights) != len(entry.values or ()):
        raise source.error(where, f"needs one probability a value, got {weights}")
    if not all(weight >= 0 for weight in weights) or not math.isclose(
        sum(weights), 1, abs_tol=1e-6
    ):
        raise source.error(where, f"must be at least 0 each and add up to 1, got {weights}")
    return tuple(weight / sum(weights) for weight in weights)


def _range(
    key: str, entry: ParameterEntry, when: dict[str, tuple[Value, ...]], source: Source
) -> Parameter:
    where = f"parameters.{key}"
    types = types_of(SETTINGS[key].annotation)
    if not types & {int, float}:
        raise source.error(
            where, f"is no number and has no range, got {_written(entry)}; list its values"
        )
    low = convert(key, entry.min, f"{where}.min", source)
    high = convert(key, entry.max, f"{where}.max", source)
    if isinstance(low, tuple) or isinstance(high, tuple):
        raise source.error(
            where, f"a range has one number at each end, got {_written(entry)}; list its values"
        )
    if not low < high:
        raise source.error(where, f"empty range: min {low} is not below max {high}")
    log = entry.distribution == "log_uniform_values"
    if log and low <= 0:
        raise source.error(f"{where}.min", f"a log range must begin above 0, got {low}")
    kind: Literal["int", "float"] = "float" if float in types else "int"
    if kind == "float" and entry.distribution == "int_uniform":
        raise source.error(
            f"{where}.distribution", "int_uniform is for whole numbers; write uniform"
        )
    if kind == "int" and entry.distribution == "uniform":
        raise source.error(f"{where}.distribution", "uniform is for fractions; write int_uniform")
    _check_step(entry, kind, low, high, where, source)
    return Parameter(key=key, kind=kind, low=low, high=high, step=entry.q, log=log, when=when)


def _check_step(
    entry: ParameterEntry, kind: str, low: float, high: float, where: str, source: Source
) -> None:
    if entry.q is None:
        if entry.distribution == "q_uniform":
            raise source.error(where, "q_uniform needs q, the step; add it")
        return
    where = f"{where}.q"
    if entry.distribution == "log_uniform_values":
        raise source.error(
            where, f"a log range cannot be quantised, got {entry.q}; drop q, or list the values"
        )
    if entry.distribution == "uniform":
        raise source.error(where, f"uniform has no steps, got {entry.q}; write q_uniform")
    if kind == "int" and not entry.q.is_integer():
        raise source.error(where, f"steps of a whole number must be whole, got {entry.q}")
    if entry.q > high - low or not _is_whole((high - low) / entry.q):
        raise source.error(
            where,
            f"max {high} is not min {low} plus a multiple of q {entry.q}; change one of the three",
        )


def _when(
    key: str,
    entry: ParameterEntry,
    earlier: Sequence[Parameter],
    fixed: Mapping[str, Any],
    source: Source,
) -> dict[str, tuple[Value, ...]]:
    known = {parameter.key: parameter for parameter in earlier}
    conditions: dict[str, tuple[Value, ...]] = {}
    for other, allowed in (entry.when or {}).items():
        where = f"parameters.{key}.when.{other}"
        if other in source.paths and other not in known and other not in fixed:
            raise source.error(
                where, f"no earlier parameter (value {allowed!r}); move {other} above {key}"
            )
        if other not in known and other not in fixed:
            candidates = [*known, *fixed]
            remedy = f"; {hint(other, candidates)}" if candidates else ""
            raise source.error(
                where,
                f"no parameter of this file (value {allowed!r}); give it above {key}{remedy}",
            )
        listed = allowed if isinstance(allowed, list) else [allowed]
        conditions[other] = tuple(convert(other, value, where, source) for value in listed)
        if not listed or (
            other in known and not any(allows(known[other], value) for value in conditions[other])
        ):
            raise source.error(
                where, f"never holds: {other} does not take {allowed}; name a value that it takes"
            )
    return conditions
