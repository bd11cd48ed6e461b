"""nnU-Net's shortest trainer, ended by the clock. Run by nnU-Net itself, see against.py.

One epoch of its shortest trainer has 250 steps, which two cores do not do in an hour. Here the
epoch ends when NNUNET_SECONDS are over, and the rate falls over them as nnU-Net has it over its
epochs. Everything else is nnU-Net's own.
"""

import os
import time

from nnunetv2.training.nnUNetTrainer.variants.training_length.nnUNetTrainer_Xepochs import (
    nnUNetTrainer_1epoch,
)

EXPONENT = 0.9  # of nnU-Net's PolyLRScheduler


class TimedTrainer(nnUNetTrainer_1epoch):  # type: ignore[misc]
    def run_training(self) -> None:
        seconds = float(os.environ["NNUNET_SECONDS"])
        self.on_train_start()
        self.on_train_epoch_start()
        began, halfway, losses = time.monotonic(), False, []
        while (share := (time.monotonic() - began) / seconds) < 1:
            for group in self.optimizer.param_groups:
                group["lr"] = self.initial_lr * (1 - share) ** EXPONENT
            losses.append(self.train_step(next(self.dataloader_train)))
            if share >= 0.5 and not halfway:
                halfway = True
                self.save_checkpoint(os.path.join(self.output_folder, "checkpoint_half.pth"))
        self.on_train_epoch_end(losses)
        self.print_to_log_file(f"{len(losses)} steps of {self.batch_size} patches in {seconds:g} s")
        self.on_train_end()
