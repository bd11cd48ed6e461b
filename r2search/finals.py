"""The final network of a study: its best settings, trained on all of its labelled images."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from r2search.bundle import export_bundle
from r2search.config import TrialConfig
from r2search.interrupt import Interrupt
from r2search.reopening import Ended, reopen
from r2search.report.card import derived_card
from r2search.report.screen import say
from r2search.rundir import hold
from r2search.scratch import own_scratch
from r2search.train.hardware import apply, detect
from r2search.train.trainer import Trainer
from r2search.weights import save_weights

FINAL = "bundle-final"  # in a run folder


def train_final(run_dir: Path, console: Console) -> int:
    """Train the incumbent's settings on all images of a study, as RUN/bundle-final.

    Returns the exit code. It is trained for as many epochs as the incumbent was when it was best,
    by the same lr_schedule. Nothing is left to score it with, and all that is written says so; the
    study's own bundle stays. Misuse as of `reopen`.
    """
    ended = reopen(run_dir)
    best = ended.summary["incumbent"]
    config, samples = TrialConfig.model_validate(best["config"]), ended.samples
    # The images of the validation split are among those trained on, too: what the trainer says of
    # them is no score, and is not kept.
    everything = replace(samples, train=(*samples.train, *samples.val, *samples.test))
    hardware = detect(config.train)
    apply(hardware)
    with hold(run_dir), Interrupt() as interrupt:
        trainer = Trainer(config, everything, horizon=best["planned_epochs"], hardware=hardware)
        images = len(everything.train)
        say(console, f"Training {best['trial']} on all {images} images, {best['epoch']} epochs")
        try:
            done = _train(trainer, best["epoch"], lambda: interrupt.signal is not None, console)
        except FloatingPointError as error:
            say(console, f"The final network failed ({error}); the study's bundle is as it was")
            return 1
        if not done:
            return 128 + (interrupt.signal or 0)
        ended.amend("final", _export(ended, trainer, images))
    say(console, f"Bundle: {run_dir / FINAL} (no image is left to score it with)")
    return 0


def _train(trainer: Trainer, epochs: int, ending: Callable[[], bool], console: Console) -> bool:
    """Train for so many epochs; whether they were all done."""
    for epoch in range(1, epochs + 1):
        if ending():
            return False
        loss = trainer.run_epoch().metrics["train/loss"]
        while trainer.notes:
            say(console, trainer.notes.pop(0))
        say(console, f"epoch {epoch}/{epochs}  loss {loss:.4f}")
    return True


def _export(ended: Ended, trainer: Trainer, images: int) -> dict[str, Any]:
    """Write the bundle; what summary.json holds of it."""
    best, predictor = ended.summary["incumbent"], trainer.predictor
    note = f"trained on all {images} labelled images: it has no test score of its own"
    data = ended.data_facts
    facts = {
        "study": ended.study.name,
        "trial": best["trial"],
        "epoch": trainer.epoch,
        "config": predictor.config,
        "dtype": predictor.hardware.dtype,
        "memory_format": predictor.hardware.memory_format,
        "threads": predictor.hardware.threads,
        "metrics": {},
        "mean": predictor.preparation.mean,
        "std": predictor.preparation.std,
        "data": data | {"notes": [*data["notes"], note], "trained_on": "all"},
        "synthetic": ended.samples.synthetic,
        "versions": ended.summary["versions"],
    }
    about = [
        f"The settings of {best['trial']}, {note}.",
        f"The network that was scored is that of `bundle/`, trained on {len(ended.samples.train)} "
        f"of these images, with the same settings, for the same {best['epoch']} epochs. This one "
        "has seen more of them, and is likely as good; nothing here shows that it is.",
    ]
    with own_scratch("final") as scratch:
        path = scratch / "weights.safetensors"
        save_weights(path, trainer.weights(), {"epoch": str(trainer.epoch)})
        title = f"{best['trial']}, trained on all images"
        export_bundle(
            ended.run_dir / FINAL, path, facts, derived_card(ended.summary, title, about, {}), b""
        )
    return {"bundle": FINAL, "trial": best["trial"], "epochs": trainer.epoch, "images": images}
