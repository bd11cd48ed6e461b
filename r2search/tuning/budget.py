"""Which configs fit a budget and a worker, and how long each may train. Pure arithmetic."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from r2search.config import BudgetConfig, Study, TrialConfig
from r2search.models.cost import Rate, epoch_seconds, model_cost
from r2search.models.memory import choose_micro_batch, trial_memory
from r2search.space import trial_config
from r2search.tuning.resources import Room

TRIAL_SHARE = 0.125  # of the budget's worker-seconds may go to a trial, baseline or not,
WALL_SHARE = 0.5  # but never more than this of the wall clock, however many workers there are
EPOCH_SHARE = 0.08  # of what a trial may take may go to an epoch, or its config is refused
FINISH_SHARE = 0.06  # of the wall clock: test split, bundle and report after the search

Cause = Literal["too_slow", "too_large", "repeated"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a config is not to be run."""

    cause: Cause
    reason: str
    excess: float  # over the limit, in limits: 0.5 is half as much again


@dataclass(frozen=True, slots=True)
class Plan:
    """What a trial will cost and how far it may go."""

    epochs: int  # its lr_schedule is compressed to this length
    epoch_seconds: float  # predicted
    parameters: int
    flops: float  # forward, one patch
    memory: int  # bytes at its worst moment, predicted
    micro_batch: int  # patches a forward pass
    gpu_share: float | None = None  # of its own; None: as every trial has
    refusal: Refusal | None = None
    pace: float = 1.0  # its epochs in the time of one, of a trial that can just afford max_epochs
    epoch_flops: float = 0.0  # of its training

    def cost(self) -> dict[str, float]:
        return {
            "parameters": self.parameters,
            "flops": self.flops,
            "epoch_flops": self.epoch_flops,
            "epoch_seconds": self.epoch_seconds,
            "memory": self.memory,
        }


def search_seconds(budget: BudgetConfig) -> float:
    """Wall clock of the search itself, at least half of it all; what follows has the rest."""
    return max(budget.time / 2, budget.time - max(5.0, budget.time * FINISH_SHARE))


def seconds_left(budget: BudgetConfig, elapsed: float, flops: float) -> float:
    """Seconds until the search ends, after so many, in which its trials trained so many FLOPs.

    A budget of FLOPs ends as they went so far.
    """
    left = search_seconds(budget) - elapsed
    if budget.flops is not None and flops:
        left = min(left, (budget.flops - flops) * elapsed / flops)
    return left


def training_flops(config: TrialConfig, flops: float) -> float:
    """Of an epoch, if a forward pass of one patch takes `flops`; a backward pass takes two."""
    return 3 * flops * config.train.epoch_pixels / config.patch**2


def epoch_limit(budget: BudgetConfig, workers: int) -> float:
    """Seconds that an epoch may take, or its config is refused."""
    return EPOCH_SHARE * trial_seconds(budget, workers)


def affordable_epochs(budget: BudgetConfig, workers: int, epoch_seconds: float) -> int:
    """How long a trial may train, if an epoch takes so long."""
    most = trial_seconds(budget, workers) / epoch_seconds
    return max(1, min(budget.max_epochs, int(most)))


def trial_seconds(budget: BudgetConfig, workers: int) -> float:
    """How long any trial may train.

    The good ones of its beginning, among many workers, are to end while others can still follow.
    """
    return search_seconds(budget) * min(TRIAL_SHARE * workers, WALL_SHARE)


def pace(budget: BudgetConfig, workers: int, epoch_seconds: float) -> float:
    """How many epochs a trial trains while one that can just afford max_epochs trains one."""
    return trial_seconds(budget, workers) / epoch_seconds / budget.max_epochs


@dataclass(frozen=True, slots=True)
class Validated:
    """The validation images of a trial, as prepared for its network."""

    pixels: int
    edge: int  # the longest


def plan_trial(
    config: TrialConfig,
    budget: BudgetConfig,
    workers: int,
    images: Validated,
    rate: Rate,
    room: Room,
) -> Plan:
    """The plan for one config; `rate` and `room` are one worker's, of the largest of `workers`.

    Every trial may use the same worker-seconds, so a slow network gets fewer epochs and a
    shorter lr_schedule, and a baseline gets no less than the longest-trained trial. What does not
    fit into memory at once is trained in micro-batches; what does not fit patch by patch is
    refused.
    """
    patch, dtype = config.patch, config.train.dtype
    cost = model_cost(config.model, patch, patch)
    seconds = epoch_seconds(config, images.pixels, rate)
    dtype = room.dtype if dtype == "auto" else dtype
    micro_batch = max(1, choose_micro_batch(config, dtype, room.memory))
    memory = trial_memory(config, dtype, micro_batch, images.edge)
    busy = 3 * cost.flops * micro_batch / rate.flops_per_s
    return Plan(
        epochs=affordable_epochs(budget, workers, seconds),
        epoch_seconds=seconds,
        parameters=cost.parameters,
        flops=float(cost.flops),
        memory=memory,
        micro_batch=micro_batch,
        gpu_share=room.share(memory, busy) if room.shares else None,
        refusal=_refusal(memory, room.memory, seconds, epoch_limit(budget, workers)),
        pace=pace(budget, workers, seconds),
        epoch_flops=training_flops(config, float(cost.flops)),
    )


def plan_baseline(
    study: Study, name: str, planner: Callable[[TrialConfig], Plan]
) -> tuple[dict[str, Any], Plan]:
    """What a baseline sets, and its plan.

    One whose epoch would take longer than a trial may trains a part of an epoch, a step at least:
    a slow machine would else spend a study on it, and be cut off before its first score.
    """
    overrides = dict(study.baselines[name].overrides)
    config = trial_config(study, overrides)
    plan = planner(config)
    epochs = plan.pace * study.budget.max_epochs  # in the time of a trial
    if epochs >= 1:
        return overrides, plan
    whole = config.train.epoch_pixels
    part = max(int(epochs * whole), config.train.batch_size * config.patch**2)
    overrides["train.epoch_pixels"] = min(whole, part)
    return overrides, planner(trial_config(study, overrides))


def _refusal(memory: float, room: float, seconds: float, limit: float) -> Refusal | None:
    if memory > room:
        reason = f"needs {_size(memory)}, over the limit of {_size(room)} a worker"
        return Refusal("too_large", reason, memory / room - 1)
    return too_slow(seconds, limit)


def too_slow(epoch_seconds: float, limit: float) -> Refusal | None:
    """The refusal of a config whose epoch takes longer than the limit."""
    if epoch_seconds <= limit:
        return None
    reason = f"an epoch would take {epoch_seconds:.1f} s, over the limit of {limit:.1f} s"
    return Refusal("too_slow", reason, epoch_seconds / limit - 1)


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
