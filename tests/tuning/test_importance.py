"""Which settings matter, of trials whose values are known functions of their settings."""

import random
from collections.abc import Callable
from typing import Any

from r2search.config import Study
from r2search.data.samples import rng_for
from r2search.space import draw, suggest_randomly
from r2search.tuning.importance import GOOD, importance

MakeStudy = Callable[..., Study]


def drawn(study: Study, count: int) -> list[dict[str, Any]]:
    return [draw(study, suggest_randomly(rng_for(0, "test", number))) for number in range(count)]


def test_a_useless_setting_has_an_importance_near_zero(make_study: MakeStudy) -> None:
    study = make_study()
    rng = random.Random(0)
    trials = [
        (overrides, -abs(overrides["model.depth"] - 2) + 0.01 * rng.random())
        for overrides in drawn(study, 200)
    ]
    shares = importance(study, trials)
    assert shares is not None
    assert next(iter(shares)) == "model.depth"
    assert shares["model.depth"] > 0.8
    assert max(share for name, share in shares.items() if name != "model.depth") < 0.08
    assert abs(sum(shares.values()) - 1) < 1e-9


def test_a_setting_that_is_drawn_under_a_condition_may_matter(make_study: MakeStudy) -> None:
    study = make_study()
    trials = [
        (overrides, float(overrides.get("model.recurrence", 0) == 3))
        for overrides in drawn(study, 200)
    ]
    shares = importance(study, trials)
    assert shares is not None
    assert set(list(shares)[:2]) == {"model.block", "model.recurrence"}


def test_too_few_trials_and_equal_values_say_nothing(make_study: MakeStudy) -> None:
    study = make_study()
    few = [(overrides, float(number)) for number, overrides in enumerate(drawn(study, 14))]
    assert len(few) < 3 * GOOD
    assert importance(study, few) is None
    assert importance(study, [(overrides, 0.5) for overrides in drawn(study, 30)]) is None
