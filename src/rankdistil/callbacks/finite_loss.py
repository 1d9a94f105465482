"""Stops a run whose loss is no longer a number, before the optimiser spreads it over all weights."""

import lightning as L
import torch
from torch import Tensor


class FiniteLoss(L.Callback):
    """Raises before the update if the loss is NaN or infinite."""

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Check the loss.

        Raises:
            RuntimeError: naming the step.
        """
        if not torch.isfinite(loss):
            raise RuntimeError(
                f"the loss is {loss.item()} at step {trainer.global_step}: stopped before the update, the last checkpoint is "
                "finite. Lower stage.lr, or look at the batch of this step (the order depends on the seed only)."
            )
