"""Which layer of the teacher each layer of the student learns from.

With k = teacher layers / student layers, student attention layer m (0-based) learns from teacher layer (m+1)·k-1 and hidden
state m from teacher state m·k, state 0 being the embedding output (Jiao et al. 2020, arXiv:1909.10351). ``spread`` keeps that
rule where k is no integer, rounding down: 4 layers under 6 learn from layers 0, 2, 3, 5. A list says it layer by layer.
"""

from collections.abc import Sequence
from typing import NamedTuple

from rankdistil.models.trace import Layers

KINDS = ("uniform", "spread")


class LayerMap(NamedTuple):
    """Layers of student and teacher, paired by position."""

    student: Layers
    teacher: Layers


def map_layers(kind: str | Sequence[int], student_layers: int, teacher_layers: int) -> LayerMap:
    """Pair every student layer with a teacher layer.

    Args:
        kind: ``uniform`` (the division must be exact), ``spread`` (rounds down), or a teacher layer, counted from 1, for each
            layer of the student.
        student_layers: number of transformer layers of the student.
        teacher_layers: number of transformer layers of the teacher.

    Returns:
        The pairing of hidden states 0..M and attention layers 0..M-1 for a student of M layers.

    Raises:
        ValueError: for an unknown kind, a student deeper than its teacher, a division that is not exact, or a list that
            doesn't climb to the last layer.
    """
    if kind not in KINDS and (isinstance(kind, str) or not isinstance(kind, Sequence)):
        raise ValueError(
            f"student.layer_map is {kind!r}; expected {', '.join(KINDS)}, or a list of teacher layers such as [2,4,6]."
        )
    if student_layers > teacher_layers:
        raise ValueError(
            f"the student has {student_layers} layers and its teacher {teacher_layers}: a student can't be deeper than its "
            f"teacher. Set student.layers to {teacher_layers} or less."
        )
    if kind == "uniform" and teacher_layers % student_layers:
        possible = [str(n) for n in range(1, teacher_layers + 1) if teacher_layers % n == 0]
        raise ValueError(
            f"student.layer_map=uniform can't pair student.layers={student_layers} with {teacher_layers} teacher layers: "
            f"{student_layers} doesn't divide {teacher_layers}. Set student.layers to one of {', '.join(possible)}, "
            "or student.layer_map=spread."
        )
    if isinstance(kind, str):
        upper = [(m + 1) * teacher_layers // student_layers for m in range(student_layers)]
    else:
        upper = list(kind)
        if not _climbs(upper, teacher_layers) or len(upper) != student_layers:
            raise ValueError(
                f"student.layer_map is {upper}; expected uniform, spread, or {student_layers} rising numbers of 1 to "
                f"{teacher_layers}, the last one {teacher_layers}: the teacher layer that each of the student's learns from."
            )
    return LayerMap(
        student=Layers(tuple(range(student_layers + 1)), tuple(range(student_layers))),
        teacher=Layers((0, *upper), tuple(layer - 1 for layer in upper)),
    )


def _climbs(layers: list[int], last: int) -> bool:
    return set(layers) <= set(range(1, last + 1)) and layers == sorted(set(layers)) and last in layers
