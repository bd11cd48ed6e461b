"""Finalists and baselines trained again through a real Ray, cut off in the middle and taken up."""

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from r2search.config import Study
from r2search.data.samples import SampleSet
from r2search.deciding import Decision, decide, trainings
from r2search.models.cost import Rate
from r2search.records import TrialOutcome
from r2search.scoring import INSIDE, SEARCHED, View, restore, score_network
from r2search.testing import IMAGES, SHARES, open_test
from r2search.tuning.budget import Plan, search_seconds
from r2search.tuning.confirm import RerunSearcher, confirm, confirming_left, is_searched
from r2search.tuning.engine import ray_session, search
from r2search.tuning.events import ConfirmLedger, Ledger, read_events, read_trials
from r2search.tuning.reruns import Rerun, queue_of
from r2search.tuning.resources import Workers
from r2search.tuning.slots import Slots
from r2search.weights import read_weights

METRIC = "val/dice_mean"
SPACE = f"""\
name: confirm
data: {{reader: synthetic_retina}}
metric: {{name: {METRIC}, goal: maximize}}
budget: {{time: 1h, trials: 3, max_epochs: 2}}
search: {{searcher: random, seed: 5}}
early_terminate: {{type: none}}
confirm: {{finalists: 2, seeds: 2}}
parameters:
  data: {{parameters: {{patch_size: {{value: 16}}, augmentation: {{value: none}}}}}}
  model:
    parameters: {{block: {{value: conv}}, depth: {{value: 1}}, base_filters: {{value: 2}}}}
  train:
    parameters:
      lr: {{min: 0.001, max: 0.1}}
      batch_size: {{value: 4}}
      epoch_pixels: {{value: 20480}}
      dtype: {{value: float32}}
  inference: {{parameters: {{tile: {{value: 64}}, overlap: {{value: 0}}}}}}
baselines:
  steady: {{train.lr: 0.0001}}
"""
SLOTS = Slots(Workers(count=1, threads=1, gpus=0.0), Rate(1e12, 1e12))
MakeStudy = Callable[..., Study]


@dataclass
class Confirmed:
    """A study whose confirmation was cut off after three epochs, and then taken up."""

    study: Study
    samples: SampleSet
    folder: Path
    broken_off: Ledger  # its record when it was cut off
    ledger: Ledger

    def decide(self) -> Decision:
        found = decide(self.study, self.samples, self.folder, self.ledger)
        assert found is not None
        return found


@pytest.fixture(scope="module")
def confirmed(
    make_study: MakeStudy, noise: SampleSet, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Confirmed]:
    folder = tmp_path_factory.mktemp("confirm") / "run"
    (folder / "checkpoints").mkdir(parents=True)
    study = make_study(space=SPACE)
    ledger = Ledger(folder / "trials.jsonl")
    with ray_session(noise) as ref:

        def told() -> int:
            return sum(len(training.reports) for training in ledger.confirmed.values())

        given = study, noise, ref, SLOTS, folder
        search(*given, ledger, lambda: None, lambda: False)
        confirm(*given, ledger, lambda: None, lambda: told() >= 3)
        ledger.close()
        broken_off = Ledger(folder / "trials.jsonl")
        broken_off.close()
        ledger = Ledger(folder / "trials.jsonl")
        ledger.resume(searched=is_searched(study, ledger))
        confirm(*given, ledger, lambda: None, lambda: False)
    yield Confirmed(study, noise, folder, broken_off, ledger)
    ledger.close()


def test_finalists_and_baselines_are_trained_again_with_other_seeds(confirmed: Confirmed) -> None:
    plan = confirmed.ledger.plan
    assert plan is not None
    first, second = plan["finalists"]
    assert plan["baselines"] == ["steady"]
    assert set(confirmed.ledger.confirmed) == {
        "steady@1",
        *(f"{trial}@{number}" for trial in (first, second) for number in (1, 2)),
    }
    for name, training in confirmed.ledger.confirmed.items():
        trial = confirmed.ledger.trials[training.repeats]
        number = int(name.partition("@")[2])
        assert training.config == trial.config | {"seed": 5 + number}
        assert training.planned_epochs == trial.planned_epochs
        assert training.outcome == "completed"
        assert training.reports[-1].metrics != trial.reports[-1].metrics


def test_what_was_cut_off_goes_on_and_what_was_finished_is_not_trained_again(
    confirmed: Confirmed,
) -> None:
    before = confirmed.broken_off.confirmed
    outcomes = Counter(training.outcome for training in before.values())
    assert outcomes["completed"] >= 1
    assert outcomes["interrupted"] <= 1
    assert len(before) < 5
    events = list(read_events(confirmed.folder / "trials.jsonl"))
    within = [event["what"] for event in events if event["event"] == "confirm"]
    assert Counter(what["event"] for what in within)["plan"] == 1
    begun = Counter(what["trial"] for what in within if what["event"] == "trial")
    told = Counter((what["trial"], what["epoch"]) for what in within if what["event"] == "report")
    assert set(begun.values()) == {1}
    assert set(told.values()) == {1}


def test_a_reader_of_the_search_passes_over_its_confirmation(confirmed: Confirmed) -> None:
    names = [trial.trial for trial in read_trials(confirmed.folder / "trials.jsonl")]
    assert names == ["t0001", "t0002", "t0003", "steady"]


def test_the_weights_of_every_training_are_kept(confirmed: Confirmed) -> None:
    for name, training in confirmed.ledger.confirmed.items():
        (path,) = (confirmed.folder / "checkpoints" / name).iterdir()
        best = training.best(METRIC, "maximize")
        assert best is not None
        assert read_weights(path)[1]["epoch"] == str(best.epoch)
    for trial in confirmed.ledger.trials:  # those of the search stay, too
        assert (confirmed.folder / "checkpoints" / trial / "model.safetensors").is_file()


def test_a_training_is_chosen_by_the_means_over_seeds(confirmed: Confirmed) -> None:
    decision = confirmed.decide()
    found = decision.confirmed
    assert found is not None
    assert found["dropped"] == []
    assert decision.best.trial == found["training"]
    assert decision.best is confirmed.ledger.confirmed[found["training"]] or (
        decision.best.trial == "steady"
    )
    for trial, row in found["networks"].items():
        values = [training["value"] for training in row["trainings"]]
        assert row["mean"] == pytest.approx(sum(values) / len(values), abs=1e-6)
        assert row["low"] <= row["mean"] <= row["high"]
        assert len({training["seed"] for training in row["trainings"]}) == 2, trial
    own = next(
        t
        for t in found["networks"][found["chosen"]]["trainings"]
        if t["training"] == found["training"]
    )
    assert own["value"] == decision.validated[found["chosen"]]["dice_mean"]
    searched = confirmed.ledger.trials[found["searched"]["trial"]].best(METRIC, "maximize")
    assert searched is not None
    assert found["searched"]["value"] == searched.metrics[METRIC]
    assert found["searched"]["threshold"] == 0.5


def test_networks_are_compared_at_the_thresholds_that_they_would_go_out_with(
    confirmed: Confirmed,
) -> None:
    decision = confirmed.decide()
    assert decision.confirmed is not None
    assert decision.thresholds == decision.confirmed["thresholds"]
    assert set(decision.thresholds) == set(decision.networks)
    for trial, row in decision.confirmed["networks"].items():
        level, own = decision.thresholds[trial], decision.networks[trial]
        seen = [at_levels(confirmed, training, (level, 0.5)) for training in own]
        values = [told["value"] for told in row["trainings"]]
        assert values == pytest.approx([at for at, _ in seen], abs=1e-6)
        assert sum(at for at, _ in seen) >= sum(half for _, half in seen) - 1e-3 * len(seen)
        assert decision.validated[trial]["dice_mean"] in values


def at_levels(
    confirmed: Confirmed, training: TrialOutcome, levels: tuple[float, float]
) -> tuple[float, float]:
    """The objective of a training on the validation images at two thresholds."""
    predictor = restore(confirmed.folder, training, confirmed.samples)
    scored = [
        score_network(predictor, confirmed.samples.val, {INSIDE: View(level)})[0][INSIDE]
        for level in levels
    ]
    first, second = (scores.metrics["dice_mean"] for scores in scored)
    return first, second


def test_a_finalist_without_a_whole_training_leaves_the_study_unconfirmed(
    confirmed: Confirmed,
) -> None:
    ledger = confirmed.broken_off
    for name in list(ledger.confirmed):
        if name.startswith("t"):
            del ledger.confirmed[name]
    assert trainings(ledger) is None
    found = decide(confirmed.study, confirmed.samples, confirmed.folder, ledger)
    assert found is not None
    assert found.confirmed == {
        "chosen": None,
        "dropped": ["it was cut off before every finalist was trained again"],
    }
    assert set(found.networks) == {"steady", found.best.trial}


def test_the_test_split_is_opened_once_for_all_networks(confirmed: Confirmed) -> None:
    decision = confirmed.decide()
    given = confirmed.study, confirmed.samples, confirmed.folder, confirmed.ledger
    test = open_test(*given, decision)
    assert test is not None
    assert test["opened"] == 1
    for row in (test["incumbent"], test["baselines"]["steady"], test["searched"]["incumbent"]):
        for name, sure in row.items():
            assert sure["low"] <= sure["mean"] <= sure["high"], name
            if name in SHARES:
                assert 0 <= sure["low"] <= sure["value"] <= sure["high"] <= 1, name
    assert set(test["finalists"]) == set(confirmed.ledger.plan["finalists"])  # type: ignore[index]
    kept = [facts["views"][INSIDE]["at"] for facts in confirmed.ledger.tested.values()]
    assert set(kept) == set(decision.thresholds.values())
    assert test["whole"] is None  # every pixel lies in the field of view
    assert test["second_observer"] is None
    with (confirmed.folder / IMAGES).open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 * 2 * 2  # trainings, images, views
    shown = decision.shown[decision.chosen]
    own = [
        float(row["dice_mean"])
        for row in rows
        if (row["network"], row["seed"], row["view"])
        == (decision.chosen, str(shown.config["seed"]), INSIDE)
    ]
    assert sum(own) / len(own) == pytest.approx(test["incumbent"]["dice_mean"]["value"])
    assert {row["view"] for row in rows} == {INSIDE, SEARCHED}
    # once more: nothing is scored anew
    for folder in (confirmed.folder / "checkpoints").iterdir():
        if folder.name != decision.best.trial:
            (folder / "model.safetensors").rename(folder / "away")
    try:
        assert open_test(*given, decision) == test
    finally:
        for folder in (confirmed.folder / "checkpoints").iterdir():
            if (folder / "away").exists():
                (folder / "away").rename(folder / "model.safetensors")


@pytest.fixture(scope="module")
def over_folds(
    make_study: MakeStudy, noise: SampleSet, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Confirmed]:
    """A study with one finalist, confirmed on four folds."""
    folder = tmp_path_factory.mktemp("folds") / "run"
    (folder / "checkpoints").mkdir(parents=True)
    study = make_study({"confirm.finalists": 1, "confirm.seeds": 1, "confirm.folds": 4}, SPACE)
    ledger = Ledger(folder / "trials.jsonl")
    with ray_session(noise) as ref:
        given = study, noise, ref, SLOTS, folder, ledger, lambda: None, lambda: False
        search(*given)
        confirm(*given)
    yield Confirmed(study, noise, folder, ledger, ledger)
    ledger.close()


def test_every_fold_validates_on_subjects_that_it_did_not_train_on(over_folds: Confirmed) -> None:
    ledger, plan = over_folds.ledger, over_folds.ledger.plan
    assert plan is not None
    (finalist,) = plan["finalists"]
    assert {name: t.fold for name, t in ledger.confirmed.items()} == {
        f"{finalist}@1": (0, 4),
        **{f"{t}@1.{k}": (k, 4) for t in (finalist, "steady") for k in (1, 2, 3)},
    }
    found = over_folds.decide().confirmed
    assert found is not None
    assert (found["folds"], found["images"], found["dropped"]) == (4, 4, [])
    for row in found["networks"].values():
        assert [training["fold"] for training in row["trainings"]] == [0, 1, 2, 3]
        # One image a fold: what a worker found there is what the network says of it afterwards.
        values = [training["value"] for training in row["trainings"]]
        assert row["mean"] == pytest.approx(sum(values) / 4, abs=1e-6)
        assert len(set(values)) == 4


def test_of_all_folds_only_the_split_of_the_study_is_exported_and_tested(
    over_folds: Confirmed,
) -> None:
    decision = over_folds.decide()
    assert decision.best.fold[0] == 0
    assert {one.fold[0] for own in decision.networks.values() for one in own} == {0}
    assert {trial: len(own) for trial, own in decision.networks.items()} == {
        "steady": 1,
        decision.chosen: 1,
    } | {trial: 1 for trial in over_folds.ledger.plan["finalists"]}  # type: ignore[index]


def test_without_a_whole_round_of_each_the_split_of_the_study_decides(
    over_folds: Confirmed,
) -> None:
    ledger = Ledger(over_folds.folder / "trials.jsonl")
    ledger.close()
    del ledger.confirmed["steady@1.2"]
    given = over_folds.study, over_folds.samples, over_folds.folder, ledger
    found = decide(*given)
    assert found is not None
    assert found.confirmed is not None
    assert (found.confirmed["folds"], found.confirmed["images"]) == (1, 1)
    assert found.confirmed["dropped"] == [
        "no time was left for steady@1.2",
        "not every network came through all folds, so that the study's split decides",
    ]


class Rerunning:
    """A searcher of two reruns of one trial, over a record in memory."""

    def __init__(self, study: Study, left: float = 1e6, after: float | None = None) -> None:
        self.ledger = Ledger(None)
        config = study.fixed.model_dump(mode="json")
        facts: dict[str, Any] = {"overrides": {}, "config": config, "cost": {}}
        self.ledger.start(trial="t1", baseline=False, planned_epochs=4, **facts)
        self.queue = [Rerun("t1", number, 11.0, after=after) for number in (1, 2)]
        self.own = ConfirmLedger(self.ledger)
        plan = Plan(4, 1.0, 1, 1.0, memory=0, micro_batch=2)
        self.searcher = RerunSearcher(
            study, self.queue, self.ledger.trials, self.own, lambda _: plan, lambda: left, 1.0
        )

    def begin(self, id: str) -> dict[str, Any]:
        proposal = self.searcher.suggest(id)
        assert isinstance(proposal, dict)
        facts = {key: proposal[key] for key in ("overrides", "config", "cost", "planned_epochs")}
        if proposal["name"] not in self.own.trials:
            self.own.start(trial=proposal["name"], baseline=False, **facts)
        return proposal


def test_a_rerun_whose_worker_was_lost_goes_on_at_once(make_study: MakeStudy) -> None:
    made = Rerunning(make_study(space=SPACE))
    assert made.begin("a")["name"] == "t1@1"
    made.searcher.on_trial_complete("a", error=True)
    assert made.begin("b")["name"] == "t1@1"


def test_a_rerun_that_failed_is_not_tried_again(make_study: MakeStudy) -> None:
    made = Rerunning(make_study(space=SPACE))
    made.begin("a")
    made.own.end("t1@1", "failed", "no luck")
    made.searcher.on_trial_complete("a", error=True)
    assert made.begin("b")["name"] == "t1@2"
    assert made.searcher.suggest("c") is None
    made.searcher.on_trial_complete("b", {})
    assert made.searcher.suggest("d") == "FINISHED"


def test_what_would_not_end_in_time_is_not_begun(make_study: MakeStudy) -> None:
    made = Rerunning(make_study(space=SPACE), left=9.0)  # ten are needed
    assert made.searcher.suggest("a") == "FINISHED"
    assert made.own.trials == {}


@pytest.mark.parametrize(("left", "begun"), [(13.9, False), (14.0, True)])
def test_what_is_spare_is_begun_where_it_surely_ends_and_all_can_be_scored(
    make_study: MakeStudy, left: float, begun: bool
) -> None:
    made = Rerunning(make_study(space=SPACE), left, after=3.0)
    assert (made.searcher.suggest("a") != "FINISHED") == begun


def test_the_time_of_a_confirmation_is_no_time_of_the_search(make_study: MakeStudy) -> None:
    study, now = make_study(space=SPACE), 0.0
    ledger = Ledger(None, lambda: now)
    now = 100.0
    before = ledger.left(study.search_budget)
    ledger.confirm(
        {"event": "plan", "budget": study.budget.model_dump(), "until": 130.0, "queue": []}
    )
    assert is_searched(study, ledger)
    assert confirming_left(ledger) == 30.0
    now = 120.0
    facts: dict[str, Any] = {"overrides": {}, "config": {}, "cost": {}}
    ConfirmLedger(ledger).start(trial="t1@1", baseline=False, planned_epochs=1, **facts)
    assert ledger.left(study.search_budget) == before
    more = study.budget.model_copy(update={"time": 7200.0})
    assert not is_searched(study.model_copy(update={"budget": more}), ledger)


def test_the_search_leaves_the_confirmation_its_share(make_study: MakeStudy) -> None:
    study = make_study({"confirm.share": 0.25}, SPACE)
    assert study.search_budget.time == 2700.0
    assert search_seconds(study.search_budget) < 0.75 * search_seconds(study.budget) + 1e-6
    without = make_study({"confirm.finalists": 0}, SPACE)
    assert without.search_budget == without.budget


def test_a_plan_in_the_record_is_taken_up_without_what_has_ended(make_study: MakeStudy) -> None:
    ledger = Ledger(None)
    queue = [{"trial": "t1", "number": number, "seconds": 1.0} for number in (1, 2)]
    ledger.confirm({"event": "plan", "budget": {}, "until": 9.0, "queue": queue})
    own = ConfirmLedger(ledger)
    facts: dict[str, Any] = {"overrides": {}, "config": {}, "cost": {}}
    own.start(trial="t1@1", baseline=False, planned_epochs=1, **facts)
    own.end("t1@1", "interrupted", "the study ended")
    assert [rerun.name for rerun in queue_of(ledger)] == ["t1@2"]
    ledger.resume(searched=True)
    assert [rerun.name for rerun in queue_of(ledger)] == ["t1@1", "t1@2"]
    own.end("t1@1", "completed")
    assert [rerun.name for rerun in queue_of(ledger)] == ["t1@2"]
