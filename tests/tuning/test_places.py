"""Which config is nearest to a proposal."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2search.config import Study
from r2search.data.samples import rng_for
from r2search.space import draw, suggest_randomly
from r2search.tuning.places import Places

MakeStudy = Callable[..., Study]

BASE: dict[str, Any] = {
    "model.block": "recurrent",
    "model.recurrence": 2,
    "model.depth": 2,
    "model.base_filters": 4,
    "model.dropout": 0.1,
    "train.lr": 0.01,
    "train.class_weights": 1.0,
}
PLAIN = {key: value for key, value in BASE.items() if key != "model.recurrence"} | {
    "model.block": "conv"
}


@pytest.mark.parametrize(
    ("near", "far"),
    [
        (BASE | {"train.lr": 0.02}, BASE | {"train.lr": 0.1}),
        (BASE | {"train.lr": 0.001}, BASE | {"train.lr": 0.1 + 1e-9}),  # a decade is a decade
        (BASE | {"model.depth": 3}, BASE | {"model.depth": 4}),
        (BASE | {"model.recurrence": 1}, PLAIN),
        (BASE | {"train.lr": 0.1}, BASE | {"train.class_weights": (1.0, 3.0)}),
        (BASE | {"model.dropout": 0.3}, BASE | {"model.base_filters": 8}),
    ],
)
def test_the_nearer_of_two_is_taken(
    make_study: MakeStudy, near: dict[str, Any], far: dict[str, Any]
) -> None:
    parameters = make_study().parameters
    assert Places(parameters, [far, near]).taker()(BASE) is near
    assert Places(parameters, [near, far]).taker()(BASE) is near


def test_a_parameter_that_neither_has_keeps_nobody_apart(make_study: MakeStudy) -> None:
    places = Places(make_study().parameters, [PLAIN | {"train.lr": 0.02}, BASE])
    assert places.taker()(PLAIN)["model.block"] == "conv"


@given(seed=st.integers(0, 10_000))
def test_every_config_is_taken_once_and_a_proposal_that_is_there_is_itself(
    make_study: MakeStudy, seed: int
) -> None:
    study = make_study()
    configs = [draw(study, suggest_randomly(rng_for(seed, n))) for n in range(12)]
    take = Places(study.parameters, configs).taker()
    assert take(configs[7]) == configs[7]
    taken = [take(configs[0]) for _ in range(11)]
    assert sorted(map(str, [*taken, configs[7]])) == sorted(map(str, configs))
    with pytest.raises(AssertionError, match="every config was taken"):
        take(configs[0])
