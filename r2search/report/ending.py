"""What is printed when a study has ended."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from r2search.report.screen import Screen, say
from r2search.report.wording import (
    Summary,
    between,
    count,
    duration,
    endings,
    number,
    objective,
    part,
    published,
    score_of,
    scores_on_test,
    verdict,
    warnings,
)

TEST_METRICS = ("dice_mean", "sensitivity", "specificity", "auc_pr")  # after the objective


def tell_end(screen: Screen, summary: Summary, run_dir: Path, resume: str = "") -> None:
    """`print_summary`, or for a machine one object: the status, the incumbent, and where all is."""
    if not screen.for_machines:
        print_summary(screen.console, summary, run_dir, resume)
        return
    best, bundle = part(summary, "incumbent"), summary.get("bundle")
    screen.write(
        {
            "event": "end",
            "status": summary["status"],
            "incumbent": {key: best[key] for key in ("trial", "epoch", "value")} if best else None,
            "run": str(run_dir),
            "report": str(run_dir / "report.html"),
            "bundle": str(run_dir / bundle) if bundle else None,
            "sync": part(summary, "tracking").get("sync"),
        }
    )


def print_summary(console: Console, summary: Summary, run_dir: Path, resume: str = "") -> None:
    """Print how the study ended: the verdict, the scores, where things are, what to do next.

    `resume`: what it is to be resumed by, if it can be and did not come to its end.
    """
    name, _, observer = objective(summary)
    say(console, "")
    for warning in warnings(summary):
        say(console, warning, "bold yellow")
    for sentence in verdict(summary):
        say(console, sentence, "bold")
    if part(summary, "incumbent"):
        console.print(_scores(summary, name, observer))
    if scores_on_test(summary):
        console.print(_test_scores(summary))
    trials, time = part(summary, "trials"), part(summary, "time")
    say(
        console,
        f"{trials.get('total', 0)} trials beside the baselines ({endings(trials) or 'none'}) "
        f"in {duration(time.get('wall_s'))}.",
    )
    say(console, f"Run folder: {run_dir}")
    say(console, f"Report:     {run_dir / 'report.html'}")
    bundle = summary.get("bundle")
    if bundle:
        say(console, f"Bundle:     {run_dir / bundle}")
        say(console, f"Next:       r2search predict {run_dir / bundle} IMAGE -o OUT")
    if sync := part(summary, "tracking").get("sync"):
        left = len(summary["tracking"]["not_uploaded"])
        what = f"{left} trials are" if left else "the end of the study is"
        say(console, f"W&B:        {what} not uploaded; {sync}")
    for name, left in part(summary, "tracking", "trackers").items():
        if left:
            say(console, f"{f'{name}:':12}the end of the study is missing; {left}")
    if resume and summary["status"] != "completed":
        say(console, f"Go on:      r2search tune --resume {resume}")


def _scores(summary: Summary, name: str, observer: float | None) -> Table:
    best = summary["incumbent"]
    table = _table(name, "value", "epoch", "parameters", "trained")
    rows = {f"incumbent {best['trial']}": best}
    rows |= {f"baseline {key}": row for key, row in part(summary, "baselines").items()}
    for label, row in rows.items():
        if row:
            told = number(row["value"]), str(row["epoch"]), count(row.get("parameters"))
            table.add_row(label, *told, published(row))
        else:
            table.add_row(label, "n/a")
    if observer is not None:
        table.add_row("second observer", number(observer))
    return table


def _test_scores(summary: Summary) -> Table:
    rows = scores_on_test(summary)
    objective = summary["objective"]["name"].removeprefix("val/")
    wanted = dict.fromkeys([objective, *TEST_METRICS])
    names = [name for name in wanted if any(name in row for _, row in rows)]
    table = _table("test split", *names)
    for label, row in rows:
        first, *others = names
        table.add_row(
            label, between(row.get(first)), *(number(score_of(row.get(name))) for name in others)
        )
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(first, overflow="fold")
    for other in others:
        table.add_column(other, justify="right", overflow="fold")
    return table
