"""What record_curves.py has done so far: its output, and a file for each config beside it."""

import json
from dataclasses import asdict
from math import isclose
from pathlib import Path
from typing import Any

from curve_training import Job, read_curve

from r2search.config import Misuse
from r2search.environment import machine, revision, versions
from r2search.finish import write_json
from r2search.tuning.curves import Curve, read_curves

FACTS = "recording.json"  # among the parts: what must be equal of all curves of one file


def parts_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.parts")


def take_up(out: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Make the parts ready, with those that the output alone holds; says where all came from.

    {versions, revision, machine} are those of the first curve; `continued` lists others that went
    on with it. Misuse when another recording lies there: one of other `facts`.
    """
    parts = parts_of(out)
    parts.mkdir(parents=True, exist_ok=True)
    if (parts / FACTS).exists():
        before = json.loads((parts / FACTS).read_text(encoding="utf-8"))
        _check(parts, before, facts)
    now = {"versions": versions(), "revision": revision(), "machine": machine()}
    origin: dict[str, Any] = now | {"continued": []}
    if out.exists():
        recording = read_curves(out)
        _check(out, recording.facts, facts)
        for curve in recording.curves:
            path = parts / f"{curve.name}.json"
            if not path.exists():
                write_json(path, asdict(curve))
        others = recording.facts.get("continued", [])
        origin = {key: recording.facts[key] for key in now} | {"continued": others}
        if now not in (*others, {key: origin[key] for key in now}):
            others.append(now)
    write_json(parts / FACTS, facts)
    return origin


def finished(out: Path, jobs: list[Job]) -> tuple[Curve, ...]:
    """The curves of these trainings that are there. Misuse when one is of another config."""
    found = []
    for job in jobs:
        path = parts_of(out) / f"{job.name}.json"
        if not path.exists():
            continue
        found.append(curve := read_curve(path))
        if not _same(curve.overrides, json.loads(json.dumps(job.overrides))):
            raise Misuse(f"--out: {path} is of another config than this {job.name}; remove it")
    return tuple(found)


def _same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two configs are equal, but for the last digits that exp and log give a number.

    They differ from processor to processor.
    """

    def close(x: Any, y: Any) -> bool:
        numbers = isinstance(x, float) and isinstance(y, float)
        return isclose(x, y, rel_tol=1e-9) if numbers else bool(x == y)

    return a.keys() == b.keys() and all(close(a[key], b[key]) for key in a)


def recorded(out: Path) -> int:
    """How many configs to go through, baselines aside, so that none that is there is left out."""
    names = [path.stem[1:] for path in parts_of(out).glob("c[0-9]*.json")]
    return max((int(name) for name in names if name.isdigit()), default=0)


def _check(where: Path, before: dict[str, Any], facts: dict[str, Any]) -> None:
    now = json.loads(json.dumps(facts))
    changed = [key for key in now if now[key] != before.get(key)]
    if changed:
        names = ", ".join(changed)
        raise Misuse(f"--out: {where} holds a recording with other {names}; name another --out")
