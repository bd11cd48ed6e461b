"""The JSON schema of a space file, by which editors complete and check it.

`python -m r2search.schema > search_spaces/schema.json` refreshes the committed copy.
"""

import json
from typing import Any

from r2search.config import PER_STUDY, PUBLISHED_STEPS, TrialConfig
from r2search.spacefile import FIXABLE, SECTIONS, SpaceFile


def json_schema() -> dict[str, Any]:
    """The schema: every setting is known by name, nested or dotted, with its limits."""
    schema = SpaceFile.model_json_schema()
    settings = _setting_schemas()
    schema["$defs"] |= settings
    parameters: dict[str, Any] = {section: {} for section in SECTIONS}
    for key in settings:
        if key not in PER_STUDY - FIXABLE:
            section, name = key.split(".")
            schema["$defs"][f"entry:{key}"] = _entry(key)
            parameters[key] = parameters[section][name] = _ref(f"entry:{key}")
    for section in SECTIONS:
        parameters[section] = _closed({"parameters": _closed(parameters[section])})
    searched: dict[str, Any] = {key: _ref(key) for key in settings if key not in PER_STUDY}
    compared = searched | {PUBLISHED_STEPS: {"type": "integer", "minimum": 1}}
    schema["properties"]["parameters"] = _closed(parameters)
    schema["properties"]["baselines"]["additionalProperties"] = _closed(compared)
    schema["properties"]["starts"]["additionalProperties"] = _closed(searched)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "r2search space file"
    return schema


def _setting_schemas() -> dict[str, dict[str, Any]]:
    definitions = TrialConfig.model_json_schema()["$defs"]
    return {
        f"{section}.{name}": {word: v for word, v in schema.items() if word != "title"}
        for section, model in SECTIONS.items()
        for name, schema in definitions[model.__name__]["properties"].items()
    }


def _entry(key: str) -> dict[str, Any]:
    one = _ref(key)
    return {
        "allOf": [_ref("ParameterEntry")],
        "properties": {"value": one, "values": {"items": one}, "min": one, "max": one},
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{name}"}


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=1))
