"""A learned bridge between a narrow student and its wide teacher, used while training and never exported."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rankdistil.models.least_squares import affine_fit
from rankdistil.models.trace import Trace

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
