"""Batches by tokens: none above its budget but a group alone, every group in one batch, in order."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rankdistil.data.batches.stream import Size, cut_windows
from rankdistil.inference.packed import cut

LENGTHS = st.lists(st.integers(0, 60), min_size=1, max_size=80).map(lambda found: np.sort(np.array(found, np.int64)))


@given(LENGTHS, st.integers(1, 400), st.integers(1, 4), st.integers(1, 4), st.integers(4, 50))
def test_a_share_of_a_batch_keeps_to_its_tokens(lengths: Any, tokens: int, parts: int, pairs: int, room: int) -> None:
    size = Size(4, tokens, parts)
    batches = np.split(np.arange(len(lengths)), size.cuts(lengths, pairs, room))
    assert np.concatenate(batches).tolist() == [*range(len(lengths))]
    assert all(len(batch) for batch in batches)
    assert all(len(batch) % parts == 0 for batch in batches[:-1])
    padded = [(int(np.minimum(lengths[batch], room).max()) + size.special) * pairs for batch in batches]  # tokens of a group
    for batch, each in zip(batches, padded, strict=True):
        shares = size.shares(batch)
        assert len({*map(len, shares)}) == 1
        assert {*np.concatenate(shares).tolist()} == {*batch.tolist()}
        assert each * len(shares[0]) * parts <= tokens or len(batch) <= parts
    for before, behind, each in zip(batches, batches[1:], padded[1:], strict=False):  # no batch could have been larger
        first = behind[: size.parts]
        own = (int(np.minimum(lengths[first], room).max()) + size.special) * pairs
        assert own * (len(before) + parts) > tokens
        assert each >= own


@given(LENGTHS, st.integers(1, 400), st.booleans())
def test_packed_batches_hold_their_budget_but_one_pair_at_least(lengths: Any, budget: int, padded: bool) -> None:
    sizes = cut(lengths, budget, padded)
    assert sum(sizes) == len(lengths)
    assert min(sizes) >= 1
    for some in np.split(lengths, np.cumsum(sizes)[:-1]):
        assert len(some) == 1 or (some.max() * len(some) if padded else some.sum()) <= budget


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 10))
def test_windows_hold_every_row_once_in_order(sizes: list[int], window: int) -> None:
    rows = np.arange(sum(sizes))[:, None]
    found = list(cut_windows(np.split(rows, np.cumsum(sizes)), window))
    assert [len(each) for each in found] == [window] * (len(rows) // window) + [len(rows) % window] * bool(len(rows) % window)
    assert not len(rows) or np.array_equal(np.concatenate(found), rows)
