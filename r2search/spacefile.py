"""The space file as a person writes it: read with line numbers, checked, explained when wrong.

`metric` and `parameters` use the keywords of a W&B sweep file; the rest is ours.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError

from r2search.config import (
    BudgetConfig,
    ConfirmConfig,
    DataConfig,
    EarlyTerminateConfig,
    MetricConfig,
    Misuse,
    ResourcesConfig,
    SearchConfig,
    Strict,
    TrialConfig,
    hint,
)

SECTIONS = ("data", "model", "train", "inference")  # of a TrialConfig: what `parameters` may hold

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


class SpaceFile(Strict):
    """The whole file, its `parameters` flattened to dotted keys."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    question: str = ""
    data: DataConfig = DataConfig()
    metric: MetricConfig = MetricConfig()
    budget: BudgetConfig = BudgetConfig()
    search: SearchConfig = SearchConfig()
    resources: ResourcesConfig = ResourcesConfig()
    early_terminate: EarlyTerminateConfig = EarlyTerminateConfig()
    confirm: ConfirmConfig | None = None
    parameters: dict[str, ParameterEntry] = Field({}, description="dotted key: entry")
    baselines: dict[str, dict[str, Any]] = Field({}, description="name: dotted key: value")


@dataclass
class Source:
    """Where each key was written, so that an error can say it."""

    file: str
    lines: dict[str, int] = field(default_factory=dict)  # dotted path in the file -> line
    paths: dict[str, str] = field(default_factory=dict)  # dotted parameter -> path in the file

    def error(self, key: str, message: str) -> Misuse:
        """A Misuse that begins with `file:line: key:`; an unknown key takes its parent's line."""
        path = self.paths.get(key.removeprefix("parameters."), key)
        while path and path not in self.lines:
            path = path.rpartition(".")[0]
        line = f":{self.lines[path]}" if path else ""
        return Misuse(f"{self.file}{line}: {key}: {message}")


def read_space_file(path: Path) -> tuple[SpaceFile, Source]:
    """Read and check one space file; all that is wrong with it is in one Misuse, a line each."""
    source = Source(file=path.name)
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise Misuse(f"{path.name}:{line}: not YAML: {error.problem}; check the indent") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Misuse(f"{path.name}: not YAML: {error}") from None
    if not isinstance(node, yaml.MappingNode):
        raise Misuse(f"{path.name}:1: a space file is a mapping that begins with `name: ...`")
    tree = _plain(node, "", source)
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
        key = str(key_node.value)
        where = f"{path}.{key}" if path else key
        if key in values:
            raise source.error(
                where,
                f"given twice, in lines {source.lines[where]} and "
                f"{key_node.start_mark.line + 1}; keep one",
            )
        source.lines[where] = key_node.start_mark.line + 1
        values[key] = _plain(value_node, where, source)
    return values


def _flatten(
    entries: dict[str, Any], prefix: str, path: str, found: dict[str, Any], source: Source
) -> None:
    for name, entry in entries.items():
        key, where = f"{prefix}{name}", f"{path}.{name}"
        if not isinstance(entry, dict):
            source.paths[key] = where
            raise source.error(
                f"parameters.{key}", f"got {entry!r}; write {{value: {entry}}} to fix it"
            )
        if "parameters" in entry:
            nested = entry["parameters"]
            if len(entry) > 1 or not isinstance(nested, dict):
                source.paths[key] = where
                raise source.error(
                    f"parameters.{key}", "`parameters` nests a mapping and stands alone"
                )
            _flatten(nested, f"{key}.", f"{where}.parameters", found, source)
        else:
            source.paths[key] = where
            found[key] = entry


def explain(
    error: ValidationError, model: type[BaseModel], source: Source, prefix: str = ""
) -> Misuse:
    """All that pydantic found, each as `file:line: key: what, value; remedy`."""
    problems: dict[str, Misuse] = {}
    for item in error.errors():
        loc = [str(part) for part in item["loc"]]
        if item["type"] == "extra_forbidden":
            known = _known(model, loc[:-1])
            message = f"unknown key (value {item['input']!r}); {hint(loc[-1], known)}"
        else:
            loc = _without_union_arms(model, loc)
            message = _sentence(dict(item))
        key = prefix + ".".join(loc)
        problems.setdefault(key, source.error(key or "file", message))
    return Misuse("\n".join(str(problem) for problem in problems.values()))


def _sentence(item: dict[str, Any]) -> str:
    if item["type"] == "missing":
        return "missing; add it"
    message = item["msg"].removeprefix("Value error, ")
    text = message[0].lower() + message[1:]
    if isinstance(item["input"], bool):
        return f"{text}, got {item['input']}; YAML reads no/off/yes/on as booleans: use quotes"
    value = item["input"]
    return text if isinstance(value, dict | BaseModel) else f"{text}, got {value!r}"


def _known(model: type[BaseModel], loc: list[str]) -> list[str]:
    """The keys that a model knows at a place."""
    for part in loc:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        if part == "confirm":
            annotation = ConfirmConfig
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
        elif model is SpaceFile:  # loc runs through the dict of parameters
            model = ParameterEntry
    return list(model.model_fields)


def _without_union_arms(model: type[BaseModel], loc: list[str]) -> list[str]:
    """Drop what pydantic appends to say which arm of a union it tried."""
    kept: list[str] = []
    for part in loc:
        kept.append(part)
        inner = model.model_fields[part].annotation if part in model.model_fields else None
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
        elif part not in ("parameters", "baselines") and part in model.model_fields:
            break
    return kept


def json_schema() -> dict[str, Any]:
    """The JSON schema of a space file, for editors: every parameter is known by name."""
    schema = SpaceFile.model_json_schema()
    entry = {"$ref": "#/$defs/ParameterEntry"}
    sections = {}
    for section in SECTIONS:
        inner = TrialConfig.model_fields[section].annotation
        assert isinstance(inner, type)
        assert issubclass(inner, BaseModel)
        sections[section] = {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "parameters": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {name: entry for name in inner.model_fields},
                }
            },
        }
    dotted = "|".join(SECTIONS)
    schema["properties"]["parameters"] = {
        "type": "object",
        "properties": sections,
        "patternProperties": {rf"^({dotted})\.[a-z_]+$": entry},
        "additionalProperties": False,
    }
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "r2search space file"
    return schema
