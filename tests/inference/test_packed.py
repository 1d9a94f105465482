"""Packed batches: every token of every pair once, and none that is padding."""

import numpy as np
import torch

from rankdistil.data.encode import Segment, assemble
from rankdistil.inference.packed import cut, pack, pack_padded

CLS, SEP, PAD = 1, 2, 0
FIRST = Segment.of([[7], [8, 9], [], [5, 6, 7]])
SECOND = Segment.of([[], [10], [11, 12, 13], [14]])


def test_pairs_are_laid_end_to_end() -> None:
    batch = pack(FIRST, SECOND, CLS, SEP)
    rows = [[CLS, 7, SEP, SEP], [CLS, 8, 9, SEP, 10, SEP], [CLS, SEP, 11, 12, 13, SEP], [CLS, 5, 6, 7, SEP, 14, SEP]]
    assert batch.input_ids.tolist() == [token for row in rows for token in row]
    assert batch.token_type_ids.tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1]
    assert batch.positions.tolist() == [place for row in rows for place in range(len(row))]
    assert batch.starts.tolist() == [0, 4, 10, 16]
    assert batch.runs == [(1, 4), (2, 6), (1, 7)]


def test_a_padded_batch_loses_its_padding_and_its_order_is_told() -> None:
    given = np.array([3, 1, 0, 2])
    padded = assemble(FIRST.take(given), SECOND.take(given), CLS, SEP, PAD)
    found, order = pack_padded(*padded)
    expected = pack(FIRST, SECOND, CLS, SEP)
    assert given[order.numpy()].tolist() == [0, 1, 2, 3]
    assert all(map(torch.equal, found[:4], expected[:4]))
    assert found.runs == expected.runs


def test_batches_hold_their_budget_but_one_pair_at_least() -> None:
    lengths = np.array([2, 2, 3, 4, 9, 30, 30])
    cuts = [lengths[part].tolist() for part in cut(lengths, 10)]
    assert cuts == [[2, 2, 3], [4], [9], [30], [30]]
    assert [lengths[part].tolist() for part in cut(lengths, 10_000)] == [lengths.tolist()]


def test_texts_are_taken_as_often_as_they_are_named() -> None:
    found = FIRST.take(np.array([3, 0, 3, 2]))
    assert [list(row) for row in found.rows()] == [[5, 6, 7], [7], [5, 6, 7], []]
