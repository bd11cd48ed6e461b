"""What the flags of a command mean as settings of a study."""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from r2search.config import BudgetConfig, DataConfig, Misuse, Study, TrialConfig
from r2search.strict import parse_duration

BUDGETS = ("time", "trials", "flops")  # flags, and fields of `budget`


def count(least: int) -> Callable[[str], int]:
    """The type of a flag: a whole number, `least` or more."""

    def parse(text: str) -> int:
        if not text.strip().lstrip("-").isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"write a whole number from {least} on, not {text!r}")
        return int(text)

    return parse


def variants(options: argparse.Namespace) -> list[tuple[str, list[Any]]]:
    """Of each `--vary` its dotted key, and the values to compare."""
    found = [pair("--vary", item) for item in options.vary]
    for key, values in found:
        if not isinstance(values, list) or not values:
            raise Misuse(f"--vary {key}: got {values!r}; list values, as in --vary '{key}=[A, B]'")
    return found


def limits(options: argparse.Namespace) -> dict[str, int]:
    """What `r2search serve` takes, as the fields of its `Limits`."""
    return {
        "bytes": options.megabytes * 10**6,
        "pixels": options.megapixels * 10**6,
        "rate": options.rate,
        "waiting": options.waiting,
    }


@dataclass(frozen=True)
class More:
    """What a plus before a number means: so much on top of what a study had."""

    value: float


def duration(text: str) -> float | More:
    """The type of a flag: seconds, 90s, 20m or 1h30m; with a plus, so much more."""
    try:
        seconds = float(parse_duration(text.removeprefix("+")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}, not {text!r}") from None
    if seconds <= 0:
        raise argparse.ArgumentTypeError(f"must be longer than {text!r}")
    return More(seconds) if text.startswith("+") else seconds


def trials(text: str) -> int | More:
    """The type of a flag: a number of trials; with a plus, so many more."""
    number = count(1)(text.removeprefix("+"))
    return More(number) if text.startswith("+") else number


def flops(text: str) -> float | More:
    """The type of a flag: a number of floating-point operations; with a plus, so many more."""
    try:
        number = float(text.removeprefix("+"))
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"write a number like 1e15, not {text!r}")
    return More(number) if text.startswith("+") else number


def require_extension(options: argparse.Namespace) -> None:
    """Misuse for what cannot be changed of a study that goes on."""
    named = [
        flag for flag in ("data", "reader", "seed", "out") if getattr(options, flag) is not None
    ] + ["warm-start"] * bool(options.warm_start)
    if named or options.set:
        raise Misuse(
            f"--{(named or ['set'])[0]}: --resume goes on with a study as it was; --time +30m, "
            "--trials +50 and --flops +1e15 extend it, --workers and --wandb may differ"
        )
    for flag in BUDGETS:
        given = getattr(options, flag)
        if given is not None and not isinstance(given, More):
            raise Misuse(f"--{flag}: beside --resume write how much more, as in --{flag} +30")


def extended(study: Study, options: argparse.Namespace) -> Study:
    """The study of `--resume`, with what its flags add to the budget."""
    require_extension(options)
    budget = study.budget.model_dump()
    for flag in BUDGETS:
        more = getattr(options, flag)
        if more is not None and budget[flag] is None:
            raise Misuse(f"--{flag} +: the study has no limit of them; leave it out")
        if more is not None:
            budget[flag] += more.value
    workers = study.resources.workers if options.workers is None else options.workers
    return study.model_copy(
        update={
            "budget": BudgetConfig.model_validate(budget),
            "resources": study.resources.model_copy(update={"workers": workers}),
        }
    )


def assignments(options: argparse.Namespace) -> dict[str, Any]:
    """Flags as dotted keys over the space file; `--set` comes last and wins."""
    given: dict[str, Any] = {}
    if getattr(options, "data", None) is not None:
        given |= {"data.root": options.data, "data.pool": [], "data.otherwise": "error"}
    flags = {"reader": "data.reader", "seed": "search.seed", "time": "budget.time"}
    flags |= {"trials": "budget.trials", "flops": "budget.flops", "workers": "resources.workers"}
    for flag, key in flags.items():
        value = getattr(options, flag, None)
        if isinstance(value, More):
            raise Misuse(f"--{flag} +: only beside --resume; write it without the plus")
        if value is not None:
            given[key] = value
    given |= dict(pair("--set", item) for item in options.set)
    if given.get("data.pool"):  # as by --data: nothing stands in for folders that a person named
        given = {"data.root": None, "data.otherwise": "error"} | given
    return given


def pair(flag: str, item: str) -> tuple[str, Any]:
    """The KEY=VALUE of a flag, its value read as YAML."""
    key, equals, text = item.partition("=")
    if not equals or not key:
        raise Misuse(f"{flag} {item}: write KEY=VALUE, as in {flag} model.depth=4")
    try:
        return key.strip(), yaml.safe_load(text)
    except yaml.YAMLError:
        raise Misuse(f"{flag} {item}: the value is not YAML; put it in quotes") from None


def data_to_check(options: argparse.Namespace) -> DataConfig:
    """The data of a check: as the space file has it, else by default, with PATH and flags over it.

    The reader is to be guessed where neither names one that reads a folder.
    """
    from r2search.checking import GUESS
    from r2search.data import POOL, SYNTHETIC
    from r2search.grammar import config_with, convert, require_setting
    from r2search.space import load_study
    from r2search.spacefile import Source

    options.data, source = options.path, Source(file="--set")
    given = assignments(options)
    for key, value in given.items():
        require_setting(key, value, key, source)
        if not key.startswith("data.") or (key == "data.pool" and value):
            raise source.error(key, f"got {value!r}; how one folder is read is all that can be set")
    if options.space:
        data = load_study(options.space, given).fixed.data
    else:
        fixed = {key: convert(key, value, key, source) for key, value in given.items()}
        data = config_with(TrialConfig(), fixed, source).data
    named = "data.reader" in given or (options.space and data.reader not in {POOL, *SYNTHETIC})
    return data if named else data.model_copy(update={"reader": GUESS})
