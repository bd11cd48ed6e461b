"""nnU-Net's shortest trainer, ended by the clock. nnunet_peer.py runs it, in another environment.

    python nnunet_training.py PREPARED IMAGES OUT SECONDS

One epoch of its shortest trainer has 250 steps, which two cores do not do in an hour. Here the
epoch ends when the seconds are over, and the rate falls over them as nnU-Net's falls over its
epochs. Then the images of a folder are predicted, with the weights of half of the time (OUT/half)
and with the last ones (OUT/end). Network, plans, loss, augmentation and inference are nnU-Net's.
"""

import copy
import json
import sys
import time
from pathlib import Path

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.variants.training_length.nnUNetTrainer_Xepochs import (
    nnUNetTrainer_1epoch,
)

EXPONENT = 0.9  # of nnU-Net's PolyLRScheduler


class TimedTrainer(nnUNetTrainer_1epoch):
    def train(self, seconds: float) -> tuple[list[dict[str, torch.Tensor]], int]:
        """The weights of half of the time and of all of it; and the steps."""
        self.on_train_start()
        self.on_train_epoch_start()
        began, steps, kept = time.monotonic(), 0, []
        while (share := (time.monotonic() - began) / seconds) < 1:
            for group in self.optimizer.param_groups:
                group["lr"] = self.initial_lr * (1 - share) ** EXPONENT
            self.train_step(next(self.dataloader_train))
            steps += 1
            if not kept and time.monotonic() - began >= seconds / 2:
                kept.append(copy.deepcopy(self.network.state_dict()))
        kept.append(self.network.state_dict())
        self.on_train_end()
        return kept, steps


def main() -> None:
    prepared, images, out = map(Path, sys.argv[1:4])
    plans = json.loads((prepared / "nnUNetPlans.json").read_text()) | {"continue_training": False}
    dataset = json.loads((prepared / "dataset.json").read_text())
    trainer = TimedTrainer(plans, "2d", 0, dataset, torch.device("cpu"))
    kept, steps = trainer.train(float(sys.argv[4]))
    trainer.set_deep_supervision_enabled(False)
    began = time.monotonic()
    for name, weights in zip(("half", "end"), (kept[0], kept[-1]), strict=True):
        predictor = nnUNetPredictor(
            perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
        )
        predictor.manual_initialization(
            trainer.network,
            trainer.plans_manager,
            trainer.configuration_manager,
            [weights],
            dataset,
            TimedTrainer.__name__,
            trainer.inference_allowed_mirroring_axes,
        )
        (out / name).mkdir(parents=True)
        predictor.predict_from_files_sequential(str(images), str(out / name))
    facts = {
        "steps": steps,
        "batch_size": trainer.batch_size,
        "patch_size": list(trainer.configuration_manager.patch_size),
        "predict_s": time.monotonic() - began,
    }
    (out / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
