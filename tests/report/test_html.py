import math
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from plotly.offline import get_plotlyjs

from r2search.records import TrialOutcome
from r2search.report.cost_figures import front
from r2search.report.drawn_figures import parallel, slice_of
from r2search.report.figures import flops, learning_curves, minutes, objective_over
from r2search.report.html import write_report
from r2search.report.images import PICTURE_BYTES
from r2search.report.wording import between, compare, drawn, duration, share, verdict, warnings

HOSTILE = "<script>alert('x')</script> & \"co\""


class Page(HTMLParser):
    """A report as a browser sees it: elements, addresses, and the text outside scripts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8").replace(get_plotlyjs(), "")
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.banners = 0
        self.rows: list[list[str]] = []
        self.text = ""
        self._script = self._cell = False
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "action")]
        self.banners += ("class", "banner") in attrs
        self._script = tag in ("script", "style")
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        self._script = False
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if not self._script:
            self.text += data
            if self._cell:
                self.rows[-1][-1] += data


def write(path: Path, *arguments: Any) -> Page:
    write_report(path / "report.html", *arguments)
    return Page(path / "report.html")


@pytest.fixture
def page(tmp_path: Path, summary: dict[str, Any], trials: list[TrialOutcome]) -> Page:
    return write(tmp_path, summary, trials, [("image made_up_01", b"not really a PNG")])


def test_the_report_names_the_incumbent_and_every_yardstick(page: Page) -> None:
    assert "t0011 reaches val/dice_mean 0.793 at epoch 11." in page.text
    # 0.7926 against 0.7577 and 0.6988 of the made-up trials, and 0.778 of the observer
    assert "It is 0.035 better than baseline B1 (0.758)." in page.text
    assert "It is 0.094 better than baseline B2 (0.699)." in page.text
    assert "It is 0.015 better than the second observer (0.778)." in page.text


def test_the_report_says_whether_stopping_was_right(page: Page) -> None:
    assert "21 trials were stopped early." in page.text
    assert "beaten the incumbent with a chance of 12 %, by 0.003 on average" in page.text
    assert "After half of the time, t0004 had 0.761: 0.032 less than in the end." in page.text
    assert ["epoch 2", "epoch 6", "9", "0.610"] in page.rows
    assert not [row for row in page.rows if row[:1] == ["epoch 6"]]  # two trials say nothing
    assert 'id="figure-importance"' in page.source
    assert "Of 26 trials by the best of their first 2 epochs" in page.text


def test_of_a_search_that_tells_nothing_no_audit_is_shown(
    tmp_path: Path, summary: dict[str, Any], trials: list[TrialOutcome]
) -> None:
    nothing = {"order": [], "stopping": None, "half": None, "importance": None}
    for audit in (None, nothing):
        page = write(tmp_path, summary | {"audit": audit}, trials)
        assert "Was the search right?" not in page.text


def test_the_report_says_where_the_time_went(page: Page) -> None:
    assert "81 % of 20:00 of all workers were training and validation" in page.text
    assert "training steps 75 %" in page.source
    assert "waiting for patches 7 %" in page.source


def test_what_an_older_summary_does_not_tell_is_left_out(
    tmp_path: Path, summary: dict[str, Any], trials: list[TrialOutcome]
) -> None:
    for key in ("images", "search"):
        summary.pop(key)
    summary["time"] = {"wall_s": 612.4, "goodput": 0.81}
    text = write(tmp_path, summary, trials).text
    assert "Image by image" not in text
    assert "Where the time went" not in text


def test_of_one_class_no_class_is_spoken_of(page: Page) -> None:
    assert "classes." not in page.text
    assert not [row for row in page.rows if "class" in row[0]]


def test_the_report_asks_for_nothing_from_the_network(page: Page) -> None:
    assert page.addresses, "the picture has an address"
    assert all(address.startswith("data:") for address in page.addresses)
    assert not {"iframe", "object", "embed"} & set(page.tags)
    assert "@import" not in page.source
    assert "url(" not in page.source


def test_the_report_carries_plotly_and_stays_below_15_mb(
    tmp_path: Path, summary: dict[str, Any], trials: list[TrialOutcome]
) -> None:
    many = [replace(trials[i % 30], trial=f"t{i:04}") for i in range(500)]
    pictures = [(f"image {i}", os.urandom(3 << 20)) for i in range(4)]
    page = write(tmp_path, summary, many, pictures)
    path = tmp_path / "report.html"
    assert get_plotlyjs() in path.read_text(encoding="utf-8")
    assert path.stat().st_size < 15e6
    # 3 MiB are 4 MiB in base64: two of them fill the 8 MiB
    assert PICTURE_BYTES == 8 << 20
    assert page.tags.count("img") == 2
    assert "2 more left out" in page.text
    assert sum(row[0].startswith("t0") for row in page.rows) == 500


def test_texts_from_files_cannot_become_markup(
    tmp_path: Path, summary: dict[str, Any], trials: list[TrialOutcome]
) -> None:
    summary["name"] = summary["question"] = summary["command"] = HOSTILE
    summary["data"]["notes"] = [HOSTILE]
    summary["hardware"] = {HOSTILE: HOSTILE}
    summary["baselines"] = {HOSTILE: summary["baselines"]["B1"]}
    summary["incumbent"]["config"] = {HOSTILE: HOSTILE}
    trials[0] = replace(trials[0], trial=HOSTILE, overrides={HOSTILE: HOSTILE}, reason=HOSTILE)
    summary["incumbent"]["trial"] = HOSTILE
    page = write(tmp_path, summary, trials, [(HOSTILE, b"")])
    assert "<script>alert" not in page.source
    assert page.text.count(HOSTILE) > 10
    # plotly, what draws and sorts, and a figure each
    assert page.tags.count("script") == 2 + page.source.count('class="plot wide"')


def test_synthetic_data_and_a_leaky_split_stand_in_a_banner(
    tmp_path: Path, summary: dict[str, Any], trials: list[TrialOutcome], page: Page
) -> None:
    assert page.banners == 0
    summary["data"] |= {"synthetic": True, "split": "within_subject"}
    summary["status"] = "interrupted"
    warned = write(tmp_path, summary, trials)
    assert warned.banners == 3
    assert "Synthetic data: these numbers say nothing about real images." in warned.text
    assert "Split within subjects" in warned.text
    assert "Interrupted" in warned.text


def test_a_study_without_any_result_still_has_a_report(tmp_path: Path) -> None:
    page = write(tmp_path, dict.fromkeys(("name", "data", "incumbent", "test", "time")), [])
    assert "No trial has yielded a network." in page.text
    assert "No trial has reported an epoch." in page.text
    assert "Test split" not in page.text


def test_trials_that_cannot_be_ranked_are_listed_last(
    tmp_path: Path, summary: dict[str, Any], trials: list[TrialOutcome]
) -> None:
    silent = replace(
        trials[5], trial="t0099", reports=[], report_times=[], ended=None, outcome=None
    )
    page = write(tmp_path, summary, [silent, *trials])
    names = [row[0] for row in page.rows if row[0] in {t.trial for t in [silent, *trials]}]
    assert names[0] == "t0011"
    assert names[-2:] == ["t0099", "t0009"]  # the second one failed
    assert next(row for row in page.rows if row[0] == "t0099")[1:6] == [
        "running",
        "",
        "",
        "0/12",
        "n/a",
    ]


def test_the_trials_tell_what_was_not_trained_and_why(
    tmp_path: Path, summary: dict[str, Any], trials: list[TrialOutcome], page: Page
) -> None:
    told = "6 drawn configs were infeasible: 4 too slow for the budget, 2 too large for the memory."
    assert told in page.text
    assert page.text.count("infeasible") == 1  # they are no trials, and not counted among them
    summary["trials"] |= {"infeasible": 0, "too_slow": 0, "too_large": 0}
    assert "infeasible" not in write(tmp_path, summary, trials).text


def test_the_test_split_has_a_table_only_when_it_was_opened(
    tmp_path: Path, summary: dict[str, Any], trials: list[TrialOutcome], page: Page
) -> None:
    assert ["incumbent", *map(between, summary["test"]["incumbent"].values())] in page.rows
    observer = map(between, summary["test"]["second_observer"].values())
    assert ["second observer", *observer, ""] in page.rows
    summary["test"] = None
    assert "Test split" not in write(tmp_path, summary, trials).text


def test_the_baselines_have_a_table_of_how_long_they_were_trained(page: Page) -> None:
    heads = ["of the longest schedule", "of the published training", "parameters"]
    assert ["", "val/dice_mean", "epochs", *heads] in page.rows
    rows = [row for row in page.rows if row[0].startswith("baseline B") and row[2] == "12"]
    assert [row[3:5] for row in rows] == [["0.30", "0.34"], ["0.30", "n/a"]]


def test_a_baseline_without_a_result_keeps_its_line(
    tmp_path: Path, summary: dict[str, Any], trials: list[TrialOutcome]
) -> None:
    summary["baselines"]["B2"] = None
    assert ["baseline B2", *["n/a"] * 5] in write(tmp_path, summary, trials).rows


def test_several_classes_have_a_line_each_below_their_mean(
    tmp_path: Path, two_classes: dict[str, Any], trials: list[TrialOutcome]
) -> None:
    several = write(tmp_path, two_classes, trials)
    assert "A row without a class is the mean over the classes." in several.text
    named = [row[0] for row in several.rows if row[0].startswith("incumbent")]
    lines = ["incumbent", "incumbent, class 1 (mask value 1)", "incumbent, class 2 (mask value 5)"]
    assert named == [*lines, *lines]  # of validation and test
    worst = two_classes["test"]["incumbent"]
    names = ("dice_mean", "sensitivity", "specificity", "auc_pr")
    tested = [between(worst[f"{name}_class2"]) for name in names]
    assert [lines[2], *tested] in several.rows
    heads = [row for row in several.rows if "dice_mean" in row]
    assert heads == [["", "dice_mean", "sensitivity", "specificity", "auc_pr"]] * 2


def test_a_report_is_written_whole_or_not_at_all(
    tmp_path: Path, summary: dict[str, Any], trials: list[TrialOutcome]
) -> None:
    write(tmp_path, summary, trials)
    before = (tmp_path / "report.html").read_bytes()
    summary["incumbent"].pop("value")
    with pytest.raises(KeyError):
        write_report(tmp_path / "report.html", summary, trials)
    assert (tmp_path / "report.html").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_the_best_so_far_only_rises_and_ends_at_the_incumbent(
    summary: dict[str, Any], trials: list[TrialOutcome]
) -> None:
    trace = _trace(over_time(summary, trials), "best so far")
    assert list(trace.y) == sorted(trace.y)
    assert list(trace.x) == sorted(trace.x)
    assert trace.y[-1] == summary["incumbent"]["value"]


def test_the_best_so_far_falls_when_the_goal_is_to_minimize(
    summary: dict[str, Any], trials: list[TrialOutcome]
) -> None:
    summary["objective"] = {"name": "train/loss", "goal": "minimize", "second_observer": None}
    trace = _trace(over_time(summary, trials), "best so far")
    assert list(trace.y) == sorted(trace.y, reverse=True)


def test_a_failed_trial_does_not_raise_the_best_so_far(
    summary: dict[str, Any], trials: list[TrialOutcome]
) -> None:
    best = next(trial for trial in trials if trial.trial == "t0011")
    trials[trials.index(best)] = replace(best, outcome="failed")
    trace = _trace(over_time(summary, trials), "best so far")
    assert trace.y[-1] < summary["incumbent"]["value"]


def test_a_dot_lies_where_its_trial_was_best(
    summary: dict[str, Any], trials: list[TrialOutcome]
) -> None:
    trace = _trace(over_time(summary, trials), "failed")
    (failed,) = [trial for trial in trials if trial.outcome == "failed"]
    assert list(trace.x) == [failed.report_times[0] / 60]
    assert list(trace.y) == [failed.reports[0].metrics["val/dice_mean"]]


def test_learning_curves_keep_the_trials_apart(
    summary: dict[str, Any], trials: list[TrialOutcome]
) -> None:
    figure = learning_curves(summary, trials)
    stopped = [trial for trial in trials if trial.outcome == "stopped"]
    trace = _trace(figure, "stopped")
    assert list(trace.y).count(None) == len(stopped)  # a gap after each
    assert len(trace.x) == sum(len(trial.reports) + 1 for trial in stopped)
    incumbent = _trace(figure, "incumbent t0011")
    assert incumbent.line.width > 2 * trace.line.width
    assert _trace(figure, "baseline B1").line.dash == "dash"


def test_the_flops_of_all_trials_add_up_in_order_of_time(trials: list[TrialOutcome]) -> None:
    assert flops(trials) == {}, "what they cost is not known"
    known = [replace(trial, cost=trial.cost | {"epoch_flops": 5.0}) for trial in trials]
    places, clock = flops(known), minutes(known)
    assert sorted(places.values()) == [5.0 * n for n in range(1, len(places) + 1)]
    assert sorted(places, key=places.__getitem__) == sorted(clock, key=lambda p: (clock[p], p[0]))


def test_rungs_stand_in_the_learning_curves_and_stops_at_their_ends(
    summary: dict[str, Any], trials: list[TrialOutcome]
) -> None:
    figure = learning_curves(summary, trials)
    assert [shape.x0 for shape in figure.layout.shapes] == [2, 6]
    stopped = [trial for trial in trials if trial.outcome == "stopped"]
    assert list(_trace(figure, "stopped here").x) == [len(trial.reports) for trial in stopped]


def test_on_the_front_is_what_nothing_beats_for_less() -> None:
    # cost, worth: the third is as good as the second for more, the fifth worse than all
    points = [(1.0, 0.2), (2.0, 0.5), (3.0, 0.5), (4.0, 0.6), (5.0, 0.1), (2.0, 0.4)]
    assert front(points) == [0, 1, 3]


def test_parallel_coordinates_place_numbers_by_size_and_names_in_order(
    summary: dict[str, Any], trials: list[TrialOutcome]
) -> None:
    for trial in trials[2:12]:
        trial.overrides["model.recurrence"] = 1 + int(trial.trial[-1]) % 3
    (trace,) = parallel(summary, trials).data
    own = [t for t in trials if not t.baseline and t.outcome != "failed"]
    assert list(trace.customdata) == [trial.trial for trial in own]
    axes = {axis.label: axis for axis in trace.dimensions}
    assert list(axes["dice_mean"].values) == list(trace.line.color)
    block = dict(zip(axes["block"].ticktext, axes["block"].tickvals, strict=True))
    assert [block[t.overrides["model.block"]] for t in own] == list(axes["block"].values)
    rates = [math.log10(trial.overrides["train.lr"]) for trial in own]
    assert list(axes["lr"].values) == pytest.approx(rates)  # over two decades and a half
    recurrence = axes["recurrence"]
    assert recurrence.ticktext[0] == "none"
    without = [t.overrides.get("model.recurrence") is None for t in own]
    assert [value == recurrence.tickvals[0] for value in recurrence.values] == without
    assert max(recurrence.tickvals[:1]) < min(recurrence.tickvals[1:])


def test_a_slice_has_every_trial_for_which_the_setting_was_drawn(
    summary: dict[str, Any], trials: list[TrialOutcome]
) -> None:
    figure = slice_of(summary, trials, "train.lr")
    assert sum(len(trace.x) for trace in figure.data) == 27  # of 28 one failed
    assert {trace.name for trace in figure.data} == {"completed", "stopped", "interrupted"}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.6, "1:00"), (612.4, "10:12"), (3600, "1:00:00"), (None, "n/a")],
)
def test_durations_read_as_minutes_and_seconds(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.3412, "0.34"),
        (1.0, "1.00"),
        (12.5, "12.50"),
        (0.095, "0.10"),
        (0.0123, "0.01"),
        (0.00042, "0.0004"),
        (0.0, "0"),
        (None, "n/a"),
    ],
)
def test_a_small_share_is_not_rounded_to_nothing(value: float | None, text: str) -> None:
    assert share(value) == text


def test_comparisons_follow_the_goal() -> None:
    assert compare(0.80, 0.75, "maximize") == "0.050 better than"
    assert compare(0.80, 0.75, "minimize") == "0.050 worse than"
    assert compare(0.8001, 0.8004, "maximize") == "equal to"


def test_a_baseline_that_wins_is_said_to_win(summary: dict[str, Any]) -> None:
    summary["incumbent"] = summary["baselines"]["B1"]
    assert "It is a baseline: no trial of the search was better than B1." in verdict(summary)


def test_a_baseline_that_failed_is_not_passed_over(summary: dict[str, Any]) -> None:
    summary["baselines"]["B2"] = None
    assert "Baseline B2 has no result: there is nothing to compare with." in verdict(summary)


def test_an_incumbent_that_the_search_did_not_find_by_itself_is_told(
    summary: dict[str, Any],
) -> None:
    assert not [line for line in verdict(summary) if "space file" in line]
    summary["incumbent"]["start"] = "ours"
    assert "It is the start ours, which the space file names." in verdict(summary)


def test_a_summary_without_status_counts_as_interrupted() -> None:
    assert warnings({}) == ["Interrupted: the study ended before its budget was used."]


def test_drawn_values_are_short() -> None:
    assert [drawn(v) for v in (0.00221234, 4, "conv", True, (1.0, 2.55))] == [
        "0.00221",
        "4",
        "conv",
        "True",
        "(1, 2.55)",
    ]


def over_time(summary: dict[str, Any], trials: list[TrialOutcome]) -> Any:
    return objective_over(summary, trials, minutes(trials), "minutes")


def _trace(figure: Any, name: str) -> Any:
    (trace,) = [trace for trace in figure.data if trace.name == name]
    return trace


def test_a_report_tells_how_the_incumbent_was_confirmed(
    tmp_path: Path, confirmed: dict[str, Any], trials: list[TrialOutcome]
) -> None:
    page = write(tmp_path, confirmed, trials)
    for words in (
        "Confirmed: trained 3 times with different seeds, its mean is 0.780 (0.750 to 0.810).",
        "t0011 is better by 0.002, which cannot be told from chance: t0004 is the cheapest",
        "4 validation images are too few for a signed-rank test",
        "For want of time the baselines got 1 of 3 seeds.",
        "The bundle predicts with 0.44",
        "Every network is scored at the threshold that its validation images chose, t0004 at 0.44; "
        "the search was at 0.5.",
        "Validation split, by which networks are chosen, each network at its own threshold",
        "Test split, opened once, each network at its own threshold; with 95 % intervals",
        "Test split, at the threshold of the search",
        "a cross the value in the search, by which finalists were chosen, at the threshold 0.5",
        "0.731 to 0.769) opened once",  # of the test split, in the headline
    ):
        assert words in page.text, words
    row = "t0004 0.780 0.750_to_0.810 3 0.790 1.00 0.002 0.400 taken".split()
    assert [cell.replace("_", " ") for cell in row] in page.rows
    confirmed["confirmed"]["networks"]["B1"]["behind"]["p"] = 2e-6
    rows = write(tmp_path, confirmed, trials).rows
    assert ["0.080", "< 0.001"] in [row[6:8] for row in rows]
    assert {"figure-confirmation", "figure-threshold"} <= set(
        re.findall(r'id="([^"]+)"', page.source)
    )


def test_folds_are_told(
    tmp_path: Path, confirmed: dict[str, Any], trials: list[TrialOutcome]
) -> None:
    found = confirmed["confirmed"]
    found |= {"folds": 3, "images": 16}
    for row in found["networks"].values():
        row["trainings"] = [t | {"fold": f} for f, t in enumerate(row["trainings"])]
    page = write(tmp_path, confirmed, trials)
    assert (
        "Confirmed: trained 3 times with different seeds on 3 folds of the subjects, "
        "its mean is 0.780 (0.750 to 0.810) over 16 images." in page.text
    )
    assert "seed 2, fold 2 of 3" in page.source


def test_a_study_that_is_not_confirmed_says_why(
    tmp_path: Path, summary: dict[str, Any], trials: list[TrialOutcome], page: Page
) -> None:
    assert "onfirm" not in page.text
    summary["confirmed"] = {"chosen": None, "dropped": ["no time for one training of each"]}
    assert (
        "It is not confirmed: no time for one training of each."
        in write(tmp_path, summary, trials).text
    )


def test_a_summary_of_an_older_version_is_still_shown(
    tmp_path: Path, summary: dict[str, Any], trials: list[TrialOutcome]
) -> None:
    plain = {"dice_mean": 0.75, "sensitivity": 0.74}
    summary["test"] = {"incumbent": plain, "baselines": {"B1": plain}, "second_observer": None}
    assert ["incumbent", "0.750", "0.740"] in write(tmp_path, summary, trials).rows
