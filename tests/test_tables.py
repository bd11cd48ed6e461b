"""README's tables are those of the committed results."""

import json
import subprocess
import sys
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
TABLES = run_path(str(ROOT / "benchmarks" / "tables.py"), run_name="tables")

SEARCHES = {
    "time_to_target_ratio": {"random": 4.0, "ray_optuna_asha": 2.5},
    "ratio_at_least": ["random"],
    "not_reached": [],
    "seeds": 50,
    "tables": [
        {
            "space": "retina",
            "workers": 4,
            "seconds": 1234.4,
            "oracle_seconds": 55.0,
            "searches": {
                "r2search": {
                    "regret": {"0.25": [0.01, 0.005, 0.02], "1": [0.0, 0.0, 0.001]},
                    "seconds_to_target": [300.0, 250.0, None],
                    "reached": 0.96,
                }
            },
        }
    ],
}
AGAINST = {
    "metric": {"name": "val/dice_mean", "goal": "maximize"},
    "seconds": 1200.0,
    "shares": [0.5, 1.0],
    "medians": {"r2search": [0.71, 0.75], "nnunet": [None, 0.7]},
    "repetitions": {
        "r2search": [{"values": [0.71, 0.75]}, {"values": [0.72, 0.74]}],
        "nnunet": [{"values": [None, 0.7]}],
    },
}
SCALE = {"trials": 2000, "mean_deciding_ms": 41.25, "growth": 1.234, "driver_bytes": 8.1e8}

SCORES = {
    "dice_mean": {"value": 0.75, "mean": 0.74, "low": 0.7, "high": 0.8},
    "cldice": {"value": 0.7, "mean": 0.69, "low": 0.65, "high": 0.75},
}
AS_SEARCHED = {"dice_mean": {"value": 0.74, "mean": 0.73, "low": 0.69, "high": 0.79}}
STUDY = {
    "objective": {"name": "val/dice_mean", "second_observer": 0.79},
    "data": {"synthetic": False, "subjects": {"test": ["09", "10"]}},
    "hardware": {"workers": 2, "cores": 2, "processor": "a processor"},
    "time": {"budget_s": 3600.0},
    "trials": {"total": 41},
    "incumbent": {"parameters": 123456, "epochs": 40, "share_of_published": None},
    "baselines": {
        "A": None,
        "B1": {"parameters": 2453090, "epochs": 3, "share_of_published": 0.00123},
    },
    "confirmed": {
        "chosen": "t0007",
        "networks": {
            "t0007": {"mean": 0.77, "low": 0.76, "high": 0.78},
            "B1": {"mean": 0.6, "low": 0.5, "high": 0.7},
        },
    },
    "test": {
        "incumbent": SCORES,
        "baselines": {"A": None, "B1": SCORES},
        "second_observer": SCORES,
        "searched": {"incumbent": AS_SEARCHED, "baselines": {"A": None, "B1": AS_SEARCHED}},
    },
}


def text_of(tmp_path: Path, name: str, facts: dict[str, Any]) -> str:
    """A README with this table, filled."""
    (tmp_path / name).write_text(json.dumps(facts), encoding="utf-8")
    text = f"Before\n<!-- results: {name} -->\nSTALE\n<!-- end of results -->\nafter\n"
    filled: str = TABLES["filled"](text, tmp_path)
    assert filled.startswith("Before\n")
    assert filled.endswith("<!-- end of results -->\nafter\n")
    assert "STALE" not in filled
    assert TABLES["filled"](filled, tmp_path) == filled
    return filled


@pytest.mark.parametrize(
    ("name", "facts", "line"),
    [
        (
            "search_efficiency.json",
            SEARCHES,
            "| r2search | 0.010 (0.005-0.020) | 0.000 (0.000-0.001) | 300 (250-never) | 96% |",
        ),
        ("search_efficiency.json", SEARCHES, "| random | > 4.00 |"),
        ("search_efficiency.json", SEARCHES, "| ray_optuna_asha | 2.50 |"),
        (
            "search_efficiency.json",
            SEARCHES | {"not_reached": ["retina"]},
            "On retina r2search did not come to the target in half of its studies.",
        ),
        ("against.json", AGAINST, "| r2search | 0.710 (0.710, 0.720) | 0.750 (0.750, 0.740) |"),
        ("against.json", AGAINST, "| nnunet | never (never) | 0.700 (0.700) |"),
        (
            "chase_db1.json",
            STUDY,
            "60 minutes, 2 workers on 2 cores of a processor: 41 trials beside the baselines. "
            "The test images are those of subjects 09 and 10.",
        ),
        (
            "chase_db1.json",
            STUDY,
            "| incumbent t0007 | 0.770 (0.760 to 0.780) | 0.750 (0.700 to 0.800) "
            "| 0.740 (0.690 to 0.790) | 0.700 (0.650 to 0.750) | 123,456 | 40 |  |",
        ),
        (
            "chase_db1.json",
            STUDY,
            "| baseline A | none in this time | none in this time |  |  |  |  |  |",
        ),
        (
            "chase_db1.json",
            STUDY,
            "| baseline B1 | 0.600 (0.500 to 0.700) | 0.750 (0.700 to 0.800) "
            "| 0.740 (0.690 to 0.790) | 0.700 (0.650 to 0.750) | 2,453,090 | 3 | 0.0012 |",
        ),
        (
            "chase_db1.json",
            STUDY,
            "| second observer | 0.790 | 0.750 (0.700 to 0.800) |  "
            "| 0.700 (0.650 to 0.750) |  |  |  |",
        ),
        ("scale.json", SCALE, "| 2,000 | 41.2 | 1.23 | 0.81 |"),
    ],
)
def test_a_block_is_filled_from_its_file(
    tmp_path: Path, name: str, facts: dict[str, Any], line: str
) -> None:
    text = text_of(tmp_path, name, facts)
    assert line in text.splitlines()


def test_results_that_are_shown_nowhere_are_found(tmp_path: Path) -> None:
    text = text_of(tmp_path, "scale.json", SCALE)
    assert TABLES["unshown"](text, tmp_path) == []
    assert TABLES["unshown"]("", tmp_path) == ["scale.json"]


def test_the_readme_shows_all_results_and_as_they_are() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "tables.py"), "--check"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
