"""Validates behind given steps: Lightning's own interval fits a number of validations only where it divides the steps."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import lightning as L


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
