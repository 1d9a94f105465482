"""What a student starts from.

==========================  =========================================================================================
``random``                  fresh weights everywhere: the start of the paper's procedures
``teacher_layers``          copies of the mapped layers, embeddings and head of a network of the same width
``subclone``                a narrower cut of the network, refitted layer by layer (see ``subclone``)
``export:<folder>``         a student that an earlier stage left
``pretrained:<path>``       a pretrained BERT of the student's shape: folder, ``package:<module>/<folder>`` or hub id
==========================  =========================================================================================
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from transformers import BertConfig, BertForSequenceClassification

from rankdistil.data.batch import PairBatch
from rankdistil.models.bert import CrossEncoder
from rankdistil.models.load import load_language_model, load_student
from rankdistil.models.student import StudentSize
from rankdistil.models.subclone import check_narrower, subclone

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


def check_start(start: Start, size: StudentSize, source: BertConfig, shape: BertConfig | None) -> None:
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
        student = CrossEncoder(BertForSequenceClassification(size.config(source.config)))
    if start.kind == "teacher_layers":
        _copy_layers(student, source, layers)
    if start.kind == "subclone":
        subclone(student, source, layers, batches)
    return student


def _copy_layers(student: CrossEncoder, source: CrossEncoder, layers: Sequence[int]) -> None:
    check_start(Start("teacher_layers"), _size(student.config), source.config, None)
    small, large = student.bert, source.bert
    small.bert.embeddings.load_state_dict(large.bert.embeddings.state_dict())
    for layer, index in zip(small.bert.encoder.layer, layers, strict=True):
        layer.load_state_dict(large.bert.encoder.layer[index].state_dict())
    small.bert.pooler.load_state_dict(large.bert.pooler.state_dict())
    small.classifier.load_state_dict(large.classifier.state_dict())


def _same_shape(size: StudentSize, shape: BertConfig, what: str, otherwise: str) -> None:
    wanted = (shape.hidden_size, shape.num_attention_heads, shape.intermediate_size)
    if (size.hidden_size, size.heads, size.intermediate_size) != wanted:
        raise ValueError(
            f"{what} of width {wanted[0]} with {wanted[1]} heads and feed-forward width {wanted[2]}; student {size.name} has "
            f"{size.hidden_size}, {size.heads} and {size.intermediate_size}. Set student.hidden_size, student.heads and "
            f"student.intermediate_size to those, {otherwise}."
        )


def _size(config: BertConfig) -> StudentSize:
    return StudentSize(
        "student", config.num_hidden_layers, config.hidden_size, config.num_attention_heads, config.intermediate_size
    )
