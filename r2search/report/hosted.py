"""What a report at Weights & Biases says, from summary.json."""

from collections.abc import Sequence
from typing import Any

from r2search.records import TrialOutcome
from r2search.report.drawn_figures import varied
from r2search.report.wording import (
    Summary,
    between,
    duration,
    objective,
    openings,
    part,
    refused,
    scores_on_test,
    verdict,
    warnings,
)


def page_of(summary: Summary, trials: Sequence[TrialOutcome]) -> dict[str, Any]:
    """The fields of `r2search.tuning.trackers.wandb_report.Page`."""
    name, _, _ = objective(summary)
    metric, time = name.removeprefix("val/"), part(summary, "time")
    facts = [
        f"{label}, test split ({openings(summary)}): {metric} {between(row.get(metric))}"
        for label, row in scores_on_test(summary)
    ]
    took = f"wall clock {duration(time.get('wall_s'))} of {duration(time.get('budget_s'))}"
    return {
        "texts": [*warnings(summary), " ".join(verdict(summary))],
        "facts": [*facts, took, *filter(None, [refused(summary)])],
        "settings": varied(summary, trials),
        "incumbent": part(summary, "incumbent").get("trial") or "",
    }
