"""Keeps the position in the stream of training batches, and makes every step's randomness its own.

The position is the number of batches trained, not fetched: loaders prefetch. Seeding each step makes dropout independent of
what ran before it, for example of a validation that a resumed run skips.
"""

from typing import Any

import lightning as L
import torch


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
