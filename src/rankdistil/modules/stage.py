"""What every stage's module shares: the optimiser, training mode, logging, and scoring for validation and test."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from rankdistil.data.batch import PairBatch, ScoredPairs
from rankdistil.losses import LossValue, WeightedSum
from rankdistil.models.bert import CrossEncoder
from rankdistil.modules.finite import Part, require_finite
from rankdistil.optim import OptimSettings, adamw


class StageModule(L.LightningModule):
    """Trains a ranker; subclasses say what from.

    Logs ``train/loss``, ``train/<name>`` for each loss before its weight, ``train/lr`` and ``train/gradient_norm``; where no
    loss trains the head, ``val/loss`` and ``val/<name>`` in place of a ranking.

    Args:
        ranker: the network that learns.
        losses: what it minimises.
        optim: learning rate, steps and the like.
    """

    def __init__(self, ranker: CrossEncoder, losses: WeightedSum, optim: OptimSettings) -> None:
        super().__init__()
        self.ranker, self.losses, self._optim = ranker, losses, optim
        self._behind: list[Part] = []  # what the gradient at hand is of
        for part in _untrained(ranker, losses):  # without a gradient they would stop data-parallel training
            part.requires_grad_(False)

    def loss(self, batch: PairBatch) -> LossValue:
        """Compute the losses of a training batch."""
        raise NotImplementedError

    def on_fit_start(self) -> None:
        """Switch dropout on: ``from_pretrained`` returns evaluation mode, and Lightning would keep it."""
        self.train()

    def training_step(self, batch: PairBatch, batch_idx: int) -> dict[str, Tensor]:
        """Compute the loss that Lightning minimises."""
        value = self.loss(batch)
        self._behind.append((batch.query_ids, value.total.detach()))
        rows = {f"train/{name}": part.detach() for name, part in _named(value).items()}
        self.log_dict(rows, batch_size=len(batch.query_ids))
        self.log("train/lr", self.optimizers().param_groups[0]["lr"])
        return {"loss": value.total}

    def on_validation_epoch_start(self) -> None:
        """Forget the losses of the last validation."""
        self._validated = torch.zeros(len(self.losses.losses) + 2, device=self.device)

    def validation_step(self, batch: PairBatch, batch_idx: int) -> ScoredPairs | None:
        """Score a batch of candidates; where nothing trains the head, compute the losses instead."""
        if not self.losses.trains_head:
            pairs = len(batch.query_ids)
            parts = torch.stack([part.detach() for part in _named(self.loss(batch)).values()])
            self._validated[:-1] += parts * pairs
            self._validated[-1] += pairs
            return None
        return batch.scored(self.ranker(batch.input_ids, batch.attention_mask, batch.token_type_ids).logits)

    def on_validation_epoch_end(self) -> None:
        """Log the losses, averaged over the pairs of all processes: batches are the same however many there are."""
        if not self.losses.trains_head:
            *sums, pairs = self.all_gather(self._validated).reshape(-1, len(self._validated)).sum(0)
            self.log_dict(
                {f"val/{name}": total / pairs for name, total in zip(("loss", *self.losses.losses), sums, strict=True)}
            )

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the norm over all parameters; Lightning refuses to where AdamW is fused. Logs ``train/gradient_norm``.

        Raises:
            RuntimeError: for a norm that is no number, before the update.
        """
        norm = clip_grad_norm_(self.parameters(), self._optim.gradient_clip)
        self.log("train/gradient_norm", norm)
        require_finite(norm, self._behind, self.trainer)
        self._behind.clear()

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Optimizer, optimizer_closure: Any = None) -> None:
        """Update the weights, and drop the gradients: in the next forward pass they would lie beside all its activations."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        optimizer.zero_grad()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Build AdamW and its schedule."""
        optimizer, schedule = adamw(self, self._optim)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _named(value: LossValue) -> dict[str, Tensor]:
    return {"loss": value.total, **value.parts}


def _untrained(ranker: CrossEncoder, losses: WeightedSum) -> list[nn.Module]:
    """List the parts of a ranker that no loss reaches: all behind the last state or attention that is compared."""
    if losses.trains_head:
        return []
    body = ranker.bert.bert
    behind: list[nn.Module] = [body.pooler, ranker.bert.classifier]
    if "hidden" in losses.needs:
        return behind
    if "attention" not in losses.needs:
        return [*behind, body.encoder]
    last = body.encoder.layer[-1]
    return [*behind, last.attention.self.value, last.attention.output, last.intermediate, last.output]
