"""A study's report at Weights & Biases, by wandb-workspaces.

W&B draws the panels from the runs themselves; the words come from `Page`.
"""

from dataclasses import dataclass
from typing import Any

import wandb_workspaces.reports.v2 as wr

from r2search.config import Study
from r2search.tuning.trackers.views import PREDICTION, SUMMARY

WIDTH = 24  # of a row of panels, in W&B's units


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """What a report says that its panels do not; plain text, a JSON object on its way here."""

    texts: list[str]  # paragraphs, warnings first
    facts: list[str]  # a list: one score each
    settings: list[str]  # dotted keys that the trials differ in, the most important first
    incumbent: str  # "" when there is none


def build_report(
    study: Study, page: Page, group: str, *, entity: str = "", project: str = ""
) -> Any:
    """The report of the runs of a group; its title is the group's name.

    Without an entity and a project it asks no server, and cannot be saved.
    """
    best = f"best/{study.metric.name}"
    ours = f"Metric('group') == '{group}' and Metric('jobType') != '{SUMMARY}'"
    chosen = "Metric('jobType') == 'baseline'"
    if page.incumbent:
        chosen = f"({chosen} or Metric('displayName') == '{page.incumbent}')"
    where = {"entity": entity, "project": project}
    everyone = wr.Runset(**where, name="all trials", filters=ours)
    few = wr.Runset(**where, name="incumbent and baselines", filters=f"{ours} and {chosen}")
    blocks = [
        *(wr.P(text) for text in page.texts),
        wr.UnorderedList(page.facts),
        wr.H2("What was tried, and what mattered"),
        wr.PanelGrid(runsets=[everyone], panels=_search_panels(study, page, best)),
        wr.H2("The incumbent and the baselines"),
        wr.PanelGrid(runsets=[few], panels=_chosen_panels(study)),
    ]
    return wr.Report(**where, title=group, description=study.question, blocks=blocks, width="fluid")


def save_report(api: Any, report: Any) -> str:
    """Save a report in place of the one of its title, if there is one; ENTITY/PROJECT/reports/ID.

    `api`: W&B's own. It may block or raise.
    """
    for known in api.reports(f"{report.entity}/{report.project}"):
        if known.display_name == report.title:
            report.id = known.id
    report.save()
    return f"{report.entity}/{report.project}/reports/{report.id}"


def _search_panels(study: Study, page: Page, best: str) -> list[Any]:
    """Of all trials: parallel coordinates, importance, the objective against what it costs."""
    logarithmic = {parameter.key for parameter in study.parameters if parameter.log}
    columns = [
        wr.ParallelCoordinatesPlotColumn(wr.Config(key), display_name=key, log=key in logarithmic)
        for key in page.settings
    ]
    columns.append(wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric(best)))
    costs = {"parameters": "parameters", "epoch_flops": "training FLOPs of an epoch"}
    return [
        wr.ParallelCoordinatesPlot(
            title=f"What was drawn, and the best {study.metric.name}",
            columns=columns,
            layout=wr.Layout(w=WIDTH, h=10),
        ),
        wr.ParameterImportancePlot(with_respect_to=best, layout=wr.Layout(y=10, w=WIDTH // 3, h=9)),
        *(
            wr.ScatterPlot(
                title=f"The best {study.metric.name} against {words}",
                x=wr.Config(f"cost.{cost}"),
                y=wr.SummaryMetric(best),
                log_x=True,
                layout=wr.Layout(x=index * WIDTH // 3, y=10, w=WIDTH // 3, h=9),
            )
            for index, (cost, words) in enumerate(costs.items(), start=1)
        ),
    ]


def _chosen_panels(study: Study) -> list[Any]:
    """Of few trials: learning curves, predictions, and in what their configs differ."""
    return [
        wr.LinePlot(
            title=f"{study.metric.name} over epochs",
            x="epoch",
            y=[study.metric.name],
            layout=wr.Layout(w=WIDTH // 2, h=10),
        ),
        wr.MediaBrowser(
            title="One validation image, as predicted at rungs and at the end",
            media_keys=[PREDICTION],
            num_columns=2,
            layout=wr.Layout(x=WIDTH // 2, w=WIDTH // 2, h=10),
        ),
        wr.RunComparer(diff_only="split", layout=wr.Layout(y=10, w=WIDTH, h=10)),
    ]
