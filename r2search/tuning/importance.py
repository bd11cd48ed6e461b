"""Which settings matter: PED-ANOVA, by Optuna, of trials that can be compared."""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.importance import PedAnovaImportanceEvaluator

from r2search.config import Study
from r2search.tuning.proposals import ask

GOOD = 5  # trials that are to be among the best, or the method says nothing (its documentation)
GOOD_SHARE = 0.1  # of all trials


def importance(
    study: Study, trials: Sequence[tuple[Mapping[str, Any], float]]
) -> dict[str, float] | None:
    """How much each setting decides about being among the best; shares of one, largest first.

    `trials`: the drawn settings of each, as in the record, and a value, larger is better. None
    when there are fewer than three times GOOD of them, or nothing differs. Watanabe, Bansal and
    Hutter 2023, arXiv:2304.10255; settings that are drawn under a condition by its extension,
    arXiv:2601.20800.
    """
    if len(trials) < 3 * GOOD or len({value for _, value in trials}) == 1:
        return None
    sampler = optuna.samplers.RandomSampler(seed=0)  # draws nothing: all values are given
    evidence = optuna.create_study(direction="maximize", sampler=sampler)
    for overrides, value in trials:
        evidence.tell(ask(evidence, study, overrides), value)
    quantile = max(GOOD_SHARE, GOOD / len(trials))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=quantile)
    found = optuna.importance.get_param_importances(evidence, evaluator=evaluator)
    total = sum(found.values())
    return {name: share / total for name, share in found.items()} if total else None
