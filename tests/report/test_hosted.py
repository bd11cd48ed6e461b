"""What a report at W&B says of a summary."""

import json
from typing import Any

from r2search.records import TrialOutcome
from r2search.report.hosted import page_of


def test_the_page_says_what_the_summary_does_warnings_first(
    summary: dict[str, Any], trials: list[TrialOutcome]
) -> None:
    summary["data"]["synthetic"] = True
    page = page_of(summary, trials)
    assert page["texts"][0] == "Synthetic data: these numbers say nothing about real images."
    assert page["texts"][-1].startswith("t0011 reaches val/dice_mean ")
    assert (
        page["facts"][0] == "incumbent, test split (opened once): dice_mean 0.751 (0.731 to 0.769)"
    )
    assert (
        "baseline B1, test split (opened once): dice_mean 0.731 (0.711 to 0.749)" in page["facts"]
    )
    assert page["settings"][:2] == ["train.lr", "model.depth"]  # the most important first
    assert page["incumbent"] == "t0011"
    assert json.loads(json.dumps(page)) == page


def test_a_study_without_a_result_has_a_page_too(
    summary: dict[str, Any], trials: list[TrialOutcome]
) -> None:
    empty = summary | {"incumbent": None, "baselines": {}, "test": None, "status": "failed"}
    page = page_of(empty, trials)
    assert page["incumbent"] == ""
    assert page["texts"] == ["Failed: the study has no result.", "No trial has yielded a network."]
