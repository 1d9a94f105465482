"""Batches for runtimes that need rectangles: pairs of nearly one length beside each other, so that little is padding."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rankdistil.data.assemble import Segment
from rankdistil.data.encode import SPECIAL_TOKENS, PairEncoder

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


def padded_batches(first: Segment, second: Segment, encoder: PairEncoder, budget: int) -> Iterator[Inputs]:
    """Yield batches of pairs that are given in ascending order of length.

    Args:
        first: queries.
        second: passages, as many.
        encoder: lays them out.
        budget: tokens of a batch, padding included.
    """
    sizes = cut_padded(first.lengths + second.lengths + SPECIAL_TOKENS, budget)
    for pair in zip(first.parts(sizes), second.parts(sizes), strict=True):
        yield {name: part.numpy() for name, part in zip(NAMES, encoder.assemble(*pair), strict=True)}
