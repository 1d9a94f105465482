"""The weighted sum of a stage's losses."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from rankdistil.data.batch import PairBatch
from rankdistil.losses.projection import Projection
from rankdistil.models.trace import Trace


class LossValue(NamedTuple):
    """Attributes: total: what is minimised, scalar; parts: each loss before its weight, by name."""

    total: Tensor
    parts: dict[str, Tensor]


class WeightedSum(nn.Module):
    """Several losses of one pair of traces, added with weights.

    Args:
        losses: the losses by name.
        weights: a weight of at least 0 for each name; a loss of weight 0 is left out.
        projection: bridges the widths of student and teacher; only stages with a teacher have one.

    Raises:
        ValueError: for a weight that is negative or not finite, or if no loss is left.
    """

    def __init__(
        self, losses: Mapping[str, nn.Module], weights: Mapping[str, float], projection: Projection | None = None
    ) -> None:
        super().__init__()
        for name, weight in weights.items():
            if not math.isfinite(weight) or weight < 0:
                raise ValueError(f"stage.losses.{name}.weight is {weight}; expected a number of at least 0.")
        self.weights = {name: float(weights[name]) for name in losses if weights[name] > 0}
        if not self.weights:
            raise ValueError("stage.losses holds no loss with a weight above 0: nothing would be learnt.")
        self.losses = nn.ModuleDict({name: losses[name] for name in self.weights})
        self.projection = projection

    @property
    def needs(self) -> frozenset[str]:
        """What the losses compare beside logits: of ``attention``, ``hidden``, ``embedding``."""
        return frozenset().union(*(loss.needs for loss in self.losses.values()))

    @property
    def trains_head(self) -> bool:
        """Whether a loss reads the logits; without one the student is left a language model, not a ranker."""
        return any(not loss.needs for loss in self.losses.values())

    @property
    def counts_padding(self) -> bool:
        """Whether a loss asks for hidden states and attention of padding."""
        return any(getattr(loss, "count_padding", False) for loss in self.losses.values())

    def forward(self, student: Trace, teacher: Trace | None, batch: PairBatch) -> LossValue:
        """Compute the total and its parts for one batch."""
        if self.projection is not None:
            student = self.projection(student)
        parts = {name: loss(student, teacher, batch) for name, loss in self.losses.items()}
        return LossValue(sum(self.weights[name] * part for name, part in parts.items()), parts)
