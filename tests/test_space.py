"""A space file becomes a study; a study says which configs exist."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2search.config import Baseline, Misuse, Parameter, Study, TrialConfig, Value
from r2search.space import (
    as_drawn,
    contains,
    draw,
    dump_study,
    find_space,
    load_study,
    require_something_to_search,
    suggest_near,
    suggest_randomly,
    trial_config,
)

# As in the plan of this project, comments left out.
RETINA = """\
name: retina
question: Which R2U-Net finds retinal vessels best?
data: {reader: chase_db1, root: data/chase_db1, otherwise: synthetic_retina}
metric: {name: val/dice_mean, goal: maximize}
budget: {time: 10m, trials: 200, max_epochs: 40}
search: {searcher: tpe, seed: 0}
resources: {workers: auto, gpu_share: auto}
early_terminate: {type: asha, grace_period: 2, reduction_factor: 3}
confirm: {finalists: 3, seeds: 3}
parameters:
  data:
    parameters:
      patch_size:   {values: [64, 96, 128, 160]}
  model:
    parameters:
      block:        {values: [conv, residual, recurrent, recurrent_residual]}
      recurrence:   {min: 1, max: 3, when: {model.block: [recurrent, recurrent_residual]}}
      depth:        {min: 2, max: 5}
      base_filters: {values: [8, 16, 32, 64]}
      dropout:      {min: 0.0, max: 0.5}
  train:
    parameters:
      lr:           {distribution: log_uniform_values, min: 1.0e-4, max: 3.0e-2}
      class_weights: {distribution: log_uniform_values, min: 1.0, max: 12.0}
baselines:
  B1: {model.block: recurrent_residual, model.recurrence: 2, model.base_filters: 16, model.depth: 4}
"""
RECURRENT = ("recurrent", "recurrent_residual")


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "s.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def retina(tmp_path: Path) -> Study:
    return load_study(write(tmp_path, RETINA))


def complaint(load: Callable[[], object]) -> str:
    with pytest.raises(Misuse) as caught:
        load()
    return str(caught.value)


def draws(study: Study, count: int) -> list[dict[str, Value]]:
    suggest = suggest_randomly(np.random.default_rng(0))
    return [draw(study, suggest) for _ in range(count)]


def study_of(*parameters: Parameter) -> Study:
    return Study(name="s", fixed=TrialConfig(), parameters=parameters)


# Loading


def test_the_example_of_the_plan_is_read_whole(retina: Study) -> None:
    assert [parameter.key for parameter in retina.parameters] == [
        "data.patch_size",
        "model.block",
        "model.recurrence",
        "model.depth",
        "model.base_filters",
        "model.dropout",
        "train.lr",
        "train.class_weights",
    ]
    assert retina.parameters[2] == Parameter(
        key="model.recurrence", kind="int", low=1, high=3, when={"model.block": RECURRENT}
    )
    assert retina.fixed.data.root == Path("data/chase_db1")
    assert (retina.budget.time, retina.budget.trials) == (600.0, 200)
    assert (retina.metric.name, retina.metric.goal) == ("val/dice_mean", "maximize")
    assert retina.confirm is not None
    assert (retina.confirm.finalists, retina.confirm.seeds) == (3, 3)
    assert retina.baselines == {
        "B1": Baseline(
            overrides={
                "model.block": "recurrent_residual",
                "model.recurrence": 2,
                "model.base_filters": 16,
                "model.depth": 4,
            }
        )
    }


def test_the_longest_training_and_the_seed_of_a_study_are_those_of_its_trials(
    tmp_path: Path,
) -> None:
    study = load_study(
        write(tmp_path, "name: s\nbudget: {max_epochs: 7}\nsearch: {seed: 5}\n"),
    )
    assert (study.fixed.train.max_epochs, study.fixed.seed) == (7, 5)


def test_a_setting_at_the_top_and_among_the_parameters_is_an_error(tmp_path: Path) -> None:
    path = write(
        tmp_path, "name: s\ndata: {patch_size: 64}\nparameters:\n  data.patch_size: {value: 96}\n"
    )
    assert complaint(lambda: load_study(path)) == (
        "s.yaml:4: parameters.data.patch_size: is also set by the top-level `data:`; "
        "keep one of the two"
    )


def test_settings_may_fit_each_other_without_fitting_the_defaults(tmp_path: Path) -> None:
    # overlap 300 is over half of the default tile, not of 1024
    text = (
        "name: s\nparameters:\n  inference.overlap: {value: 300}\n  inference.tile: {value: 1024}\n"
    )
    assert load_study(write(tmp_path, text)).fixed.inference.overlap == 300


def test_fixed_settings_that_contradict_each_other_are_an_error(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "name: s\nparameters:\n  inference.overlap: {value: 200}\n  inference.tile: {value: 256}\n",
    )
    assert complaint(lambda: load_study(path)) == (
        "s.yaml:3: inference: overlap 200 is over half of tile 256: lower one or raise the other"
    )


def test_choices_that_can_contradict_each_other_are_found_when_loaded(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "name: s\n"
        "parameters:\n"
        "  inference.tile: {values: [128, 256]}\n"
        "  inference.overlap: {values: [32, 100]}\n",
    )
    assert complaint(lambda: load_study(path)) == (
        "s.yaml:3: inference: overlap 100 is over half of tile 128: lower one or raise the other; "
        "the space can draw this: narrow it, or add `when`"
    )


def test_when_keeps_choices_from_contradicting_each_other(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "name: s\n"
        "parameters:\n"
        "  inference.tile: {values: [128, 256]}\n"
        "  inference.overlap: {values: [32, 100], when: {inference.tile: 256}}\n",
    )
    assert len(load_study(path).parameters) == 2


@pytest.mark.parametrize(
    ("setting", "answer"),
    [
        ("model.dpeth: 3", "unknown key (value 3); did you mean 'depth'? known: activation,"),
        ("modle.depth: 3", "unknown key (value 3); did you mean 'model'? known: data,"),
        ("model: {depth: 3}", "unknown key (value {'depth': 3}); this is a section: name one"),
        ("model.depth: 99", "should be less than or equal to 7, got 99"),
        ("model.norm: off", "YAML reads no, off, yes and on as booleans: put the word in quotes"),
        ("data.root: x", "is one value for the whole study, got 'x'; fix it for all, not in a"),
        ("train.epoch_pixels: 5000", "is one value for the whole study, got 5000; fix it for"),
        ("seed: 3", "cannot be set here, got 3; set search.seed"),
    ],
)
def test_a_baseline_of_wrong_settings_is_an_error(
    tmp_path: Path, setting: str, answer: str
) -> None:
    path = write(tmp_path, f"name: s\nbaselines:\n  B1:\n    {setting}\n")
    key = setting.split(":")[0]
    message = complaint(lambda: load_study(path))
    assert message.startswith(f"s.yaml:4: baselines.B1.{key}: {answer}")


def test_a_baseline_that_contradicts_itself_is_an_error(tmp_path: Path) -> None:
    path = write(
        tmp_path, "name: s\nbaselines:\n  B1: {inference.tile: 32, inference.overlap: 20}\n"
    )
    assert complaint(lambda: load_study(path)) == (
        "s.yaml:3: baselines.B1.inference: overlap 20 is over half of tile 32: "
        "lower one or raise the other"
    )


@pytest.mark.parametrize("name", ["t0001", "../up", "two words"])
def test_a_baseline_whose_name_could_be_a_trial_s_or_no_folder_is_refused(
    tmp_path: Path, name: str
) -> None:
    path = write(tmp_path, f"name: s\nbaselines:\n  {name}: {{model.depth: 3}}\n")
    assert complaint(lambda: load_study(path)).startswith(
        f"s.yaml:3: baselines.{name}: a baseline's name has letters, digits"
    )


def test_a_baseline_may_write_1e_4(tmp_path: Path) -> None:
    path = write(tmp_path, "name: s\nbaselines:\n  B1: {train.lr: 1e-4}\n")
    assert load_study(path).baselines["B1"].overrides == {"train.lr": 1e-4}


def test_a_baseline_may_tell_the_steps_of_its_publication(tmp_path: Path) -> None:
    text = "name: s\nbaselines:\n  B: {published_steps: 900, train.batch_size: 2}\n"
    study = load_study(write(tmp_path, text))
    baseline = study.baselines["B"]
    assert baseline.overrides == {"train.batch_size": 2}
    assert baseline.published_pixels(trial_config(study, baseline.overrides)) == 900 * 2 * 96**2
    assert load_study(write(tmp_path, dump_study(study))) == study


def test_a_baseline_without_published_steps_has_no_published_pixels(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, "name: s\nbaselines:\n  B: {train.batch_size: 2}\n"))
    assert study.baselines["B"].published_pixels(study.fixed) is None


@pytest.mark.parametrize("steps", ["0", "-3", "1.5", "many", "true"])
def test_published_steps_that_are_no_number_of_steps_are_named(tmp_path: Path, steps: str) -> None:
    path = write(tmp_path, f"name: s\nbaselines:\n  B:\n    published_steps: {steps}\n")
    assert complaint(lambda: load_study(path)).startswith(
        "s.yaml:4: baselines.B.published_steps: expected the number of optimizer steps"
    )


START = (
    "starts:\n  ours:\n    model.block: recurrent\n    model.recurrence: 3\n    train.lr: 1e-3\n"
)
DRAWN = {"model.block": "recurrent", "model.recurrence": 3, "train.lr": 1e-3}


def test_a_start_is_a_draw_of_the_space_and_has_defaults_where_it_says_nothing(
    tmp_path: Path,
) -> None:
    study = load_study(write(tmp_path, RETINA + START))
    start = study.starts["ours"]
    assert contains(study, start)
    assert {key: start[key] for key in DRAWN} == DRAWN
    assert start["model.depth"] == TrialConfig().model.depth
    assert load_study(write(tmp_path, dump_study(study))) == study


def test_a_setting_that_is_fixed_leaves_the_starts_as_it_leaves_the_space(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, RETINA + START), {"model.block": "conv", "train.lr": 0.02})
    assert contains(study, study.starts["ours"])
    assert not {"model.block", "model.recurrence", "train.lr"} & set(study.starts["ours"])


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("model.depht: 3", "model.depht: unknown key (value 3); did you mean 'depth'?"),
        ("model.norm: group", "model.norm: does not vary in this space, got 'group'; let it vary"),
        ("model.depth: 7", "model.depth: got 7, which the space cannot draw; give a value that"),
        ("model.depth: deep", "model.depth: "),
    ],
)
def test_a_start_that_the_space_cannot_draw_is_explained(
    tmp_path: Path, line: str, answer: str
) -> None:
    path = write(tmp_path, f"{RETINA}starts:\n  ours:\n    {line}\n")
    place = f"s.yaml:{len(RETINA.splitlines()) + 3}: starts.ours."
    assert complaint(lambda: load_study(path)).startswith(place + answer)


def test_a_start_must_name_what_has_its_default_outside_of_the_space(tmp_path: Path) -> None:
    text = "name: s\nparameters:\n  model.depth: {values: [6]}\nstarts:\n  ours: {}\n"
    assert complaint(lambda: load_study(write(tmp_path, text))) == (
        "s.yaml:5: starts.ours.model.depth: is not named and has its default, "
        f"{TrialConfig().model.depth}, which the space cannot draw; give a value that it can"
    )


@pytest.mark.parametrize(
    ("data", "channels", "classes"),
    [("{}", 3, 1), ("{channels: green}", 1, 1), ("{channels: grey, labels: [1, 5]}", 1, 3)],
)
def test_the_channels_and_the_classes_of_a_network_follow_from_the_data(
    tmp_path: Path, data: str, channels: int, classes: int
) -> None:
    model = load_study(write(tmp_path, f"name: s\ndata: {data}\n")).fixed.model
    assert (model.in_channels, model.classes) == (channels, classes)


def test_more_classes_than_the_masks_have_are_answered_with_the_labels(tmp_path: Path) -> None:
    path = write(tmp_path, "name: s\nparameters:\n  model.classes: {value: 4}\n")
    assert "name the mask values of several by data.labels" in complaint(lambda: load_study(path))


def test_a_space_in_which_nothing_varies_is_answered_with_train(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, "name: s\nparameters:\n  model.depth: {value: 3}\n"))
    assert complaint(lambda: require_something_to_search(study)) == (
        "s: parameters: nothing varies; give a setting values or a range, "
        "or train the one configuration with `r2search train`"
    )


def test_a_space_whose_only_parameter_does_not_apply_has_nothing_to_search(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "name: s\n"
        "parameters:\n"
        "  model.block: {values: [conv, recurrent]}\n"
        "  model.recurrence: {min: 1, max: 2, when: {model.block: recurrent}}\n",
    )
    require_something_to_search(load_study(path))
    study = load_study(path, {"model.block": "conv"})
    assert "nothing varies" in complaint(lambda: require_something_to_search(study))


# Assignments


def test_an_assigned_setting_is_fixed_and_leaves_the_space(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, RETINA), {"model.depth": 3, "train.lr": "1e-3"})
    keys = {parameter.key for parameter in study.parameters}
    assert not keys & {"model.depth", "train.lr"}
    assert (study.fixed.model.depth, study.fixed.train.lr) == (3, 1e-3)


def test_an_assignment_replaces_what_the_file_fixes(tmp_path: Path) -> None:
    study = load_study(
        write(tmp_path, RETINA),
        {
            "data.root": "/images",
            "data.otherwise": "error",
            "budget.time": "20m",
            "budget.max_epochs": 9,
            "search.seed": 4,
            "confirm.seeds": 5,
        },
    )
    assert study.fixed.data.root == Path("/images")
    assert study.fixed.data.otherwise == "error"
    assert study.budget.time == 1200
    assert study.budget.trials == 200
    assert (study.fixed.train.max_epochs, study.fixed.seed) == (9, 4)
    assert study.confirm is not None
    assert (study.confirm.finalists, study.confirm.seeds) == (3, 5)


def test_an_assigned_condition_decides_what_rests_on_it(tmp_path: Path) -> None:
    path = write(tmp_path, RETINA)
    conv = load_study(path, {"model.block": "conv"})
    recurrent = load_study(path, {"model.block": "recurrent"})
    assert all("model.recurrence" not in drawn for drawn in draws(conv, 20))
    assert all("model.recurrence" in drawn for drawn in draws(recurrent, 20))


@pytest.mark.parametrize(
    ("key", "value", "answer"),
    [
        ("model.dpeth", 3, "unknown key (value 3); did you mean 'depth'? known: activation,"),
        ("budget.tiem", 3, "unknown key (value 3); did you mean 'time'? known: flops, max_"),
        ("bugdet.time", 3, "unknown key (value 3); did you mean 'budget'? known: budget,"),
        ("depth", 3, "unknown key (value 3); did you mean model.depth?"),
        ("budget", 3, "unknown key (value 3); this is a section: name one field of it"),
        ("model.depth", 99, "should be less than or equal to 7, got 99"),
        ("model.norm", False, "YAML reads no, off, yes and on as booleans: put the word"),
        ("search.searcher", "tpw", "unknown value 'tpw'; did you mean 'tpe'? known: random, tpe"),
        ("resources.workers", "many", "should be 'auto' or should be a valid integer"),
        ("seed", 3, "cannot be set here, got 3; set search.seed"),
        ("train.max_epochs", 3, "cannot be set here, got 3; set budget.max_epochs"),
    ],
)
def test_a_wrong_assignment_is_an_error(
    tmp_path: Path, key: str, value: object, answer: str
) -> None:
    path = write(tmp_path, RETINA)
    message = complaint(lambda: load_study(path, {key: value}))
    assert message.startswith(f"--set: {key}: {answer}")


def test_an_assignment_that_contradicts_the_file_is_an_error_of_both(tmp_path: Path) -> None:
    path = write(tmp_path, RETINA)
    assert complaint(
        lambda: load_study(path, {"inference.tile": 256, "inference.overlap": 200})
    ) == (
        "s.yaml with --set: inference: overlap 200 is over half of tile 256: "
        "lower one or raise the other"
    )


# Drawing

BOTH_ENDS = [
    Parameter(key="model.depth", kind="int", low=2, high=5),
    Parameter(key="model.base_filters", kind="int", low=8, high=64, step=8),
    Parameter(key="model.base_filters", kind="int", low=1, high=8, log=True),
    Parameter(key="model.dropout", kind="float", low=0.0, high=0.3, step=0.1),
    Parameter(key="train.warmup_epochs", kind="float", low=0.1, high=0.7, step=0.2),
]


@pytest.mark.parametrize("parameter", BOTH_ENDS, ids=lambda p: f"{p.key}-{p.step}-{p.log}")
def test_both_ends_of_a_range_are_drawn(parameter: Parameter) -> None:
    seen = {drawn[parameter.key] for drawn in draws(study_of(parameter), 300)}
    # the rarest, 8 of 1..8 in log space, has ln(8.5 / 7.5) / ln(8.5 / 0.5) = 4.4 %: missed by 300
    # draws with probability 0.956 ** 300 = 1.4e-6
    assert parameter.low in seen
    assert parameter.high in seen


def test_quantised_draws_are_the_numbers_a_person_would_write() -> None:
    parameter = Parameter(key="model.dropout", kind="float", low=0.0, high=0.7, step=0.1)
    # 0.1 * 3 is 0.30000000000000004 in floating point, and 0.1 * 7 is above 0.7
    drawn = {d["model.dropout"] for d in draws(study_of(parameter), 200)}
    assert drawn == {0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7}


def test_the_ends_of_a_whole_log_range_have_the_share_of_their_neighbours() -> None:
    parameter = Parameter(key="model.base_filters", kind="int", low=1, high=8, log=True)
    values = [drawn["model.base_filters"] for drawn in draws(study_of(parameter), 1000)]
    # 1 stands for 0.5 .. 1.5: ln(1.5 / 0.5) / ln(8.5 / 0.5) = 38.8 %, standard deviation 15.4
    assert 340 <= values.count(1) <= 436


@given(
    low=st.integers(1, 100),
    steps=st.integers(1, 12),
    step=st.integers(1, 20),
    seed=st.integers(0, 2**32),
    form=st.sampled_from(["plain", "quantised", "log"]),
)
@settings(deadline=None)
def test_a_whole_range_gives_whole_numbers_within_its_ends(
    low: int, steps: int, step: int, seed: int, form: str
) -> None:
    high = low + steps * step
    parameter = Parameter(
        key="train.batch_size",
        kind="int",
        low=low,
        high=high,
        step=step if form == "quantised" else None,
        log=form == "log",
    )
    suggest = suggest_randomly(np.random.default_rng(seed))
    allowed = range(low, high + 1, step if form == "quantised" else 1)
    values = [suggest(parameter) for _ in range(30)]
    assert all(type(value) is int and value in allowed for value in values)


@given(
    low=st.integers(0, 40),
    steps=st.integers(1, 40),
    step=st.sampled_from(["0.1", "0.05", "0.01", "0.3"]),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None)
def test_every_draw_of_a_decimal_range_is_contained(
    low: int, steps: int, step: str, seed: int
) -> None:
    # the ends as a person writes them: 0.1 * 3 would not be 0.3
    start, end = (float(f"{n * float(step):.6g}") for n in (low, low + steps))
    study = study_of(
        Parameter(key="train.warmup_epochs", kind="float", low=start, high=end, step=float(step))
    )
    suggest = suggest_randomly(np.random.default_rng(seed))
    assert all(contains(study, draw(study, suggest)) for _ in range(20))


def test_every_draw_is_contained_and_makes_a_config(retina: Study) -> None:
    for drawn in draws(retina, 300):
        assert contains(retina, drawn)
        assert trial_config(retina, drawn).model.depth == drawn["model.depth"]


def test_a_conditional_setting_is_drawn_exactly_when_allowed(retina: Study) -> None:
    drawn = draws(retina, 300)
    assert all(("model.recurrence" in d) == (d["model.block"] in RECURRENT) for d in drawn)
    assert {d.get("model.recurrence") for d in drawn} == {None, 1, 2, 3}


def test_a_condition_on_a_setting_that_does_not_apply_does_not_hold() -> None:
    # classes of conditions: depth rests on recurrence, which rests on block
    study = study_of(
        Parameter(key="model.block", kind="choice", values=("conv", "recurrent")),
        Parameter(
            key="model.recurrence", kind="int", low=1, high=2, when={"model.block": ("recurrent",)}
        ),
        # 2 is also the default of recurrence, which a conv block does not have
        Parameter(key="model.depth", kind="int", low=2, high=3, when={"model.recurrence": (2,)}),
    )
    drawn = draws(study, 100)
    assert all(("model.depth" in d) == (d.get("model.recurrence") == 2) for d in drawn)
    assert any("model.depth" in d for d in drawn)


def test_probabilities_weigh_the_draws() -> None:
    parameter = Parameter(
        key="model.depth", kind="choice", values=(2, 3, 4), probabilities=(0.9, 0.1, 0.0)
    )
    values = [drawn["model.depth"] for drawn in draws(study_of(parameter), 1000)]
    # 900 expected of 1000, standard deviation sqrt(1000 * 0.9 * 0.1) = 9.5
    assert 860 <= values.count(2) <= 940
    assert 4 not in values


def test_a_log_range_gives_every_decade_its_share() -> None:
    parameter = Parameter(key="train.lr", kind="float", low=1e-4, high=1e-2, log=True)
    values = [float(str(drawn["train.lr"])) for drawn in draws(study_of(parameter), 1000)]
    # 500 expected below 1e-3, standard deviation 15.8
    assert 430 <= sum(value < 1e-3 for value in values) <= 570


def test_the_same_generator_draws_the_same(retina: Study) -> None:
    assert draws(retina, 5) == draws(retina, 5)


@pytest.mark.parametrize(
    "change",
    [
        {"model.depth": 6},
        {"model.depth": 2.5},
        {"model.depth": None},
        {"model.block": "preact_residual"},
        {"model.recurrence": 2},
        {"model.norm": "batch"},
        {"train.lr": 1e-5},
    ],
    ids=str,
)
def test_what_cannot_be_drawn_is_not_contained(retina: Study, change: dict[str, object]) -> None:
    conv = next(d for d in draws(retina, 50) if d["model.block"] == "conv")
    assert contains(retina, conv)
    assert not contains(retina, {**conv, **change})


def test_a_draw_that_lacks_a_parameter_is_not_contained(retina: Study) -> None:
    (drawn,) = draws(retina, 1)
    assert not contains(retina, {k: v for k, v in drawn.items() if k != "train.lr"})


# Baselines as draws


def test_a_baseline_of_the_space_is_the_draw_that_gives_its_config(retina: Study) -> None:
    drawn = as_drawn(retina, retina.baselines["B1"].overrides)
    assert drawn is not None
    assert contains(retina, drawn)
    assert trial_config(retina, drawn) == trial_config(retina, retina.baselines["B1"].overrides)
    # what the baseline leaves out has its default
    assert drawn["train.lr"] == 1e-3


@pytest.mark.parametrize(
    "baseline",
    [
        {"model.depth": 7},  # outside the range
        {"model.norm": "group"},  # the space does not vary it
        {"model.block": "conv", "model.recurrence": 3},  # recurrence is not drawn for conv
    ],
    ids=str,
)
def test_a_baseline_outside_the_space_is_no_draw(retina: Study, baseline: dict[str, Value]) -> None:
    assert as_drawn(retina, baseline) is None


def test_every_draw_is_its_own_draw(retina: Study) -> None:
    for drawn in draws(retina, 50):
        assert as_drawn(retina, drawn) == drawn


@pytest.mark.parametrize("key", ["model.dpeth", "modle.depth", "depth"])
def test_unknown_overrides_are_a_misuse(retina: Study, key: str) -> None:
    assert "unknown key" in complaint(lambda: trial_config(retina, {key: 3}))


# Writing down


def test_a_study_written_as_a_space_file_is_read_back_equal(tmp_path: Path) -> None:
    study = load_study(
        write(
            tmp_path,
            RETINA
            + "  B2: {train.class_weights: [1, 3], train.lr: 1.0e-5}\n"
            + "  B3: {data.augmentation: none}\n",
        ),
        {"model.norm": "group", "budget.time": "1h", "data.root": "/i"},
    )
    assert load_study(write(tmp_path, dump_study(study))) == study


def test_every_form_of_parameter_is_read_back_equal(tmp_path: Path) -> None:
    text = (
        "name: s\n"
        "parameters:\n"
        "  model.conv_bias: {values: [true, false], probabilities: [0.25, 0.75]}\n"
        "  model.depth: {min: 1, max: 7, q: 2, when: {model.conv_bias: true}}\n"
        "  model.dropout: {distribution: q_uniform, min: 0, max: 0.5, q: 0.1}\n"
        "  model.base_filters: {distribution: log_uniform_values, min: 8, max: 64}\n"
        "  train.class_weights: {values: [1, [1, 2]]}\n"
    )
    study = load_study(write(tmp_path, text))
    assert load_study(write(tmp_path, dump_study(study))) == study


# Finding


def test_a_space_is_found_by_its_name_with_or_without_yaml() -> None:
    assert find_space("retina") == find_space("retina.yaml")
    assert find_space("retina").parts[-2:] == ("search_spaces", "retina.yaml")


def test_a_path_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "retina.yaml").write_text("name: mine\n")
    monkeypatch.chdir(tmp_path)
    assert load_study("retina.yaml").name == "mine"


def test_an_unknown_space_is_answered_with_the_nearest() -> None:
    message = complaint(lambda: find_space("retna"))
    assert message.startswith(
        "--space retna: no such file, and not in search_spaces/; did you mean 'retina.yaml'? known:"
    )


def test_costs_are_objectives_only_where_trials_wait_or_none_is_stopped(tmp_path: Path) -> None:
    weighed = RETINA.replace("goal: maximize}", "goal: maximize, against: [flops]}")
    stopping = write(tmp_path, weighed.replace("{type: asha,", "{type: median,"))
    assert complaint(lambda: load_study(stopping)) == (
        "s.yaml:4: metric.against: costs are objectives with early_terminate.type asha, pasha, "
        "hyperband and none, not with median; take one of them, or leave this out"
    )
    assert load_study(stopping, {"early_terminate.type": "none"}).metric.against == ("flops",)
    assert load_study(write(tmp_path, weighed)).metric.against == ("flops",)


@given(st.integers(0, 2**32 - 1))
def test_a_draw_near_a_config_is_of_the_space_and_keeps_half_of_what_the_space_allows(
    seed: int,
) -> None:
    study = load_study(find_space("retina.yaml"))
    center = {"model.depth": 4, "model.block": "conv", "train.lr": 0.01, "data.patch_size": 77}
    rng = np.random.default_rng(seed)
    drawn = [draw(study, suggest_near(rng, center)) for _ in range(60)]
    assert all(contains(study, overrides) for overrides in drawn)
    assert 77 not in {overrides["data.patch_size"] for overrides in drawn}
    kept = [overrides["train.lr"] == 0.01 for overrides in drawn]  # else never that very number
    assert 10 < sum(kept) < 50
