"""Token ids of texts, laid end to end and taken apart again."""

import numpy as np
import pytest

from rankdistil.data.encode import Segment, assemble, cut_pairs

TEXTS = [[5, 6, 7], [], [8], [9, 10], [], [11]]


def test_parts_of_a_segment_hold_its_texts_in_their_order():
    parts = [list(part.rows()) for part in Segment.of(TEXTS).parts([2, 1, 3])]
    assert parts == [[[5, 6, 7], []], [[8]], [[9, 10], [], [11]]]


def test_how_long_texts_were_stays_with_them_until_they_are_cut_for_good():
    cut = Segment.of(TEXTS[:4], np.array([9, 0, 1, 2]))
    assert cut.take(np.array([3, 0])).whole.tolist() == [2, 9]
    assert [part.whole.tolist() for part in cut.parts([1, 3])] == [[9], [0, 1, 2]]
    assert cut.keep(np.array([1, 0, 1, 1])).whole is None


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.int64])
def test_tokens_of_any_width_are_laid_out_the_same(dtype):
    first = Segment(np.array([30, 31, 65_000], dtype), np.array([2, 0, 1]))
    second = Segment(np.array([40, 41, 42], dtype), np.array([1, 2, 0]))
    ids, mask, types = assemble(first, second, cls=1, sep=2, pad=0)
    assert ids.tolist() == [[1, 30, 31, 2, 40, 2], [1, 2, 40 + 1, 42, 2, 0], [1, 65_000, 2, 2, 0, 0]]
    assert mask.tolist() == [[1] * 6, [1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 0, 0]]
    assert types.tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 1, 0], [0, 0, 0, 1, 0, 0]]
    assert str(ids.dtype) == str(mask.dtype) == str(types.dtype) == "torch.int64"


@pytest.mark.parametrize("room", [0, 1, 2, 7, 8])
def test_pairs_that_fit_stay_whole_and_others_are_cut_to_the_room_the_longer_first(room):
    first, second = (each.reshape(-1) for each in np.meshgrid(np.arange(12), np.arange(12)))
    kept = cut_pairs(first, second, room)
    assert np.array_equal(kept[0] + kept[1], np.minimum(first + second, room))
    for own, other, whole in ((*kept, first), (*kept[::-1], second)):
        assert (own <= whole).all()
        assert (own[own < whole] >= other[own < whole] - 1).all()
