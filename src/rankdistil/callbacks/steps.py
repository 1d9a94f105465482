"""Callbacks around a training step: position in the stream, validation schedule, gradient shares, average, free memory.

The position is the number of batches trained, not fetched: loaders prefetch. Seeding each step makes dropout independent of
what ran before it, for example of a validation that a resumed run skips.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from rankdistil.inference.machine import trim_heap
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


class HeapTrim(L.Callback):
    """Gives memory that is free inside of the C library's heap back to the system, every so many batches.

    Without it, a training of 64 pairs a step on a CPU grew by 12 MB a step, without an end; see ``trim_heap``.

    Args:
        every: batches between two times; one takes milliseconds.
    """

    def __init__(self, every: int = 20) -> None:
        self._every = every

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, index: int) -> None:
        """Give it back, if it is time."""
        if (index + 1) % self._every == 0:
            trim_heap()


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


def decay_behind(updates: int, decay: float) -> float:
    """Share of the average that stays behind a step.

    Where ``decay`` is close to 1, a training has fewer steps than the average looks back over: 0.999 would leave 93 % of the
    start in it behind 72 steps. So it begins short and grows with the steps, looking back over about a ninth of them, until
    ``decay`` is reached: behind 80 steps for 0.9, 890 for 0.99.

    Args:
        updates: steps that are in the average already.
        decay: the highest share, in [0, 1).

    Source: ``num_updates`` of TensorFlow's ``tf.train.ExponentialMovingAverage``.
    """
    return min(decay, (1 + updates) / (10 + updates))


class WeightAverage(L.Callback):
    """Averages the trained weights behind every step: average = share · average + (1 - share) · weights (see ``decay_behind``).

    The module has the average in validations and when training has ended, else its live weights. Checkpoints hold the average
    as ``state_dict``, and beside it the ``live_weights``, with which a resumed run goes on. Of several processes, each has the
    same average, as they have the same weights. It is kept in float32 at least: in bfloat16 a step would be rounded away.

    Lightning's own callback copies the whole module, with it the frozen teacher, before that has reached its device, and takes
    the average for the live weights where a checkpoint is saved inside of a validation, as that of a run that is stopped there.

    Args:
        decay: of the average, in [0, 1); 0 is the last step's weights.
    """

    def __init__(self, decay: float) -> None:
        self._decay, self._steps = decay, 0
        self._average: list[Tensor] = []
        self._live: list[Tensor] | None = None  # while the module has the average

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin with the start's weights, or go on from a checkpoint's average, where the weights are."""
        weights = _trained(pl_module)
        self._average = [
            value.detach().to(weight.device, torch.promote_types(weight.dtype, torch.float32), copy=True)
            for value, weight in zip(self._average or weights, weights, strict=True)
        ]

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Remember where the step began: of batches that are accumulated, the last one ends it."""
        self._steps = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Take the step's weights into the average."""
        if trainer.global_step > self._steps:
            weights = [w.detach().to(own.dtype) for w, own in zip(_trained(pl_module), self._average, strict=True)]
            get_ema_multi_avg_fn(decay_behind(self._steps, self._decay))(self._average, weights, self._steps)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give the module the average."""
        self._live = [weight.detach().clone() for weight in _trained(pl_module)]
        _put(pl_module, self._average)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give the module its live weights back."""
        _put(pl_module, self._live)
        self._live = None

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give the module the average, for an export without a checkpoint."""
        _put(pl_module, self._average)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the average in place of the weights, and these beside it."""
        weights = _trained(pl_module)
        average = {id(weight): value for weight, value in zip(weights, self._average, strict=True)}
        named = pl_module.state_dict(keep_vars=True)
        checkpoint["state_dict"] = {name: average.get(id(value), value.detach()) for name, value in named.items()}
        checkpoint["live_weights"] = self._live or [weight.detach() for weight in weights]

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the average out of a checkpoint, and give the module, which has loaded it, its live weights."""
        names = {id(value): name for name, value in pl_module.state_dict(keep_vars=True).items()}
        self._average = [checkpoint["state_dict"][names[id(weight)]] for weight in _trained(pl_module)]
        _put(pl_module, checkpoint["live_weights"])


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


@torch.no_grad()
def _put(module: nn.Module, values: list[Tensor]) -> None:
    for weight, value in zip(_trained(module), values, strict=True):
        weight.copy_(value)
