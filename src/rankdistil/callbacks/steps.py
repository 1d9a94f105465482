"""Training callbacks: resume position in the stream, validation schedule, each loss's share of the gradient.

The position is the number of batches trained, not fetched: loaders prefetch. Seeding each step makes dropout independent of
what ran before it, for example of a validation that a resumed run skips.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch

from rankdistil.losses import gradient_shares


class StreamPosition(L.Callback):
    """Counts trained batches in the DataModule, which saves the count; seeds torch before every step.

    Args:
        seed: the run's seed.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Seed this step."""
        torch.manual_seed((self._seed * 1_000_003 + trainer.datamodule.trained_batches) * 1_009 + trainer.global_rank)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Count this step."""
        trainer.datamodule.trained_batches += 1


class ValidationSteps(L.Callback):
    """Tells Lightning behind which batch the next validation is due.

    Batches are counted from the start of training, so an interval of as many as lie before the validation ends there first.

    Args:
        steps: optimiser steps behind which a validation is due, ascending.
    """

    def __init__(self, steps: Sequence[int]) -> None:
        self._steps = steps

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Set it for a run that resumes: Lightning asks first whether the validation behind its last batch was made."""
        batches = trainer.fit_loop.total_batch_idx + 1
        step = -(-max(batches, 1) // trainer.accumulate_grad_batches)
        due = self._steps[min(bisect_left(self._steps, step), len(self._steps) - 1)]
        trainer.val_check_batch = due * trainer.accumulate_grad_batches

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Set it for this batch."""
        self.on_train_start(trainer)


class GradientShares(L.Callback):
    """Logs ``train/gradient_share_<name>`` for each loss (see ``gradient_shares``), over the student's weights.

    Costs one forward pass and one backward pass for each loss. Runs before the step is seeded, so it changes no result. Of
    the batches that a step accumulates, the first is measured.

    Args:
        every: steps between two measurements; 0 for none.
    """

    def __init__(self, every: int) -> None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 0:
            raise ValueError(f"callbacks.gradient_shares.every is {every!r}; expected a whole number of at least 0.")
        self._every, self._measured = every, -1

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """Measure and log."""
        step = trainer.global_step
        if not self._every or step % self._every or step == self._measured or len(pl_module.losses.weights) < 2:
            return
        self._measured = step
        with trainer.precision_plugin.forward_context():
            value = pl_module.loss(batch)
        shares = gradient_shares(value, pl_module.losses.weights, pl_module.ranker.parameters())
        # Not by the module's log, which repeats a value until there is another.
        named = {f"train/gradient_share_{name}": share for name, share in shares.items()}
        for logger in trainer.loggers:
            logger.log_metrics(named, step)
