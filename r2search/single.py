"""One configuration, trained without a search; it leaves the same run folder behind."""

from pathlib import Path
from typing import Any

from rich.console import Console

from r2search.config import Study, TrialConfig
from r2search.finish import Trained, finish
from r2search.interrupt import Interrupt
from r2search.models.cost import model_cost
from r2search.records import CHECKPOINTS, RECORD
from r2search.report.ending import print_summary
from r2search.rundir import claim, open_run
from r2search.space import trial_config
from r2search.study import prepare
from r2search.train.hardware import apply, detect
from r2search.train.micro_batches import is_out_of_memory
from r2search.train.trainer import Trainer
from r2search.tuning.events import Ledger
from r2search.weights import WEIGHTS, save_weights

TRIAL = "t0001"


def train_one(
    study: Study,
    run_dir: Path,
    *,
    command: str = "",
    console: Console | None = None,
) -> dict[str, Any]:
    """Train the fixed settings of a study for budget.max_epochs; what varies in it is left out.

    Prints a line an epoch. Returns what summary.json holds. Raises Misuse for what `prepare`
    refuses.
    """
    study, samples = prepare(study)
    config = trial_config(study, {})
    study = study.model_copy(
        update={"parameters": (), "baselines": {}, "starts": {}, "confirm": None}
    )
    run_dir = claim(run_dir)
    console = console or Console()
    facts = open_run(study, run_dir, command)
    hardware = detect(config.train)
    apply(hardware)
    facts["hardware"] |= {"workers": 1, "threads_per_worker": hardware.threads}
    facts["tracking"] = {"mode": "disabled", "not_uploaded": [], "sync": None}
    ledger = _open_ledger(run_dir, config)
    planned = config.train.max_epochs
    with Interrupt() as interrupt:
        _train(
            study,
            Trainer(config, samples, horizon=planned, hardware=hardware),
            run_dir,
            ledger,
            interrupt,
            console,
        )
        trained = Trained(
            study=study,
            samples=samples,
            run_dir=run_dir,
            ledger=ledger,
            whole=True,
            signal=interrupt.signal,
            search_seconds=ledger.elapsed(),
            worker_seconds=ledger.elapsed(),
            threads=hardware.threads,
            facts=facts,
        )
        summary = finish(trained, lambda phase: console.print(phase))
    ledger.close()
    print_summary(console, summary, run_dir)
    return summary


def _open_ledger(run_dir: Path, config: TrialConfig) -> Ledger:
    """The record of a study with one trial, which begins now."""
    patch = config.patch
    cost = model_cost(config.model, patch, patch)
    ledger = Ledger(run_dir / RECORD)
    ledger.start(
        trial=TRIAL,
        baseline=False,
        overrides={},
        config=config.model_dump(mode="json"),
        cost={"parameters": cost.parameters, "flops": cost.flops, "epoch_seconds": 0.0},
        planned_epochs=config.train.max_epochs,
    )
    return ledger


def _train(
    study: Study,
    trainer: Trainer,
    run_dir: Path,
    ledger: Ledger,
    interrupt: Interrupt,
    console: Console,
) -> None:
    """Train to the end or to a signal; the best epoch's weights go to disk."""
    metric = study.metric
    weights_path = run_dir / CHECKPOINTS / TRIAL / WEIGHTS
    weights_path.parent.mkdir()
    while len(ledger.trials[TRIAL].reports) < study.budget.max_epochs:
        if interrupt.signal is not None:
            ledger.end(TRIAL, "interrupted", "by a signal")
            return
        try:
            report = trainer.run_epoch()
        except (FloatingPointError, MemoryError, RuntimeError) as error:
            infeasible = is_out_of_memory(error)
            if not infeasible and not isinstance(error, FloatingPointError):
                raise
            ledger.end(TRIAL, "infeasible" if infeasible else "failed", str(error))
            console.print(f"failed: {error}", markup=False)
            return
        while trainer.notes:
            ledger.note(TRIAL, trainer.notes[0])
            console.print(trainer.notes.pop(0), markup=False)
        ledger.report(TRIAL, report, worker="")
        best = ledger.trials[TRIAL].best(metric.name, metric.goal)
        assert best is not None
        if best.epoch == report.epoch:
            save_weights(weights_path, trainer.weights(), {"epoch": str(report.epoch)})
        left = (study.budget.max_epochs - report.epoch) * ledger.elapsed() / report.epoch
        console.print(
            f"epoch {report.epoch}/{study.budget.max_epochs}  "
            f"loss {report.metrics['train/loss']:.4f}  "
            f"{metric.name} {report.metrics[metric.name]:.4f}  "
            f"best {best.metrics[metric.name]:.4f}  about {left / 60:.0f} min left"
        )
    ledger.end(TRIAL, "completed")
