"""Fine-tuning on judgments, and distillation from a frozen teacher."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rankdistil.data.records import PairBatch, ScoredPairs
from rankdistil.losses import LossValue, WeightedSum
from rankdistil.models.bert import CrossEncoder, FrozenTeacher, Layers, Trace
from rankdistil.models.student import LayerMap
from rankdistil.modules.stage import OptimSettings, StageModule


class FinetuneModule(StageModule):
    """Trains a ranker on labels alone."""

    def loss(self, batch: PairBatch) -> LossValue:
        """Compute the label losses."""
        trace = self.ranker(batch.input_ids, batch.attention_mask, batch.token_type_ids)
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
        padding = self.losses.counts_padding
        shown = Trace(batch.teacher_logits) if self.teacher is None else self.teacher(*inputs, self._layers.teacher, padding)
        return self.losses(self.ranker(*inputs, self._layers.student, padding), shown, batch)

    def validation_step(self, batch: PairBatch, batch_idx: int) -> ScoredPairs | None:
        """Add the teacher's scores, where it is a ranker and so is the student."""
        scored = super().validation_step(batch, batch_idx)
        if scored is None or not self._asked:
            return scored
        if batch_idx not in self._teacher_scores:
            trace = self.teacher(batch.input_ids, batch.attention_mask, batch.token_type_ids)
            self._teacher_scores[batch_idx] = batch.scored(trace.logits).scores
        return scored._replace(teacher_scores=self._teacher_scores[batch_idx])


def _needed(layers: Layers, needs: frozenset[str]) -> Layers:
    hidden = layers.hidden if "hidden" in needs else layers.hidden[:1] if "embedding" in needs else ()
    return Layers(hidden, layers.attention if "attention" in needs else (), layers.vectors if "vectors" in needs else ())
