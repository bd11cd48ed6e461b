"""The space file as a person writes it: read with line numbers, checked, explained when wrong.

`metric` and `parameters` use the keywords of a W&B sweep file; the rest is ours.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from r2search.config import (
    NAME,
    BudgetConfig,
    ConfirmConfig,
    DataConfig,
    EarlyTerminateConfig,
    InferenceConfig,
    MetricConfig,
    Misuse,
    ModelConfig,
    ResourcesConfig,
    SearchConfig,
    TrainConfig,
    hint,
)
from r2search.strict import Strict, types_of

# Of a TrialConfig: what `parameters` may hold.
SECTIONS: dict[str, type[Strict]] = {
    "data": DataConfig,
    "model": ModelConfig,
    "train": TrainConfig,
    "inference": InferenceConfig,
}
SETTINGS: dict[str, FieldInfo] = {
    f"{section}.{name}": info
    for section, model in SECTIONS.items()
    for name, info in model.model_fields.items()
}
# One value for the whole study, yet set among the parameters, by `value`.
FIXABLE = frozenset({"train.epoch_pixels"})

Distribution = Literal[
    "constant", "categorical", "int_uniform", "uniform", "q_uniform", "log_uniform_values"
]


class ParameterEntry(Strict):
    """One entry under `parameters`, in the words of a W&B sweep file, and our `when`."""

    value: Any = Field(None, description="one fixed value")
    values: list[Any] | None = Field(None, min_length=1, description="the choices")
    probabilities: list[float] | None = Field(None, description="weigh random draws only")
    min: Any = Field(None, description="lower end, can be drawn")
    max: Any = Field(None, description="upper end, can be drawn")
    distribution: Distribution | None = None
    q: float | None = Field(None, gt=0, description="step of a quantised range")
    when: dict[str, Any] | None = Field(
        None, description="earlier parameter: values under which this one exists"
    )


def _none(value: Any) -> Any:
    """YAML has no word for None that people know: they write none."""
    return None if value == "none" else value


class SpaceFile(Strict):
    """The whole file, its `parameters` flattened to dotted keys."""

    name: str = Field(pattern=NAME)
    question: str = ""
    data: DataConfig = DataConfig()
    metric: MetricConfig = MetricConfig()
    budget: BudgetConfig = BudgetConfig()
    search: SearchConfig = SearchConfig()
    resources: ResourcesConfig = ResourcesConfig()
    early_terminate: EarlyTerminateConfig = EarlyTerminateConfig()
    confirm: Annotated[
        ConfirmConfig | None,
        BeforeValidator(_none, json_schema_input_type=ConfirmConfig | Literal["none"] | None),
    ] = None
    parameters: dict[str, ParameterEntry] = Field({}, description="dotted key: entry")
    baselines: dict[str, dict[str, Any]] = Field(
        {}, description="name: dotted key: value, and published_steps where known"
    )
    starts: dict[str, dict[str, Any]] = Field(
        {}, description="name: dotted key: value; configs of the space that are drawn first"
    )


@dataclass
class Source:
    """Where each key was written, so that an error can say it."""

    file: str
    lines: dict[str, int] = field(default_factory=dict)  # dotted path in the file -> line
    paths: dict[str, str] = field(default_factory=dict)  # dotted parameter -> path in the file

    def error(self, key: str, message: str) -> Misuse:
        """A Misuse that begins with `file:line: key:`; an unknown key takes its parent's line."""
        path = self._path_of(key)
        while path and path not in self.lines:
            path = path.rpartition(".")[0]
        line = f":{self.lines[path]}" if path else ""
        return Misuse(f"{self.file}{line}: {key}: {message}")

    def _path_of(self, key: str) -> str:
        bare = key.removeprefix("parameters.")
        for parameter, path in self.paths.items():
            if f"{bare}.".startswith(f"{parameter}."):
                return path + bare.removeprefix(parameter)
            if parameter.startswith(f"{bare}.") and key not in self.lines:
                return path  # a whole section, which has no line of its own
        return key


def read_space_file(path: Path) -> tuple[SpaceFile, Source]:
    """Read and check one space file; all that is wrong with it is in one Misuse, a line each."""
    source = Source(file=path.name)
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise Misuse(f"{path.name}:{line}: not YAML: {error.problem}; check the indent") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Misuse(f"{path.name}: not YAML: {error}; save it as UTF-8 text") from None
    if not isinstance(node, yaml.MappingNode):
        raise Misuse(f"{path.name}:1: a space file is a mapping that begins with `name: ...`")
    try:
        tree = _plain(node, "", source)
    except RecursionError:
        raise Misuse(f"{path.name}: an alias contains itself; write it out") from None
    parameters: dict[str, Any] = {}
    given = tree.get("parameters") or {}
    if not isinstance(given, dict):
        raise source.error("parameters", f"expected a mapping, got {given!r}")
    _flatten(given, "", "parameters", parameters, source)
    tree["parameters"] = parameters
    try:
        return SpaceFile.model_validate(tree), source
    except ValidationError as error:
        raise explain(error, SpaceFile, source) from None


def _plain(node: yaml.Node, path: str, source: Source) -> Any:
    """The value of a YAML node, noting the line of every key; a key given twice is an error."""
    if isinstance(node, yaml.SequenceNode):
        return [_plain(child, path, source) for child in node.value]
    if not isinstance(node, yaml.MappingNode):
        loader = yaml.SafeLoader("")
        try:
            return loader.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            raise Misuse(
                f"{source.file}:{node.start_mark.line + 1}: {path}: not a plain value: "
                f"{str(error).splitlines()[0]}"
            ) from None
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise Misuse(f"{source.file}:{line}: {path or 'file'}: a key must be a plain word")
        key = str(key_node.value)
        where = f"{path}.{key}" if path else key
        if key in values:
            raise source.error(
                where, f"given twice, in lines {source.lines[where]} and {line}; keep one"
            )
        source.lines[where] = line
        values[key] = _plain(value_node, where, source)
    return values


def _flatten(
    entries: dict[str, Any], prefix: str, path: str, found: dict[str, Any], source: Source
) -> None:
    for name, entry in entries.items():
        key, where = f"{prefix}{name}", f"{path}.{name}"
        label = f"parameters.{key}"
        if key in found:
            other = source.lines[source.paths[key]]
            source.paths[key] = where
            raise source.error(label, f"given already in line {other}; keep one")
        nested = entry.get("parameters") if isinstance(entry, dict) else None
        if isinstance(nested, dict) and len(entry) == 1:
            _flatten(nested, f"{key}.", f"{where}.parameters", found, source)
            continue
        source.paths[key] = where
        if name in SECTIONS or (isinstance(entry, dict) and "parameters" in entry):
            raise source.error(
                label, f"got {entry!r}; nest its settings as {{parameters: {{...}}}} and no more"
            )
        if not isinstance(entry, dict):
            word = "values" if isinstance(entry, list) else "value"
            raise source.error(label, f"got {entry!r}; write {{{word}: {entry}}}")
        found[key] = entry


def explain(
    error: ValidationError, model: type[BaseModel], source: Source, prefix: str = ""
) -> Misuse:
    """All that pydantic found, each as `file:line: key: what, value; remedy`."""
    found: dict[str, list[ErrorDetails]] = {}
    for item in error.errors():
        loc = _field_of(model, [str(part) for part in item["loc"]])[0]
        found.setdefault(prefix + ".".join(loc), []).append(item)
    lines = []
    for key, items in found.items():
        if items[0]["type"] == "extra_forbidden":
            *parents, name = map(str, items[0]["loc"])
            known = list(_field_of(model, parents)[1].model_fields)
            message = f"unknown key (value {items[0]['input']!r}); {hint(name, known)}"
        else:
            message = sentence(items)
        lines.append(str(source.error(key.rstrip(".") or "file", message)))
    return Misuse("\n".join(lines))


def sentence(items: Sequence[ErrorDetails]) -> str:
    """What pydantic says of one value; of a union it says one thing for each of its types."""
    value = items[0]["input"]
    kind = items[0]["type"]
    if kind == "missing":
        return "missing; add it"
    if value == "log_uniform":
        return "W&B's log_uniform takes exponents; write log_uniform_values and the ends themselves"
    if kind == "literal_error" and len(items) == 1:
        known = re.findall(r"'([^']*)'", items[0]["ctx"]["expected"])
        return f"unknown value {value!r}; {hint(str(value), known)}"
    said = [_REWORDED.get(item["type"], item["msg"]) for item in items]
    text = " or ".join(text.removeprefix("Value error, ") for text in said)
    text = text.replace("Input should", "should")
    return text if isinstance(value, dict | BaseModel) else f"{text}, got {value!r}"


_REWORDED = {
    "model_type": "expected a mapping (key: value)",
    "dict_type": "expected a mapping (key: value)",
    "list_type": "expected a list",
    "tuple_type": "expected a list",
    "extra_forbidden": "unknown key; remove it",
    "too_short": "has too few items",
    "string_pattern_mismatch": "use letters, digits, `.`, `_` and `-`, a letter or digit first",
}


def _field_of(model: type[BaseModel], loc: Sequence[str]) -> tuple[list[str], type[BaseModel]]:
    """A place without what pydantic appends to name an arm of a union; the innermost model."""
    kept: list[str] = []
    for part in loc:
        kept.append(part)
        if part not in model.model_fields:
            continue  # the key of a dict, or the index of a list
        annotation = model.model_fields[part].annotation
        inner = [arm for arm in (annotation, *get_args(annotation)) if _is_model(arm)]
        if inner:
            model = inner[0]
        elif len(types_of(annotation) - {NoneType}) > 1:
            break
    return kept, model


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
