"""Batches for runtimes that need rectangles: pairs of nearly one length beside each other, so that little is padding."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from rankdistil.data.assemble import Segment
from rankdistil.data.encode import SPECIAL_TOKENS, PairEncoder
from rankdistil.data.records import Pair

Inputs = dict[str, NDArray[np.int64]]
"""What the graphs take: ``input_ids``, ``attention_mask`` and ``token_type_ids``, (B, T) each."""

NAMES = ("input_ids", "attention_mask", "token_type_ids")


def cut_padded(lengths: NDArray[np.int64], budget: int) -> list[int]:
    """Cut pairs into batches of at most ``budget`` tokens with padding, but one pair at least.

    Args:
        lengths: tokens of each pair, in ascending order, (N,).
        budget: tokens of a batch.

    Returns:
        The number of pairs in each batch.
    """
    sizes, at = [], 0
    while at < len(lengths):
        padded = lengths[at : at + budget] * np.arange(1, min(budget, len(lengths) - at) + 1)
        sizes.append(max(int(np.searchsorted(padded, budget, side="right")), 1))
        at += sizes[-1]
    return sizes


def padded_batches(first: Segment, second: Segment, encoder: PairEncoder, budget: int, multiple: int = 1) -> Iterator[Inputs]:
    """Yield batches of pairs that are given in ascending order of length.

    Args:
        first: queries.
        second: passages, as many.
        encoder: lays them out.
        budget: tokens of a batch, padding included.
        multiple: of which batches have lengths, up to the longest that the encoder makes, so that there are few of them.
    """
    lengths = -(-(first.lengths + second.lengths + SPECIAL_TOKENS) // multiple) * multiple
    lengths = np.minimum(lengths, encoder.max_length)
    sizes, last = cut_padded(lengths, budget), -1
    fill = encoder.tokenizer.pad_token_id, 0, 0
    for size, *pair in zip(sizes, first.parts(sizes), second.parts(sizes), strict=True):
        last += size
        arrays = [part.numpy() for part in encoder.assemble(*pair)]
        wider = (0, 0), (0, int(lengths[last]) - arrays[0].shape[1])
        padded = (np.pad(array, wider, constant_values=value) for array, value in zip(arrays, fill, strict=True))
        yield dict(zip(NAMES, padded, strict=True))


def text_batches(pairs: Sequence[Pair], encoder: PairEncoder, budget: int) -> list[Inputs]:
    """Tokenise pairs and lay them out in batches, in the order of their lengths.

    Args:
        pairs: texts.
        encoder: gives the tokens.
        budget: tokens of a batch, padding included.
    """
    texts = [pair.query for pair in pairs], [pair.passage for pair in pairs]
    first, second = encoder.cut(*map(encoder.segment, texts))
    order = (first.lengths + second.lengths).argsort(kind="stable")
    return list(padded_batches(first.take(order), second.take(order), encoder, budget))
