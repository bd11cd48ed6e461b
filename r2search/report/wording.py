"""The words and numbers of a summary, the same for the terminal and for report.html."""

from collections.abc import Mapping, Sequence
from typing import Any

from r2search.records import RESUMED

Summary = dict[str, Any]  # summary.json: a key that is not yet produced is None or absent

SYNTHETIC = "Synthetic data: these numbers say nothing about real images."
STATUS = {
    "completed": "",
    "partial": "Partial result: a part of this study is missing.",
    "interrupted": "Interrupted: the study ended before its budget was used.",
    "failed": "Failed: the study has no result.",
    RESUMED: "The study was resumed since: this is what it had before.",
}


def part(summary: Summary, *keys: str) -> dict[str, Any]:
    """The mapping under `keys`, or an empty one where any of them is None or absent."""
    for key in keys:
        summary = summary.get(key) or {}
    return summary


def number(value: float | None) -> str:
    """A score with three decimals; `n/a` when there is none."""
    return "n/a" if value is None else f"{value:.3f}"


def percent(share: float | None) -> str:
    return "n/a" if share is None else f"{100 * share:.0f} %"


def count(value: float | None) -> str:
    """A number of things, thousands separated."""
    return "n/a" if value is None else f"{round(value):,}"


def share(value: float | None) -> str:
    """A part of a whole with two decimals, a very small one with one digit."""
    if value is None:
        return "n/a"
    return f"{value:.2f}" if value >= 0.095 else f"{value:.1g}"


def published(trial: Mapping[str, Any]) -> str:
    """How much of its published training a baseline got; empty where that is unknown."""
    value = trial.get("share_of_published")
    return "" if value is None else f"{share(value)} of the published training"


def duration(seconds: float | None) -> str:
    """Minutes and seconds as `m:ss`, from one hour on `h:mm:ss`."""
    if seconds is None:
        return "n/a"
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def drawn(value: Any) -> str:
    """A drawn value, floats with three significant digits."""
    if isinstance(value, list | tuple):
        return "(" + ", ".join(drawn(item) for item in value) + ")"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def class_names(labels: Sequence[int], classes: int) -> list[str]:
    """What to call foreground classes 1, 2, ... of `classes` with the background.

    By number, as in `dice_mean_class2`, and by mask value where `labels` name it.
    """
    values = [f" (mask value {label})" for label in labels] or [""] * (classes - 1)
    return [f"class {index}{value}" for index, value in enumerate(values, start=1)]


def by_class(metrics: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """Metrics of one foreground class or of the mean over several (0), then of class 1, 2, ..."""
    found: dict[int, dict[str, float]] = {0: {}}
    for name, value in metrics.items():
        plain, _, index = name.partition("_class")
        found.setdefault(int(index or 0), {})[plain] = value
    return found


def objective(summary: Summary) -> tuple[str, str, float | None]:
    """Name and goal of the objective, and what the second observer reaches in it."""
    found = part(summary, "objective")
    name, goal = found.get("name") or "val/dice_mean", found.get("goal") or "maximize"
    return name, goal, found.get("second_observer")


def compare(value: float, other: float, goal: str) -> str:
    """How `value` stands against `other`, plainly: `0.012 better than`."""
    gain = round(value - other if goal == "maximize" else other - value, 3)
    if gain == 0:
        return "equal to"
    return f"{abs(gain):.3f} {'better' if gain > 0 else 'worse'} than"


def verdict(summary: Summary) -> list[str]:
    """Sentences: the incumbent's objective, then how it stands against each yardstick."""
    name, goal, observer = objective(summary)
    best = part(summary, "incumbent")
    if not best:
        return ["No trial has yielded a network."]
    value = best["value"]
    lines = [f"{best['trial']} reaches {name} {number(value)} at epoch {best['epoch']}."]
    if start := best.get("start"):  # none before there were any
        lines.append(f"It is the start {start}, which the space file names.")
    for label, baseline in part(summary, "baselines").items():
        if label == best["trial"]:
            lines.append(f"It is a baseline: no trial of the search was better than {label}.")
        elif baseline:
            against = f"{compare(value, baseline['value'], goal)} baseline {label}"
            lines.append(f"It is {against} ({number(baseline['value'])}).")
        else:
            lines.append(f"Baseline {label} has no result: there is nothing to compare with.")
    if observer is not None:
        against = f"{compare(value, observer, goal)} the second observer"
        lines.append(f"It is {against} ({number(observer)}).")
    return lines + confirmation(summary)


def between(row: Mapping[str, Any] | float | None, digits: int = 3) -> str:
    """A score with its interval, as far as there is one: `0.781 (0.752 to 0.806)`."""
    value = score_of(row)
    if value is None:
        return number(None)
    if not isinstance(row, Mapping) or row.get("low") is None:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} ({row['low']:.{digits}f} to {row['high']:.{digits}f})"


def score_of(row: Mapping[str, Any] | float | None) -> float | None:
    """The score in a row of `test`: until format 2 it was the row itself."""
    found = row.get("value", row.get("mean")) if isinstance(row, Mapping) else row
    return None if found is None else float(found)


def confirmation(summary: Summary) -> list[str]:
    """Sentences: which network was chosen, by which trainings, and what there was no time for."""
    found = part(summary, "confirmed")
    if not found:
        return []
    dropped = "; ".join(found["dropped"])
    if not found["chosen"]:
        return [f"It is not confirmed: {dropped}."]
    chosen = found["networks"][found["chosen"]]
    count = len(chosen["trainings"])
    again = "once more with another seed" if count == 1 else f"{count} times with different seeds"
    mean = between({key: chosen[key] for key in ("mean", "low", "high")})
    if found.get("folds", 1) > 1:
        again += f" on {found['folds']} folds of the subjects"
        mean = f"{mean} over {found['images']} images"
    lines = [f"Confirmed: trained {again}, its mean is {mean}."]
    if level := part(found, "thresholds").get(found["chosen"]):
        lines.append(
            "Every network is scored at the threshold that its validation images chose, "
            f"{found['chosen']} at {level:g}; the search was at {found['searched']['threshold']:g}."
        )
    lines += _why(found)
    if dropped:
        lines.append(f"For want of time {dropped}.")
    return lines


def _why(found: Mapping[str, Any]) -> list[str]:
    tied = [name for name in found["tied"] if name != found["chosen"]]
    lines = []
    if found["chosen"] != found["leader"]:
        behind = found["networks"][found["chosen"]]["behind"]["behind"]
        lines.append(
            f"{found['leader']} is better by {number(behind)}, which cannot be told from "
            f"chance: {found['chosen']} is the cheapest of those that are tied."
        )
    elif tied:
        lines.append(f"{', '.join(tied)} cannot be told from it; none of the finalists is cheaper.")
    if found["few_images"]:
        lines.append(
            f"{found['images']} validation images are too few for a signed-rank test to tell two "
            "networks apart: the t test over images and seeds decides alone."
        )
    return lines


def warnings(summary: Summary) -> list[str]:
    """What a reader must know before believing any number."""
    data = part(summary, "data")
    lines = []
    if data.get("synthetic"):
        lines.append(SYNTHETIC)
    if data.get("split") == "within_subject":
        lines.append(
            "Split within subjects: images of one subject were both trained on and scored, "
            "so the scores are too good for new subjects."
        )
    status = summary.get("status") or "interrupted"
    return lines + [line for line in [STATUS.get(status, f"Status: {status}.")] if line]


def endings(trials: Mapping[str, int]) -> str:
    """How the search's own trials ended; what was drawn and not tried is in `refused`."""
    kinds = ("completed", "stopped", "failed", "interrupted")
    return ", ".join(f"{trials[kind]} {kind}" for kind in kinds if trials.get(kind))


def refused(summary: Summary) -> str:
    """How many drawn configs were not trained, and why; empty if all were."""
    found = part(summary, "trials")
    if not found.get("infeasible"):
        return ""
    causes = {"too_slow": "too slow for the budget", "too_large": "too large for the memory"}
    why = [f"{found[cause]} {words}" for cause, words in causes.items() if found.get(cause)]
    return f"{found['infeasible']} drawn configs were infeasible: {', '.join(why)}."


def openings(summary: Summary) -> str:
    """How often the test split was opened."""
    count = part(summary, "test").get("opened", 1)
    return "opened once" if count == 1 else f"opened {count} times, as the study was extended"


def scores_on_test(
    summary: Summary, view: str = ""
) -> list[tuple[str, dict[str, Mapping[str, Any] | float]]]:
    """Rows of the test split, incumbent first; empty while the split is closed.

    `view`: inside the field of view; `whole`, of whole images; `searched`, at the threshold of the
    search.
    """
    test = part(summary, "test", view) if view else part(summary, "test")
    named = [("incumbent", test.get("incumbent"))]
    chosen = part(summary, "incumbent").get("trial")
    named += [(f"baseline {name}", row) for name, row in part(test, "baselines").items()]
    finalists = part(test, "finalists").items()
    named += [(f"finalist {name}", row) for name, row in finalists if name != chosen]
    named += [("second observer", test.get("second_observer"))]
    return [(name, row) for name, row in named if row]
