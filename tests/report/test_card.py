"""The model card: what it must tell before an exported network is trusted."""

from typing import Any

import pytest

from r2search.report.card import model_card


def test_it_names_study_trial_and_epoch_and_that_it_is_no_medical_device(
    summary: dict[str, Any],
) -> None:
    card = model_card(summary)
    best = summary["incumbent"]
    assert card.startswith(f"# retina: t0011, epoch {best['epoch']}\n")
    assert f"trained for 12 of 12 planned epochs; the weights are of epoch {best['epoch']}" in card
    assert "Not a medical device" in card


def test_it_shows_every_validation_score_beside_its_test_score(summary: dict[str, Any]) -> None:
    rows = [line for line in model_card(summary).splitlines() if line.startswith("| ")]
    metrics = summary["incumbent"]["metrics"]
    assert rows[1:] == [
        f"| dice_mean | {metrics['val/dice_mean']:.4f} | 0.7512 (0.7312 to 0.7692) |",
        f"| sensitivity | {metrics['val/sensitivity']:.4f} | 0.7400 (0.7200 to 0.7580) |",
        f"| specificity | {metrics['val/specificity']:.4f} | 0.9720 (0.9520 to 0.9900) |",
        f"| auc_pr | {metrics['val/auc_pr']:.4f} | 0.8100 (0.7900 to 0.8280) |",
    ]


def test_without_a_test_split_the_column_is_empty(summary: dict[str, Any]) -> None:
    value = summary["incumbent"]["metrics"]["val/dice_mean"]
    assert f"| dice_mean | {value:.4f} |  |" in model_card(summary | {"test": None})


def test_it_says_when_the_images_were_synthetic_and_only_then(summary: dict[str, Any]) -> None:
    assert "ynthetic" not in model_card(summary)
    summary["data"]["synthetic"] = True
    assert "> **Synthetic data.** Trained and scored on procedural images" in model_card(summary)


def test_it_repeats_the_notes_on_the_data(summary: dict[str, Any]) -> None:
    assert "> **Note:** Only 20 of 28 images are there." in model_card(summary)


def test_it_gives_images_and_split_by_number(summary: dict[str, Any]) -> None:
    assert (
        "Reader `made_up`, split by_subject: 12 training, 4 validation, 4 test images. "
        "Fingerprint `c0ffeec0ffeec0ff`."
    ) in model_card(summary)


def test_it_says_from_how_many_the_network_was_chosen(summary: dict[str, Any]) -> None:
    chosen = "Chosen by val/dice_mean, as the best epoch of "
    assert f"{chosen}28 trials and 2 baselines: the validation sc" in model_card(summary)
    alone = summary | {"baselines": {}, "trials": {"total": 1}}
    assert f"{chosen}1 trial: the validation score is optimistic." in model_card(alone)


def test_it_compares_with_a_second_observer_where_there_is_one(summary: dict[str, Any]) -> None:
    sentence = "A second observer of these images reaches val/dice_mean 0.7780."
    assert sentence in model_card(summary)
    summary["objective"]["second_observer"] = None
    assert "observer" not in model_card(summary)


def test_it_compares_with_every_baseline_and_its_published_training(
    summary: dict[str, Any],
) -> None:
    value = summary["baselines"]["B1"]["value"]
    sentence = (
        f"Baseline B1 reaches val/dice_mean {value:.4f} after 0.34 of the published training."
    )
    assert sentence in model_card(summary).splitlines()
    value = summary["baselines"]["B2"]["value"]
    assert f"Baseline B2 reaches val/dice_mean {value:.4f}." in model_card(summary).splitlines()
    summary["baselines"]["B2"] = None
    assert "Baseline B2 has no result." in model_card(summary).splitlines()


def test_of_several_classes_it_says_which_scores_are_whose(
    summary: dict[str, Any], two_classes: dict[str, Any]
) -> None:
    text = model_card(two_classes)
    value = summary["incumbent"]["metrics"]["val/dice_mean"] - 0.01
    assert f"| dice_mean_class2 | {value:.4f} | 0.7412 (0.7212 to 0.7592) |" in text
    assert "class 1 (mask value 1); class 2 (mask value 5)." in text
    assert "A pixel is of the likeliest class, background included." in text
    assert "probability" not in text


@pytest.mark.parametrize("setting", ["- block: ", "- depth: ", "- recurrence: ", "0.5 or more"])
def test_it_lists_the_network_and_its_threshold(summary: dict[str, Any], setting: str) -> None:
    assert setting in model_card(summary)


def test_a_table_has_a_blank_line_before_it_so_that_markdown_sees_it(
    summary: dict[str, Any],
) -> None:
    lines = model_card(summary).splitlines()
    assert lines[lines.index("| metric | validation | test |") - 1] == ""


def test_it_says_what_an_interval_means_and_how_the_network_was_confirmed(
    confirmed: dict[str, Any],
) -> None:
    card = model_card(confirmed)
    assert "mean over other images like these and other seeds lies, in 95 of 100 cases" in card
    assert "trained 3 times with different seeds, its mean is 0.780 (0.750 to 0.810)" in card
    assert "t0004 is the cheapest of those that are tied" in card
    assert "For want of time the baselines got 1 of 3 seeds." in card
    assert "Seed 2. Foreground is where the probability is 0.44 or more." in card
    assert "t0004 at 0.44; the search was at 0.5." in card
    searched = "At the threshold of the search, 0.5, the test images have dice_mean"
    assert f"{searched} 0.747 (0.727 to 0.765)" in card
