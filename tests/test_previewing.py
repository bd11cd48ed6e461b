"""A preview says what a study would come to, from the real machine, and trains nothing."""

import os
from pathlib import Path

import pytest
from rich.console import Console

from r2search.previewing import preview_study
from r2search.space import load_study


def test_a_preview_shows_configs_rungs_refusals_and_disk(
    console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = load_study("quick.yaml", {"budget.time": 600.0})
    assert preview_study(study, console) == 0
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "quick: 8 training and 4 validation images (synthetic)" in said
    for words in ("baseline U-Net", "the slowest config", "trials expected to come there", "disk:"):
        assert words in said
    assert os.listdir(tmp_path) == []


def test_a_space_without_room_is_said_to_have_none(console: Console) -> None:
    study = load_study("quick.yaml", {"resources.memory": "1MB"})
    assert preview_study(study, console) == 1
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "100% of the space is refused: more memory than a worker has" in said
    assert "no config of the space fits" in said


def test_a_preview_says_what_is_kept_for_the_confirmation(console: Console) -> None:
    study = load_study("quick.yaml", {"budget.time": 600.0, "confirm.seeds": 2})
    assert preview_study(study, console) == 0
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "confirmation: 3:46 are kept for it; 3 finalists and the baselines with 2 seeds" in said
