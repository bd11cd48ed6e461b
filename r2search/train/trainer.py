"""Training of one config, epoch by epoch: steps on patches, then scores of whole images."""

import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from r2search.config import TrialConfig
from r2search.data.prefetch import prefetched
from r2search.data.prepare import fit_preparation
from r2search.data.sampler import Batch, PatchSampler
from r2search.data.samples import Sample, SampleSet, rng_for
from r2search.models.unet import build_model
from r2search.records import EpochReport
from r2search.train.evaluation import evaluate
from r2search.train.hardware import (
    Hardware,
    compiled,
    is_compiler_error,
    pinned,
    place_model,
    return_freed_memory,
    training_step,
)
from r2search.train.inference import Predictor
from r2search.train.metrics import Metrics, classify
from r2search.train.micro_batches import halved, is_out_of_memory, micro_batches
from r2search.train.optim import Plateau, build_optimizer, lr_at

CHECK_STEPS = 16  # between looks at the losses: each look waits for the device
PLATEAU_METRIC = "dice_mean"  # what `lr_schedule: plateau` watches


@dataclass(frozen=True, slots=True)
class TrainingState:
    """All that a training needs to go on as if it had never been interrupted."""

    tensors: dict[str, Tensor]  # copies, contiguous and on the CPU
    values: dict[str, Any]  # these survive a JSON round trip


@dataclass(slots=True)
class _Progress:
    """How far an epoch has come."""

    losses: list[Tensor] = field(default_factory=list)  # of each step, on the device
    pixels: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"train": 0.0, "feed": 0.0})
    random: Tensor | None = None  # state of the generator that dropout draws from


class Trainer:
    """The state of one training: network, optimizer, and how far it has come.

    Equal configs, samples, horizon and hardware give equal reports (on one machine's CPU), however
    often the training was saved and restored. The random states of torch are left as they were.

    When memory runs out for the first time, the training frees what it can and goes on with half
    the micro-batch, and says so in `notes`; the second time the error is raised. Where the step
    cannot be compiled it goes on without, and says that, too.
    """

    def __init__(
        self,
        config: TrialConfig,
        samples: SampleSet,
        *,
        horizon: int,
        hardware: Hardware,
        micro_batch: int | None = None,
        may_halve: bool = True,
    ) -> None:
        """`horizon`: planned epochs, to which the lr_schedule is compressed.

        `micro_batch`: most patches that go through the network at once; None is the whole batch.
        A step is one update by the whole batch all the same; `micro_batches` says by which loss.
        Batch norm sees micro-batches. `may_halve`: memory has not run out yet.
        """
        for sample in (*samples.train, *samples.val):
            highest = max(1, config.model.classes - 1)
            assert sample.mask.max() <= highest, f"{sample.id}: mask of grey levels"
        again = config.train.checkpoint_activations
        self.model = build_model(config.model, seed=config.seed, checkpoint_activations=again)
        self.epoch = 0  # finished ones
        self.micro_batch = micro_batch
        self.notes: list[str] = []
        # (H, W) of class indices: what the last epoch says of the first validation image
        self.first_mask: NDArray[np.uint8] | None = None
        self._may_halve = may_halve
        self._config = config
        self._val = samples.val
        self._horizon = horizon
        self._hardware = hardware
        preparation = fit_preparation(config.data, samples.train)
        self._sampler = PatchSampler(samples.train, config, preparation)
        place_model(self.model, hardware)
        # What the steps run; validation has images of many sizes and runs the network itself.
        self._stepped = compiled(self.model, hardware) if config.train.compile else self.model
        self.predictor = Predictor(self.model, config, preparation, hardware)
        self._optimizer = build_optimizer(self.model, config.train)
        self._plateau = Plateau()
        self._progress = _Progress()

    def run_epoch(self, tick: Callable[[], None] = lambda: None) -> EpochReport:
        """Train for the pixels of one epoch, then validate.

        `tick` is called after each step and before each validation image. It may read `state()`,
        and it may raise to leave the epoch, which the next call then continues. A loss or an output
        that is not finite raises FloatingPointError.
        """
        while True:
            try:
                return self._run_epoch(tick)
            except (MemoryError, RuntimeError) as error:
                remedy = self._remedy(error)
                if remedy is None:
                    raise
            # Only here is free what the traceback held.
            self._optimizer.zero_grad(set_to_none=True)
            return_freed_memory()
            self.notes.append(f"epoch {self.epoch + 1}: {remedy}")

    def _remedy(self, error: Exception) -> str | None:
        """Make the next try one that does not meet this error; says what is changed."""
        if self._stepped is not self.model and is_compiler_error(error):
            self._stepped = self.model
            reason = str(error).partition("\n\n")[0]  # then comes advice for torch's developers
            return f"could not be compiled and goes on without: {' '.join(reason.split())}"
        size = halved(self.micro_batch, self._config)
        if not (is_out_of_memory(error) and self._may_halve and size):
            return None
        self.micro_batch, self._may_halve = size, False
        return f"out of memory; goes on with micro-batches of {size}"

    def weights(self) -> dict[str, Tensor]:
        """Copies of parameters and running statistics, contiguous and on the CPU."""
        return {name: _copy(value) for name, value in self.model.state_dict().items()}

    def state(self) -> TrainingState:
        """A copy of all that `restore` needs, between two epochs or within one."""
        progress = self._progress
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for index, slots in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in slots.items()}
        if progress.random is not None:
            tensors |= {"losses": torch.stack(progress.losses), "random": progress.random}
        return TrainingState(
            {name: _copy(value) for name, value in tensors.items()},
            {
                "epoch": self.epoch,
                "pixels": progress.pixels,
                "seconds": dict(progress.seconds),
                "plateau": asdict(self._plateau),
                "micro_batch": self.micro_batch,
                "may_halve": self._may_halve,
            },
        )

    def restore(self, state: TrainingState) -> None:
        """Continue from a state of an equal config, samples and horizon."""
        tensors, values = state.tensors, state.values
        self.model.load_state_dict(_named("model.", tensors))
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in _named("optimizer.", tensors).items():
            index, _, key = name.partition(".")
            alike = parameters[int(index)]  # a fused step wants the memory format of the parameter
            own = torch.empty_like(alike) if value.shape == alike.shape else torch.empty_like(value)
            slots.setdefault(int(index), {})[key] = own.copy_(value)
        self._optimizer.load_state_dict(
            {"state": slots, "param_groups": self._optimizer.state_dict()["param_groups"]}
        )
        losses = tensors["losses"].to(self._hardware.device).unbind() if "losses" in tensors else ()
        self._progress = _Progress(
            list(losses), values["pixels"], dict(values["seconds"]), tensors.get("random")
        )
        self.epoch = values["epoch"]
        self.micro_batch, self._may_halve = values["micro_batch"], values["may_halve"]
        self._plateau = Plateau(**values["plateau"])

    def _run_epoch(self, tick: Callable[[], None]) -> EpochReport:
        gpus = range(torch.cuda.device_count()) if self._hardware.device == "cuda" else []
        with torch.random.fork_rng(devices=gpus):  # dropout draws from torch's own generator
            trained = self._train(tick)
        start = time.perf_counter()
        try:
            validated, _ = evaluate(self.predictor, _ticking(self._val, tick), self._keep_first)
        except FloatingPointError as error:
            raise FloatingPointError(
                f"epoch {self.epoch + 1}, validation: {error}; trial fails and gets no score"
            ) from error
        if self._config.train.lr_schedule == "plateau":
            self._plateau.observe(validated[PLATEAU_METRIC])
        done, self._progress = self._progress, _Progress()
        self.epoch += 1
        return EpochReport(
            epoch=self.epoch,
            metrics={f"val/{name}": value for name, value in validated.items()} | trained,
            pixels=done.pixels,
            seconds=done.seconds | {"validate": time.perf_counter() - start},
        )

    def _keep_first(self, sample: Sample, probability: NDArray[np.float32]) -> Metrics:
        """No further metrics; the mask of the first image is kept, for whoever wants to see it."""
        if sample is self._val[0]:
            self.first_mask = classify(probability, self._config.inference.threshold)
        return {}

    def _train(self, tick: Callable[[], None]) -> Metrics:
        """The steps of an epoch that are still to be done; metrics of all its steps."""
        progress, seconds = self._progress, self._progress.seconds
        self._seed_dropout()
        self.model.train()
        clock = time.perf_counter()
        with closing(self._batches()) as batches:  # a tick may raise
            for batch in batches:
                seconds["feed"] += time.perf_counter() - clock
                for group in self._optimizer.param_groups:
                    group["lr"] = self._rate(len(progress.losses))
                parts = micro_batches(batch, self.micro_batch, self._config, self._hardware)
                progress.losses.append(
                    training_step(self._stepped, self._optimizer, parts, self._hardware)
                )
                progress.pixels += batch.masks.size
                progress.random = _generator(self._hardware).get_state()
                if len(progress.losses) % CHECK_STEPS == 0:
                    self._require_finite()
                seconds["train"] += time.perf_counter() - clock
                tick()
                clock = time.perf_counter()
        self._require_finite()
        loss = torch.stack(progress.losses).mean().item()
        seconds["train"] += time.perf_counter() - clock
        return {"train/loss": loss, "train/lr": self._rate(len(progress.losses) - 1)}

    def _batches(self) -> Generator[Batch, None, None]:
        """Those of the present epoch that are still to be done."""
        batches = self._sampler.batches(self.epoch + 1, len(self._progress.losses))
        if self._hardware.device == "cuda":  # it works while the next ones are made
            return prefetched(map(pinned, batches))
        return batches

    def _seed_dropout(self) -> None:
        if self._progress.random is None:
            stream = rng_for(self._config.seed, "dropout", self.epoch + 1)
            torch.manual_seed(int(stream.integers(2**63)))
        else:
            _generator(self._hardware).set_state(self._progress.random)

    def _rate(self, step: int) -> float:
        """Learning rate of a step of the present epoch."""
        progress = self.epoch + (step + 0.5) / self._sampler.steps
        return lr_at(self._config.train, progress, self._horizon) * self._plateau.factor

    def _require_finite(self) -> None:
        values = torch.stack(self._progress.losses).tolist()
        for step, value in enumerate(values, start=1):
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"epoch {self.epoch + 1}, step {step}: loss is {value}; "
                    "trial fails and gets no score"
                )


def _ticking(samples: Iterable[Sample], tick: Callable[[], None]) -> Iterator[Sample]:
    for sample in samples:
        tick()
        yield sample


def _generator(hardware: Hardware) -> torch.Generator:
    """The generator that dropout draws from."""
    if hardware.device == "cuda":
        return torch.cuda.default_generators[torch.cuda.current_device()]
    return torch.default_generator


def _copy(value: Tensor) -> Tensor:
    return value.detach().cpu().clone(memory_format=torch.contiguous_format)


def _named(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin so, by the rest of their names."""
    return {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}
