"""Which configs fit a budget, and how long each may train. Pure arithmetic."""

from dataclasses import dataclass

from r2search.config import BudgetConfig, TrialConfig
from r2search.models.cost import Rate, epoch_seconds, model_cost

COST_LIMIT = 0.01  # an epoch may take this share of the budget's worker-seconds
TRIAL_SHARE = 0.20  # and a whole trial, baseline or not, this share
FINISH_SHARE = 0.06  # of the wall clock: test split, bundle and report after the search


@dataclass(frozen=True, slots=True)
class Plan:
    """What a trial will cost and how far it may go."""

    epochs: int  # its lr_schedule is compressed to this length
    epoch_seconds: float  # predicted
    parameters: int
    flops: float  # forward, one patch
    refusal: str  # why the budget refuses it; empty if it does not

    def cost(self) -> dict[str, float]:
        return {
            "parameters": self.parameters,
            "flops": self.flops,
            "epoch_seconds": self.epoch_seconds,
        }


def search_seconds(budget: BudgetConfig) -> float:
    """Wall clock of the search itself, at least half of it all; what follows has the rest."""
    return max(budget.time / 2, budget.time - max(5.0, budget.time * FINISH_SHARE))


def plan_trial(
    config: TrialConfig, budget: BudgetConfig, workers: int, validation_pixels: int, rate: Rate
) -> Plan:
    """The plan for one config; `rate` is one worker's.

    Every trial may use the same worker-seconds, so a slow network gets fewer epochs and a
    shorter lr_schedule, and a baseline gets no less than the longest-trained trial.
    """
    patch = config.patch
    cost = model_cost(config.model, patch, patch)
    seconds = epoch_seconds(config, validation_pixels, rate)
    worker_seconds = search_seconds(budget) * workers
    limit = COST_LIMIT * worker_seconds
    refusal = ""
    if seconds > limit:
        refusal = f"an epoch would take {seconds:.1f} s, over the limit of {limit:.1f} s"
    epochs = int(TRIAL_SHARE * worker_seconds / seconds)
    return Plan(
        epochs=max(1, min(budget.max_epochs, epochs)),
        epoch_seconds=seconds,
        parameters=cost.parameters,
        flops=float(cost.flops),
        refusal=refusal,
    )
