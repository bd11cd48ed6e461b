"""The model card: what a person must know before trusting an exported network."""

from typing import Any


def model_card(summary: dict[str, Any]) -> str:
    """Markdown from a summary whose incumbent is not None."""
    best, data = summary["incumbent"], summary["data"]
    objective = summary["objective"]["name"]
    second = summary["objective"]["second_observer"]
    lines = [
        f"# {summary['name']}: {best['trial']}, epoch {best['epoch']}",
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
        "## Scores",
        "",
        "| metric | validation | test |",
        "|---|---|---|",
        *_score_rows(summary),
        "",
        f"Chosen by {objective}, the highest of {summary['trials']['total']} trials: "
        "the validation score is optimistic.",
        "",
    ]
    if second is not None:
        lines += [f"A second human observer reaches {objective} {second:.4f} there.", ""]
    counts = data["counts"]
    lines += [
        "## Data",
        "",
        f"Reader `{data['reader']}`, split {data['split']}: {counts['train']} training, "
        f"{counts['val']} validation, {counts['test']} test images. "
        f"Fingerprint `{data['fingerprint'][:16]}`. "
        "The licence of the images is theirs, not this project's.",
        "",
        "## Network",
        "",
        *(f"- {key}: {value}" for key, value in best["config"]["model"].items()),
        "",
        f"{best['parameters']:,.0f} parameters, trained for {best['epochs']} epochs; "
        f"the weights are of epoch {best['epoch']}. One training run, one seed.",
        "",
    ]
    return "\n".join(lines)


def _score_rows(summary: dict[str, Any]) -> list[str]:
    test = (summary["test"] or {}).get("incumbent") or {}
    rows = []
    for key, value in summary["incumbent"]["metrics"].items():
        if key.startswith("val/"):
            name = key.removeprefix("val/")
            other = f"{test[name]:.4f}" if name in test else ""
            rows.append(f"| {name} | {value:.4f} | {other} |")
    return rows
