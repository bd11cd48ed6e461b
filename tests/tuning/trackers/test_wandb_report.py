"""The report at W&B: what it asks W&B to draw, and that it is saved once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_study import METRIC, MadeUpStudy
from wandb_server import ENTITY, WandbServer

from r2search.config import Study
from r2search.tuning.trackers.follower import Follower
from r2search.tuning.trackers.wandb_report import Page, build_report

PAGE: dict[str, Any] = {
    "texts": ["Synthetic data.", "t0001 is 0.1 better than U-Net."],
    "facts": ["incumbent, test split: 0.3"],
    "settings": ["model.depth", "train.lr"],
    "incumbent": "t0001",
}
PATIENCE_S = 90.0


def spec_of(study: Study, page: dict[str, Any]) -> list[dict[str, Any]]:
    """The blocks of a report, as W&B gets them."""
    report = build_report(study, Page(**page), "g")
    text = report._to_model().spec.model_dump_json(by_alias=True, exclude_none=True)
    blocks: list[dict[str, Any]] = json.loads(text)["blocks"]
    return blocks


def panels(blocks: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The panels of each grid."""
    grids = [block["metadata"] for block in blocks if block["type"] == "panel-grid"]
    return [grid["panelBankSectionConfig"]["panels"] for grid in grids]


def filters(blocks: list[dict[str, Any]]) -> list[str]:
    """By what each grid chooses its runs."""
    grids = [block["metadata"] for block in blocks if block["type"] == "panel-grid"]
    return [json.dumps(grid["runSets"][0]["filters"]) for grid in grids]


def test_the_panels_are_those_of_a_search(
    make_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody is asked
    blocks = spec_of(make_study(), PAGE)
    search, chosen = panels(blocks)
    assert [panel["viewType"] for panel in search] == [
        "Parallel Coordinates Plot",
        "Parameter Importance",
        "Scatter Plot",
        "Scatter Plot",
    ]
    assert [panel["viewType"] for panel in chosen] == [
        "Run History Line Plot",
        "Media Browser",
        "Run Comparer",
    ]
    columns = search[0]["config"]["columns"]
    assert [(column["accessor"], column.get("log")) for column in columns] == [
        ("config:model.value.depth", False),
        ("config:train.value.lr", True),
        (f"summary:best/{METRIC}", None),
    ]
    assert search[1]["config"]["targetKey"] == f"best/{METRIC}"
    assert search[2]["config"]["xAxis"] == "config:cost.value.parameters"
    assert chosen[0]["config"]["metrics"] == [METRIC]
    assert chosen[1]["config"]["mediaKeys"] == ["prediction"]
    titles = [panel["config"].get("chartTitle", "titled by W&B") for panel in search + chosen]
    assert all(len(title.split()) > 2 or title == "titled by W&B" for title in titles)


def test_each_grid_has_the_runs_that_it_is_about(make_study: Callable[..., Study]) -> None:
    everyone, few = filters(spec_of(make_study(), PAGE))
    for filter in (everyone, few):
        assert '"name": "group"}, "op": "=", "value": "g"' in filter
        assert '"name": "jobType"}, "op": "!=", "value": "search-summary"' in filter
    assert "baseline" not in everyone
    assert '"value": "baseline"' in few
    assert '"value": "t0001"' in few
    _, few = filters(spec_of(make_study(), PAGE | {"incumbent": ""}))
    assert "displayName" not in few


def test_the_words_are_text_and_not_markup(make_study: Callable[..., Study]) -> None:
    blocks = spec_of(make_study(), PAGE | {"texts": ["<b>*no* markup*</b>"]})
    assert {"type": "paragraph", "children": [{"text": "<b>*no* markup*</b>"}]} in blocks


def test_written_twice_it_is_the_same_report(
    server: WandbServer, folder: Path, make_bundle: Callable[..., Path]
) -> None:
    made_up = MadeUpStudy(folder)
    made_up.trials()
    made_up.finish(make_bundle)
    server.page = 2  # the report and the runs are found on later pages, too
    where = []
    for text in ("before", "after"):
        with Follower(folder, "sync", lambda note: None) as follower:
            follower.finish(PATIENCE_S, PAGE | {"texts": [text]})
        assert follower.whole, follower.trouble
        where.append(follower.report)
    (view,) = server.views.values()
    assert where == [f"{ENTITY}/r2search/reports/{view['id']}"] * 2
    assert view["displayName"] == next(iter(server.runs.values())).group
    assert "after" in view["spec"]
    assert "before" not in view["spec"]
