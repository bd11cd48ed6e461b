"""The benchmark of deciding runs a real search, only without training."""

from pathlib import Path
from runpy import run_path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_made_up_trials_go_through_ray_to_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    scale = run_path(str(BENCHMARKS / "scale.py"), run_name="benchmark")
    monkeypatch.setattr(scale["engine"], "sharing", scale["sharing"])
    scale["through_ray"](scale["study_of"](4, "none"))  # SystemExit when one fails
