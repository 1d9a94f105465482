"""Learning from a frozen teacher's trace."""

import torch

from rankdistil.data.batch import PairBatch
from rankdistil.losses import LossValue, WeightedSum
from rankdistil.models.bert import CrossEncoder
from rankdistil.models.layers import LayerMap
from rankdistil.models.teacher import FrozenTeacher
from rankdistil.models.trace import Layers
from rankdistil.modules.stage import StageModule
from rankdistil.optim import OptimSettings


class DistillModule(StageModule):
    """Trains a student on its teacher's trace.

    Args:
        ranker: the student.
        losses: what it minimises.
        optim: learning rate, steps and the like.
        teacher: kept out of checkpoints, gradients and data-parallel synchronisation.
        layer_map: which layers are compared; only those that the losses need are recorded.
    """

    def __init__(
        self, ranker: CrossEncoder, losses: WeightedSum, optim: OptimSettings, teacher: FrozenTeacher, layer_map: LayerMap
    ) -> None:
        super().__init__(ranker, losses, optim)
        self.__dict__["teacher"] = teacher  # not a registered sub-module: Lightning would save and wrap it
        self._layers = LayerMap(*(_needed(layers, losses.needs) for layers in layer_map))

    def on_fit_start(self) -> None:
        """Move the teacher to the student's device."""
        super().on_fit_start()
        self.teacher.to(self.device)

    def loss(self, batch: PairBatch) -> LossValue:
        """Run both networks and compare their traces."""
        inputs = batch.input_ids, batch.attention_mask, batch.token_type_ids
        with torch.no_grad():
            teacher = self.teacher(*inputs, self._layers.teacher)
        return self.losses(self.ranker(*inputs, self._layers.student), teacher, batch)


def _needed(layers: Layers, needs: frozenset[str]) -> Layers:
    hidden = layers.hidden if "hidden" in needs else layers.hidden[:1] if "embedding" in needs else ()
    return Layers(hidden, layers.attention if "attention" in needs else ())
