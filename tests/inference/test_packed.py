"""Packed batches: every token of every pair once, and none that is padding."""

import numpy as np
import pytest
import torch

from rankdistil.data.encode import PairLayout, Segment, assemble
from rankdistil.inference.packed import cut, pack, pack_padded

CLS, SEP, PAD = 1, 2, 0
BERT = PairLayout((CLS,), (SEP,), (SEP,), 1)
FIRST = Segment.of([[7], [8, 9], [], [5, 6, 7]])
SECOND = Segment.of([[], [10], [11, 12, 13], [14]])


def test_pairs_are_laid_end_to_end() -> None:
    batch = pack(FIRST, SECOND, BERT)
    rows = [[CLS, 7, SEP, SEP], [CLS, 8, 9, SEP, 10, SEP], [CLS, SEP, 11, 12, 13, SEP], [CLS, 5, 6, 7, SEP, 14, SEP]]
    assert batch.input_ids.tolist() == [token for row in rows for token in row]
    assert batch.token_type_ids.tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1]
    assert batch.positions.tolist() == [place for row in rows for place in range(len(row))]
    assert batch.starts.tolist() == [0, 4, 10, 16]
    assert batch.runs == [(1, 4), (2, 6), (1, 7)]


def test_a_padded_batch_loses_its_padding_and_its_order_is_told() -> None:
    given = np.array([3, 1, 0, 2])
    padded = assemble(FIRST.take(given), SECOND.take(given), BERT, PAD)
    found, order = pack_padded(*padded)
    expected = pack(FIRST, SECOND, BERT)
    assert given[order.numpy()].tolist() == [0, 1, 2, 3]
    assert all(map(torch.equal, found[:4], expected[:4]))
    assert found.runs == expected.runs


def test_for_a_gpu_a_padded_batch_loses_its_padding_but_keeps_its_order_and_a_place_in_attention() -> None:
    padded = assemble(FIRST, SECOND, BERT, PAD)
    found, order = pack_padded(*padded, tokens=23, fused=True)
    expected = pack(FIRST, SECOND, BERT)
    assert order.tolist() == [0, 1, 2, 3]
    assert all(map(torch.equal, found[:4], expected[:4]))
    assert (found.padded.texts, found.length) == (4, 7)


def test_side_by_side_pairs_are_padded_to_a_multiple_of_sixteen() -> None:
    batch = pack(FIRST, SECOND, BERT).side_by_side()
    assert batch.length == 16
    assert (batch.padded.mask == 0).sum((1, 2, 3)).tolist() == [4, 6, 6, 7]


def test_rounded_up_it_has_tokens_and_pairs_that_are_nobodys() -> None:
    batch, rounded = pack(FIRST, SECOND, BERT), pack(FIRST, SECOND, BERT).rounded()
    assert [len(part) for part in rounded[:4]] == [64, 64, 64, 8]
    assert all(torch.equal(part[: len(own)], own) for part, own in zip(rounded[:4], batch[:4], strict=True))
    assert not any(part[len(own) :].any() for part, own in zip(rounded[:4], batch[:4], strict=True))
    assert (rounded.runs, rounded.length) == (batch.runs, batch.length)
    assert all(map(torch.equal, rounded.rounded()[:4], rounded[:4]))


@pytest.mark.parametrize(
    ("padded", "budget", "sizes"),
    [(False, 10, [4, 1, 1, 1]), (False, 10_000, [7]), (True, 1, [1] * 7), (True, 10, [3, 2, 1, 1]), (True, 12, [4, 1, 1, 1]),
     (True, 60, [5, 2]), (True, 10_000, [7])],
)  # fmt: skip
def test_batches_hold_their_budget_but_one_pair_at_least(padded: bool, budget: int, sizes: list[int]) -> None:
    assert cut(np.array([2, 2, 3, 3, 5, 30, 30]), budget, padded) == sizes


def test_texts_are_taken_as_often_as_they_are_named() -> None:
    found = FIRST.take(np.array([3, 0, 3, 2]))
    assert [list(row) for row in found.rows()] == [[5, 6, 7], [7], [5, 6, 7], []]


def test_scores_of_pairs_that_differ_in_length_are_not_recorded() -> None:
    batch, rows = pack(FIRST, SECOND, BERT), torch.zeros(23, 4)
    with pytest.raises(ValueError, match="attention scores are recorded from padded batches only"):
        batch.attend(rows, rows, rows, 2, alone=False, record=True)
