"""The parts of report.html that show what was drawn, what it did and what it cost."""

from collections.abc import Sequence

from r2search.records import TrialOutcome
from r2search.report.cost_figures import COSTS, cost_against, spent
from r2search.report.drawn_figures import parallel, shares_of, slice_of, varied
from r2search.report.figures import OUTCOMES, outcome_of
from r2search.report.markup import Html, badge, drawing, section, tag
from r2search.report.wording import Summary, duration, objective, part, percent
from r2search.selection import eligible

LEAST = 2  # trials, to show what differs between them


def mattered(summary: Summary, trials: Sequence[TrialOutcome]) -> Html:
    """What the settings did; nothing where too few trials differ in too little."""
    name, _, _ = objective(summary)
    keys = varied(summary, trials)
    if not keys or len([t for t in eligible(trials) if not t.baseline]) < LEAST:
        return Html()
    ended = {outcome_of(trial) for trial in eligible(trials)}
    lines = drawing(
        "parallel",
        f"What was drawn for every trial, and the {name} it reached",
        parallel(summary, trials),
        "A line is a trial of the search, the darker (on a dark page: the brighter) the better. "
        "Drag along an axis to keep only what is within; click the axis to keep all.",
        least=79 * (len(keys) + 1),
    )
    slices = [
        drawing(
            f"slice-{key}",
            f"{name} against {key.rpartition('.')[2]}",
            slice_of(summary, trials, key),
        )
        for key in keys
    ]
    return section(
        "What the settings did",
        lines,
        *_importance(summary),
        tag("h3", "One setting at a time"),
        tag("p", SLICES, class_="quiet"),
        tag("p", *(badge(kind) for kind in OUTCOMES if kind in ended)),
        tag("div", *slices, class_="grid"),
    )


SLICES = (
    "A dot is a trial at its best epoch. All other settings differ too, and a stopped trial had "
    "fewer epochs."
)


def _importance(summary: Summary) -> list[Html]:
    audit = part(summary, "audit")
    importance = audit.get("importance")
    if not importance:
        return []
    epochs = importance["epoch"]
    if audit.get("unit") == "seconds":
        first = "by the best of their epochs up to the first rung"
    elif epochs == 1:
        first = "at their first epoch"
    else:
        first = f"by the best of their first {epochs} epochs"
    caption = (
        f"Of {importance['trials']} trials {first} "
        "(PED-ANOVA): how much each setting decided about being among the best."
    )
    title = "Which settings decided who was among the best"
    return [drawing("importance", title, shares_of(importance["shares"]), caption)]


def costs(summary: Summary, trials: Sequence[TrialOutcome]) -> Html:
    """The objective against what a network costs; nothing where that is not known."""
    name, _, _ = objective(summary)
    figures = {key: cost_against(summary, trials, key) for key in COSTS}
    drawings = [
        drawing(f"cost-{key}", f"{name} against the {COSTS[key]}", figure)
        for key, figure in figures.items()
        if figure
    ]
    if not drawings:
        return Html()
    caption = "On the front, no other trial is as good for less. A diamond is a baseline."
    return section(
        "What quality costs",
        tag("p", caption, class_="quiet"),
        tag("div", *drawings, class_="grid"),
    )


def goodput(summary: Summary) -> Html:
    """Where the workers' time went; nothing where that is not known."""
    time = part(summary, "time")
    if not time.get("worker_s"):
        return Html()
    caption = (
        f"{percent(time['goodput'])} of {duration(time['worker_s'])} of all workers were training "
        "and validation (the goodput)."
    )
    return section("Where the time went", drawing("spent", TIME, spent(time), caption))


TIME = "What the workers did while the search ran"
