"""Pairs of every family's tokenizer: laid out, cut and read as by the tokenizer itself."""

from itertools import product

import numpy as np
import pytest
import torch
from families import NAMES, TEXT, tokenizer_of
from tokenizers import processors

from rankdistil.data.encode import PairEncoder, PairLayout, Segment, assemble
from rankdistil.data.records import Pair
from rankdistil.inference.packed import pack, pack_padded

EVERY = pytest.mark.parametrize("name", NAMES)
SPECIAL = {"bert": 3, "electra": 3, "distilbert": 3, "modernbert": 3, "roberta": 4, "xlm-roberta": 4, "mpnet": 4}


def equal(batch: object, expected: dict[str, torch.Tensor]) -> bool:
    """Compare with what the tokenizer gives, and see that there are no types where it gives none."""
    same = all(torch.equal(getattr(batch, key), value) for key, value in expected.items())
    return same and ("token_type_ids" in expected or not batch.token_type_ids.any())


@EVERY
def test_pairs_are_laid_out_as_by_the_tokenizer(name):
    tokenizer = tokenizer_of(name)
    queries, passages = [*TEXT, "", "why?", "x"], [*TEXT[::-1], "Zürich  isn't 25 km away", "", "\t"]
    batch = PairEncoder(tokenizer, 64).batch([Pair("1", "a", *pair) for pair in zip(queries, passages, strict=True)])
    assert equal(batch, tokenizer(queries, passages, padding=True, return_tensors="pt"))
    assert PairLayout.of(tokenizer).special == SPECIAL[name]


@pytest.mark.parametrize("length", [6, 7, 8, 25])
@EVERY
def test_pairs_are_cut_as_by_the_tokenizer_whichever_text_is_long(name, length):
    tokenizer, random = tokenizer_of(name), np.random.default_rng(length)
    lengths = [*product(range(4), range(4)), *random.integers(0, 30, (60, 2)).tolist()]
    texts = [(" ".join(["bees"] * first), " ".join(["fly"] * second)) for first, second in lengths]
    batch = PairEncoder(tokenizer, length).batch([Pair("1", "a", *pair) for pair in texts])
    settings = {"truncation": "longest_first", "max_length": length, "padding": True, "return_tensors": "pt"}
    assert equal(batch, tokenizer(*map(list, zip(*texts, strict=True)), **settings))


@pytest.mark.parametrize("text", [" " * 9000 + "bees fly", (" " * 300).join(["bees"] * 200), "bees" * 3000, "é" * 3000])
@EVERY
def test_an_overlong_text_is_read_until_its_budget_is_full(name, text):
    (found,) = PairEncoder(tokenizer_of(name), 24).segment([text]).rows()
    whole = tokenizer_of(name)(text, add_special_tokens=False)["input_ids"]
    assert found == whole[: 24 - SPECIAL[name]]


@EVERY
def test_special_tokens_in_a_text_are_no_special_tokens(name):
    tokenizer = tokenizer_of(name)
    special = {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}
    (found,) = PairEncoder(tokenizer, 64).token_ids([f"bees {' '.join(tokenizer.all_special_tokens)} fly"], 60)
    assert special
    assert special.isdisjoint(found)


@EVERY
def test_packed_pairs_are_the_padded_ones_without_their_padding(name):
    layout, lengths = PairLayout.of(tokenizer_of(name)), ([0, 2, 1, 5], [1, 0, 3, 2])
    first, second = (Segment(np.arange(sum(sizes)) + 50 * side, np.array(sizes)) for side, sizes in enumerate(lengths))
    packed, padded = pack(first, second, layout), pack_padded(*assemble(first, second, layout, pad=9))[0]
    assert all(map(torch.equal, packed[:4], padded[:4]))
    assert packed.runs == padded.runs


def test_the_least_length_counts_the_layout_s_special_tokens():
    assert PairEncoder(tokenizer_of("roberta"), 6).room == 2
    with pytest.raises(ValueError) as caught:
        PairEncoder(tokenizer_of("roberta"), 5)
    assert str(caught.value) == "data.max_length is 5; expected at least 6: 4 special tokens, and one of each text."


def test_a_layout_is_told_in_words():
    told = {name: PairLayout.of(tokenizer_of(name)).told(tokenizer_of(name)) for name in ("bert", "mpnet")}
    assert told == {"bert": "[CLS] query [SEP] passage [SEP]", "mpnet": "<s> query </s> </s> passage </s>"}


def test_a_tokenizer_that_puts_the_passage_first_is_refused():
    tokenizer_of.cache_clear()
    tokenizer = tokenizer_of("bert")
    template = processors.TemplateProcessing(
        single="$A", pair="[CLS]:0 $B:0 [SEP]:0 $A:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.backend_tokenizer.post_processor = template
    with pytest.raises(ValueError) as caught:
        PairLayout.of(tokenizer)
    tokenizer_of.cache_clear()
    assert str(caught.value) == (
        "the tokenizer lays out the pair (a, a) as '[CLS] a [SEP] a' with token types [0, 0, 0, 1]; expected query, then "
        "passage, special tokens around and between them, and token type 0 up to the passage, one type from there on."
    )
