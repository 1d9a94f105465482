"""Padded inference for other runtimes: batches of nearly one length, and a ranker as a graph over them."""

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rankdistil.data.encode import PairEncoder, Segment
from rankdistil.data.records import Pair
from rankdistil.inference.packed import Dense, InferenceRanker, cut
from rankdistil.models.bert import CrossEncoder, embed, encode, score
from rankdistil.models.layout import HIDDEN, Padded

Inputs = dict[str, NDArray[np.int64]]
"""What the graphs take: ``input_ids``, ``attention_mask`` and, of networks with types, ``token_type_ids``, (B, T) each."""

NAMES = ("input_ids", "attention_mask", "token_type_ids")


def input_names(ranker: CrossEncoder) -> tuple[str, ...]:
    """Name what the graph of a ranker takes: no token types where there is but one."""
    types = ranker.encoder.types
    return NAMES if types is not None and types.num_embeddings > 1 else NAMES[:2]


def padded_batches(
    first: Segment, second: Segment, encoder: PairEncoder, budget: int, multiple: int = 1, names: Collection[str] = NAMES
) -> Iterator[Inputs]:
    """Yield batches of pairs that are given in ascending order of length.

    Args:
        first: queries.
        second: passages, as many.
        encoder: lays them out.
        budget: tokens of a batch, padding included.
        multiple: of which batches have lengths, up to the longest that the encoder makes, so that there are few of them.
        names: the inputs that the graph takes.
    """
    lengths = -(-(first.lengths + second.lengths + encoder.layout.special) // multiple) * multiple
    lengths = np.minimum(lengths, encoder.max_length)
    sizes, last = cut(lengths, budget, padded=True), -1
    fill = encoder.pad, 0, 0
    for size, *pair in zip(sizes, first.parts(sizes), second.parts(sizes), strict=True):
        last += size
        arrays = [part.numpy() for part in encoder.assemble(*pair)]
        wider = (0, 0), (0, int(lengths[last]) - arrays[0].shape[1])
        padded = (np.pad(array, wider, constant_values=value) for array, value in zip(arrays, fill, strict=True))
        yield {name: array for name, array in zip(NAMES, padded, strict=True) if name in names}


def text_batches(pairs: Sequence[Pair], encoder: PairEncoder, budget: int, names: Collection[str] = NAMES) -> list[Inputs]:
    """Tokenise pairs and lay them out in batches, in the order of their lengths.

    Args:
        pairs: texts.
        encoder: gives the tokens.
        budget: tokens of a batch, padding included.
        names: the inputs that the graph takes.
    """
    texts = [pair.query for pair in pairs], [pair.passage for pair in pairs]
    first, second = encoder.cut(*map(encoder.segment, texts))
    order = (first.lengths + second.lengths).argsort(kind="stable")
    return list(padded_batches(first.take(order), second.take(order), encoder, budget, names=names))


class PaddedRanker(InferenceRanker):
    """A ranker for padded batches, to be exported.

    Args:
        ranker: in float32, with one logit.
    """

    def __init__(self, ranker: CrossEncoder) -> None:
        super().__init__(ranker.encoder, Dense)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Score a batch, (B, T) each, of token type 0 where none are given; returns logits, (B, 1)."""
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        positions = torch.arange(input_ids.size(1), device=input_ids.device)
        rows = embed(self.encoder, input_ids, token_type_ids, positions)
        mask = (1 - attention_mask[:, None, None].to(rows.dtype)) * HIDDEN
        return score(self.encoder, encode(self.encoder, rows.flatten(0, 1), Padded(*input_ids.shape, mask))[0])
