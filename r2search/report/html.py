"""report.html: one file that opens offline and tells the whole study."""

import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from r2search.records import TrialOutcome
from r2search.report.audit import audit
from r2search.report.confirmation import confirmed
from r2search.report.figures import (
    flops,
    learning_curves,
    minutes,
    objective_over,
    outcome_of,
)
from r2search.report.images import images
from r2search.report.markup import (
    Cell,
    Html,
    Number,
    badge,
    card,
    drawing,
    facts,
    join,
    section,
    table,
    tag,
)
from r2search.report.mattered import costs, goodput, mattered
from r2search.report.page import write_page
from r2search.report.scores import scores
from r2search.report.wording import (
    Summary,
    between,
    compare,
    count,
    drawn,
    duration,
    endings,
    number,
    objective,
    openings,
    part,
    percent,
    refused,
    score_of,
    verdict,
    warnings,
)
from r2search.selection import ranking


def write_report(
    path: Path,
    summary: Summary,
    trials: Sequence[TrialOutcome],
    pictures: Sequence[tuple[str, bytes]] = (),
) -> None:
    """Write one self-contained HTML file, whole or not at all.

    `summary` is what summary.json holds, where any key may be None; `pictures` are captions with
    PNG files. Every text is escaped.
    """
    write_page(
        path,
        title=str(summary.get("name") or "study"),
        question=str(summary.get("question") or ""),
        warnings=warnings(summary),
        notes=part(summary, "data").get("notes") or (),
        body=(
            _headline(summary),
            confirmed(summary),
            _search(summary, trials),
            images(summary, pictures),
            scores(summary),
            mattered(summary, trials),
            costs(summary, trials),
            audit(summary),
            goodput(summary),
            _trials(summary, trials),
            _facts(summary),
            _config(summary),
            _reproduce(summary),
        ),
    )


def _headline(summary: Summary) -> Html:
    """Cards: the incumbent against every yardstick, test split, time and trials."""
    name, goal, observer = objective(summary)
    best, trials, time = (part(summary, key) for key in ("incumbent", "trials", "time"))
    cards = [card("Incumbent", "none", "no trial has yielded a network", kind="main")]
    if best:
        under = f"{name}, epoch {best['epoch']} of {best['epochs']}"
        cards = [card(f"Incumbent {best['trial']}", number(best["value"]), under, kind="main")]
    for label, baseline in part(summary, "baselines").items():
        cards.append(_yardstick(f"Baseline {label}", baseline, best, goal))
    if observer is not None:
        cards.append(_yardstick("Second observer", {"value": observer}, best, goal))
    tested = part(summary, "test", "incumbent").get(name.removeprefix("val/"))
    if tested is not None:
        under = f"{between(tested).partition(' ')[2]} {openings(summary)}".strip()
        cards.append(card("Incumbent, test split", number(score_of(tested)), under))
    budget = f"of {duration(time['budget_s'])} allowed" if time.get("budget_s") else ""
    cards += [
        card("Trials beside the baselines", count(trials.get("total")), endings(trials)),
        card("Wall clock", duration(time.get("wall_s")), budget),
    ]
    return join([tag("ul", *cards, class_="cards"), tag("p", " ".join(verdict(summary)))])


def _yardstick(label: str, row: Summary | None, best: Summary, goal: str) -> Html:
    """A card of what the incumbent is measured by."""
    if not row:
        return card(label, "n/a", "no result")
    value = number(row["value"])
    if not best:
        return card(label, value)
    if row.get("trial") == best["trial"]:
        return card(label, value, "is itself the incumbent")
    words = compare(best["value"], row["value"], goal).removesuffix(" than").removesuffix(" to")
    return card(label, value, f"incumbent is {words}", mood=words.rpartition(" ")[2])


def _search(summary: Summary, trials: Sequence[TrialOutcome]) -> Html:
    if not any(trial.reports for trial in trials):
        return section("Search", tag("p", "No trial has reported an epoch."))
    name, _, _ = objective(summary)
    dots = "A dot is a trial at its best epoch; a diamond, a baseline."
    over_time = objective_over(summary, trials, minutes(trials), "minutes since the study began")
    drawings = [drawing("time", f"{name} over wall-clock time", over_time, dots)]
    if spent := flops(trials):
        over_flops = objective_over(summary, trials, spent, "training FLOPs of all trials so far")
        drawings.append(drawing("flops", f"{name} over training FLOPs", over_flops, dots))
    drawings.append(
        drawing(
            "curves",
            f"{name} over epochs: the learning curve of every trial",
            learning_curves(summary, trials),
            "An epoch is the same number of training pixels for all trials; for a baseline that is "
            "too slow for one, a part of it. A cross is where a trial was stopped; a dotted line, "
            "a rung, where trials are compared.",
        )
    )
    return section("Search", *drawings)


def _trials(summary: Summary, trials: Sequence[TrialOutcome]) -> Html:
    """The sortable table of all trials."""
    if not trials:
        return Html()
    name, goal, _ = objective(summary)
    heads = "trial,outcome,best,at epoch,epochs,time,parameters,drawn,reason".split(",")
    ranked = ranking(trials, name, goal)
    rows = [_trial(t, name, goal) for t in [*ranked, *(t for t in trials if t not in ranked)]]
    hint = f"Best first, by {name}; click a heading to sort. The incumbent is shaded."
    hint = f"{hint} {refused(summary)}".strip()
    best = part(summary, "incumbent").get("trial")
    grid = table(heads, rows, sortable=True, marked=[best] if best else [])
    return section("Trials", tag("p", hint, class_="quiet"), grid)


def _trial(trial: TrialOutcome, name: str, goal: str) -> list[Cell]:
    best = trial.best(name, goal)
    value = best.metrics[name] if best else None
    end = trial.ended if trial.ended is not None else max(trial.report_times, default=None)
    seconds = None if end is None else end - trial.started
    epochs, parameters = len(trial.reports), trial.cost.get("parameters")
    outcome = outcome_of(trial)
    badges = [badge(outcome)]
    if trial.baseline:
        badges.append(tag("small", " baseline"))
    settings = [f"{key.rpartition('.')[2]}={drawn(v)}" for key, v in trial.overrides.items()]
    return [
        trial.trial,
        join(badges),
        Number(number(value) if best else "", value),
        Number(str(best.epoch) if best else "", best.epoch if best else None),
        Number(f"{epochs}/{trial.planned_epochs}", epochs),
        Number(duration(seconds), seconds),
        Number(count(parameters), parameters),
        tag("div", " ".join(settings), class_="drawn"),
        tag("div", trial.reason, class_="reason"),
    ]


def _facts(summary: Summary) -> Html:
    data, time, tracking = (part(summary, key) for key in ("data", "time", "tracking"))
    people = data.get("subjects") or {}
    about_data = {"reader": data.get("reader") or "n/a", "split": data.get("split") or "n/a"}
    for name, number_of in (data.get("counts") or {}).items():
        of = f" (subjects: {len(people[name])})" if people.get(name) else ""
        about_data[name] = f"{number_of} images{of}"
    about_data["fingerprint"] = (data.get("fingerprint") or "n/a")[:16]
    searched = part(summary, "search")
    if searched.get("rungs"):
        searched = searched | {"rungs": ", ".join(map(str, searched["rungs"])) + " epochs"}
    about_time = {
        "wall clock": duration(time.get("wall_s")),
        "budget": duration(time.get("budget_s")),
        "training, all workers": duration(time.get("train_s")),
        "training FLOPs": f"{time['train_flops']:.2g}" if time.get("train_flops") else "n/a",
        "validation, all workers": duration(time.get("validate_s")),
        "goodput": f"{percent(time.get('goodput'))} of worker time",
        "W&B": tracking.get("mode") or "n/a",
    }
    if summary.get("optimism") is not None:
        about_time["validation minus test"] = number(summary["optimism"])
    lists = (
        facts("Data", about_data),
        facts("Budget and time", about_time),
        facts("Search", searched),
        facts("Hardware", part(summary, "hardware")),
        facts("Versions", part(summary, "versions")),
    )
    return section("Data, time and machine", tag("div", *lists, class_="columns"))


def _config(summary: Summary) -> Html:
    config = part(summary, "incumbent", "config")
    if not config:
        return Html()
    plain = json.loads(json.dumps(config, default=str))  # tuples and paths as a file has them
    text = yaml.safe_dump(plain, sort_keys=False)
    return section("Config of the incumbent", tag("pre", text, class_="yaml"))


def _reproduce(summary: Summary) -> Html:
    lines = [summary["command"], ""] if summary.get("command") else []
    if summary.get("bundle"):
        bundle = summary["bundle"]
        lines += ["# in this folder: predict your own images, score the network anew"]
        lines += [f"r2search predict {bundle} IMAGE -o OUT", f"r2search evaluate {bundle}"]
    space, revision = part(summary, "space"), part(summary, "revision")
    source = f"space.yaml has SHA-256 {space.get('sha256') or 'n/a'}."
    if revision.get("commit"):
        changed = ", with uncommitted changes" if revision.get("dirty") else ""
        source += f" The code is of revision {revision['commit'][:12]}{changed}."
    commands = tag("pre", "\n".join(lines).strip()) if lines else Html()
    return section("Reproduce", commands, tag("p", source, class_="quiet"))
