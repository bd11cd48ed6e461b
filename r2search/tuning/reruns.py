"""What a confirmation trains: which configs, how often, in which order. Pure arithmetic."""

import heapq
import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from r2search.config import Study
from r2search.data.folds import OWN, Fold
from r2search.records import AGAIN, TrialOutcome
from r2search.selection import eligible, ranking
from r2search.tuning.events import Ledger

SPARE = 1.1  # by so much a training may take longer than it did in the search
BEGIN_S = 5.0  # until a worker has built a network for the first time


@dataclass(frozen=True, slots=True)
class Rerun:
    """A config of the search, trained once more with another seed."""

    trial: str
    number: int  # counts from 1
    seconds: float  # that it will take, expected
    fold: Fold = OWN
    # A spare one is begun only where so many seconds are left after it; None: there is time for it
    after: float | None = None

    @property
    def name(self) -> str:
        return f"{self.trial}{AGAIN}{self.number}" + (f".{self.fold[0]}" if self.fold[0] else "")


@dataclass(frozen=True, slots=True)
class Network:
    """A config that may be trained again."""

    trial: str
    seconds: float  # of one training
    scoring: float  # seconds of a worker to score one training on all images at the end
    done: int = 0  # trainings that count already: that of a baseline, which nobody chose


@dataclass(frozen=True, slots=True)
class Reruns:
    """What is trained, in order, and what there is no time for."""

    finalists: tuple[str, ...]
    baselines: tuple[str, ...]
    queue: tuple[Rerun, ...]  # first what there is time for, then what there may be time for
    dropped: tuple[str, ...] = ()  # in words, but for seeds (`left_out`)
    folds: int = 1


def plan_reruns(
    study: Study, trials: Sequence[TrialOutcome], workers: int, seconds: float, share: float
) -> Reruns:
    """The confirmation of a study whose search is over, in so many seconds.

    Seeds are dropped first, of baselines and finalists in turn, then folds, then finalists, the
    worst first; what is left is at least one training of every network, or nothing. Seeds that were
    dropped come last in the queue, and are begun where the others took less time than expected;
    with folds there are none, since a part of a round counts for nothing. `share`: images to be
    scored at the end, in validation splits.
    """
    assert study.confirm is not None
    name, goal = study.metric.name, study.metric.goal
    finalists = [
        _network(trial, share)
        for trial in _distinct(t for t in ranking(trials, name, goal) if not t.baseline)
    ][: study.confirm.finalists]
    baselines = [
        _network(trial, share, done=int(trial.outcome == "completed"))
        for trial in eligible(trials)
        if trial.baseline
    ]
    wanted = study.confirm.seeds
    every = study.confirm.folds
    for count, own, their, folds in _fewer(len(finalists), wanted, every) if finalists else ():
        queue = _queue(finalists[:count], own, folds) + _queue(baselines, their, folds)
        queue.sort(key=lambda rerun: (rerun.number, -rerun.seconds, rerun.name))
        scored = [*finalists[:count] * own, *baselines * their] * folds
        scoring = sum(n.scoring for n in scored) / workers
        if _makespan(queue, workers) + scoring <= seconds:
            dropped = []
            if count < len(finalists):
                dropped.append(f"{count} of {len(finalists)} finalists were trained again")
            if folds < every:
                dropped.append(f"{every} folds were left out")
            if folds == 1:
                networks = [*finalists[:count], *baselines]
                queue += _spare(networks, wanted, queue, scoring, workers)
            return Reruns(
                tuple(network.trial for network in finalists[:count]),
                tuple(network.trial for network in baselines),
                tuple(queue),
                tuple(dropped),
                folds,
            )
    reason = "no time for one training of each" if finalists else "no trial to be trained again"
    return Reruns((), (), (), (reason,))


def _fewer(finalists: int, seeds: int, folds: int) -> list[tuple[int, int, int, int]]:
    """Finalists, their seeds, those of the baselines, and folds: from all that is wanted to the
    least.
    """
    steps = [(finalists, seeds, seeds, folds)]
    for fewer in range(seeds - 1, 0, -1):
        steps += [(finalists, fewer + 1, fewer, folds), (finalists, fewer, fewer, folds)]
    return [*steps, *((count, 1, 1, 1) for count in range(finalists, 0, -1))]


def _queue(networks: Sequence[Network], seeds: int, folds: int) -> list[Rerun]:
    """What is done already is on the split of the study, fold 0."""
    return [
        Rerun(network.trial, number, network.seconds, (fold, folds))
        for network in networks
        for fold in range(folds)
        for number in range(1, seeds + 1 - (0 if fold else network.done))
    ]


def _spare(
    networks: Sequence[Network],
    seeds: int,
    planned: Sequence[Rerun],
    scoring: float,
    workers: int,
) -> list[Rerun]:
    """Seeds that are not planned, one of every network after the other.

    Each leaves the time to score all trainings until then; those planned take `scoring` seconds.
    """
    names, found = {rerun.name for rerun in planned}, list[Rerun]()
    for seed in range(1, seeds + 1):
        for network in networks:
            rerun = Rerun(network.trial, seed - network.done, network.seconds)
            if rerun.number > 0 and rerun.name not in names:
                scoring += network.scoring / workers
                found.append(replace(rerun, after=scoring))
    return found


def _network(trial: TrialOutcome, share: float, done: int = 0) -> Network:
    """By what its epochs took in the search."""

    def each(*kinds: str) -> float:
        return statistics.median(sum(r.seconds.get(k, 0.0) for k in kinds) for r in trial.reports)

    epochs = trial.planned_epochs * each("train", "validate", "checkpoint")
    return Network(trial.trial, SPARE * epochs + BEGIN_S, share * each("validate"), done)


def _distinct(trials: Iterable[TrialOutcome]) -> list[TrialOutcome]:
    """The first of each config."""
    first: dict[str, TrialOutcome] = {}
    for trial in trials:
        first.setdefault(json.dumps(trial.config, sort_keys=True, default=str), trial)
    return list(first.values())


def _makespan(queue: Sequence[Rerun], workers: int) -> float:
    """When the last of them ends, each taken up by the next worker that is free."""
    free = [0.0] * workers
    for rerun in queue:
        heapq.heapreplace(free, free[0] + rerun.seconds)
    return max(free)


def planned_by(ledger: Ledger) -> list[Rerun]:
    """The queue of the plan in the record, whatever became of it."""
    return [
        Rerun(**facts | {"fold": tuple(facts.get("fold", OWN))})
        for facts in (ledger.plan or {}).get("queue", ())
    ]


def queue_of(ledger: Ledger) -> list[Rerun]:
    """What of it is still to be trained."""
    done = {name for name, training in ledger.confirmed.items() if training.outcome}
    return [rerun for rerun in planned_by(ledger) if rerun.name not in done]


def left_out(ledger: Ledger, wanted: int) -> list[str]:
    """In words: which networks got fewer seeds than wanted, and what did not come to its end."""
    assert ledger.plan is not None
    own = [rerun for rerun in planned_by(ledger) if not rerun.fold[0]]
    ended = {t.trial for t in ledger.confirmed.values() if t.outcome == "completed" or t.failed}
    queue = [rerun for rerun in own if rerun.after is None or rerun.name in ended]
    said = []
    for kind in ("finalists", "baselines"):
        got = [
            sum(rerun.trial == trial for rerun in queue)
            + (kind == "baselines" and ledger.trials[trial].outcome == "completed")
            for trial in ledger.plan[kind]
        ]
        if got and min(got) < wanted:
            each = f"{min(got)} to {max(got)}" if min(got) < max(got) else f"{min(got)}"
            said.append(f"the {kind} got {each} of {wanted} seeds")
    open_ = [r.name for r in planned_by(ledger) if r.after is None and r.name not in ended]
    return said + [f"no time was left for {', '.join(open_)}"] * bool(open_)
