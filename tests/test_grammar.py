"""What an entry under `parameters` means, and the traps in writing one."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2search.config import Misuse, Parameter, Study
from r2search.grammar import allows
from r2search.space import load_study

# The entries under test begin in line 3.
HEAD = "name: s\nparameters:\n"


def load(tmp_path: Path, *entries: str) -> Study:
    path = tmp_path / "s.yaml"
    path.write_text(HEAD + "".join(f"  {entry}\n" for entry in entries), encoding="utf-8")
    return load_study(path)


def only(tmp_path: Path, entry: str) -> Parameter:
    (parameter,) = load(tmp_path, entry).parameters
    return parameter


def complaint(tmp_path: Path, *entries: str) -> str:
    with pytest.raises(Misuse) as caught:
        load(tmp_path, *entries)
    return str(caught.value)


def test_values_are_choices(tmp_path: Path) -> None:
    assert only(tmp_path, "model.block: {values: [conv, residual]}") == Parameter(
        key="model.block", kind="choice", values=("conv", "residual")
    )


def test_whole_choices_of_a_float_setting_are_floats(tmp_path: Path) -> None:
    values = only(tmp_path, "train.weight_decay: {values: [0, 1]}").values
    assert values == (0.0, 1.0)
    assert {type(value) for value in values} == {float}


def test_boolean_choices_of_a_boolean_setting_stay_booleans(tmp_path: Path) -> None:
    assert only(tmp_path, "model.conv_bias: {values: [yes, no]}").values == (True, False)


def test_class_weights_may_be_a_number_or_one_a_class(tmp_path: Path) -> None:
    parameter = only(tmp_path, "train.class_weights: {values: [2, [1, 3]]}")
    assert parameter.values == (2.0, (1.0, 3.0))


def test_probabilities_are_made_to_add_up_to_one(tmp_path: Path) -> None:
    parameter = only(
        tmp_path,
        "model.depth: {values: [2, 3, 4], probabilities: [0.3333333, 0.3333333, 0.3333333]}",
    )
    assert parameter.probabilities is not None
    assert math.isclose(sum(parameter.probabilities), 1.0, rel_tol=1e-12)


def test_a_range_of_a_whole_number_setting_is_whole(tmp_path: Path) -> None:
    assert only(tmp_path, "model.depth: {min: 2, max: 5}") == Parameter(
        key="model.depth", kind="int", low=2, high=5
    )


def test_an_integer_range_on_a_float_setting_is_a_float_range(tmp_path: Path) -> None:
    assert only(tmp_path, "train.warmup_epochs: {min: 0, max: 3}").kind == "float"


def test_log_uniform_values_is_a_log_range(tmp_path: Path) -> None:
    parameter = only(
        tmp_path, "train.lr: {distribution: log_uniform_values, min: 1.0e-4, max: 1.0e-2}"
    )
    assert (parameter.low, parameter.high, parameter.log) == (1e-4, 1e-2, True)


def test_q_is_the_step_of_a_range(tmp_path: Path) -> None:
    parameter = only(tmp_path, "model.dropout: {distribution: q_uniform, min: 0, max: 0.5, q: 0.1}")
    assert parameter.step == 0.1


def test_yaml_s_1e_4_is_a_number_in_every_place(tmp_path: Path) -> None:
    # YAML 1.1 reads 1e-4, without a point, as a string
    study = load(
        tmp_path,
        "train.weight_decay: {value: 1e-5}",
        "train.lr: {min: 1e-4, max: 1e-2}",
        "train.warmup_epochs: {values: [1e0, 2e0]}",
        "model.dropout: {min: 0e0, max: 5e-1, q: 1e-1}",
        "train.class_weights: {min: 1e0, max: 9e0, when: {train.warmup_epochs: [2e0]}}",
    )
    lr, warmup, dropout, weights = study.parameters
    assert study.fixed.train.weight_decay == 1e-5
    assert (lr.low, lr.high) == (1e-4, 1e-2)
    assert warmup.values == (1.0, 2.0)
    assert (dropout.high, dropout.step) == (0.5, 0.1)
    assert weights.when == {"train.warmup_epochs": (2.0,)}


def test_when_takes_one_value_or_a_list(tmp_path: Path) -> None:
    block = "model.block: {values: [conv, recurrent]}"
    one = load(
        tmp_path, block, "model.recurrence: {min: 1, max: 3, when: {model.block: recurrent}}"
    )
    many = load(
        tmp_path, block, "model.recurrence: {min: 1, max: 3, when: {model.block: [recurrent]}}"
    )
    assert one == many
    assert one.parameters[1].when == {"model.block": ("recurrent",)}


def test_an_unknown_setting_is_answered_with_the_nearest(tmp_path: Path) -> None:
    message = complaint(tmp_path, "model.dpeth: {value: 3}")
    assert message.startswith(
        "s.yaml:3: parameters.model.dpeth: unknown key (value {'value': 3}); "
        "did you mean 'depth'? known: activation, base_filters,"
    )


def test_an_unknown_section_is_answered_with_the_nearest(tmp_path: Path) -> None:
    assert complaint(tmp_path, "modle.depth: {value: 3}") == (
        "s.yaml:3: parameters.modle.depth: unknown key (value {'value': 3}); "
        "did you mean 'model'? known: data, inference, model, train"
    )


def test_a_setting_without_its_section_is_answered_with_the_dotted_key(tmp_path: Path) -> None:
    assert complaint(tmp_path, "depth: {value: 3}") == (
        "s.yaml:3: parameters.depth: unknown key (value {'value': 3}); did you mean model.depth?"
    )


def test_a_setting_of_two_sections_is_answered_with_both(tmp_path: Path) -> None:
    assert complaint(tmp_path, "batch_size: {value: 3}").endswith(
        "did you mean train.batch_size or inference.batch_size?"
    )


def test_a_section_of_the_study_is_no_parameter(tmp_path: Path) -> None:
    assert complaint(tmp_path, "budget.trials: {value: 3}") == (
        "s.yaml:3: parameters.budget.trials: unknown key (value {'value': 3}); "
        "known: data, inference, model, train"
    )


@pytest.mark.parametrize(
    ("key", "remedy"),
    [
        ("seed", "set search.seed"),
        ("train.max_epochs", "set budget.max_epochs"),
        ("model.in_channels", "it follows from the images, by data.channels"),
    ],
)
def test_a_setting_that_something_else_decides_says_what(
    tmp_path: Path, key: str, remedy: str
) -> None:
    assert complaint(tmp_path, f"{key}: {{value: 3}}") == (
        f"s.yaml:3: parameters.{key}: cannot be set here, got {{'value': 3}}; {remedy}"
    )


def test_where_the_images_are_is_set_at_the_top(tmp_path: Path) -> None:
    assert complaint(tmp_path, "data.root: {value: x}") == (
        "s.yaml:3: parameters.data.root: is one value for the whole study, got {'value': 'x'}; "
        "set it under the top-level `data:`"
    )


def test_what_is_one_value_for_the_study_cannot_vary(tmp_path: Path) -> None:
    assert complaint(tmp_path, "train.epoch_pixels: {values: [1000, 2000]}") == (
        "s.yaml:3: parameters.train.epoch_pixels: is one value for the whole study, "
        "got {'values': [1000, 2000]}; write {value: ...}"
    )


@pytest.mark.parametrize(
    ("entry", "written"),
    [
        ("{}", "{}"),
        ("{min: 2}", "{'min': 2}"),
        ("{max: 2}", "{'max': 2}"),
        ("{q: 1}", "{'q': 1.0}"),
    ],
)
def test_an_entry_without_values_or_both_ends_is_an_error(
    tmp_path: Path, entry: str, written: str
) -> None:
    assert complaint(tmp_path, f"model.depth: {entry}") == (
        f"s.yaml:3: parameters.model.depth: needs value, values, or both min and max, got {written}"
    )


@pytest.mark.parametrize(
    ("entry", "extra", "form"),
    [
        ("{value: 2, values: [2]}", "values", "value"),
        ("{value: 2, min: 1}", "min", "value"),
        ("{value: 2, when: {model.block: conv}}", "when", "value"),
        ("{values: [2], min: 1, max: 3}", "max", "values"),
        ("{values: [2], q: 1}", "q", "values"),
        ("{min: 1, max: 2, probabilities: [1]}", "probabilities", "min"),
    ],
)
def test_keywords_that_exclude_each_other_are_an_error(
    tmp_path: Path, entry: str, extra: str, form: str
) -> None:
    message = complaint(tmp_path, f"model.depth: {entry}")
    assert message.startswith(
        f"s.yaml:3: parameters.model.depth.{extra}: cannot stand beside {form}, got {{"
    )
    assert message.endswith("}; keep one of the two")


def test_a_distribution_of_values_on_a_range_is_an_error(tmp_path: Path) -> None:
    assert complaint(tmp_path, "model.depth: {distribution: categorical, min: 1, max: 2}") == (
        "s.yaml:3: parameters.model.depth.distribution: categorical does not go with min; "
        "drop it or write int_uniform or uniform or q_uniform or log_uniform_values"
    )


def test_a_distribution_of_a_range_on_values_is_an_error(tmp_path: Path) -> None:
    assert complaint(tmp_path, "model.depth: {distribution: uniform, values: [1, 2]}") == (
        "s.yaml:3: parameters.model.depth.distribution: uniform does not go with values; "
        "drop it or write categorical"
    )


@pytest.mark.parametrize(("low", "high"), [(3, 3), (5, 2)])
def test_an_empty_range_is_an_error(tmp_path: Path, low: int, high: int) -> None:
    assert complaint(tmp_path, f"model.depth: {{min: {low}, max: {high}}}") == (
        f"s.yaml:3: parameters.model.depth: empty range: min {low} is not below max {high}"
    )


def test_an_end_outside_the_limits_of_the_setting_is_an_error(tmp_path: Path) -> None:
    assert complaint(tmp_path, "model.depth: {min: 2, max: 30}") == (
        "s.yaml:3: parameters.model.depth.max: should be less than or equal to 7, got 30"
    )


def test_a_fraction_for_a_whole_number_setting_is_an_error(tmp_path: Path) -> None:
    assert complaint(tmp_path, "model.depth: {min: 1.5, max: 3}") == (
        "s.yaml:3: parameters.model.depth.min: should be a valid integer, "
        "got a number with a fractional part, got 1.5"
    )


@pytest.mark.parametrize("end", [".inf", ".nan"])
def test_an_end_that_is_not_finite_is_an_error(tmp_path: Path, end: str) -> None:
    assert "parameters.model.depth.max: should be a finite number" in complaint(
        tmp_path, f"model.depth: {{min: 1, max: {end}}}"
    )


def test_a_word_where_a_number_is_meant_is_an_error(tmp_path: Path) -> None:
    assert complaint(tmp_path, "model.dropout: {min: low, max: 0.5}") == (
        "s.yaml:3: parameters.model.dropout.min: should be a valid number, "
        "unable to parse string as a number, got 'low'"
    )


def test_a_range_of_words_is_an_error(tmp_path: Path) -> None:
    assert complaint(tmp_path, "model.block: {min: 1, max: 2}") == (
        "s.yaml:3: parameters.model.block: is no number and has no range, "
        "got {'min': 1, 'max': 2}; list its values"
    )


def test_a_range_between_lists_is_an_error(tmp_path: Path) -> None:
    assert complaint(tmp_path, "train.class_weights: {min: [1, 1], max: [1, 3]}") == (
        "s.yaml:3: parameters.train.class_weights: a range has one number at each end, "
        "got {'min': [1, 1], 'max': [1, 3]}; list its values"
    )


def test_a_log_range_with_q_is_an_error(tmp_path: Path) -> None:
    entry = "{distribution: log_uniform_values, min: 0.1, max: 1, q: 0.1}"
    assert complaint(tmp_path, f"train.lr: {entry}") == (
        "s.yaml:3: parameters.train.lr.q: a log range cannot be quantised, got 0.1; "
        "drop q, or list the values"
    )


def test_a_log_range_from_zero_is_an_error(tmp_path: Path) -> None:
    entry = "{distribution: log_uniform_values, min: 0, max: 0.1}"
    assert complaint(tmp_path, f"train.weight_decay: {entry}") == (
        "s.yaml:3: parameters.train.weight_decay.min: a log range must begin above 0, got 0.0"
    )


def test_int_uniform_on_a_float_setting_is_an_error(tmp_path: Path) -> None:
    assert complaint(tmp_path, "train.lr: {distribution: int_uniform, min: 1, max: 2}") == (
        "s.yaml:3: parameters.train.lr.distribution: "
        "int_uniform is for whole numbers; write uniform"
    )


def test_uniform_on_a_whole_number_setting_is_an_error(tmp_path: Path) -> None:
    assert complaint(tmp_path, "model.depth: {distribution: uniform, min: 1, max: 2}") == (
        "s.yaml:3: parameters.model.depth.distribution: uniform is for fractions; write int_uniform"
    )


def test_q_uniform_without_q_is_an_error(tmp_path: Path) -> None:
    assert complaint(tmp_path, "model.depth: {distribution: q_uniform, min: 1, max: 2}") == (
        "s.yaml:3: parameters.model.depth: q_uniform needs q, the step; add it"
    )


def test_uniform_with_q_is_an_error(tmp_path: Path) -> None:
    entry = "{distribution: uniform, min: 0, max: 0.5, q: 0.1}"
    assert complaint(tmp_path, f"model.dropout: {entry}") == (
        "s.yaml:3: parameters.model.dropout.q: uniform has no steps, got 0.1; write q_uniform"
    )


def test_a_fractional_step_of_a_whole_number_is_an_error(tmp_path: Path) -> None:
    assert complaint(tmp_path, "model.depth: {min: 1, max: 3, q: 0.5}") == (
        "s.yaml:3: parameters.model.depth.q: steps of a whole number must be whole, got 0.5"
    )


@pytest.mark.parametrize(("high", "q"), [(4, "2.0"), (2, "5.0"), (2, "1000000000000.0")])
def test_steps_that_miss_the_upper_end_are_an_error(tmp_path: Path, high: int, q: str) -> None:
    # from 1 in steps of 2: 1, 3, 5; 4 could never be drawn. From 1 in steps of 5: 6.
    assert complaint(tmp_path, f"model.depth: {{min: 1, max: {high}, q: {q}}}") == (
        f"s.yaml:3: parameters.model.depth.q: max {high} is not min 1 plus a multiple of q {q}; "
        "change one of the three"
    )


@pytest.mark.parametrize("q", ["0", "-1"])
def test_a_step_must_be_above_zero(tmp_path: Path, q: str) -> None:
    assert "parameters.model.depth.q: should be greater than 0" in complaint(
        tmp_path, f"model.depth: {{min: 1, max: 3, q: {q}}}"
    )


def test_an_unknown_choice_is_answered_with_the_nearest(tmp_path: Path) -> None:
    assert complaint(tmp_path, "model.norm: {values: [batch, grup]}") == (
        "s.yaml:3: parameters.model.norm.values: unknown value 'grup'; "
        "did you mean 'group'? known: batch, group, instance"
    )


def test_a_choice_that_yaml_reads_as_a_boolean_is_asked_for_in_quotes(tmp_path: Path) -> None:
    assert complaint(tmp_path, "data.augmentation: {values: [no, flips]}") == (
        "s.yaml:3: parameters.data.augmentation.values: YAML reads no, off, yes and on as "
        "booleans: put the word in quotes, got False"
    )


def test_a_boolean_is_not_taken_for_a_number(tmp_path: Path) -> None:
    assert complaint(tmp_path, "model.depth: {value: on}") == (
        "s.yaml:3: parameters.model.depth.value: YAML reads no, off, yes and on as booleans: "
        "write a number, got True"
    )


def test_a_choice_given_twice_is_an_error(tmp_path: Path) -> None:
    # 2.0 is 2 for a whole-number setting
    assert complaint(tmp_path, "model.depth: {values: [2, 3, 2.0]}") == (
        "s.yaml:3: parameters.model.depth.values: a value stands twice in [2, 3, 2.0]; "
        "weigh it by probabilities"
    )


@pytest.mark.parametrize("values", ["[]", "null", "conv"])
def test_no_list_of_values_is_an_error(tmp_path: Path, values: str) -> None:
    assert complaint(tmp_path, f"model.block: {{values: {values}}}").startswith(
        "s.yaml:3: parameters.model.block.values: "
    )


def test_probabilities_must_be_as_many_as_values(tmp_path: Path) -> None:
    assert complaint(tmp_path, "model.depth: {values: [1, 2], probabilities: [1.0]}") == (
        "s.yaml:3: parameters.model.depth.probabilities: needs one probability a value, got [1.0]"
    )


@pytest.mark.parametrize("weights", ["[0.5, 0.6]", "[-0.5, 1.5]", "[.nan, 1.0]"])
def test_probabilities_must_add_up_to_one(tmp_path: Path, weights: str) -> None:
    assert complaint(tmp_path, f"model.depth: {{values: [1, 2], probabilities: {weights}}}") == (
        "s.yaml:3: parameters.model.depth.probabilities: must be at least 0 each and add up to 1, "
        f"got {weights.replace('.nan', 'nan')}"
    )


def test_when_on_an_absent_parameter_is_an_error(tmp_path: Path) -> None:
    entries = (
        "train.loss: {value: dice}",
        "model.recurrence: {min: 1, max: 2, when: {model.block: conv}}",
    )
    assert complaint(tmp_path, *entries) == (
        "s.yaml:4: parameters.model.recurrence.when.model.block: no parameter of this file "
        "(value 'conv'); give it above model.recurrence; known: train.loss"
    )


def test_when_on_a_misspelt_parameter_is_answered_with_the_nearest(tmp_path: Path) -> None:
    entries = (
        "model.block: {values: [conv, recurrent]}",
        "model.recurrence: {min: 1, max: 2, when: {model.blok: recurrent}}",
    )
    assert complaint(tmp_path, *entries) == (
        "s.yaml:4: parameters.model.recurrence.when.model.blok: no parameter of this file "
        "(value 'recurrent'); give it above model.recurrence; "
        "did you mean 'model.block'? known: model.block"
    )


def test_when_on_a_later_parameter_is_told_to_move(tmp_path: Path) -> None:
    entries = (
        "model.recurrence: {min: 1, max: 2, when: {model.block: recurrent}}",
        "model.block: {values: [conv, recurrent]}",
    )
    assert complaint(tmp_path, *entries) == (
        "s.yaml:3: parameters.model.recurrence.when.model.block: no earlier parameter "
        "(value 'recurrent'); move model.block above model.recurrence"
    )


def test_when_on_an_unknown_value_is_answered_with_the_nearest(tmp_path: Path) -> None:
    entries = (
        "model.block: {values: [conv, recurrent]}",
        "model.recurrence: {min: 1, max: 2, when: {model.block: [recurent]}}",
    )
    assert complaint(tmp_path, *entries).startswith(
        "s.yaml:4: parameters.model.recurrence.when.model.block: unknown value 'recurent'; "
        "did you mean 'recurrent'?"
    )


@pytest.mark.parametrize(
    "condition", ["model.block: residual", "model.block: []", "model.depth: 4"]
)
def test_when_that_never_holds_is_an_error(tmp_path: Path, condition: str) -> None:
    entries = (
        "model.block: {values: [conv, recurrent]}",
        "model.depth: {min: 2, max: 3}",
        f"model.recurrence: {{min: 1, max: 2, when: {{{condition}}}}}",
    )
    other, value = condition.split(": ")
    assert complaint(tmp_path, *entries) == (
        f"s.yaml:5: parameters.model.recurrence.when.{other}: never holds: {other} does not take "
        f"{value}; name a value that it takes"
    )


def test_when_may_rest_on_a_fixed_setting(tmp_path: Path) -> None:
    study = load(
        tmp_path,
        "model.block: {value: recurrent}",
        "model.recurrence: {min: 1, max: 2, when: {model.block: recurrent}}",
    )
    assert [parameter.key for parameter in study.parameters] == ["model.recurrence"]


@given(st.integers(0, 50), st.integers(1, 20), st.integers(1, 9), st.integers(0, 60))
def test_a_quantised_range_allows_its_steps_and_no_more(
    low: int, steps: int, step: int, value: int
) -> None:
    parameter = Parameter(
        key="train.batch_size", kind="int", low=low, high=low + steps * step, step=step
    )
    assert allows(parameter, value) == (value in range(low, low + steps * step + 1, step))


@pytest.mark.parametrize("value", [True, "2", 2.5, 1, 5, None])
def test_a_whole_range_allows_no_other_type_and_nothing_outside(value: object) -> None:
    parameter = Parameter(key="model.depth", kind="int", low=2, high=4)
    assert not allows(parameter, value)
    assert all(allows(parameter, inside) for inside in (2, 3, 4))


def test_a_choice_allows_no_value_of_another_type() -> None:
    parameter = Parameter(key="model.depth", kind="choice", values=(1, 2))
    assert allows(parameter, 1)
    assert not allows(parameter, True)
