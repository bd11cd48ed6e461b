"""The plan of the package, held by tests: who may import whom, and that every setting is read."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from pydantic import BaseModel

from r2search.config import Study, TrialConfig

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "r2search"

# From top to bottom; a module imports only from lower rows. What stands together between commas
# is one unit, like a folder, and may import within itself.
ROWS = """
launch
cli flags settings manual manual_networks manual_jobs submitting exported
serving
previewing reporting housekeeping
study finish deciding testing scoring single rundir remote progress tracking \
reopening ensembling finals, \
predicting inputs outputs pace, fetching, checking, simulating, exporting
report, tuning
bundle manifest, summary
train
data, models, selection, intervals, storage, scratch
space grammar spacefile schema
weights, extras
config, records, environment, interrupt
strict
""".strip().splitlines()
UNITS = {
    name: (row, unit)
    for row, line in enumerate(ROWS)
    for unit in line.split(",")
    for name in unit.split()
}
ENGINES = {"ray", "optuna", "wandb"}


def modules() -> list[Path]:
    return sorted([*PACKAGE.rglob("*.py"), *(ROOT / "launch").rglob("*.py")])


def imports(node: ast.AST) -> Iterator[str]:
    """Full names of what is imported anywhere below a node; a relative one begins with a dot."""
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (
                f"{'.' * child.level}{child.module or ''}.{alias.name}" for alias in child.names
            )


def breaches(path: Path, source: str) -> list[str]:
    """What a module's imports have against the plan; `path` is relative to the repository."""
    parts = path.with_suffix("").parts
    here = "launch" if parts[0] == "launch" else parts[1]
    if here not in {*UNITS, "__init__"}:
        return [f"{path}: {here} stands in no row of ROWS; give it its place"]
    found = []
    for name in sorted(set(imports(ast.parse(source)))):
        root, _, rest = name.partition(".")
        there = rest.split(".")[0]
        if not root:
            found.append(f"{path}: {name}: relative; write it from r2search")
        elif root in ENGINES and here != "tuning":
            found.append(f"{path}: {root} may be imported only in tuning/")
        elif root == "r2search" and there in UNITS and here in UNITS:
            (row, unit), (their_row, their_unit) = UNITS[here], UNITS[there]
            if unit != their_unit and their_row <= row:
                found.append(f"{path}: {here} may not import {there}")
    return found


def test_modules_import_only_downwards() -> None:
    found = [
        breach
        for path in modules()
        for breach in breaches(path.relative_to(ROOT), path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("path", "source", "breach"),
    [
        ("r2search/data/patches.py", "import r2search.train.trainer", "data may not import train"),
        ("r2search/data/patches.py", "from r2search.models import unet", "data may not import mod"),
        ("r2search/space.py", "from r2search import study", "space may not import study"),
        ("r2search/bundle.py", "def f():\n    import wandb", "wandb may be imported only in"),
        ("r2search/report/html.py", "from optuna.trial import Trial", "optuna may be imported onl"),
        ("r2search/space.py", "from . import config", "relative"),
        ("r2search/helpers.py", "", "stands in no row"),
        ("launch/tune.py", "import ray", "ray may be imported only in tuning/"),
    ],
)
def test_a_breach_of_the_plan_is_seen(path: str, source: str, breach: str) -> None:
    (found,) = breaches(Path(path), source)
    assert breach in found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("r2search/space.py", "from r2search.grammar import convert"),
        ("r2search/data/sampler.py", "from r2search.data.patches import tiles"),
        ("r2search/tuning/engine.py", "import ray"),
        ("launch/tune.py", "from r2search.cli import main"),
    ],
)
def test_what_the_plan_allows_is_no_breach(path: str, source: str) -> None:
    assert breaches(Path(path), source) == []


def test_albumentations_is_imported_only_within_functions_of_the_augmentation() -> None:
    # predicting must work without it
    for path in modules():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        everywhere = [n for n in imports(tree) if n.startswith("albumentations")]
        within = [
            name
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef)
            for name in imports(node)
            if name.startswith("albumentations")
        ]
        assert len(everywhere) == len(within), path
        assert not everywhere or path == PACKAGE / "data" / "augment.py"


def test_there_is_no_module_for_odds_and_ends() -> None:
    assert not [path for path in modules() if path.stem in {"utils", "common", "helpers", "misc"}]


def loaded_by(module: str) -> set[str]:
    """The top-level packages in memory after importing one module in a fresh interpreter."""
    code = f"import {module}, sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module",
    [
        "r2search",
        "r2search.config",
        "r2search.records",
        "r2search.space",
        "r2search.schema",
        "r2search.selection",
        "r2search.intervals",
        "r2search.data.patches",
    ],
)
def test_the_pure_modules_need_neither_torch_nor_ray(module: str) -> None:
    assert not loaded_by(module) & {"torch", "albumentations", *ENGINES}


def test_a_bundle_loads_without_what_only_searching_needs() -> None:
    assert not loaded_by("r2search.bundle") & {"albumentations", "plotly", *ENGINES}


def settings() -> list[str]:
    """`Section.field` of every setting of a trial and of a study."""
    found: list[str] = []
    for whole in (TrialConfig, Study):
        for name, info in whole.model_fields.items():
            section = info.annotation
            if isinstance(section, type) and issubclass(section, BaseModel):
                found += [f"{section.__name__}.{inner}" for inner in section.model_fields]
            else:
                found.append(f"{whole.__name__}.{name}")
    return found


@pytest.mark.parametrize("setting", settings())
def test_every_setting_is_read(setting: str) -> None:
    assert setting.rpartition(".")[2] in attributes(), f"{setting} is read nowhere: drop it"


@cache
def attributes() -> frozenset[str]:
    """The name of every attribute that the package takes of anything."""
    return frozenset(
        node.attr
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
    )
