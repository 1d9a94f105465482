"""Tells the other ranks how far this one is, for the message should one of them keep the others waiting."""

from typing import Any

import lightning as L

from rankdistil import late_ranks


class RankPlaces(L.Callback):
    """Notes steps and validations; comes first among the callbacks, before any that waits for other ranks."""

    def on_train_start(self, *_: Any) -> None:
        """Begin training."""
        late_ranks.begin("begins training")

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Note that the batch has come."""
        late_ranks.reach(4 * trainer.fit_loop.total_batch_idx + 3, f"computes batch {trainer.fit_loop.total_batch_idx + 1}")

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Note that the next one is to come."""
        done = trainer.fit_loop.total_batch_idx + 1
        late_ranks.reach(4 * done, f"has computed batch {done}")

    def on_validation_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Note that the validation goes on."""
        late_ranks.reach(4 * trainer.fit_loop.total_batch_idx + 5, f"validates, and has scored {index + 1} batches")

    def on_validation_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Note that what is left is to compare notes."""
        late_ranks.reach(4 * trainer.fit_loop.total_batch_idx + 6, "has validated")

    def on_train_end(self, *_: Any) -> None:
        """Begin what comes after training."""
        late_ranks.begin("has trained, and exports")

    def on_test_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, index: int, *_: Any
    ) -> None:
        """Note that the test goes on."""
        late_ranks.reach(index, f"tests, and has scored {index + 1} batches")

    def on_test_epoch_end(self, *_: Any) -> None:
        """Note that what is left is to compare notes."""
        late_ranks.begin("has tested, and times the ranker")
