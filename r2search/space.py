"""A space file becomes a `Study`; a study says which configs exist. Pure: nothing is started."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import yaml
from pydantic import ValidationError

from r2search.config import (
    NAME,
    PER_STUDY,
    PUBLISHED_STEPS,
    WAITING,
    Baseline,
    Misuse,
    Parameter,
    Study,
    TrainConfig,
    TrialConfig,
    Value,
    hint,
)
from r2search.grammar import (
    DERIVED,
    allows,
    build_parameter,
    config_with,
    convert,
    form_of,
    require_searchable,
    require_setting,
    setting,
)
from r2search.spacefile import SETTINGS, Source, SpaceFile, explain, read_space_file

SPACES_DIR = Path(__file__).parent.parent / "search_spaces"
STUDY_SECTIONS = ("metric", "budget", "search", "resources", "early_terminate", "confirm")
TRIAL_DRAWS = 100  # drawn when a study is loaded, to see that settings do not contradict each other


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
    assigned = Source(file="--set")
    fixed: dict[str, Any] = {
        f"data.{name}": getattr(file.data, name) for name in file.data.model_fields_set
    }
    for key, entry in file.parameters.items():
        where = f"parameters.{key}"
        require_searchable(key, entry, source)
        if key in fixed:
            raise source.error(where, "is also set by the top-level `data:`; keep one of the two")
        if form_of(key, entry, source) == "value":
            fixed[key] = convert(key, entry.value, f"{where}.value", source)
    sections = {
        name: value.model_dump() if (value := getattr(file, name)) is not None else {}
        for name in STUDY_SECTIONS
    }
    for key, value in (assignments or {}).items():
        section, _, name = key.partition(".")
        if section in sections and name:
            sections[section][name] = value
        else:
            require_setting(key, value, key, assigned, STUDY_SECTIONS)
            fixed[key] = convert(key, value, key, assigned)
    try:
        given = {name: value for name, value in sections.items() if value}
        settings = SpaceFile.model_validate({"name": file.name, **given})
    except ValidationError as error:
        raise explain(error, SpaceFile, assigned) from None
    blamed = Source(file=f"{source.file} with --set") if assignments else source
    return _assemble(file, settings, fixed, source, blamed)


def _assemble(
    file: SpaceFile, settings: SpaceFile, fixed: dict[str, Any], source: Source, blamed: Source
) -> Study:
    parameters: list[Parameter] = []
    for key, entry in file.parameters.items():
        if key not in fixed:
            parameters.append(build_parameter(key, entry, parameters, fixed, source))
    train = TrainConfig(max_epochs=settings.budget.max_epochs)
    study = Study(
        question=file.question,
        fixed=config_with(TrialConfig(train=train, seed=settings.search.seed), fixed, blamed),
        parameters=tuple(parameters),
        baselines={name: _baseline(name, given, source) for name, given in file.baselines.items()},
        **{name: getattr(settings, name) for name in ("name", *STUDY_SECTIONS)},
    )
    rule = study.early_terminate.type
    if study.metric.against and rule not in (*WAITING, "none"):
        raise blamed.error(
            "metric.against",
            f"costs are objectives with early_terminate.type {', '.join(WAITING)} and none, not "
            f"with {rule}; take one of them, or leave this out",
        )
    for name, baseline in study.baselines.items():
        config_with(study.fixed, baseline.overrides, source, f"baselines.{name}.")
    starts = {name: _start(name, given, study, file, source) for name, given in file.starts.items()}
    study = study.model_copy(update={"starts": starts})
    suggest = suggest_randomly(np.random.default_rng(0))
    for _ in range(TRIAL_DRAWS):
        try:
            config_with(study.fixed, draw(study, suggest), blamed)
        except Misuse as error:
            raise Misuse(f"{error}; the space can draw this: narrow it, or add `when`") from None
    return study


def _baseline(name: str, given: Mapping[str, Any], source: Source) -> Baseline:
    """One baseline, its settings converted."""
    if not re.fullmatch(NAME, name) or re.fullmatch(r"t\d+", name):
        raise source.error(
            f"baselines.{name}",
            "a baseline's name has letters, digits, `.`, `_` and `-` only and is not that of a "
            "trial, as t0001 is; give another",
        )
    overrides, steps = {}, given.get(PUBLISHED_STEPS)
    if steps is not None and (type(steps) is not int or steps < 1):
        raise source.error(
            f"baselines.{name}.{PUBLISHED_STEPS}",
            f"expected the number of optimizer steps, 1 or more, got {steps!r}",
        )
    for key, value in given.items():
        if key == PUBLISHED_STEPS:
            continue
        where = f"baselines.{name}.{key}"
        require_setting(key, value, where, source)
        if key in PER_STUDY:
            raise source.error(
                where,
                f"is one value for the whole study, got {value!r}; fix it for all, "
                "not in a baseline",
            )
        overrides[key] = convert(key, value, where, source)
    return Baseline(overrides=overrides, published_steps=steps)


def _start(
    name: str, given: Mapping[str, Any], study: Study, file: SpaceFile, source: Source
) -> dict[str, Value]:
    """One start as a draw of the space; what is not named there has its default.

    Settings that were assigned over the space file leave it, and every start with it.
    """
    varying = {p.key: p for p in study.parameters}
    named: dict[str, Any] = {}
    for key, value in given.items():
        where = f"starts.{name}.{key}"
        require_setting(key, value, where, source)
        entry = file.parameters.get(key)
        if entry is None or form_of(key, entry, source) == "value":
            raise source.error(
                where, f"does not vary in this space, got {value!r}; let it vary, or leave it out"
            )
        named[key] = convert(key, value, where, source)
    start = draw(study, lambda p: named.get(p.key, setting(study.fixed, p.key)))
    for key, value in start.items():
        if not allows(varying[key], value):
            got = "got" if key in named else "is not named and has its default,"
            raise source.error(
                f"starts.{name}.{key}",
                f"{got} {value!r}, which the space cannot draw; give a value that it can",
            )
    config_with(study.fixed, start, source, f"starts.{name}.")
    return start


def require_something_to_search(study: Study) -> None:
    """Raise Misuse when nothing varies: every trial would be the same."""
    # What exists in no draw at the start depends on something that never does.
    if not draw(study, suggest_randomly(np.random.default_rng(0))):
        raise Misuse(
            f"{study.name}: parameters: nothing varies; give a setting values or a range, "
            "or train the one configuration with `r2search train`"
        )


def dump_study(study: Study) -> str:
    """The study as a space file, every setting written out; `load_study` reads it back equal.

    Only the number of channels is left out: it follows from the images.
    """
    varying = {p.key for p in study.parameters} | set(DERIVED)
    plain = study.model_dump(mode="json")
    fixed = {
        key: {"value": plain["fixed"][key.split(".")[0]][key.split(".")[1]]}
        for key in SETTINGS
        if key not in varying and not key.startswith("data.")
    }
    tree = {
        "name": study.name,
        "question": study.question,
        "data": {k: v for k, v in plain["fixed"]["data"].items() if f"data.{k}" not in varying},
        **{name: plain[name] for name in STUDY_SECTIONS if plain[name] is not None},
        "parameters": fixed | {p.key: _entry_of(p) for p in study.parameters},
        "baselines": {name: _entry_of_baseline(b) for name, b in plain["baselines"].items()},
        "starts": plain["starts"],
    }
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def _entry_of_baseline(plain: dict[str, Any]) -> dict[str, Any]:
    steps: int | None = plain[PUBLISHED_STEPS]
    return {**plain["overrides"], **({} if steps is None else {PUBLISHED_STEPS: steps})}


def _entry_of(p: Parameter) -> dict[str, Any]:
    """A parameter in the words of the space file."""
    plain = p.model_dump(mode="json")
    if p.kind == "choice":
        entry = {"values": plain["values"], "probabilities": plain["probabilities"]}
    else:
        number = int if p.kind == "int" else float
        entry = {
            "distribution": "log_uniform_values" if p.log else None,
            "min": number(p.low),
            "max": number(p.high),
            "q": p.step,
        }
    entry["when"] = plain["when"] or None
    return {word: value for word, value in entry.items() if value is not None}


def trial_config(study: Study, overrides: Mapping[str, Any]) -> TrialConfig:
    """The whole settings of one trial. Raises Misuse when they contradict each other."""
    return config_with(study.fixed, overrides, Source(file=study.name))


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
            # 0.1 * 3 is above 0.3: keep the digits that a person wrote, and the ends.
            value = min(max(float(f"{value:.12g}"), p.low), p.high)
            return int(value) if p.kind == "int" else value
        if p.kind == "int" and not p.log:
            return int(rng.integers(int(p.low), int(p.high), endpoint=True))
        # Half a unit on both sides gives the ends of a log-spaced integer their share.
        half = 0.5 if p.kind == "int" else 0.0
        low, high = p.low - half, p.high + half
        value = np.exp(rng.uniform(np.log(low), np.log(high))) if p.log else rng.uniform(low, high)
        value = min(max(float(value), p.low), p.high)
        return round(value) if p.kind == "int" else value

    return suggest


def suggest_near(
    rng: np.random.Generator, center: Mapping[str, Any]
) -> Callable[[Parameter], Value]:
    """Draws for `draw` that keep each value of `center` that a parameter allows with even odds."""
    randomly = suggest_randomly(rng)

    def suggest(p: Parameter) -> Value:
        value = center.get(p.key)
        if value is None or not allows(p, value) or rng.random() < 0.5:
            return randomly(p)
        return cast(Value, value)

    return suggest


def contains(study: Study, overrides: Mapping[str, Any]) -> bool:
    """Whether `draw` could give just these overrides."""
    expected: dict[str, Any] = {}
    for parameter in study.parameters:
        if _applies(study, parameter, expected):
            value = overrides.get(parameter.key)
            if value is None or not allows(parameter, value):
                return False
            expected[parameter.key] = value
    return set(expected) == set(overrides)


def as_drawn(study: Study, overrides: Mapping[str, Any]) -> dict[str, Any] | None:
    """The draw that gives the same TrialConfig as `overrides`; None if the space has none.

    A baseline names only what differs from the defaults; the space may vary more than that.
    """
    return point_of(study, trial_config(study, overrides))


def point_of(study: Study, config: TrialConfig) -> dict[str, Any] | None:
    """The draw that gives just this config; None if the space has none."""
    candidate: dict[str, Any] = {}
    for parameter in study.parameters:
        if _applies(study, parameter, candidate):
            candidate[parameter.key] = setting(config, parameter.key)
    if not contains(study, candidate) or trial_config(study, candidate) != config:
        return None
    return candidate


def _applies(study: Study, parameter: Parameter, drawn: Mapping[str, Any]) -> bool:
    varying = {p.key for p in study.parameters}
    for key, allowed in parameter.when.items():
        if key in varying and key not in drawn:
            return False  # the parameter it depends on does not apply either
        if (drawn[key] if key in drawn else setting(study.fixed, key)) not in allowed:
            return False
    return True
