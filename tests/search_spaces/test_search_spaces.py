"""Every space file that is shipped is a working example."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml

from r2search.config import Study
from r2search.data import READERS
from r2search.models.cost import model_cost
from r2search.schema import json_schema
from r2search.space import (
    SPACES_DIR,
    contains,
    draw,
    dump_study,
    load_study,
    require_something_to_search,
    suggest_randomly,
    trial_config,
)

FILES = sorted(SPACES_DIR.glob("*.yaml"))
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)


def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json_schema())


def schema_errors(tree: Any) -> list[str]:
    return [error.message for error in validator().iter_errors(tree)]


def test_the_spaces_that_the_readme_names_are_shipped() -> None:
    named = "general.yaml quick.yaml retina.yaml skin.yaml nuclei.yaml spleen.yaml".split()
    assert set(named) <= {path.name for path in FILES}


@every_file
def test_a_shipped_space_is_named_as_its_file(path: Path) -> None:
    assert load_study(path).name == path.stem


@every_file
def test_a_shipped_space_has_something_to_search(path: Path) -> None:
    require_something_to_search(load_study(path))


@every_file
def test_fifty_draws_of_a_shipped_space_make_configs(path: Path) -> None:
    study = load_study(path)
    suggest = suggest_randomly(np.random.default_rng(0))
    for _ in range(50):
        drawn = draw(study, suggest)
        assert contains(study, drawn)
        config = trial_config(study, drawn)
        assert type(config).model_validate(config.model_dump(mode="json")) == config


@every_file
def test_the_baselines_of_a_shipped_space_make_configs(path: Path) -> None:
    study = load_study(path)
    assert study.baselines
    for baseline in study.baselines.values():
        trial_config(study, baseline.overrides)


def test_system_a_has_the_parameters_that_were_reported() -> None:
    study = load_study("retina")
    cost = model_cost(trial_config(study, study.baselines["A"].overrides).model, 320, 320)
    assert cost.parameters + cost.running_statistics == 32_462_849


@pytest.mark.parametrize(
    ("space", "name", "widths"),
    [
        ("retina", "A", [64, 128, 256, 512, 1024]),
        ("retina", "B1", [16, 32, 64, 128, 256]),
        ("skin", "B2", [16, 32, 64, 128, 256]),
        ("skin", "E", [8, 16, 32, 64]),
        ("nuclei", "C", [16, 32, 64, 128, 256]),
        ("spleen", "D", [32, 64, 128, 256]),
    ],
)
def test_a_published_system_has_the_filters_that_were_reported(
    space: str, name: str, widths: list[int]
) -> None:
    study = load_study(space)
    model = trial_config(study, study.baselines[name].overrides).model
    assert [model.base_filters * 2**level for level in range(model.depth + 1)] == widths


@every_file
def test_a_shipped_space_reads_images_by_a_reader_that_exists(path: Path) -> None:
    data = load_study(path).fixed.data
    assert data.reader in READERS
    assert data.otherwise in {"error", *READERS}


@every_file
def test_a_shipped_space_written_down_is_read_back_equal(path: Path, tmp_path: Path) -> None:
    study = load_study(path)
    copy = tmp_path / "space.yaml"
    copy.write_text(dump_study(study), encoding="utf-8")
    again: Study = load_study(copy)
    assert again == study


@every_file
def test_a_shipped_space_fits_the_schema(path: Path) -> None:
    assert schema_errors(yaml.safe_load(path.read_text(encoding="utf-8"))) == []


@every_file
def test_a_shipped_space_tells_editors_its_schema(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=schema.json"


def test_the_committed_schema_is_the_one_of_the_code() -> None:
    committed = json.loads((SPACES_DIR / "schema.json").read_text(encoding="utf-8"))
    assert committed == json_schema(), (
        "refresh it: python -m r2search.schema > search_spaces/schema.json"
    )


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize(
    ("tree", "complaint"),
    [
        ({"parametrs": {}}, "'parametrs' was unexpected"),
        ({"budget": {"tiem": 3}}, "'tiem' was unexpected"),
        ({"data": {"raeder": "folder"}}, "'raeder' was unexpected"),
        ({"parameters": {"model.dpeth": {"value": 3}}}, "'model.dpeth' was unexpected"),
        (
            {"parameters": {"model": {"parameters": {"dpeth": {"value": 3}}}}},
            "'dpeth' was unexpected",
        ),
        ({"parameters": {"model.depth": {"valeu": 3}}}, "'valeu' was unexpected"),
        ({"parameters": {"model.depth": {"value": 33}}}, "33 is greater than the maximum of 7"),
        ({"parameters": {"model.norm": {"values": ["grup"]}}}, "'grup' is not one of"),
        ({"parameters": {"data.root": {"value": "x"}}}, "'data.root' was unexpected"),
        ({"baselines": {"B1": {"model.dpeth": 3}}}, "'model.dpeth' was unexpected"),
        ({"search": {"searcher": "tpw"}}, "'tpw' is not one of"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_schema_rejects_a_mistake(tree: dict[str, Any], complaint: str) -> None:
    (message,) = schema_errors({"name": "s", **tree})
    assert complaint in message


def test_the_schema_asks_for_a_name() -> None:
    assert schema_errors({}) == ["'name' is a required property"]


README = (SPACES_DIR / "README.md").read_text(encoding="utf-8")


def test_the_smallest_space_of_the_readme_works(tmp_path: Path) -> None:
    block = README.split("```yaml\n")[1].split("```")[0]
    path = tmp_path / "mine.yaml"
    path.write_text(block, encoding="utf-8")
    require_something_to_search(load_study(path))


def test_every_entry_that_the_readme_shows_is_read(tmp_path: Path) -> None:
    entries = [line.split("`")[1] for line in README.splitlines() if line.startswith("| `{")]
    assert len(entries) == 6
    # a setting that each entry of the table fits, in the table's order
    keys = ("base_filters", "base_filters", "loss", "depth", "dropout", "lr")
    sections = {"loss": "train", "lr": "train"}
    for key, entry in zip(keys, entries, strict=True):
        path = tmp_path / f"{key}.yaml"
        path.write_text(f"name: s\nparameters:\n  {sections.get(key, 'model')}.{key}: {entry}\n")
        load_study(path)


def test_the_readme_names_every_shipped_space_and_every_key() -> None:
    for word in [*(path.name for path in FILES), *json_schema()["properties"]]:
        assert f"`{word}`" in README, word
