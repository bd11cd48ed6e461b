"""The model card: what a person must know before trusting an exported network."""

from typing import Any

from r2search.report.wording import (
    between,
    by_class,
    class_names,
    confirmation,
    part,
    published,
)


def model_card(summary: dict[str, Any]) -> str:
    """Markdown from a summary whose incumbent is not None."""
    best = summary["incumbent"]
    lines = _head(summary, f"{best['trial']}, epoch {best['epoch']}")
    return "\n".join([*lines, *_scores(summary), *_data(summary), *_network(summary)])


def derived_card(
    summary: dict[str, Any], title: str, about: list[str], metrics: dict[str, float]
) -> str:
    """Markdown of another network of the same study: `about` is what it is, in paragraphs.

    `metrics` are its own, on the validation split; there may be none.
    """
    lines = [*_head(summary, title), "## Network", "", *(f"{text}\n" for text in about)]
    if metrics:
        rows = [f"| {key.removeprefix('val/')} | {value:.4f} |" for key, value in metrics.items()]
        lines += ["## Scores", "", "| metric | validation |", "|---|---|", *rows, ""]
    return "\n".join([*lines, *_data(summary)])


def _head(summary: dict[str, Any], title: str) -> list[str]:
    """What stands on every card: what it is, what to know of its data, how it is used."""
    data = summary["data"]
    lines = [
        f"# {summary['name']}: {title}",
        "",
        "A segmentation network of the R2U-Net family, found by r2search. "
        "**Not a medical device**: for research, not for diagnosis.",
        "",
    ]
    if data["synthetic"]:
        lines += [
            "> **Synthetic data.** Trained and scored on procedural images; "
            "these figures say nothing about real ones.",
            "",
        ]
    lines += [f"> **Note:** {note}\n" for note in data["notes"]]
    lines += [
        "## Use",
        "",
        "    r2search predict BUNDLE IMAGE -o OUT",
        "",
        "    from r2search import load_bundle",
        '    prediction = load_bundle("BUNDLE").predict("image.png")',
        "",
    ]
    return lines


def _scores(summary: dict[str, Any]) -> list[str]:
    objective = summary["objective"]["name"]
    second = summary["objective"]["second_observer"]
    lines = [
        "## Scores",
        "",
        "| metric | validation | test |",
        "|---|---|---|",
        *_score_rows(summary),
        "",
        *_about_classes(summary),
        *_about_intervals(summary),
        f"Chosen by {objective}, as the best epoch of {_trials(summary)}: "
        "the validation score is optimistic.",
        "",
        *(f"{sentence}\n" for sentence in confirmation(summary)),
        *(f"{sentence}\n" for sentence in _baselines(summary)),
    ]
    if second is not None:
        lines += [f"A second observer of these images reaches {objective} {second:.4f}.", ""]
    return lines


def _about_intervals(summary: dict[str, Any]) -> list[str]:
    """What the ranges mean, and the score at the threshold of the search."""
    if not summary["test"]:
        return []
    lines = [
        "A range in brackets is where the mean over other images like these and other seeds lies, "
        "in 95 of 100 cases; images count as independent.",
        "",
    ]
    if searched := part(summary, "test", "searched", "incumbent"):
        lines += [
            f"At the threshold of the search, {summary['confirmed']['searched']['threshold']:g}, "
            f"the test images have dice_mean {between(searched['dice_mean'])}.",
            "",
        ]
    return lines


def _data(summary: dict[str, Any]) -> list[str]:
    data = summary["data"]
    counts = data["counts"]
    return [
        "## Data",
        "",
        f"Reader `{data['reader']}`, split {data['split']}: {counts['train']} training, "
        f"{counts['val']} validation, {counts['test']} test images. "
        f"Fingerprint `{data['fingerprint'][:16]}`. "
        "The licence of the images is theirs, not this project's.",
        "",
    ]


def _network(summary: dict[str, Any]) -> list[str]:
    best = summary["incumbent"]
    return [
        "## Network",
        "",
        *(f"- {key}: {value}" for key, value in best["config"]["model"].items()),
        "",
        f"{best['parameters']:,.0f} parameters, trained for {best['epochs']} of "
        f"{best['planned_epochs']} planned epochs; the weights are of epoch {best['epoch']}. "
        f"Seed {best.get('seed')}. {_rule(summary)}",
        "",
    ]


def _trials(summary: dict[str, Any]) -> str:
    """How many were chosen from."""
    counts = {"trial": summary["trials"]["total"], "baseline": len(summary["baselines"])}
    return " and ".join(f"{n} {word}{'s' * (n != 1)}" for word, n in counts.items() if n)


def _baselines(summary: dict[str, Any]) -> list[str]:
    name = summary["objective"]["name"]
    sentences = []
    for label, row in summary["baselines"].items():
        if row is None:
            sentences.append(f"Baseline {label} has no result.")
        else:
            trained = f" after {published(row)}" if published(row) else ""
            sentences.append(f"Baseline {label} reaches {name} {row['value']:.4f}{trained}.")
    return sentences


def _about_classes(summary: dict[str, Any]) -> list[str]:
    """What the scores of single classes are; nothing where there is one foreground class."""
    best = summary["incumbent"]
    several = len(by_class(best["metrics"])) - 1
    if not several:
        return []
    names = "; ".join(class_names(best["config"]["data"]["labels"], several + 1))
    return [f"A name that ends in a class is of that class, others are the mean: {names}.", ""]


def _rule(summary: dict[str, Any]) -> str:
    """How a mask follows from the probabilities."""
    best = summary["incumbent"]
    if len(by_class(best["metrics"])) > 1:
        return "A pixel is of the likeliest class, background included."
    threshold = best["config"]["inference"]["threshold"]
    return f"Foreground is where the probability is {threshold} or more."


def _score_rows(summary: dict[str, Any]) -> list[str]:
    test = (summary["test"] or {}).get("incumbent") or {}
    rows = []
    for key, value in summary["incumbent"]["metrics"].items():
        if key.startswith("val/"):
            name = key.removeprefix("val/")
            other = between(test[name], digits=4) if name in test else ""
            rows.append(f"| {name} | {value:.4f} | {other} |")
    return rows
