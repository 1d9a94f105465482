"""Which loss moves the student: measured now and then on the batch at hand."""

from typing import Any

import lightning as L

from rankdistil.losses import gradient_shares


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
