"""Weighted sum of a stage's losses, projections between widths, and each loss's share of the gradient."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rankdistil.data.records import PairBatch
from rankdistil.models.bert import Trace
from rankdistil.models.subclone import affine_fit

KINDS = ("auto", "shared", "per_layer", "none")


class Projection(nn.Module):
    """Linear maps (with bias) from the student's width to the teacher's, applied to every hidden state of a trace.

    Args:
        kind: ``auto`` is ``shared`` where the widths differ and ``none`` where they are equal; ``shared`` is one map for all
            states, the embedding included, as in TinyBERT; ``per_layer`` is one for each state; ``none`` compares directly.
        student_width: D of the student.
        teacher_width: D of the teacher.
        states: number of hidden states in a trace, the embedding included.
        first: the first state that a loss compares: those before it get no map of their own, which nothing would train.

    Raises:
        ValueError: for another kind, or ``none`` between different widths.
    """

    def __init__(self, kind: str, student_width: int, teacher_width: int, states: int, first: int = 0) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"stage.projection is {kind!r}; expected one of {', '.join(KINDS)}.")
        if kind == "auto":
            kind = "none" if student_width == teacher_width else "shared"
        if kind == "none" and student_width != teacher_width:
            raise ValueError(
                f"hidden states can't be compared without a projection: student.hidden_size={student_width}, teacher "
                f"{teacher_width}. Set stage.projection=auto."
            )
        count = {"none": 0, "shared": 1, "per_layer": states - first}[kind]
        self._first, self._states = (first if kind == "per_layer" else 0), states
        self.maps = nn.ModuleList(nn.Linear(student_width, teacher_width) for _ in range(count))

    @torch.no_grad()
    def fit(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> None:
        """Set the maps to the least-squares fit of one set of hidden states to another.

        Args:
            student: rows of real tokens, (N, D) for each state.
            teacher: the same tokens, (N, teacher's D) for each state.
        """
        student, teacher = student[self._first :], teacher[self._first :]
        if len(self.maps) == 1:  # one map for all states
            student, teacher = [torch.cat(list(student))], [torch.cat(list(teacher))]
        for part, inputs, targets in zip(self.maps, student, teacher, strict=True):
            weight, bias = affine_fit(inputs, targets)
            part.weight.copy_(weight)
            part.bias.copy_(bias)

    def forward(self, trace: Trace) -> Trace:
        """Return the trace with the hidden states that are compared in the teacher's width.

        Raises:
            RuntimeError: if there is one map per state, and another number of states.
        """
        if not self.maps:
            return trace
        states = list(trace.hidden_states)
        last = len(self.maps) - 1
        if last and len(states) != self._states:
            raise RuntimeError(f"projections for {self._states} hidden states, and {len(states)} of them")
        for place in range(self._first, len(states)):
            states[place] = self.maps[min(place - self._first, last)](states[place])
        return trace._replace(hidden_states=tuple(states))


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
        """What the losses compare beside logits: of ``attention``, ``hidden``, ``embedding``, ``vectors``."""
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


def gradient_shares(value: LossValue, weights: Mapping[str, float], parameters: Iterable[Tensor]) -> dict[str, float]:
    """Norm of each weighted loss's gradient, as a share of the sum of the norms.

    Args:
        value: losses of one batch, with their graph.
        weights: weight by name.
        parameters: what the norm is taken over; those that need no gradient are left out.

    Returns:
        Share by name; the shares add up to 1 (all are 0 where no loss has a gradient).
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    norms = {}
    for name, part in value.parts.items():
        gradients = torch.autograd.grad(weights[name] * part, trained, retain_graph=True, allow_unused=True)
        found = [gradient.float().square().sum() for gradient in gradients if gradient is not None]
        norms[name] = float(torch.stack(found).sum().sqrt()) if found else 0.0
    total = sum(norms.values())
    return {name: norm / total if total else 0.0 for name, norm in norms.items()}
