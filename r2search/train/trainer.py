"""Training of one config, epoch by epoch: steps on patches, then scores of whole images."""

import math
import time
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from r2search.config import TrialConfig
from r2search.data.prepare import fit_preparation
from r2search.data.sampler import Batch, PatchSampler
from r2search.data.samples import Sample, SampleSet, rng_for
from r2search.models.unet import build_model
from r2search.records import EpochReport
from r2search.train.hardware import Hardware, place_images, place_model, training_step
from r2search.train.inference import Predictor
from r2search.train.losses import LOSSES
from r2search.train.metrics import Tally, score, summarize
from r2search.train.optim import Plateau, build_optimizer, lr_at

CHECK_STEPS = 16  # between looks at the losses: each look waits for the device
PLATEAU_METRIC = "dice_mean"  # what `lr_schedule: plateau` watches

Metrics = dict[str, float]


def evaluate(
    predictor: Predictor, samples: Iterable[Sample]
) -> tuple[Metrics, list[tuple[str, Metrics]]]:
    """Metrics over whole images, and the same of each image by its id.

    At native resolution, inside the field of view, at the threshold of the config.
    """
    threshold = predictor.config.inference.threshold
    per_image = []

    def tallies() -> Iterator[tuple[Tally, ...]]:  # one by one: a tally holds a megabyte a class
        for sample in samples:
            probability = predictor.probability(sample.image, sample.fov)
            tally = score(probability, sample.mask, sample.fov, threshold)
            per_image.append((sample.id, summarize([tally])))
            yield tally

    return summarize(tallies()), per_image


class Trainer:
    """The state of one training: network, optimizer, and how far it has come.

    Equal configs, samples, horizon and hardware give equal reports (on one machine's CPU). The
    random states of torch are left as they were.
    """

    def __init__(
        self, config: TrialConfig, samples: SampleSet, *, horizon: int, hardware: Hardware
    ) -> None:
        """`horizon`: planned epochs, to which the lr_schedule is compressed."""
        for sample in (*samples.train, *samples.val):
            highest = max(1, config.model.classes - 1)
            assert sample.mask.max() <= highest, f"{sample.id}: mask of grey levels"
        self.model = build_model(config.model, seed=config.seed)
        self.epoch = 0
        self._config = config
        self._val = samples.val
        self._horizon = horizon
        self._hardware = hardware
        preparation = fit_preparation(config.data, samples.train)
        self._sampler = PatchSampler(samples.train, config, preparation)
        place_model(self.model, hardware)
        self.predictor = Predictor(self.model, config, preparation, hardware)
        self._optimizer = build_optimizer(self.model, config.train)
        self._plateau = Plateau()

    def run_epoch(self) -> EpochReport:
        """Train for the pixels of one epoch, then validate.

        A loss or an output that is not finite raises FloatingPointError.
        """
        self.epoch += 1
        start = time.perf_counter()
        gpus = range(torch.cuda.device_count()) if self._hardware.device == "cuda" else []
        with torch.random.fork_rng(devices=gpus):  # dropout draws from torch's own generator
            stream = rng_for(self._config.seed, "dropout", self.epoch)
            torch.manual_seed(int(stream.integers(2**63)))
            trained, pixels, feed = self._train()
        middle = time.perf_counter()
        try:
            validated, _ = evaluate(self.predictor, self._val)
        except FloatingPointError as error:
            raise FloatingPointError(
                f"epoch {self.epoch}, validation: {error}; trial fails and gets no score"
            ) from error
        if self._config.train.lr_schedule == "plateau":
            self._plateau.observe(validated[PLATEAU_METRIC])
        return EpochReport(
            epoch=self.epoch,
            metrics={f"val/{name}": value for name, value in validated.items()} | trained,
            pixels=pixels,
            seconds={
                "train": middle - start,
                "feed": feed,
                "validate": time.perf_counter() - middle,
            },
        )

    def weights(self) -> dict[str, Tensor]:
        """Copies of parameters and running statistics, contiguous and on the CPU."""
        return {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, value in self.model.state_dict().items()
        }

    def _train(self) -> tuple[Metrics, int, float]:
        """All steps of an epoch: their metrics, pixels, and seconds waited for batches."""
        train = self._config.train
        self.model.train()
        losses: list[Tensor] = []
        pixels, feed, rate = 0, 0.0, 0.0
        batches = self._sampler.batches(self.epoch)
        asked = time.perf_counter()
        for step, batch in enumerate(batches):
            feed += time.perf_counter() - asked
            progress = self.epoch - 1 + (step + 0.5) / self._sampler.steps
            rate = lr_at(train, progress, self._horizon) * self._plateau.factor
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            losses.append(self._step(batch))
            pixels += batch.masks.size
            if len(losses) % CHECK_STEPS == 0:
                self._require_finite(losses)
            asked = time.perf_counter()
        self._require_finite(losses)
        return {"train/loss": torch.stack(losses).mean().item(), "train/lr": rate}, pixels, feed

    def _step(self, batch: Batch) -> Tensor:
        train, device = self._config.train, self._hardware.device
        masks = torch.from_numpy(batch.masks).to(device, non_blocking=True)
        fovs = torch.from_numpy(batch.fovs).to(device, non_blocking=True)
        return training_step(
            self.model,
            self._optimizer,
            place_images(torch.from_numpy(batch.images), self._hardware),
            lambda logits: LOSSES[train.loss](logits, masks, fovs, train.class_weights),
            self._hardware,
        )

    def _require_finite(self, losses: list[Tensor]) -> None:
        values = torch.stack(losses).tolist()
        for step, value in enumerate(values, start=1):
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"epoch {self.epoch}, step {step}: loss is {value}; "
                    "trial fails and gets no score"
                )
