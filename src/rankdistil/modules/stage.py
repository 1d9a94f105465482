"""Lightning modules of the stages: optimiser, training mode, finite losses, logging, scoring; fine-tuning and distillation.

They order calls, own training and evaluation mode, and log.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from math import isfinite
from operator import and_
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from rankdistil.data.records import PairBatch, ScoredPairs
from rankdistil.inference.machine import Fetched
from rankdistil.losses import LossValue, WeightedSum
from rankdistil.models.bert import CrossEncoder, FrozenTeacher, Layers, Trace
from rankdistil.models.student import LayerMap


@dataclass(frozen=True)
class OptimSettings:
    """Plain settings of the optimiser.

    Attributes:
        lr: peak learning rate.
        steps: optimiser steps of the whole run.
        warmup_steps: steps from 0 to the peak.
        weight_decay: decay of weights other than biases and LayerNorm.
        gradient_clip: largest norm of the gradient over all parameters.
    """

    lr: float
    steps: int
    warmup_steps: int
    weight_decay: float = 0.01
    gradient_clip: float = 1.0

    def __post_init__(self) -> None:
        for name in ("lr", "gradient_clip"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise ValueError(f"stage.{name} is {value!r}; expected a number greater than 0.")
        decay = self.weight_decay
        if isinstance(decay, bool) or not isinstance(decay, int | float) or not 0 <= decay < 1:
            raise ValueError(f"stage.weight_decay is {decay!r}; expected a number in [0, 1).")
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise ValueError(f"stage.steps is {self.steps!r}; expected a whole number of at least 1.")
        if not isinstance(self.warmup_steps, int) or not 0 <= self.warmup_steps <= self.steps:
            raise ValueError(
                f"stage.warmup_steps is {self.warmup_steps!r}; expected a whole number from 0 to stage.steps ({self.steps})."
            )


def validation_steps(steps: int, validations: int) -> list[int]:
    """Choose behind which steps a run validates: evenly spread, the last one behind its last step.

    Args:
        steps: of the whole run.
        validations: how many; one behind each step where that is more than there are.
    """
    number = min(validations, steps)
    return [count * steps // number for count in range(1, number + 1)]


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Split trainable parameters into those with decay and those without (biases and LayerNorm weights)."""
    plain = {
        id(parameter)
        for part in module.modules()
        for name, parameter in part.named_parameters(recurse=False)
        if name == "bias" or isinstance(part, nn.LayerNorm)
    }
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trainable if id(p) not in plain], "weight_decay": weight_decay},
        {"params": [p for p in trainable if id(p) in plain], "weight_decay": 0.0},
    ]


def learning_rate_factor(step: int, warmup_steps: int, steps: int) -> float:
    """Share of the peak rate that optimiser step ``step`` (from 0) uses; never 0 before the end."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    return max(0.0, (steps - step) / max(1, steps - warmup_steps))


def adamw(module: nn.Module, settings: OptimSettings) -> tuple[Optimizer, LambdaLR]:
    """Build the optimiser and its schedule, which advances once per optimiser step."""
    optimizer = AdamW(parameter_groups(module, settings.weight_decay), lr=settings.lr, fused=True)
    schedule = LambdaLR(optimizer, lambda step: learning_rate_factor(step, settings.warmup_steps, settings.steps))
    return optimizer, schedule


NAMED = 50  # ids that the message names at most

Part = tuple[Sequence[str], Tensor]
"""Query ids of a batch's pairs (ids of its passages, in a stage that reads text alone), and its loss."""


def require_finite(norm: Tensor, parts: Sequence[Part], trainer: L.Trainer, since: int = 0) -> None:
    """See that a step's losses and its gradient are finite: a finite loss may have an infinite gradient.

    All processes have one gradient, so all of them stop where it isn't finite, and none waits for another.

    Args:
        norm: of the gradient of all processes' batches, scalar.
        parts: this process's batches behind the gradient.
        trainer: knows the step, and the checkpoints.
        since: steps that it has counted since.

    Raises:
        RuntimeError: naming the step, the norm, the batch's ids, and the last finite checkpoint. Batches whose own loss is
            finite are left out, if there are others.
    """
    if _finite(norm, parts):
        return
    told = [(list(dict.fromkeys(ids)), float(loss)) for ids, loss in parts]
    if trainer.world_size > 1 and not norm.isfinite():  # else the others have nothing to tell, and don't listen
        everywhere: list[list[tuple[list[str], float]]] = [[] for _ in range(trainer.world_size)]
        dist.all_gather_object(everywhere, told)
        told = [part for rank in everywhere for part in rank]
    bad = [part for part in told if not isfinite(part[1])] or told
    names = list(dict.fromkeys(name for ids, _ in bad for name in ids))
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    raise RuntimeError(
        f"step {trainer.global_step + 1 - since} of {trainer.max_steps}: the gradient's norm is {norm.item():g}, the loss "
        f"{' '.join(f'{loss:g}' for _, loss in bad[:4])}: stopped before the update, which would spoil all weights. Lower "
        f"stage.lr, or look at the batch, which the seed alone decides: {', '.join(names[:NAMED])}{more}. "
        f"{_last_finite(trainer)}"
    )


def _finite(norm: Tensor, parts: Sequence[Part]) -> Tensor:
    """Say whether all are, in one number: one question to the device."""
    return reduce(and_, [number.isfinite() for number in (norm, *(loss for _, loss in parts))])


class LateAnswer:
    """Whether a GPU's step was finite, asked before its update and heard one step later: the GPU would be waited for.

    An update that isn't finite is left out there, as for a loss scaler: when it is heard, the weights are the last finite ones.
    """

    def __init__(self) -> None:
        self._asked: tuple[Fetched, Tensor, list[Part]] | None = None

    def ask(self, norm: Tensor, parts: Sequence[Part], optimizer: Optimizer) -> None:
        """Ask of a step, which is about to update the weights by a fused optimiser; see ``require_finite``."""
        finite = _finite(norm, parts)
        optimizer.found_inf = (~finite).float()
        self._asked = Fetched(finite), norm, list(parts)

    def hear(self, trainer: L.Trainer) -> None:
        """Hear of the last step that was asked of.

        Raises:
            RuntimeError: see ``require_finite``.
        """
        asked, self._asked = self._asked, None
        if asked is not None and not asked[0].number():
            require_finite(*asked[1:], trainer, since=1)


def _last_finite(trainer: L.Trainer) -> str:
    """Name the last checkpoint without such a number."""
    found = {}
    folders = {callback.dirpath for callback in trainer.checkpoint_callbacks}
    for path in sorted(path for folder in filter(None, folders) for path in Path(folder).glob("*.ckpt")):
        with suppress(Exception):  # a damaged one, for which torch has a dozen kinds, would hide what went wrong
            saved = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
            if all(value.isfinite().all() for value in saved["state_dict"].values()):
                found[saved["global_step"]] = path
    return f"The last finite checkpoint is {found[max(found)]}, of step {max(found)}." if found else "No checkpoint was saved."


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
        self._late = LateAnswer()
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
        self.log("train/lr", torch.tensor(self.optimizers().param_groups[0]["lr"]))  # a number would be sent to the GPU
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
        trace = self.ranker(batch.input_ids, batch.attention_mask, batch.token_type_ids, tokens=batch.tokens)
        return batch.scored(trace.logits)

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
            RuntimeError: for a norm that is no number, before the update; on a GPU before the next one.
        """
        norm = clip_grad_norm_(self.parameters(), self._optim.gradient_clip)
        self.log("train/gradient_norm", norm)
        if self._on_gpu:
            self._late.hear(self.trainer)
            self._late.ask(norm, self._behind, optimizer)
        else:
            require_finite(norm, self._behind, self.trainer)
        self._behind.clear()

    @property
    def _on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def on_validation_start(self) -> None:
        """Hear whether the last step was finite, before its weights are measured."""
        self._late.hear(self.trainer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Hear of it before its weights are saved."""
        self._late.hear(self.trainer)

    def on_train_end(self) -> None:
        """Hear of the last step of all."""
        self._late.hear(self.trainer)

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
    """List the parts of a ranker that no loss reaches: all behind the last state, attention or vectors that are compared."""
    if losses.trains_head:
        return []
    encoder = ranker.encoder
    behind: list[nn.Module | None] = [encoder.pooler, encoder.pool_norm, encoder.head]
    if "hidden" not in losses.needs:
        behind.append(encoder.last_norm)
        if losses.needs & {"attention", "vectors"}:
            last = encoder.layers[-1]
            behind += [] if "vectors" in losses.needs else [last.value]
            behind += [last.out, last.out_norm, last.up_norm, last.up, last.down, last.down_norm]
        else:
            behind += [encoder.relative, *(part for layer in encoder.layers for part in layer)]
    return [part for part in behind if isinstance(part, nn.Module)]


class FinetuneModule(StageModule):
    """Trains a ranker on labels alone."""

    def loss(self, batch: PairBatch) -> LossValue:
        """Compute the label losses."""
        trace = self.ranker(batch.input_ids, batch.attention_mask, batch.token_type_ids, tokens=batch.tokens)
        return self.losses(trace, None, batch)


class DistillModule(StageModule):
    """Trains a student on its teacher's trace.

    Args:
        ranker: the student.
        losses: what it minimises.
        optim: learning rate, steps and the like.
        teacher: kept out of checkpoints, gradients and data-parallel synchronisation; None where batches carry its logits.
        layer_map: which layers are compared; only those that the losses need are recorded.
        asked: whether the teacher scores the validation's candidates; not where its own run left those scores.
    """

    def __init__(
        self,
        ranker: CrossEncoder,
        losses: WeightedSum,
        optim: OptimSettings,
        teacher: FrozenTeacher | None,
        layer_map: LayerMap,
        asked: bool = True,
    ) -> None:
        super().__init__(ranker, losses, optim)
        self.__dict__["teacher"] = teacher  # not a registered sub-module: Lightning would save and wrap it
        self._teacher_scores: dict[int, Tensor] = {}  # of the validation batches, which are the same every time
        self._asked = asked and teacher is not None
        self._layers = LayerMap(*(_needed(layers, losses.needs) for layers in layer_map))

    @torch.no_grad()
    def fit_projection(self, batches: Sequence[PairBatch]) -> None:
        """Start the projection where it maps the student's states to the teacher's best.

        A random one would first push the student away from a start that is close to its teacher.

        Args:
            batches: text to fit on.
        """
        if self.losses.projection is None or not self.losses.projection.maps:
            return
        self.ranker.eval()
        sides: tuple[list[list[Tensor]], list[list[Tensor]]] = ([], [])
        for batch in batches:
            real = batch.attention_mask.bool()
            for side, network, layers in zip(sides, (self.ranker, self.teacher), self._layers, strict=True):
                states = network(batch.input_ids, batch.attention_mask, batch.token_type_ids, layers).hidden_states
                side.append([state[real] for state in states])
        self.losses.projection.fit(*([torch.cat(rows) for rows in zip(*side, strict=True)] for side in sides))

    def on_fit_start(self) -> None:
        """Move the teacher to the student's device."""
        super().on_fit_start()
        if self.teacher is not None:
            self.teacher.to(self.device)

    def loss(self, batch: PairBatch) -> LossValue:
        """Run both networks and compare their traces."""
        inputs = batch.input_ids, batch.attention_mask, batch.token_type_ids
        more = self.losses.counts_padding, batch.tokens
        shown = Trace(batch.teacher_logits) if self.teacher is None else self.teacher(*inputs, self._layers.teacher, *more)
        return self.losses(self.ranker(*inputs, self._layers.student, *more), shown, batch)

    def validation_step(self, batch: PairBatch, batch_idx: int) -> ScoredPairs | None:
        """Add the teacher's scores, where it is a ranker and so is the student."""
        scored = super().validation_step(batch, batch_idx)
        if scored is None or not self._asked:
            return scored
        if batch_idx not in self._teacher_scores:
            trace = self.teacher(batch.input_ids, batch.attention_mask, batch.token_type_ids, tokens=batch.tokens)
            self._teacher_scores[batch_idx] = batch.scored(trace.logits).scores
        return scored._replace(teacher_scores=self._teacher_scores[batch_idx])


def _needed(layers: Layers, needs: frozenset[str]) -> Layers:
    hidden = layers.hidden if "hidden" in needs else layers.hidden[:1] if "embedding" in needs else ()
    return Layers(hidden, layers.attention if "attention" in needs else (), layers.vectors if "vectors" in needs else ())
