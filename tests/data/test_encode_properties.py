"""Texts to pairs of tokens: cut and laid out as tokenizers' own ``longest_first``, whatever the texts hold."""

import numpy as np
import torch
from families import TEXT, tokenizer_of
from hypothesis import given, settings
from hypothesis import strategies as st

from rankdistil.data.encode import PairEncoder, cut_pairs
from rankdistil.data.records import Pair

PIECES = ["a", "b", " ", "\n", "\0", "é", "ﬂ", "東", "\U0001f52c", "\u200d", "\u202e", "[", "]", "?", "\ufeff", "bees"]
LETTERS = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
WORDS = st.lists(st.sampled_from(" ".join(TEXT).split()), max_size=30).map(" ".join)


@settings(max_examples=40)
@given(st.lists(st.tuples(LETTERS | WORDS, LETTERS | WORDS), min_size=1, max_size=5), st.integers(6, 40))
def test_pairs_are_laid_out_as_by_the_tokenizer(pairs: list[tuple[str, str]], length: int) -> None:
    tokenizer = tokenizer_of("bert")
    batch = PairEncoder(tokenizer, length, 64).batch([Pair("1", "a", *pair) for pair in pairs])
    told = tokenizer(
        *map(list, zip(*pairs, strict=True)), truncation="longest_first", max_length=length, padding=True, return_tensors="pt"
    )
    for key in ("input_ids", "attention_mask", "token_type_ids"):
        assert torch.equal(getattr(batch, key), told[key]), key


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=1, max_size=20), st.integers(2, 120))
def test_no_pair_has_more_than_its_room_and_none_loses_what_it_has_room_for(sizes: list[tuple[int, int]], room: int) -> None:
    first, second = np.array(sizes, np.int64).T
    kept = cut_pairs(first, second, room)
    assert (kept[0] <= first).all()
    assert (kept[1] <= second).all()
    assert (kept[0] + kept[1] == np.minimum(first + second, room)).all()
    for before, own, other in ((first, kept[0], kept[1]), (second, kept[1], kept[0])):
        cut = own < before
        assert (own[cut] >= room // 2).all()  # half of the room is everyone's
        assert (own[cut] >= other[cut] - 1).all()  # the shorter text is never cut before the longer one
