"""A space file becomes a `Study`; a study says which configs exist. Pure: nothing is started."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from r2search.config import Misuse, Parameter, Study, TrialConfig, Value, hint
from r2search.grammar import (
    STUDY_SECTIONS,
    build_parameter,
    config_with,
    convert,
    require_known,
    require_searchable,
)
from r2search.spacefile import ParameterEntry, Source, SpaceFile, explain, read_space_file

SPACES_DIR = Path(__file__).parent.parent / "search_spaces"


def find_space(name: str) -> Path:
    """The file of a space: a path, or a name (with or without .yaml) in search_spaces/."""
    for path in (Path(name), SPACES_DIR / name, SPACES_DIR / f"{name}.yaml"):
        if path.is_file():
            return path
    known = [path.name for path in SPACES_DIR.glob("*.yaml")]
    raise Misuse(f"--space {name}: no such file, and not in search_spaces/; {hint(name, known)}")


def load_study(space: str | Path, assignments: Mapping[str, Any] | None = None) -> Study:
    """Read a space file and apply `assignments` (dotted key -> value) over it.

    An assigned trial setting becomes fixed and leaves the space. Raises Misuse, with file, line,
    key, value and remedy, for whatever is wrong.
    """
    file, source = read_space_file(find_space(str(space)))
    given = dict(assignments or {})
    sections = {key: getattr(file, key).model_dump() for key in STUDY_SECTIONS}
    fixed: dict[str, Any] = {
        f"data.{key}": getattr(file.data, key) for key in file.data.model_fields_set
    }
    for key, entry in file.parameters.items():
        require_searchable(key, f"parameters.{key}", source)
        if key in fixed:
            raise source.error(f"parameters.{key}", f"also fixed by {key}; keep one of the two")
        if _is_fixed(entry):
            fixed[key] = convert(key, entry.value, f"parameters.{key}", source)
    assigned = Source(file="--set")
    for key, value in given.items():
        section, _, name = key.partition(".")
        if section in STUDY_SECTIONS and name:
            sections[section][name] = value
        else:
            require_known(key, key, assigned)
            fixed[key] = convert(key, value, key, assigned)
    varying = {key: entry for key, entry in file.parameters.items() if key not in fixed}
    return _assemble(file, source, assigned, sections, fixed, varying)


def _assemble(
    file: SpaceFile,
    source: Source,
    assigned: Source,
    sections: dict[str, Any],
    fixed: dict[str, Any],
    varying: dict[str, ParameterEntry],
) -> Study:
    if "train.max_epochs" in fixed:
        raise assigned.error("train.max_epochs", "is set for the whole study by budget.max_epochs")
    try:
        settings = SpaceFile.model_validate({**file.model_dump(), **sections})
    except ValidationError as error:
        raise explain(error, SpaceFile, assigned) from None
    fixed["train.max_epochs"] = settings.budget.max_epochs
    fixed.setdefault("seed", settings.search.seed)
    base = config_with(TrialConfig(), fixed, "", assigned if assigned.lines else source)
    parameters: list[Parameter] = []
    for key, entry in varying.items():
        parameters.append(build_parameter(key, entry, parameters, fixed, source))
    baselines = {
        name: {
            key: convert(key, value, f"baselines.{name}.{key}", source) for key, value in b.items()
        }
        for name, b in file.baselines.items()
    }
    study = Study(
        name=file.name,
        question=file.question,
        fixed=base,
        parameters=tuple(parameters),
        metric=settings.metric,
        budget=settings.budget,
        search=settings.search,
        resources=settings.resources,
        early_terminate=settings.early_terminate,
        confirm=settings.confirm,
        baselines=baselines,
    )
    for name, baseline in baselines.items():
        config_with(base, baseline, f"baselines.{name}.", source)
    return study


def trial_config(study: Study, overrides: Mapping[str, Any]) -> TrialConfig:
    """The whole settings of one trial. Raises Misuse when they contradict each other."""
    return config_with(study.fixed, overrides, "", Source(file=study.name))


def draw(study: Study, suggest: Callable[[Parameter], Value]) -> dict[str, Value]:
    """One config of the space: dotted key -> value; conditional keys only when they apply."""
    drawn: dict[str, Value] = {}
    for parameter in study.parameters:
        if _applies(study, parameter, drawn):
            drawn[parameter.key] = suggest(parameter)
    return drawn


def suggest_randomly(rng: np.random.Generator) -> Callable[[Parameter], Value]:
    """Draws by `rng` for `draw`: both ends included, choices weighed by their probabilities."""

    def suggest(p: Parameter) -> Value:
        if p.kind == "choice":
            return p.values[int(rng.choice(len(p.values), p=p.probabilities))]
        if p.step is not None:
            steps = round((p.high - p.low) / p.step)
            value = p.low + p.step * int(rng.integers(0, steps, endpoint=True))
            return int(value) if p.kind == "int" else float(value)
        if p.kind == "int" and not p.log:
            return int(rng.integers(int(p.low), int(p.high), endpoint=True))
        # Half a unit on both sides gives the ends of a log-spaced integer their share.
        half = 0.5 if p.kind == "int" else 0.0
        low, high = p.low - half, p.high + half
        value = np.exp(rng.uniform(np.log(low), np.log(high))) if p.log else rng.uniform(low, high)
        value = min(max(float(value), p.low), p.high)
        return round(value) if p.kind == "int" else value

    return suggest


def contains(study: Study, overrides: Mapping[str, Any]) -> bool:
    """Whether `draw` could give just these overrides."""
    expected: dict[str, Any] = {}
    for parameter in study.parameters:
        if _applies(study, parameter, expected):
            value = overrides.get(parameter.key)
            if value is None or not _allowed(parameter, value):
                return False
            expected[parameter.key] = value
    return set(expected) == set(overrides)


def as_drawn(study: Study, overrides: Mapping[str, Any]) -> dict[str, Any] | None:
    """The draw that gives the same TrialConfig as `overrides`; None if the space has none.

    A baseline names only what differs from the defaults; the space may vary more than that.
    """
    config = trial_config(study, overrides).model_dump()
    candidate: dict[str, Any] = {}
    for parameter in study.parameters:
        if _applies(study, parameter, candidate):
            section, name = parameter.key.split(".")
            candidate[parameter.key] = config[section][name]
    if not contains(study, candidate) or trial_config(study, candidate).model_dump() != config:
        return None
    return candidate


def _applies(study: Study, parameter: Parameter, drawn: Mapping[str, Any]) -> bool:
    fixed = study.fixed
    for key, allowed in parameter.when.items():
        section, name = key.split(".")
        if key in drawn:
            value = drawn[key]
        elif any(p.key == key for p in study.parameters):
            return False  # the parameter it depends on does not apply either
        else:
            value = getattr(getattr(fixed, section), name)
        if value not in allowed:
            return False
    return True


def _allowed(p: Parameter, value: Any) -> bool:
    if p.kind == "choice":
        return any(value == v and type(value) is type(v) for v in p.values)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if not p.low <= value <= p.high or (p.kind == "int" and value != int(value)):
        return False
    if p.step is None:
        return True
    steps = (value - p.low) / p.step
    return bool(np.isclose(steps, round(steps)))


def _is_fixed(entry: ParameterEntry) -> bool:
    return "value" in entry.model_fields_set
