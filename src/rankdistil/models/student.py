"""Student configuration: its size, the layer mapping to its teacher, and its initialisation.

With k = teacher layers / student layers, student attention layer m (0-based) learns from teacher layer (m+1)·k-1 and hidden
state m from teacher state m·k, state 0 being the embedding output (Jiao et al. 2020, arXiv:1909.10351). ``spread`` keeps that
rule where k is no integer, rounding down: 4 layers under 6 learn from layers 0, 2, 3, 5. A list says it layer by layer, of the
teacher ranker's; of an assistant, it means those at the same depth.

==========================  =========================================================================================
``random``                  fresh weights everywhere: the start of the paper's procedures
``teacher_layers``          copies of the mapped layers, embeddings and head of a network of the same width
``subclone``                a narrower cut of the network, refitted layer by layer (see ``subclone``)
``export:<folder>``         a student that an earlier stage left
``pretrained:<path>``       a pretrained network of the student's shape: folder, ``package:<module>/<folder>`` or hub id
==========================  =========================================================================================
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import transformers
from transformers import PretrainedConfig

from rankdistil.data.records import PairBatch
from rankdistil.models.bert import CrossEncoder, Layers
from rankdistil.models.checkpoints import load_language_model, load_student
from rankdistil.models.families import Shape, family_of, resized, shape_of
from rankdistil.models.subclone import check_narrower, refuse_uncut, subclone


@dataclass(frozen=True)
class StudentSize:
    """The shape of a student.

    Attributes:
        name: the size's name, for example ``6l``.
        layers: number of transformer layers.
        hidden_size: width D; a multiple of ``heads``.
        heads: number of attention heads H; the teacher's where attention is matched.
        intermediate_size: width of the feed-forward layers.
    """

    name: str
    layers: int
    hidden_size: int
    heads: int
    intermediate_size: int

    def __post_init__(self) -> None:
        for field in ("layers", "hidden_size", "heads", "intermediate_size"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"student.{field} is {value!r}; expected a whole number of at least 1.")
        if self.hidden_size % self.heads:
            near = self.hidden_size // self.heads * self.heads or self.heads
            raise ValueError(
                f"student.hidden_size={self.hidden_size} is not a multiple of student.heads={self.heads}. "
                f"Set student.hidden_size to {near} or {near + self.heads}."
            )

    def config(self, teacher: PretrainedConfig) -> PretrainedConfig:
        """The network's config: this shape, everything else (family, vocabulary, positions, dropout) as the teacher's."""
        config = resized(teacher, Shape(self.layers, self.hidden_size, self.heads, self.intermediate_size))
        config.num_labels = 1
        each = self.hidden_size // self.heads
        if family_of(config).encoder.rotary and each % 2:
            raise ValueError(
                f"student {self.name}: {family_of(config).name} turns each head's dimensions in pairs, and student.hidden_size="
                f"{self.hidden_size} over student.heads={self.heads} gives {each}. Set student.hidden_size to "
                f"{self.hidden_size + self.heads}."
            )
        return config


def check_match(size: StudentSize, teacher: PretrainedConfig, needs: frozenset[str]) -> None:
    """Refuse a student that can't match its teacher.

    Args:
        size: the student's shape.
        teacher: the teacher's config.
        needs: what the losses compare, of ``attention``, ``hidden``, ``embedding``.

    Raises:
        ValueError: naming both sides and what to do.
    """
    if "attention" in needs and size.heads != teacher.num_attention_heads:
        raise ValueError(
            f"the attention loss compares heads one by one: student {size.name} has student.heads={size.heads}, its teacher "
            f"{teacher.num_attention_heads}. Set student.heads={teacher.num_attention_heads} (hidden_size must be a multiple), "
            "or drop the loss: '~stage.losses.attention'."
        )


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


def at_depth(kind: Any, layers: int, other: int) -> Any:
    """Translate a list of layers of one network into those of another at the same depth, rounded up.

    Rounded down, a student of two layers was cut from the first of an assistant's four in place of the second, and ended with
    0.47 nDCG@10 in place of 0.57.

    Args:
        kind: see ``map_layers``.
        layers: number of layers of the network that a list is of.
        other: number of layers of the other.

    Returns:
        The list; what is no list of that network, or leaves two layers at one depth, as it is.
    """
    if not isinstance(kind, list) or not all(type(layer) is int for layer in kind) or kind[-1:] != [layers]:
        return kind
    found = [-(-layer * other // layers) for layer in kind]
    return found if _climbs(found, other) else kind


def _climbs(layers: list[int], last: int) -> bool:
    return set(layers) <= set(range(1, last + 1)) and layers == sorted(set(layers)) and last in layers


PLAIN = ("random", "teacher_layers", "subclone")
WITH_PATH = ("export", "pretrained")
CUT = ("teacher_layers", "subclone")


class Start(NamedTuple):
    """Attributes: kind: one of those above, or ``experiment`` (``follows``); path: what follows the colon, or its name."""

    kind: str
    path: str = ""


def read_start(text: str) -> Start:
    """Read ``student.init_from``.

    Raises:
        ValueError: for an unknown start.
    """
    kind, colon, path = str(text).partition(":")
    if (kind in PLAIN and not colon) or (kind in WITH_PATH and path):
        return Start(kind, path)
    raise ValueError(
        f"student.init_from is {text!r}; expected one of {', '.join(PLAIN)}, export:<folder>, pretrained:<path>. The run of an "
        "experiment is gone on with by follows=<experiment>."
    )


def check_start(start: Start, size: StudentSize, source: PretrainedConfig, shape: PretrainedConfig | None) -> None:
    """Refuse a start that doesn't give the student's shape.

    Args:
        start: the start.
        size: the student's shape.
        source: config of the network that ``teacher_layers`` and ``subclone`` take from, and that gives the vocabulary.
        shape: config of the checkpoint that ``export`` and ``pretrained`` name; None for other starts.

    Raises:
        ValueError: naming both sides and the fix.
    """
    if start.kind == "subclone":
        check_narrower(size.config(source), source)
    if start.kind == "teacher_layers":
        refuse_uncut(start.kind, source)
        what = "student.init_from=teacher_layers copies layers of a network"
        _same_shape(size, source, what, "or set student.init_from=subclone")
    if shape is not None:
        what = f"student.init_from={start.kind}:{start.path}"
        _same_shape(size, shape, f"{what} is a network", "or start from another checkpoint")
        if shape.num_hidden_layers != size.layers:
            raise ValueError(
                f"{what} has {shape.num_hidden_layers} layers, student {size.name} has student.layers={size.layers}. "
                "Choose a student of that depth, or start from another checkpoint."
            )
        if shape.vocab_size != source.vocab_size:
            raise ValueError(
                f"{what} knows {shape.vocab_size} tokens, the network that the student learns from {source.vocab_size}: their "
                "vocabularies differ. Start from a checkpoint with the same tokenizer."
            )


def build_student(
    size: StudentSize,
    start: Start,
    source: CrossEncoder,
    layers: Sequence[int],
    seed: int,
    batches: Sequence[PairBatch] = (),
) -> CrossEncoder:
    """Build a student.

    Args:
        size: its shape.
        start: what it starts from; ``experiment`` is resolved to ``export`` by then.
        source: the network it learns from (or, without a teacher, the pretrained language model): gives vocabulary,
            positions and dropout, and the weights of ``teacher_layers`` and ``subclone``.
        layers: the source's layer that each of the student's layers is taken from, 0-based.
        seed: seed of fresh weights; the global generator isn't touched.
        batches: text that ``subclone`` is fitted on.

    Raises:
        ValueError: if the start doesn't give the student's shape.
    """
    if start.kind == "export":
        return load_student(start.path, seed)
    if start.kind == "pretrained":
        return load_language_model(start.path, seed=seed)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        student = CrossEncoder(getattr(transformers, family_of(source.config).ranker)(size.config(source.config)))
    if start.kind == "teacher_layers":
        _copy_layers(student, source, layers)
    if start.kind == "subclone":
        subclone(student, source, layers, batches)
    return student


def _copy_layers(student: CrossEncoder, source: CrossEncoder, layers: Sequence[int]) -> None:
    check_start(Start("teacher_layers"), _size(student.config), source.config, None)
    whole, place = source.bert.state_dict(), family_of(source.config).encoder.layers
    for name, value in student.bert.state_dict().items():
        layer, _, part = name.removeprefix(f"{place}.").partition(".")
        value.copy_(whole[f"{place}.{layers[int(layer)]}.{part}" if name.startswith(f"{place}.") else name])


def _same_shape(size: StudentSize, shape: PretrainedConfig, what: str, otherwise: str) -> None:
    _, width, heads, inner = shape_of(shape)
    if (size.hidden_size, size.heads, size.intermediate_size) != (width, heads, inner):
        raise ValueError(
            f"{what} of width {width} with {heads} heads and feed-forward width {inner}; student {size.name} has "
            f"{size.hidden_size}, {size.heads} and {size.intermediate_size}. Set student.hidden_size, student.heads and "
            f"student.intermediate_size to those, {otherwise}."
        )


def _size(config: PretrainedConfig) -> StudentSize:
    return StudentSize("student", *shape_of(config))
