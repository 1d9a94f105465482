"""Pairs to token ids, against the tokenizer's own encoding of pairs; texts laid end to end and taken apart again."""

from copy import copy
from itertools import product

import numpy as np
import pytest
import torch

from rankdistil.data.collections.reader import Reader
from rankdistil.data.collections.texts import open_passages
from rankdistil.data.encode import PairEncoder, PairLayout, Segment, assemble, cut_pairs
from rankdistil.data.records import Pair

PAIRS = [
    Pair("1", "a", "where do apples grow", "Apples grow on trees."),
    Pair("1", "b", "where do apples grow", "Bees, e.g. Apis mellifera, make 25 kg of honey a year."),
    Pair("2", "b", "why?", "Zürich isn't Geneva"),
]


def words(tokenizer, batch, row=0):
    length = int(batch.attention_mask[row].sum())
    return tokenizer.convert_ids_to_tokens(batch.input_ids[row, :length].tolist())


def sided(tokenizer, length, side):
    """Return an encoder whose tokenizer cuts texts at that side."""
    own = copy(tokenizer)
    own.truncation_side = side
    return PairEncoder(own, length)


@pytest.mark.parametrize("name", ["input_ids", "attention_mask", "token_type_ids"])
def test_uncut_pairs_are_encoded_as_by_the_tokenizer(tokenizer, name):
    batch = PairEncoder(tokenizer, 93).batch(PAIRS)
    expected = tokenizer([p.query for p in PAIRS], [p.passage for p in PAIRS], padding=True, return_tensors="pt")
    assert torch.equal(getattr(batch, name), expected[name])


@pytest.mark.parametrize("length", [5, 6, 7, 8, 24, 25])
def test_pairs_are_cut_as_by_the_tokenizer_whichever_text_is_long(tokenizer, length):
    random = np.random.default_rng(length)
    lengths = [*product(range(5), range(5)), *random.integers(0, 30, (200, 2)).tolist()]
    texts = [(" ".join(["tree"] * first), " ".join(["grow"] * second)) for first, second in lengths]
    batch = PairEncoder(tokenizer, length).batch([Pair("1", "a", *pair) for pair in texts])
    settings = {"truncation": "longest_first", "max_length": length, "padding": True, "return_tensors": "pt"}
    expected = tokenizer(*map(list, zip(*texts, strict=True)), **settings)
    assert all(torch.equal(getattr(batch, name), expected[name]) for name in expected)


def test_the_longer_text_gives_way_first_and_two_long_ones_share_the_room(tokenizer):
    encoder = PairEncoder(tokenizer, 10)  # seven tokens of text
    long, short = f"tree {'grow ' * 5}", "why not"
    batch = encoder.batch([Pair("1", "a", short, long), Pair("2", "b", long, short), Pair("3", "c", long, long)])
    assert words(tokenizer, batch, 0) == ["[CLS]", "why", "not", "[SEP]", "tree", *["grow"] * 4, "[SEP]"]
    assert words(tokenizer, batch, 1) == ["[CLS]", "tree", *["grow"] * 4, "[SEP]", "why", "not", "[SEP]"]
    assert words(tokenizer, batch, 2) == ["[CLS]", "tree", "grow", "grow", "[SEP]", "tree", "grow", "grow", "grow", "[SEP]"]


def test_token_types_turn_behind_the_first_separator_and_end_with_the_second(tokenizer):
    pairs = [Pair("1", "a", "one two", "three"), Pair("2", "b", "one", "two three four")]
    batch = PairEncoder(tokenizer, 13).batch(pairs)
    assert batch.token_type_ids.tolist() == [[0, 0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1, 1]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1, 1]]


def test_company_in_a_batch_changes_only_the_padding(tokenizer):
    encoder = PairEncoder(tokenizer, 93)
    together, alone = encoder.batch(PAIRS), encoder.batch(PAIRS[:1])
    length = alone.input_ids.shape[1]
    assert torch.equal(together.input_ids[:1, :length], alone.input_ids)
    assert set(together.input_ids[0, length:].tolist()) == {tokenizer.pad_token_id}
    assert not together.attention_mask[0, length:].any()


def test_empty_query_is_encoded_as_no_token(tokenizer):
    batch = PairEncoder(tokenizer, 13).batch([Pair("1", "a", "", "tree")])
    assert words(tokenizer, batch) == ["[CLS]", "[SEP]", "tree", "[SEP]"]


def test_ids_travel_with_their_pairs_each_a_group_of_its_own(tokenizer):
    batch = PairEncoder(tokenizer, 93).batch(PAIRS)
    assert batch.groups.tolist() == [0, 1, 2]
    assert (batch.query_ids, batch.passage_ids) == (("1", "1", "2"), ("a", "b", "b"))


def test_a_length_that_just_fits_is_accepted(tokenizer):
    assert PairEncoder(tokenizer, 512, max_positions=512).room == 509


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (513, "data.max_length is 513, but the network has 512 positions. Lower it."),
        (4, "data.max_length is 4; expected at least 5: 3 special tokens, and one of each text."),
    ],
)
def test_a_length_that_can_not_be_names_its_key(tokenizer, length, expected):
    with pytest.raises(ValueError) as caught:
        PairEncoder(tokenizer, length, max_positions=512)
    assert str(caught.value) == expected


def test_what_the_tokenizer_was_used_for_before_leaves_no_trace(tokenizer):
    encoder = PairEncoder(tokenizer, 93)
    texts = ["tree", "apples grow on trees [and elsewhere", ""]
    before = encoder.token_ids(texts, 60)
    tokenizer(texts, padding="max_length", truncation=True, max_length=3)
    assert encoder.token_ids(texts, 60) == before == tokenizer(texts, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("special", ["[SEP]", "[PAD]", "[MASK]", "[CLS]", "[UNK]"])
def test_special_tokens_in_a_text_are_read_as_text(tokenizer, special):
    batch = PairEncoder(tokenizer, 40).batch([Pair("1", "a", f"tree {special} grow", f"{special} tree")])
    name = ["[", *tokenizer.tokenize(special[1:-1].lower()), "]"]
    expected = ["[CLS]", "tree", *name, "grow", "[SEP]", *name, "tree", "[SEP]"]
    assert words(tokenizer, batch) == expected


FAR = {
    "behind blanks": " " * 60_000 + "bees live six weeks",
    "behind control characters": "\x00\x07" * 9000 + "bees live six weeks",
    "far apart": (" " * 500).join(["bee"] * 400),
    "behind words that are too long for a token": "x" * 150 + " " + " ".join(["y" * 150] * 20) + " bees",
    "behind accents": "e" + "\u0301" * 5000 + " bees",
    "one word": "bees" * 5000,
}


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("text", FAR.values(), ids=FAR)
def test_an_overlong_text_is_read_until_its_budget_is_full(tokenizer, text, side):
    (found,) = sided(tokenizer, 24, side).segment([text]).rows()
    whole = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert found == (whole[:21] if side == "right" else whole[-21:])


def test_texts_are_cut_at_the_end_that_the_tokenizer_names(tokenizer):
    text = ["one two three four", "five six seven eight nine ten"]
    batch = sided(tokenizer, 9, "left").batch([Pair("1", "a", *text)])
    assert words(tokenizer, batch) == ["[CLS]", "two", "three", "four", "[SEP]", "eight", "nine", "ten", "[SEP]"]


def test_stores_of_the_two_ends_differ(tokenizer, collection, tmp_path):
    reader = Reader(collection())
    open_passages(reader, PairEncoder(tokenizer, 6), tmp_path)
    with pytest.raises(ValueError, match=r"was built with other settings .there -> asked for.:\n  tokenizer: "):
        open_passages(reader, sided(tokenizer, 6, "left"), tmp_path)


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
    ids, mask, types = assemble(first, second, PairLayout((1,), (2,), (2,), 1), pad=0)
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
