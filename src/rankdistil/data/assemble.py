"""Token ids of many texts to padded batches of pairs, without a loop over rows."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Segment(NamedTuple):
    """Token ids of several texts.

    Attributes:
        tokens: of all texts, one after the other, (sum of lengths,).
        lengths: tokens of each text, int64, (N,).
        whole: tokens that each text had before it was cut, (N,); None if none was cut.
    """

    tokens: NDArray[np.integer]
    lengths: NDArray[np.int64]
    whole: NDArray[np.integer] | None = None

    @classmethod
    def of(cls, rows: list[list[int]], whole: NDArray[np.integer] | None = None) -> "Segment":
        """Lay lists of token ids end to end."""
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return cls(np.fromiter(chain.from_iterable(rows), np.int64, lengths.sum()), lengths, whole)

    def split(self, cuts: NDArray[np.int64]) -> tuple["Segment", "Segment"]:
        """Split each text after its first ``cuts`` tokens, (N,)."""
        ends = self.lengths.cumsum()
        before = np.arange(len(self.tokens)) - np.repeat(ends - self.lengths, self.lengths) < np.repeat(cuts, self.lengths)
        return Segment(self.tokens[before], cuts), Segment(self.tokens[~before], self.lengths - cuts)

    def keep(self, counts: NDArray[np.int64], last: bool = False) -> "Segment":
        """Keep ``counts`` tokens of each text, (N,): the first ones, or the last."""
        return self.split(self.lengths - counts)[1] if last else self.split(counts)[0]

    def take(self, rows: NDArray[np.int64]) -> "Segment":
        """Take some texts, (M,), each as often as it is named."""
        lengths, starts = self.lengths[rows], (self.lengths.cumsum() - self.lengths)[rows]
        before = lengths.cumsum() - lengths
        whole = None if self.whole is None else self.whole[rows]
        return Segment(self.tokens[np.arange(lengths.sum()) + np.repeat(starts - before, lengths)], lengths, whole)

    def parts(self, sizes: list[int]) -> Iterator["Segment"]:
        """Yield the first ``sizes[0]`` texts, the next ``sizes[1]`` and so on."""
        ends = self.lengths.cumsum()
        row = start = 0
        for size in sizes:
            end, some = int(ends[row + size - 1]), slice(row, row + size)
            yield Segment(self.tokens[start:end], self.lengths[some], None if self.whole is None else self.whole[some])
            row, start = row + size, end

    def rows(self) -> Iterable[list[int]]:
        """Return the token ids of each text."""
        return (row.tolist() for row in np.split(self.tokens, self.lengths.cumsum()[:-1]))


def cut_pairs(first: NDArray[np.int64], second: NDArray[np.int64], room: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Say how many tokens of two texts are kept that may be too long together: the longer is cut first.

    This is ``longest_first`` of the Hugging Face tokenizers. A text of up to half the room stays whole, the other has the rest.
    Two longer ones have half of it each; the token that an odd one leaves is the longer's, or the second's.

    Args:
        first: tokens of first texts, (N,).
        second: tokens of the texts beside them, (N,).
        room: tokens that both may have together.

    Returns:
        Tokens of each that are kept, (N,) twice.
    """
    kept = np.minimum(first, np.maximum(room - second, room // 2 + (first > second) * (room % 2)))
    return kept, np.minimum(second, room - kept)


def assemble(first: Segment, second: Segment, cls: int, sep: int, pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """Lay out [CLS] first [SEP] second [SEP], padded to the longest row.

    Args:
        first: queries.
        second: passages, as many.
        cls: id of [CLS].
        sep: id of [SEP].
        pad: id of [PAD].

    Returns:
        Token ids, attention mask and token types, int64, (B, T) each.
    """
    (tokens, lengths, _), (others, other_lengths, _) = first, second
    middle = lengths + 1  # column of the first [SEP]
    end = middle + other_lengths + 1  # column of the last
    rows, columns = np.arange(len(lengths)), np.arange(int(end.max()) + 1)
    mask = columns <= end[:, None]
    types = mask & (columns > middle[:, None])
    ids = np.full(mask.shape, pad, dtype=np.int64)
    inside = types.copy()
    inside[rows, end] = False
    ids[inside] = others
    inside = mask ^ types
    inside[:, 0] = inside[rows, middle] = False
    ids[inside] = tokens
    ids[:, 0] = cls
    ids[rows, middle] = ids[rows, end] = sep
    return torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64)), torch.from_numpy(types.astype(np.int64))
