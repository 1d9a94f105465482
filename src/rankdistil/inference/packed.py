"""Batches without padding: the tokens of many pairs end to end, pairs of equal length beside each other."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rankdistil.data.assemble import Segment


class PackedBatch(NamedTuple):
    """Pairs laid end to end, in ascending order of length.

    Attributes:
        input_ids: [CLS] query [SEP] passage [SEP] of each pair, int64, (tokens,).
        token_type_ids: 0 up to the first [SEP] of a pair, 1 after it, int64, (tokens,).
        positions: place in the pair, from 0, int64, (tokens,).
        starts: place of each pair's [CLS], int64, (B,).
        runs: pairs of one length that stand together: (pairs, tokens of each).
    """

    input_ids: Tensor
    token_type_ids: Tensor
    positions: Tensor
    starts: Tensor
    runs: list[tuple[int, int]]


def pack(first: Segment, second: Segment, cls: int, sep: int) -> PackedBatch:
    """Lay out [CLS] first [SEP] second [SEP] of each pair, one after the other.

    Args:
        first: queries, so ordered that the lengths of the pairs don't descend.
        second: their passages.
        cls: id of [CLS].
        sep: id of [SEP].
    """
    middles = first.lengths + 1
    lengths = middles + second.lengths + 2
    ends = lengths.cumsum()
    starts = ends - lengths
    total = int(ends[-1])
    positions = np.arange(total) - np.repeat(starts, lengths)
    types = positions > np.repeat(middles, lengths)
    ids = np.empty(total, dtype=np.int64)
    special = np.zeros(total, dtype=bool)
    special[starts] = special[starts + middles] = special[ends - 1] = True
    ids[starts] = cls
    ids[starts + middles] = ids[ends - 1] = sep
    ids[~special & ~types] = first.tokens
    ids[~special & types] = second.tokens
    values, counts = np.unique(lengths, return_counts=True)
    runs = list(zip(counts.tolist(), values.tolist(), strict=True))
    return PackedBatch(*map(torch.from_numpy, (ids, types.astype(np.int64), positions, starts)), runs)


def pack_padded(input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[PackedBatch, Tensor]:
    """Take the padding out of a batch.

    Args:
        input_ids: token ids, (B, T).
        attention_mask: 1 for a real token, 0 for the padding behind them, (B, T).
        token_type_ids: (B, T).

    Returns:
        The batch, and where each of its pairs stood, (B,).
    """
    lengths, order = attention_mask.sum(1).sort(stable=True)
    kept = attention_mask[order].bool()
    positions = torch.arange(kept.size(1), device=kept.device).expand_as(kept)
    values, counts = lengths.unique_consecutive(return_counts=True)
    runs = list(zip(counts.tolist(), values.tolist(), strict=True))
    parts = (part[kept] for part in (input_ids[order], token_type_ids[order], positions))
    return PackedBatch(*parts, lengths.cumsum(0) - lengths, runs), order


def cut(lengths: NDArray[np.int64], budget: int) -> Iterator[slice]:
    """Cut pairs into batches of at most ``budget`` tokens, but one pair at least.

    Args:
        lengths: tokens of each pair, in ascending order, (N,).
        budget: tokens of a batch.
    """
    ends = lengths.cumsum()
    at = 0
    while at < len(lengths):
        before = int(ends[at - 1]) if at else 0
        end = max(int(np.searchsorted(ends, before + budget, side="right")), at + 1)
        yield slice(at, end)
        at = end
