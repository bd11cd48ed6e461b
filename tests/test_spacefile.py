"""Reading a space file: each mistake is one message with file, line, key, value and remedy."""

from pathlib import Path

import pytest

from r2search.config import Misuse
from r2search.spacefile import read_space_file


def complaint(tmp_path: Path, text: str) -> str:
    path = tmp_path / "s.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(Misuse) as caught:
        read_space_file(path)
    return str(caught.value)


def test_nested_parameters_become_dotted_keys(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: s\n"
        "parameters:\n"
        "  model:\n"
        "    parameters:\n"
        "      depth: {min: 2, max: 5}\n"
        "  train.lr: {value: 1.0e-3}\n"
    )
    file, _ = read_space_file(path)
    assert list(file.parameters) == ["model.depth", "train.lr"]


def test_an_error_about_a_parameter_has_the_line_where_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: s\n"  # line 1
        "parameters:\n"
        "  model:\n"
        "    parameters:\n"
        "      depth:\n"  # line 5
        "        min: 2\n"
        "        max: 5\n"  # line 7
        "baselines:\n"
        "  B1:\n"
        "    model.depth: 4\n"  # line 10
    )
    _, source = read_space_file(path)
    assert str(source.error("parameters.model.depth", "x")).startswith("s.yaml:5: ")
    assert str(source.error("parameters.model.depth.max", "x")).startswith("s.yaml:7: ")
    assert str(source.error("model.depth", "x")).startswith("s.yaml:5: ")
    assert str(source.error("model", "x")).startswith("s.yaml:5: ")
    assert str(source.error("baselines.B1.model.depth", "x")).startswith("s.yaml:10: ")
    assert str(source.error("budget.time", "x")).startswith("s.yaml: ")


def test_an_unknown_key_at_the_top_is_answered_with_the_nearest(tmp_path: Path) -> None:
    message = complaint(tmp_path, "name: s\nparametrs: {}\n")
    assert message.startswith(
        "s.yaml:2: parametrs: unknown key (value {}); did you mean 'parameters'? known: baselines,"
    )


def test_an_unknown_key_of_data_is_answered_with_the_nearest(tmp_path: Path) -> None:
    message = complaint(tmp_path, "name: s\ndata:\n  raeder: folder\n")
    assert message.startswith(
        "s.yaml:3: data.raeder: unknown key (value 'folder'); did you mean 'reader'? known: "
    )


def test_an_unknown_key_of_the_budget_is_answered_with_the_nearest(tmp_path: Path) -> None:
    assert complaint(tmp_path, "name: s\nbudget: {tiem: 10m}\n") == (
        "s.yaml:2: budget.tiem: unknown key (value '10m'); "
        "did you mean 'time'? known: flops, max_epochs, time, trials"
    )


def test_an_unknown_key_of_confirm_is_answered_with_the_nearest(tmp_path: Path) -> None:
    assert complaint(tmp_path, "name: s\nconfirm: {sedes: 3}\n") == (
        "s.yaml:2: confirm.sedes: unknown key (value 3); "
        "did you mean 'seeds'? known: finalists, folds, seeds, share"
    )


def test_an_unknown_keyword_of_a_parameter_is_answered_with_the_nearest(tmp_path: Path) -> None:
    message = complaint(tmp_path, "name: s\nparameters:\n  model.depth:\n    minn: 2\n    max: 3\n")
    assert message == (
        "s.yaml:4: parameters.model.depth.minn: unknown key (value 2); did you mean 'min'? "
        "known: distribution, max, min, probabilities, q, value, values, when"
    )


def test_all_that_is_wrong_is_told_together(tmp_path: Path) -> None:
    message = complaint(tmp_path, "name: s\nbudget: {tiem: 10m}\nsearch: {seed: -1}\n")
    assert [line.split(": ")[1] for line in message.splitlines()] == ["budget.tiem", "search.seed"]


def test_a_key_given_twice_is_an_error_with_both_lines(tmp_path: Path) -> None:
    text = "name: s\nbudget:\n  time: 10m\n  trials: 5\n  time: 20m\n"
    assert complaint(tmp_path, text) == (
        "s.yaml:3: budget.time: given twice, in lines 3 and 5; keep one"
    )


def test_a_parameter_given_nested_and_dotted_is_an_error_with_both_lines(tmp_path: Path) -> None:
    text = (
        "name: s\n"
        "parameters:\n"
        "  model: {parameters: {depth: {value: 2}}}\n"
        "  model.depth: {value: 3}\n"
    )
    assert complaint(tmp_path, text) == (
        "s.yaml:4: parameters.model.depth: given already in line 3; keep one"
    )


def test_a_word_that_yaml_reads_as_a_boolean_is_asked_for_in_quotes(tmp_path: Path) -> None:
    assert complaint(tmp_path, "name: s\nearly_terminate: {type: no}\n") == (
        "s.yaml:2: early_terminate.type: YAML reads no, off, yes and on as booleans: "
        "put the word in quotes, got False"
    )


def test_a_boolean_is_not_taken_for_a_number(tmp_path: Path) -> None:
    assert complaint(tmp_path, "name: s\nsearch: {seed: off}\n") == (
        "s.yaml:2: search.seed: YAML reads no, off, yes and on as booleans: "
        "write a number, got False"
    )


def test_a_duration_that_is_none_is_answered_with_examples(tmp_path: Path) -> None:
    assert complaint(tmp_path, "name: s\nbudget: {time: soon}\n") == (
        "s.yaml:2: budget.time: a duration is written like 90s, 20m or 1h30m, got 'soon'"
    )


@pytest.mark.parametrize(
    ("key", "value", "answer"),
    [
        ("search.searcher", "tpw", "did you mean 'tpe'? known: random, tpe"),
        ("early_terminate.type", "bohb", "known: asha, hyperband, median, none, pasha, ray_asha"),
        ("metric.goal", "maximise", "did you mean 'maximize'? known: maximize, minimize"),
        ("data.split", "by_eye", "known: by_subject, within_subject"),
    ],
)
def test_an_unknown_choice_is_answered_with_the_known_ones(
    tmp_path: Path, key: str, value: str, answer: str
) -> None:
    section, name = key.split(".")
    message = complaint(tmp_path, f"name: s\n{section}: {{{name}: {value}}}\n")
    assert message.startswith(f"s.yaml:2: {key}: unknown value {value!r}; ")
    assert message.endswith(answer)


def test_an_unknown_distribution_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    text = "name: s\nparameters:\n  train.lr: {distribution: uniforn, min: 0.1, max: 1}\n"
    assert complaint(tmp_path, text) == (
        "s.yaml:3: parameters.train.lr.distribution: unknown value 'uniforn'; did you mean "
        "'uniform'? known: categorical, constant, int_uniform, log_uniform_values, q_uniform, "
        "uniform"
    )


def test_log_uniform_is_answered_with_log_uniform_values(tmp_path: Path) -> None:
    # in W&B, log_uniform takes exponents: min -9 means exp(-9)
    text = "name: s\nparameters:\n  train.lr: {distribution: log_uniform, min: -9, max: -3}\n"
    assert complaint(tmp_path, text) == (
        "s.yaml:3: parameters.train.lr.distribution: W&B's log_uniform takes exponents; "
        "write log_uniform_values and the ends themselves"
    )


def test_a_number_in_the_place_of_a_parameter_is_answered_with_value(tmp_path: Path) -> None:
    assert complaint(tmp_path, "name: s\nparameters:\n  model.depth: 4\n") == (
        "s.yaml:3: parameters.model.depth: got 4; write {value: 4}"
    )


def test_a_list_in_the_place_of_a_parameter_is_answered_with_values(tmp_path: Path) -> None:
    assert complaint(tmp_path, "name: s\nparameters:\n  model.depth: [3, 4]\n") == (
        "s.yaml:3: parameters.model.depth: got [3, 4]; write {values: [3, 4]}"
    )


def test_a_section_without_its_inner_parameters_is_told_to_nest(tmp_path: Path) -> None:
    assert complaint(tmp_path, "name: s\nparameters:\n  model:\n    depth: {value: 4}\n") == (
        "s.yaml:3: parameters.model: got {'depth': {'value': 4}}; "
        "nest its settings as {parameters: {...}} and no more"
    )


@pytest.mark.parametrize("text", ["budget:", "budget: 4", "budget: [4]"])
def test_a_section_that_is_no_mapping_is_an_error(tmp_path: Path, text: str) -> None:
    assert complaint(tmp_path, f"name: s\n{text}\n").startswith(
        "s.yaml:2: budget: expected a mapping (key: value), got "
    )


def test_parameters_that_are_no_mapping_are_an_error(tmp_path: Path) -> None:
    assert complaint(tmp_path, "name: s\nparameters: 4\n") == (
        "s.yaml:2: parameters: expected a mapping, got 4"
    )


def test_a_missing_name_is_asked_for(tmp_path: Path) -> None:
    assert complaint(tmp_path, "question: why?\n") == "s.yaml: name: missing; add it"


def test_a_name_that_makes_no_folder_is_refused(tmp_path: Path) -> None:
    assert complaint(tmp_path, "name: my/study\n") == (
        "s.yaml:1: name: use letters, digits, `.`, `_` and `-`, a letter or digit first, "
        "got 'my/study'"
    )


@pytest.mark.parametrize("text", ["", "- a\n", "word\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    assert complaint(tmp_path, text) == (
        "s.yaml:1: a space file is a mapping that begins with `name: ...`"
    )


@pytest.mark.parametrize(
    ("text", "line"), [("name: s\n  bad: [\n", 2), ("name: s\n\tx: 1\n", 2), ("name: *gone\n", 1)]
)
def test_a_file_that_is_not_yaml_is_refused_with_the_line(
    tmp_path: Path, text: str, line: int
) -> None:
    assert complaint(tmp_path, text).startswith(f"s.yaml:{line}: not YAML: ")


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(b"name: \xff\xfe\n")
    with pytest.raises(Misuse, match=r"s\.yaml: not YAML: .*; save it as UTF-8 text"):
        read_space_file(path)


def test_a_value_of_a_strange_type_is_refused_with_the_line(tmp_path: Path) -> None:
    assert complaint(tmp_path, "name: s\nquestion: !python/name:os.system x\n").startswith(
        "s.yaml:2: question: not a plain value: could not determine a constructor"
    )


def test_a_key_that_is_no_word_is_refused(tmp_path: Path) -> None:
    assert complaint(tmp_path, "name: s\n? [a]\n: 3\n") == (
        "s.yaml:2: file: a key must be a plain word"
    )


def test_an_alias_that_contains_itself_is_refused(tmp_path: Path) -> None:
    assert complaint(tmp_path, "name: s\nquestion: &a [*a]\n") == (
        "s.yaml: an alias contains itself; write it out"
    )


def test_an_alias_repeats_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: s\nparameters:\n  model.depth: &two {value: 2}\n  model.recurrence: *two\n"
    )
    file, _ = read_space_file(path)
    assert [entry.value for entry in file.parameters.values()] == [2, 2]
