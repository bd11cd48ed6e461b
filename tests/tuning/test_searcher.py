"""What is proposed, and what Optuna is told. Real Optuna; the tests play Ray's part."""

import logging
import math
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from r2search.config import Baseline, Study, TrainConfig, TrialConfig
from r2search.records import EpochReport
from r2search.space import contains, draw, trial_config
from r2search.tuning.budget import Plan, Refusal
from r2search.tuning.events import Ledger, read_events
from r2search.tuning.optuna_view import OptunaView
from r2search.tuning.proposals import MOST_DRAWS, STARTUP_TRIALS, suggest_by
from r2search.tuning.searcher import StudySearcher

METRIC = "val/dice_mean"
EPOCHS = 4
MakeStudy = Callable[..., Study]


def plan(config: TrialConfig, refuse: Callable[[TrialConfig], bool] = lambda config: False) -> Plan:
    seconds = float(config.model.depth * config.model.base_filters)
    return Plan(
        epochs=EPOCHS,
        epoch_seconds=seconds,
        parameters=1,
        flops=1.0,
        memory=10 * config.model.base_filters,
        micro_batch=3,
        refusal=Refusal("too_slow", "too dear", seconds) if refuse(config) else None,
    )


def held(config: TrialConfig, limit: float) -> Plan:
    """The plan where memory holds no network that is deeper than `limit`."""
    planned = plan(config)
    if config.model.depth <= limit:
        return planned
    excess = config.model.depth / limit - 1
    return replace(planned, refusal=Refusal("too_large", "too large", excess))


def second_an_epoch(config: TrialConfig) -> Plan:
    return replace(plan(config), epoch_seconds=1.0)


def note(ledger: Ledger, proposal: dict[str, Any], seconds: dict[str, float]) -> None:
    """Write down a trial, and an epoch of it that took so long."""
    if proposal["name"] not in ledger.trials:
        parts = ("baseline", "overrides", "config", "cost", "planned_epochs")
        ledger.start(trial=proposal["name"], **{part: proposal[part] for part in parts})
    report = EpochReport(epoch=1, metrics={}, pixels=1, seconds=seconds)
    ledger.report(proposal["name"], report, "w")


def result(epoch: int, value: float) -> dict[str, Any]:
    return {METRIC: value, "epoch": epoch}


def run(searcher: StudySearcher, name: str, values: list[float]) -> dict[str, Any]:
    """One trial as Ray tells it: all results but the last, then the end with the last."""
    proposal = searcher.suggest(name)
    assert isinstance(proposal, dict)
    for epoch, value in enumerate(values[:-1], start=1):
        searcher.on_trial_result(name, result(epoch, value))
    searcher.on_trial_complete(name, result(len(values), values[-1]))
    return proposal


def told(searcher: StudySearcher) -> list[FrozenTrial]:
    return searcher._proposals._optuna.get_trials()


def value_of(overrides: dict[str, Any]) -> float:
    """An objective for whole searches: shallow networks are better."""
    return 1.0 - 0.1 * overrides["model.depth"] - overrides["model.dropout"]


def proposals(searcher: StudySearcher, count: int) -> list[dict[str, Any]]:
    """The overrides of `count` trials beside the baselines, each trained to its end."""
    drawn: list[dict[str, Any]] = []
    number = 0
    while len(drawn) < count:
        number += 1
        proposal = searcher.suggest(f"ray{number}")
        assert isinstance(proposal, dict)
        overrides = proposal["overrides"]
        value = 0.5 if proposal["baseline"] else value_of(overrides)
        searcher.on_trial_complete(f"ray{number}", result(EPOCHS, value))
        if not proposal["baseline"]:
            drawn.append(overrides)
    return drawn


def test_where_no_time_ends_the_search_baselines_come_first_in_the_order_of_the_file(
    make_study: MakeStudy, ledger: Ledger
) -> None:
    searcher = StudySearcher(make_study(), plan, ledger)
    first = [run(searcher, f"ray{i}", [0.5] * EPOCHS) for i in range(4)]
    assert [p["name"] for p in first] == ["outside", "inside", "t0001", "t0002"]
    assert [p["baseline"] for p in first] == [True, True, False, False]


def test_baselines_begin_as_late_as_all_of_them_can_one_after_the_other(
    make_study: MakeStudy, ledger: Ledger
) -> None:
    names = []
    searcher = StudySearcher(make_study(), second_an_epoch, ledger, left=lambda: left)
    for left in (100.0, 2.7 * EPOCHS, 2.5 * EPOCHS, 1.4 * EPOCHS, 1.2 * EPOCHS, 1.0):
        names.append(run(searcher, f"ray{left}", [0.5] * EPOCHS)["name"])
    assert names == ["t0001", "t0002", "outside", "t0003", "inside", "t0004"]


def test_where_epochs_take_longer_than_was_predicted_baselines_begin_earlier(
    make_study: MakeStudy, ledger: Ledger
) -> None:
    left = 1000.0
    searcher = StudySearcher(make_study(), second_an_epoch, ledger, left=lambda: left)
    for number in range(3):
        proposal = run(searcher, f"ray{number}", [0.5])
        note(ledger, proposal, {"train": 2.5, "validate": 0.5})
    left = 1.3 * 3.0 * 2 * EPOCHS + 1  # of two baselines
    assert not run(searcher, "ray3", [0.5])["baseline"]
    left -= 2
    assert run(searcher, "ray4", [0.5])["name"] == "outside"
    left = 3.0 * 2 + 1  # too late for all epochs of the other one: its schedule is compressed
    late = run(searcher, "ray5", [0.5])
    assert (late["name"], late["planned_epochs"]) == ("inside", 2)


def test_baselines_are_run_when_there_is_nothing_else_to_draw(
    make_study: MakeStudy, ledger: Ledger
) -> None:
    study = make_study({"budget.trials": 2})
    searcher = StudySearcher(study, plan, ledger, left=lambda: 1e9)
    names = [run(searcher, f"ray{i}", [0.5] * EPOCHS)["name"] for i in range(4)]
    assert names == ["t0001", "t0002", "outside", "inside"]
    assert searcher.suggest("ray4") == Searcher.FINISHED


def test_a_proposal_is_all_that_a_trainable_needs(make_study: MakeStudy, ledger: Ledger) -> None:
    study = make_study()
    searcher = StudySearcher(study, plan, ledger)
    for number in range(4):
        proposal = run(searcher, f"ray{number}", [0.5])
        config = TrialConfig.model_validate(proposal["config"])
        assert config == trial_config(study, proposal["overrides"])
        assert proposal["planned_epochs"] == EPOCHS
        assert proposal["cost"] == plan(config).cost()
        assert (proposal["micro_batch"], proposal["gpu_share"]) == (3, None)


def test_only_a_baseline_inside_the_space_is_told_to_optuna(
    make_study: MakeStudy, ledger: Ledger
) -> None:
    searcher = StudySearcher(make_study(), plan, ledger)
    run(searcher, "ray1", [0.6] * EPOCHS)
    assert told(searcher) == []  # 16 filters are not in the space
    run(searcher, "ray2", [0.7] * EPOCHS)
    (trial,) = told(searcher)
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.7)
    # Every parameter, also those that the baseline leaves at their defaults.
    assert trial.params == {
        "model.block": "conv",
        "model.depth": 2,
        "model.base_filters": 8,
        "model.dropout": 0.0,
        "train.lr": 0.01,
        "train.class_weights": 1.0,
    }
    assert trial.user_attrs["trial"] == "inside"


@pytest.fixture
def bare(make_study: MakeStudy) -> Study:
    """The study without baselines."""
    return make_study().model_copy(update={"baselines": {}})


def test_a_finished_trial_is_complete_with_its_best_value(bare: Study, ledger: Ledger) -> None:
    searcher = StudySearcher(bare, plan, ledger)
    run(searcher, "ray1", [0.3, 0.8, 0.6, 0.7])
    (trial,) = told(searcher)
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.8)
    assert trial.intermediate_values == {1: 0.3, 2: 0.8, 3: 0.8, 4: 0.8}
    assert trial.user_attrs["trial"] == "t0001"


def test_a_stopped_trial_is_pruned_with_its_best_values_so_far(bare: Study, ledger: Ledger) -> None:
    searcher = StudySearcher(bare, plan, ledger)
    run(searcher, "ray1", [0.3, 0.6, 0.5])
    (trial,) = told(searcher)
    assert (trial.state, trial.value) == (TrialState.PRUNED, 0.6)
    assert trial.intermediate_values == {1: 0.3, 2: 0.6, 3: 0.6}


def test_the_best_value_is_the_smallest_when_the_goal_is_to_minimize(
    make_study: MakeStudy, ledger: Ledger
) -> None:
    study = make_study({"metric.goal": "minimize"}).model_copy(update={"baselines": {}})
    searcher = StudySearcher(study, plan, ledger)
    run(searcher, "ray1", [0.5, 0.2, 0.3, 0.4])
    (trial,) = told(searcher)
    assert trial.value == 0.2
    assert trial.intermediate_values == {1: 0.5, 2: 0.2, 3: 0.2, 4: 0.2}


@pytest.mark.parametrize(
    "ending",
    [
        {"result": None},
        {"result": {"epoch": 2}},
        {"result": result(2, float("nan"))},
        {"result": result(EPOCHS, float("inf"))},
    ],
    ids=["stopped before it began", "no metric", "nan", "inf"],
)
def test_a_trial_without_a_score_has_failed(
    bare: Study, ledger: Ledger, ending: dict[str, Any]
) -> None:
    searcher = StudySearcher(bare, plan, ledger)
    searcher.suggest("ray1")
    searcher.on_trial_result("ray1", result(1, 0.5))
    searcher.on_trial_complete("ray1", **ending)
    assert [trial.state for trial in told(searcher)] == [TrialState.FAIL]
    assert isinstance(searcher.suggest("ray2"), dict)  # and the search goes on


def test_a_result_that_is_not_finite_is_not_told(bare: Study, ledger: Ledger) -> None:
    searcher = StudySearcher(bare, plan, ledger)
    run(searcher, "ray1", [0.3, float("nan"), 0.4])
    (trial,) = told(searcher)
    assert trial.intermediate_values == {1: 0.3, 3: 0.4}


def test_nothing_stays_running(bare: Study, ledger: Ledger) -> None:
    searcher = StudySearcher(bare, lambda c: plan(c, lambda c: c.model.depth > 3), ledger)
    for number in range(20):
        values = [0.1 * number] * (1 + number % EPOCHS)
        run(searcher, f"ray{number}", values)
    assert not [t for t in told(searcher) if not t.state.is_finished()]


def test_the_trial_budget_ends_the_search(make_study: MakeStudy, ledger: Ledger) -> None:
    searcher = StudySearcher(make_study({"budget.trials": 3}), plan, ledger)
    names = [run(searcher, f"ray{i}", [0.5])["name"] for i in range(5)]
    assert names == ["outside", "inside", "t0001", "t0002", "t0003"]  # beside the baselines
    assert searcher.suggest("ray6") == Searcher.FINISHED


@pytest.mark.parametrize("kind", ["tpe", "random"])
def test_proposals_are_members_of_the_space(
    make_study: MakeStudy, ledger: Ledger, kind: str
) -> None:
    study = make_study({"search.searcher": kind})
    drawn = proposals(StudySearcher(study, plan, ledger), 30)
    assert all(contains(study, overrides) for overrides in drawn)
    # `when`: the recurrence of what does not recur is never proposed.
    seen = {("model.recurrence" in o, o["model.block"]) for o in drawn}
    assert seen == {(True, "recurrent"), (False, "conv")}


@pytest.mark.parametrize("kind", ["tpe", "random"])
def test_the_same_seed_gives_the_same_proposals(
    make_study: MakeStudy, tmp_path: Path, kind: str
) -> None:
    runs = []
    for number, seed in enumerate((7, 7, 8)):
        study = make_study({"search.searcher": kind, "search.seed": seed})
        ledger = Ledger(tmp_path / f"{number}.jsonl")
        runs.append(proposals(StudySearcher(study, plan, ledger), 20))
        ledger.close()
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_probabilities_weigh_random_draws(make_study: MakeStudy, ledger: Ledger) -> None:
    study = make_study({"search.searcher": "random", "budget.trials": 200})
    drawn = Counter(
        o["model.base_filters"] for o in proposals(StudySearcher(study, plan, ledger), 200)
    )
    # 4 has 0.9: 180 of 200, with a standard deviation of 4.2. An even draw would give 100.
    assert 160 <= drawn[4] < 200


def test_optuna_too_draws_both_ends_of_ranges(make_study: MakeStudy) -> None:
    study = make_study()
    evidence = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = [draw(study, suggest_by(evidence.ask())) for _ in range(200)]
    assert {each["model.depth"] for each in found} == {1, 2, 3, 4}
    assert {each["model.recurrence"] for each in found if "model.recurrence" in each} == {1, 2, 3}
    assert {each["model.dropout"] for each in found} == {0.0, 0.1, 0.2, 0.3}


def test_tpe_finds_what_a_random_search_does_not(make_study: MakeStudy, tmp_path: Path) -> None:
    means = {}
    for kind in ("tpe", "random"):
        ledger = Ledger(tmp_path / f"{kind}.jsonl")
        drawn = proposals(StudySearcher(make_study({"search.searcher": kind}), plan, ledger), 30)
        ledger.close()
        means[kind] = sum(map(value_of, drawn[STARTUP_TRIALS:])) / (30 - STARTUP_TRIALS)
    # A random draw is worth 1 - 0.1 * 2.5 - 0.15 = 0.6; the best is 0.9.
    assert means["tpe"] > means["random"] + 0.05


@pytest.mark.parametrize("kind", ["tpe", "random"])
def test_what_the_budget_refuses_is_counted_and_never_proposed(
    make_study: MakeStudy, ledger: Ledger, tmp_path: Path, kind: str
) -> None:
    study = make_study({"search.searcher": kind})
    searcher = StudySearcher(study, lambda c: plan(c, lambda c: c.model.depth > 2), ledger)
    assert all(overrides["model.depth"] <= 2 for overrides in proposals(searcher, 30))
    refused = [e for e in read_events(tmp_path / "trials.jsonl") if e["event"] == "infeasible"]
    assert len(refused) == ledger.infeasible > 0
    assert all(event["overrides"]["model.depth"] > 2 for event in refused)
    assert {event["reason"] for event in refused} == {"too dear"}


def test_tpe_learns_what_the_budget_refuses(make_study: MakeStudy, ledger: Ledger) -> None:
    # Deep networks are better here, and refused: untold, TPE would propose them for ever.
    searcher = StudySearcher(
        make_study(), lambda c: plan(c, lambda config: config.model.depth > 2), ledger
    )
    proposals(searcher, STARTUP_TRIALS)
    before = ledger.infeasible
    for number in range(20):
        run(searcher, f"more{number}", [0.1] * EPOCHS)
    # Half of the random draws are refused, one for each that fits; TPE does better than that.
    assert ledger.infeasible - before < 20


def test_what_is_refused_breaks_a_constraint_of_optuna(bare: Study, ledger: Ledger) -> None:
    searcher = StudySearcher(bare, lambda c: held(c, 2), ledger)
    proposals(searcher, 30)
    refused = [t for t in told(searcher) if any(v > 0 for v in t.constraints.values())]
    assert {t.state for t in refused} == {TrialState.PRUNED}
    assert {(t.params["model.depth"], *t.constraints.items()) for t in refused} <= {
        (3, ("too_large", 0.5)),
        (4, ("too_large", 1.0)),
    }
    assert refused  # by the seed
    assert ledger.refused["too_large"] == ledger.infeasible


def test_a_trial_that_ran_out_of_memory_breaks_it_too(bare: Study, ledger: Ledger) -> None:
    searcher = StudySearcher(bare, plan, ledger)
    searcher.suggest("ray1")
    searcher.on_trial_complete("ray1", {"outcome": "infeasible", "reason": "out of memory"})
    (trial,) = told(searcher)
    assert trial.state == TrialState.PRUNED
    assert trial.constraints["too_large"] > 0


@pytest.mark.parametrize("kind", ["tpe", "random"])
def test_when_memory_holds_nothing_the_search_ends(
    make_study: MakeStudy, ledger: Ledger, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    study = make_study({"search.searcher": kind}).model_copy(update={"baselines": {}})
    searcher = StudySearcher(study, lambda c: held(c, 0.5), ledger)
    with caplog.at_level(logging.WARNING):
        assert searcher.suggest("ray1") == Searcher.FINISHED
    assert told(searcher) == []
    (message,) = [r.getMessage() for r in caplog.records]
    assert message == (
        f"none of {MOST_DRAWS} draws can be run (the last one too large); the search ends"
    )


def test_of_what_is_too_slow_and_too_large_the_cheapest_that_fits_into_memory_runs(
    bare: Study, ledger: Ledger
) -> None:
    def planner(config: TrialConfig) -> Plan:
        too_large = config.model.base_filters == 4  # and else too slow
        return held(config, 0.5) if too_large else plan(config, lambda config: True)

    drawn = proposals(StudySearcher(bare, planner, ledger), 3)
    assert {(o["model.depth"], o["model.base_filters"]) for o in drawn} == {(1, 8)}
    assert min(ledger.refused["too_large"], ledger.refused["too_slow"]) > 0


@pytest.mark.parametrize("kind", ["tpe", "random"])
def test_what_runs_instead_of_a_proposal_is_told_as_if_it_had_been_proposed(
    make_study: MakeStudy, ledger: Ledger, kind: str
) -> None:
    study = make_study({"search.searcher": kind}).model_copy(update={"baselines": {}})
    wanted = []

    def instead(overrides: dict[str, Any]) -> dict[str, Any]:
        wanted.append(overrides)
        return {"model.block": "conv"} | overrides | {"train.lr": 0.05}

    searcher = StudySearcher(study, plan, ledger, instead=instead)
    count = STARTUP_TRIALS + 3
    proposed = [run(searcher, f"ray{n}", [0.1 * n] * EPOCHS)["overrides"] for n in range(count)]
    assert [overrides["train.lr"] for overrides in proposed] == [0.05] * count
    assert len({overrides["train.lr"] for overrides in wanted}) == count
    trials = [trial for trial in told(searcher) if trial.state != TrialState.FAIL]
    assert [trial.params["train.lr"] for trial in trials] == [0.05] * count
    assert [trial.value for trial in trials] == pytest.approx([0.1 * n for n in range(count)])


def test_nothing_is_proposed_while_the_gpus_are_full(bare: Study, ledger: Ledger) -> None:
    shares = iter([0.5, 1.0, 0.25])
    searcher = StudySearcher(
        bare, lambda c: replace(plan(c), gpu_share=next(shares)), ledger, gpus=1
    )
    first, second = searcher.suggest("ray1"), searcher.suggest("ray2")  # it waits for a whole GPU
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert (first["gpu_share"], second["gpu_share"]) == (0.5, 1.0)
    assert searcher.suggest("ray3") is None
    searcher.on_trial_complete("ray1", result(EPOCHS, 0.5))
    assert searcher.suggest("ray3") is None
    searcher.on_trial_complete("ray2", {"outcome": "failed"})
    third = searcher.suggest("ray3")
    assert isinstance(third, dict)
    assert third["name"] == "t0003"


def test_a_trial_that_lost_its_worker_is_proposed_again_before_all_others(
    make_study: MakeStudy, ledger: Ledger
) -> None:
    searcher = StudySearcher(make_study(), plan, ledger)
    first = searcher.suggest("ray1")
    assert isinstance(first, dict)
    searcher.on_trial_result("ray1", result(1, 0.5))
    searcher.on_trial_complete("ray1", error=True)
    assert searcher.suggest("ray2") == first | {"reported": 1}
    searcher.on_trial_result("ray2", result(1, 0.5))  # trained again
    searcher.on_trial_complete("ray2", result(EPOCHS, 0.6))
    second = searcher.suggest("ray3")
    assert isinstance(second, dict)
    assert second["name"] != first["name"]


def test_a_trial_that_failed_with_its_worker_is_told_and_not_proposed_again(
    bare: Study, ledger: Ledger
) -> None:
    searcher = StudySearcher(bare, plan, ledger)
    first = searcher.suggest("ray1")
    assert isinstance(first, dict)
    facts = {key: first[key] for key in ("baseline", "overrides", "config", "cost")}
    ledger.start(trial="t0001", planned_epochs=EPOCHS, **facts)
    searcher.on_trial_complete("ray1", error=True)
    ledger.end("t0001", "failed", "killed its worker twice")
    second = searcher.suggest("ray2")
    assert isinstance(second, dict)
    assert second["name"] == "t0002"
    assert [trial.state for trial in told(searcher)] == [TrialState.FAIL, TrialState.RUNNING]


def test_a_baseline_is_never_refused(make_study: MakeStudy, ledger: Ledger) -> None:
    searcher = StudySearcher(make_study(), lambda c: plan(c, lambda c: True), ledger)
    assert [run(searcher, f"ray{i}", [0.5])["name"] for i in range(2)] == ["outside", "inside"]
    assert ledger.infeasible == 0


@pytest.mark.parametrize("kind", ["tpe", "random"])
def test_when_nothing_fits_the_cheapest_draw_runs_with_one_warning(
    make_study: MakeStudy, ledger: Ledger, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    study = make_study({"search.searcher": kind})
    searcher = StudySearcher(study, lambda c: plan(c, lambda c: True), ledger)
    with caplog.at_level(logging.WARNING):
        drawn = proposals(searcher, 12)
    # Of 100 draws, some have the least depth and the fewest filters.
    assert {(o["model.depth"], o["model.base_filters"]) for o in drawn} == {(1, 4)}
    assert ledger.infeasible == 12 * MOST_DRAWS
    (message,) = [r.getMessage() for r in caplog.records]
    assert message == (
        f"none of {MOST_DRAWS} draws fits the budget; running the cheapest of them (too dear)"
    )


SIX = """\
name: tiny
data: {reader: synthetic_retina}
metric: {name: val/dice_mean, goal: maximize}
parameters:
  model.depth: {min: 1, max: 3}
  model.block: {values: [conv, residual]}
baselines: {known: {model.depth: 2, model.block: conv}}
"""


@pytest.mark.parametrize("kind", ["tpe", "random"])
def test_no_config_is_run_twice_and_the_search_ends_when_all_were(
    make_study: MakeStudy, ledger: Ledger, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    study = make_study({"search.searcher": kind}, space=SIX)
    searcher = StudySearcher(study, plan, ledger)
    found = []
    while isinstance(proposal := searcher.suggest(f"ray{len(found)}"), dict):
        found.append((proposal["overrides"]["model.depth"], proposal["overrides"]["model.block"]))
        searcher.on_trial_complete(f"ray{len(found) - 1}", result(EPOCHS, 0.5))
    assert sorted(found) == [(d, b) for d in (1, 2, 3) for b in ("conv", "residual")]
    assert found[0] == (2, "conv")  # the baseline
    assert ledger.refused["repeated"] == ledger.infeasible > 0
    (message,) = [r.getMessage() for r in caplog.records]
    assert message.endswith("(the last one was tried before); the search ends")
    # What was drawn again says nothing against its neighbourhood.
    assert not any(trial.constraints for trial in told(searcher))


def test_the_first_trials_are_drawn_near_the_baselines_if_a_prior_says_so_and_later_ones_less(
    make_study: MakeStudy, ledger: Ledger
) -> None:
    def share(overrides: list[dict[str, Any]]) -> float:
        """Of draws that have the very rate of a baseline, which is no draw by chance."""
        return sum(one["train.lr"] in (0.01, TrainConfig().lr) for one in overrides) / len(
            overrides
        )

    settings = {"budget.trials": 400, "search.searcher": "random"}
    believing = StudySearcher(make_study(settings | {"search.prior": 1.0}), plan, ledger)
    drawn = proposals(believing, 400)
    assert share(drawn[:10]) > 0.2  # a half of three quarters
    assert share(drawn[:100]) > 2 * share(drawn[100:])
    without = Ledger(None)
    assert share(proposals(StudySearcher(make_study(settings), plan, without), 100)) == 0
    alone = make_study(settings | {"search.prior": 1.0}).model_copy(update={"baselines": {}})
    assert share(proposals(StudySearcher(alone, plan, Ledger(None)), 20)) == 0


START = {
    "model.block": "conv",
    "model.depth": 4,
    "model.base_filters": 4,
    "model.dropout": 0.0,
    "train.lr": 0.1,
    "train.class_weights": 1.0,
}
STARTS = {"starts": {"deep": START, "flat": START | {"model.depth": 1}}}


def test_the_starts_of_the_space_file_are_drawn_first_and_once(
    make_study: MakeStudy, ledger: Ledger
) -> None:
    study = make_study().model_copy(update=STARTS)
    found = proposals(StudySearcher(study, plan, ledger), 5)
    assert found[:2] == [study.starts["deep"], study.starts["flat"]]
    assert not any(one in study.starts.values() for one in found[2:])
    without = proposals(StudySearcher(make_study(), plan, Ledger(None)), 2)
    assert not any(one in study.starts.values() for one in without)


def test_a_start_is_proposed_once_where_another_config_runs_in_its_place(
    make_study: MakeStudy, ledger: Ledger
) -> None:
    study = make_study({"search.searcher": "random"}).model_copy(update={"baselines": {}} | STARTS)
    wanted = []

    def instead(overrides: dict[str, Any]) -> dict[str, Any]:
        wanted.append(overrides)
        return START | {"train.lr": 0.01 + 0.001 * len(wanted)}

    proposals(StudySearcher(study, plan, ledger, instead=instead), 4)
    assert [one in study.starts.values() for one in wanted] == [True, True, False, False]


def test_a_start_that_is_refused_is_passed_over_and_not_counted_again_at_a_resume(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    study = make_study().model_copy(update=STARTS)

    def planner(config: TrialConfig) -> Plan:
        return plan(config, lambda config: config.model.depth == 4)

    first = Ledger(tmp_path / "trials.jsonl")
    assert proposals(StudySearcher(study, planner, first), 1) == [study.starts["flat"]]
    first.close()
    assert first.refused["too_slow"] == 1
    again = Ledger(tmp_path / "trials.jsonl")
    assert proposals(StudySearcher(study, planner, again), 1) == [study.starts["flat"]]
    assert again.refused["too_slow"] == 1


def trials_to_target(study: Study) -> int:
    """How many trials of one epoch until one has nearly the best value, which few draws have."""
    searcher = StudySearcher(study, plan_of_one_epoch, Ledger(None))
    for number in range(1, 300):
        proposal = searcher.suggest(str(number))
        assert isinstance(proposal, dict)
        model, lr = proposal["config"]["model"], proposal["config"]["train"]["lr"]
        value = 1.1 - 0.1 * model["depth"] - model["dropout"] - 0.2 * abs(math.log10(lr) + 2)
        searcher.on_trial_complete(str(number), result(1, value))
        if value >= 0.95:
            return number
    raise AssertionError("no trial came to the target")


def plan_of_one_epoch(config: TrialConfig) -> Plan:
    return replace(plan(config), epochs=1)


@pytest.mark.parametrize("prior", [0.0, 0.5])
def test_a_baseline_far_from_the_best_costs_at_most_a_fifth_more_time(
    make_study: MakeStudy, prior: float
) -> None:
    far = {"model.block": "conv", "model.depth": 4, "model.base_filters": 8}
    bad = {"bad": Baseline(overrides=far | {"model.dropout": 0.3, "train.lr": 1e-4})}
    needed = []
    for baselines, chance in (({}, 0.0), (bad, prior)):
        study = make_study({"early_terminate.type": "none", "search.prior": chance, **LONG})
        searches = [study.search.model_copy(update={"seed": seed}) for seed in range(40)]
        seeded = ({"baselines": baselines, "search": search} for search in searches)
        found = [trials_to_target(study.model_copy(update=one)) for one in seeded]
        needed.append(statistics.median(found))
    assert needed[1] <= 1.2 * needed[0]


LONG = {"budget.trials": 300, "budget.max_epochs": 1}


def test_the_journal_holds_the_finished_trials(bare: Study, ledger: Ledger, tmp_path: Path) -> None:
    searcher = StudySearcher(bare, plan, ledger, OptunaView(bare, tmp_path))
    run(searcher, "ray1", [0.3, 0.8, 0.6, 0.7])
    run(searcher, "ray2", [0.2, 0.4])
    searcher.suggest("ray3")
    searcher.on_trial_complete("ray3", {"outcome": "failed"})
    searcher.suggest("ray4")  # still running
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(tmp_path / "study.journal")))
    study = optuna.load_study(study_name="tiny", storage=storage)
    assert study.best_value == 0.8
    assert [(t.user_attrs["trial"], t.state.name, t.value) for t in study.trials] == [
        ("t0001", "COMPLETE", 0.8),
        ("t0002", "PRUNED", 0.4),
        ("t0003", "FAIL", None),
    ]
    assert study.trials[0].intermediate_values == {1: 0.3, 2: 0.8, 3: 0.8, 4: 0.8}


def test_costs_that_are_objectives_are_told_with_what_a_trial_reached(
    make_study: MakeStudy, ledger: Ledger, tmp_path: Path
) -> None:
    settings = {"metric.against": ["parameters", "epoch_seconds"], "early_terminate.type": "asha"}
    study = make_study(settings).model_copy(update={"baselines": {}})
    searcher = StudySearcher(study, plan, ledger, OptunaView(study, tmp_path))
    whole = run(searcher, "ray1", [0.3])  # waits at its first rung
    epoch, number = 1, 1
    while epoch < EPOCHS:  # others come to the rungs, until one goes on to its end
        number += 1
        proposal = searcher.suggest(f"ray{number}")
        assert isinstance(proposal, dict)
        epoch = proposal["until_epoch"]
        searcher.on_trial_complete(f"ray{number}", result(epoch, 0.9))
    first, *_, last = told(searcher)
    assert (first.state, first.values) == (TrialState.COMPLETE, [0.3, *costs(whole)])
    assert (last.state, last.values) == (TrialState.COMPLETE, [0.9, *costs(proposal)])
    directions = [direction.name for direction in searcher._proposals._optuna.directions]
    assert directions == ["MAXIMIZE", "MINIMIZE", "MINIMIZE"]
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(tmp_path / "study.journal")))
    assert len(optuna.load_study(study_name="tiny", storage=storage).trials) == len(told(searcher))


def costs(proposal: dict[str, Any]) -> list[float]:
    return [proposal["cost"][name] for name in ("parameters", "epoch_seconds")]


def test_of_two_objectives_tpe_proposes_what_is_cheap_and_good(
    make_study: MakeStudy, ledger: Ledger
) -> None:
    settings = {"metric.against": ["epoch_seconds"], "early_terminate.type": "none"}
    study = make_study(settings | {"budget.trials": 60}).model_copy(update={"baselines": {}})
    drawn = proposals(StudySearcher(study, plan, ledger), 60)
    # Shallow ones are both here: they alone are on the front.
    late = [overrides["model.depth"] for overrides in drawn[40:]]
    assert sum(depth == 1 for depth in late) > 10


@pytest.mark.filterwarnings("ignore:.*JournalFileStorage.*:FutureWarning")
def test_a_dashboard_that_is_open_sees_the_trials_as_they_end(
    bare: Study, ledger: Ledger, tmp_path: Path
) -> None:
    path = tmp_path / "study.journal"
    searcher = StudySearcher(bare, plan, ledger, OptunaView(bare, tmp_path))
    # as optuna-dashboard opens a file that it is given
    shown = optuna.storages.JournalStorage(
        optuna.storages.JournalFileStorage(file_path=str(path))  # type: ignore[attr-defined]
    )
    (study,) = shown.get_all_studies()
    assert (study.study_name, shown.get_n_trials(study._study_id)) == ("tiny", 0)
    run(searcher, "ray1", [0.3, 0.8, 0.6, 0.7])
    run(searcher, "ray2", [0.2, 0.4])
    states = [trial.state.name for trial in shown.get_all_trials(study._study_id)]
    assert states == ["COMPLETE", "PRUNED"]


def test_a_tuple_is_proposed_as_a_tuple_and_stored_as_a_text(bare: Study, ledger: Ledger) -> None:
    searcher = StudySearcher(bare, plan, ledger)
    drawn = proposals(searcher, 20)
    assert {overrides["train.class_weights"] for overrides in drawn} == {1.0, (1.0, 3.0)}
    stored = {trial.params["train.class_weights"] for trial in told(searcher)}
    assert stored == {1.0, "[1.0, 3.0]"}  # Optuna stores plain values only


def test_epochs_that_are_trained_again_are_told_once(
    bare: Study, ledger: Ledger, recwarn: pytest.WarningsRecorder
) -> None:
    searcher = StudySearcher(bare, plan, ledger)
    searcher.suggest("ray1")
    for epoch, value in ((1, 0.3), (2, 0.6), (1, 0.3), (2, 0.6), (3, 0.5)):
        searcher.on_trial_result("ray1", result(epoch, value))
    searcher.on_trial_complete("ray1", result(EPOCHS, 0.7))
    (trial,) = told(searcher)
    assert trial.intermediate_values == {1: 0.3, 2: 0.6, 3: 0.6, 4: 0.7}
    assert not [w for w in recwarn if "already reported" in str(w.message)]


@pytest.fixture
def waiting(make_study: MakeStudy) -> Study:
    """The study without baselines, whose trials wait at epochs 1 and 2, a half of them for good."""
    study = make_study({"early_terminate.type": "asha", "budget.trials": 4})
    return study.model_copy(update={"baselines": {}})


def stretch(searcher: StudySearcher, ray_id: str, value: float) -> dict[str, Any]:
    """A trial trained from where it stood to where it waits, always at the same value."""
    proposal = searcher.suggest(ray_id)
    assert isinstance(proposal, dict)
    searcher.on_trial_complete(ray_id, result(proposal["until_epoch"], value))
    return proposal


def test_a_trial_that_may_leave_its_rung_goes_before_a_new_one(
    waiting: Study, ledger: Ledger
) -> None:
    searcher = StudySearcher(waiting, plan, ledger)
    first = stretch(searcher, "ray1", 0.9)
    assert (first["name"], first["until_epoch"], first["planned_epochs"]) == ("t0001", 1, EPOCHS)
    assert stretch(searcher, "ray2", 0.5)["name"] == "t0002"
    again = stretch(searcher, "ray3", 0.9)
    assert (again["name"], again["until_epoch"]) == ("t0001", 2)
    assert again["config"] == first["config"]
    to_its_end = stretch(searcher, "ray4", 0.9)  # it leads the study
    assert (to_its_end["name"], to_its_end["until_epoch"]) == ("t0001", EPOCHS)
    assert stretch(searcher, "ray5", 0.4)["name"] == "t0003"


def test_when_all_are_drawn_the_best_goes_on_to_its_end(waiting: Study, ledger: Ledger) -> None:
    searcher = StudySearcher(waiting, plan, ledger)
    seen: dict[str, int] = {}
    for number in range(20):
        proposal = searcher.suggest(f"ray{number}")
        if proposal == Searcher.FINISHED:
            break
        assert isinstance(proposal, dict)
        seen[proposal["name"]] = proposal["until_epoch"]
        value = 0.1 * int(proposal["name"][1:])
        searcher.on_trial_complete(f"ray{number}", result(proposal["until_epoch"], value))
    assert set(seen) == {"t0001", "t0002", "t0003", "t0004"}
    assert seen["t0004"] == EPOCHS
    assert seen["t0001"] == 1


def test_at_last_one_of_ten_trials_is_trained_to_its_end_the_best_that_wait(
    waiting: Study, ledger: Ledger
) -> None:
    settings = waiting.early_terminate.model_copy(update={"reduction_factor": 20})
    budget = waiting.budget.model_copy(update={"trials": 20})
    study = waiting.model_copy(update={"early_terminate": settings, "budget": budget})
    searcher = StudySearcher(study, plan, ledger)
    ended, number = [], 0
    while isinstance(proposal := searcher.suggest(f"ray{number}"), dict):
        trial = int(proposal["name"][1:])
        searcher.on_trial_complete(
            f"ray{number}", result(proposal["until_epoch"], 1 - 0.01 * trial)
        )
        if proposal["until_epoch"] == EPOCHS:
            ended.append(trial)
        number += 1
    assert ended == [1, 2]  # one by the rule, and a second, which is a tenth of twenty


def test_a_search_whose_last_trials_run_is_not_finished(waiting: Study, ledger: Ledger) -> None:
    searcher = StudySearcher(waiting, plan, ledger)
    for number in range(4):
        searcher.suggest(f"ray{number}")
    assert searcher.suggest("ray5") is None  # who goes on is decided by those that run
    searcher.on_trial_complete("ray0", result(1, 0.5))
    assert isinstance(searcher.suggest("ray6"), dict)


def test_a_trial_that_waits_is_pruned_and_told_again_when_it_went_on(
    waiting: Study, ledger: Ledger
) -> None:
    searcher = StudySearcher(waiting, plan, ledger)
    for number, value in enumerate((0.9, 0.5, 0.8)):  # the third is the first, from epoch 1 to 2
        stretch(searcher, f"ray{number}", value)
    ended = [trial for trial in told(searcher) if trial.user_attrs["trial"] == "t0001"]
    assert [trial.state for trial in ended] == [TrialState.PRUNED] * 2
    assert [trial.intermediate_values for trial in ended] == [{1: 0.9}, {2: 0.9}]
    assert ended[0].params == ended[1].params


def test_a_trial_that_failed_waits_nowhere(waiting: Study, ledger: Ledger) -> None:
    searcher = StudySearcher(waiting, plan, ledger)
    stretch(searcher, "ray1", 0.9)
    stretch(searcher, "ray2", 0.5)
    again = searcher.suggest("ray3")
    assert isinstance(again, dict)
    assert again["name"] == "t0001"
    searcher.on_trial_complete("ray3", {"outcome": "failed"})
    names = [stretch(searcher, f"ray{number}", 0.1)["name"] for number in range(4, 6)]
    assert names == ["t0003", "t0004"]


def test_near_the_end_the_best_that_waits_is_called_to_its_end(
    waiting: Study, ledger: Ledger
) -> None:
    left = 1000.0
    searcher = StudySearcher(waiting, plan, ledger, left=lambda: left)
    for number, value in ((1, 0.5), (2, 0.9), (3, 0.7)):
        proposal = stretch(searcher, f"ray{number}", value)
        note(ledger, proposal, {"train": 9.0, "validate": 1.0})
    left = 10.0 * (EPOCHS - 2) * 1.2  # t0002 has gone on to epoch 2 already
    called = searcher.suggest("ray4")
    assert isinstance(called, dict)
    assert (called["name"], called["until_epoch"]) == ("t0002", EPOCHS)


def test_a_late_trial_is_planned_for_the_time_that_is_left(
    make_study: MakeStudy, ledger: Ledger
) -> None:
    study = make_study().model_copy(update={"baselines": {}})
    searcher = StudySearcher(study, second_an_epoch, ledger, left=lambda: left)
    for left, epochs in ((10.0, EPOCHS), (2.5, 2), (0.5, 1), (-1.0, 1)):
        assert run(searcher, f"ray{left}", [0.5])["planned_epochs"] == epochs
