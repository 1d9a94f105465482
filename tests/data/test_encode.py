"""Pairs to token ids, against the tokenizer's own encoding of pairs."""

import pytest
import torch

from rankdistil.data.encode import PairEncoder
from rankdistil.data.records import Pair

PAIRS = [
    Pair("1", "a", "where do apples grow", "Apples grow on trees."),
    Pair("1", "b", "where do apples grow", "Bees, e.g. Apis mellifera, make 25 kg of honey a year."),
    Pair("2", "b", "why?", "Zürich isn't Geneva"),
]


def words(tokenizer, batch, row=0):
    length = int(batch.attention_mask[row].sum())
    return tokenizer.convert_ids_to_tokens(batch.input_ids[row, :length].tolist())


@pytest.mark.parametrize("name", ["input_ids", "attention_mask", "token_type_ids"])
def test_uncut_pairs_are_encoded_as_by_the_tokenizer(tokenizer, name):
    batch = PairEncoder(tokenizer, query_tokens=30, passage_tokens=60).batch(PAIRS)
    expected = tokenizer([p.query for p in PAIRS], [p.passage for p in PAIRS], padding=True, return_tensors="pt")
    assert torch.equal(getattr(batch, name), expected[name])


def test_query_and_passage_are_cut_to_budgets_of_their_own(tokenizer):
    encoder = PairEncoder(tokenizer, query_tokens=2, passage_tokens=3)
    batch = encoder.batch([Pair("1", "a", "where do apples grow", "Apples grow on trees.")])
    assert words(tokenizer, batch) == ["[CLS]", "where", "do", "[SEP]", "apples", "grow", "on", "[SEP]"]
    assert batch.input_ids.shape == (1, encoder.max_tokens)


def test_long_passage_leaves_the_query_whole_and_the_other_way_round(tokenizer):
    encoder = PairEncoder(tokenizer, query_tokens=3, passage_tokens=3)
    batch = encoder.batch([Pair("1", "a", "grow", "tree " * 900), Pair("2", "b", "tree " * 900, "grow")])
    assert words(tokenizer, batch, 0) == ["[CLS]", "grow", "[SEP]", "tree", "tree", "tree", "[SEP]"]
    assert words(tokenizer, batch, 1) == ["[CLS]", "tree", "tree", "tree", "[SEP]", "grow", "[SEP]"]


def test_token_types_turn_behind_the_first_separator_and_end_with_the_second(tokenizer):
    pairs = [Pair("1", "a", "one two", "three"), Pair("2", "b", "one", "two three four")]
    batch = PairEncoder(tokenizer, query_tokens=5, passage_tokens=5).batch(pairs)
    assert batch.token_type_ids.tolist() == [[0, 0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1, 1]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1, 1]]


def test_company_in_a_batch_changes_only_the_padding(tokenizer):
    encoder = PairEncoder(tokenizer, query_tokens=30, passage_tokens=60)
    together, alone = encoder.batch(PAIRS), encoder.batch(PAIRS[:1])
    length = alone.input_ids.shape[1]
    assert torch.equal(together.input_ids[:1, :length], alone.input_ids)
    assert set(together.input_ids[0, length:].tolist()) == {tokenizer.pad_token_id}
    assert not together.attention_mask[0, length:].any()


def test_empty_query_is_encoded_as_no_token(tokenizer):
    batch = PairEncoder(tokenizer, query_tokens=5, passage_tokens=5).batch([Pair("1", "a", "", "tree")])
    assert words(tokenizer, batch) == ["[CLS]", "[SEP]", "tree", "[SEP]"]


def test_ids_travel_with_their_pairs_each_a_group_of_its_own(tokenizer):
    batch = PairEncoder(tokenizer, query_tokens=30, passage_tokens=60).batch(PAIRS)
    assert batch.groups.tolist() == [0, 1, 2]
    assert (batch.query_ids, batch.passage_ids) == (("1", "1", "2"), ("a", "b", "b"))


def test_budgets_that_just_fit_are_accepted(tokenizer):
    assert PairEncoder(tokenizer, query_tokens=100, passage_tokens=409, max_positions=512).max_tokens == 512


def test_budgets_beyond_the_positions_say_what_to_lower(tokenizer):
    with pytest.raises(ValueError, match="positions") as caught:
        PairEncoder(tokenizer, query_tokens=100, passage_tokens=410, max_positions=512)
    assert str(caught.value) == (
        "data.query_tokens=100 and data.passage_tokens=410 need 513 positions with 3 special tokens; "
        "the network has 512. Lower one of them."
    )


@pytest.mark.parametrize("name", ["query_tokens", "passage_tokens"])
def test_budget_below_one_names_its_key(tokenizer, name):
    with pytest.raises(ValueError, match=f"^data.{name} is 0; expected at least 1.$"):
        PairEncoder(tokenizer, **{"query_tokens": 5, "passage_tokens": 5, name: 0})


def test_what_the_tokenizer_was_used_for_before_leaves_no_trace(tokenizer):
    encoder = PairEncoder(tokenizer, query_tokens=30, passage_tokens=60)
    texts = ["tree", "apples grow on trees [SEP] and elsewhere", ""]
    before = encoder.token_ids(texts, 60)
    tokenizer(texts, padding="max_length", truncation=True, max_length=3)
    assert encoder.token_ids(texts, 60) == before == tokenizer(texts, add_special_tokens=False)["input_ids"]
