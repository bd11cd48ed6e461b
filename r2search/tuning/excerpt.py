"""How much of a long study TPE is shown: an excerpt, so that a proposal costs no more for it.

TPE looks at every trial for every proposal, one by one and in Python. It takes a tenth of them for
good, 25 at most, and asks where those lie more densely than all the others. So the good ones are
kept by its own order, and of the others a uniform sample, which has their density: up to MOST
trials that is all of them. Who is kept follows from the numbers and the results of the trials
alone, so that a study that is taken up again from its record shows the same.
"""

import copy
import heapq
from collections.abc import Container, Sequence

import numpy as np
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from r2search.data.samples import rng_for
from r2search.selection import pareto_ranks

MOST = 400  # trials that ended with a result
GOOD = MOST // 10  # of them, the best


class ExcerptStorage(InMemoryStorage):
    """One study in memory. Asked for its trials, it gives all that run, and an excerpt of the rest.

    When something was left out, so are all trials that failed: they are evidence of nothing.
    """

    def __init__(self, directions: Sequence[StudyDirection], seed: int) -> None:
        super().__init__()
        self.created = 0  # trials
        self._signs = np.array([1 if d == StudyDirection.MAXIMIZE else -1 for d in directions])
        self._seed = seed
        self._whole = True  # nothing was left out yet
        self._open: set[int] = set()  # ids of trials that have not ended
        self._good: list[FrozenTrial] = []  # the best first
        self._others: list[tuple[float, int, FrozenTrial]] = []  # a heap: the next to be left out

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        trial_id = super().create_new_trial(study_id, template_trial)
        self.created += 1
        self._open.add(trial_id)
        return trial_id

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        changed = super().set_trial_state_values(trial_id, state, values)
        if state.is_finished():
            self._open.remove(trial_id)
            if state != TrialState.FAIL:
                self._keep(self.get_trial(trial_id))
        return changed

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        if self._whole:
            return super().get_all_trials(study_id, deepcopy, states)
        others = (trial for _, _, trial in self._others)
        shown = [*self._good, *others, *map(self.get_trial, self._open)]
        shown = [trial for trial in shown if states is None or trial.state in states]
        shown.sort(key=lambda trial: trial.number)
        return copy.deepcopy(shown) if deepcopy else shown

    def _keep(self, trial: FrozenTrial) -> None:
        """Whoever is not among the best is kept by a lot of its own: the smallest are left out."""
        self._good = self._ranked([*self._good, trial])
        if len(self._good) <= GOOD:
            return
        other = self._good.pop()
        lot = rng_for(self._seed, "excerpt", other.number).random()
        heapq.heappush(self._others, (lot, other.number, other))
        if len(self._others) > MOST - GOOD:
            heapq.heappop(self._others)
            self._whole = False

    def _ranked(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """As TPE has it: trained to their end, stopped (by epochs, then value), infeasible."""
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        points = [self._signs * trial.values for trial in complete]
        several = len(self._signs) > 1
        losses = pareto_ranks(points) if several else [-point[0] for point in points]
        loss_of = {t.number: float(loss) for t, loss in zip(complete, losses, strict=True)}

        def merit(trial: FrozenTrial) -> tuple[float, ...]:
            """Smaller is better."""
            violation = sum(value for value in trial.constraints.values() if value > 0)
            if violation:
                return 2, violation
            if trial.number in loss_of:
                return 0, loss_of[trial.number]
            if not trial.intermediate_values:
                return 1, 1
            step, value = max(trial.intermediate_values.items())
            return 1, -step, -float(self._signs[0]) * value

        return sorted(trials, key=lambda trial: (*merit(trial), trial.number))
