"""Windows of documents as an encoder lays them out, beside the library's own overflowing windows."""

import numpy as np
import pytest
from families import NAMES, tokenizer_of
from support import MINILM

from rankdistil.data.encode import PairEncoder
from rankdistil.data.windows import RICHEST, Windows
from rankdistil.models.checkpoints import load_tokenizer

LENGTH = 40
QUERIES = ["how do bees fly in spring", "where do apples grow", "honey " * 12]
DOCUMENTS = ["wings beat fast and the air moves , " * 20, "a bridge has four arches of stone", "queens live for years " * 9]


def rows(encoder: PairEncoder, first, second) -> list[list[int]]:
    ids, mask, _ = encoder.assemble(first, second)
    return [row[keep.bool()].tolist() for row, keep in zip(ids, mask, strict=True)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0, 5])
def test_windows_are_the_library_s_overflowing_ones(name, share):
    tokenizer = tokenizer_of(name)
    for query, document in zip(QUERIES, DOCUMENTS, strict=True):
        room = PairEncoder(tokenizer, LENGTH).room
        size = room - len(tokenizer(query, add_special_tokens=False).input_ids)
        if size < room // 2:  # which the library wouldn't cut
            continue
        windows = Windows(stride=size - share, most=99)
        encoder = PairEncoder(tokenizer, LENGTH, windows=windows)
        first, second, counts = encoder.windowed(encoder.segment([query]), encoder.segment([document]))
        expected = tokenizer(
            query, document, truncation="only_second", max_length=LENGTH, stride=share, return_overflowing_tokens=True
        ).input_ids
        expected = expected if isinstance(expected[0], list) else [expected]
        assert rows(encoder, first, second) == expected
        assert counts.tolist() == [len(expected)]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("length", [LENGTH, LENGTH + 1])
def test_the_first_window_is_the_pair_that_truncation_leaves_where_the_query_is_whole(side, length):
    tokenizer = load_tokenizer(MINILM)
    tokenizer.truncation_side = side
    plain = PairEncoder(tokenizer, length)
    encoder = PairEncoder(tokenizer, length, windows=Windows(8, 5, aggregate="first"))
    assert encoder.reach == plain.room
    texts = QUERIES, DOCUMENTS
    first, second, counts = encoder.windowed(*map(encoder.segment, texts))
    assert counts.tolist() == [1, 1, 1]
    assert rows(encoder, first, second) == rows(plain, *map(plain.segment, texts))


@pytest.mark.parametrize("settings", [{}, {"size": 20}, {"aggregate": "mean", "top": 2}])
def test_a_document_of_one_window_is_laid_out_as_without_windows(settings):
    tokenizer = load_tokenizer(MINILM)
    plain, encoder = PairEncoder(tokenizer, LENGTH), PairEncoder(tokenizer, LENGTH, windows=Windows(8, 5, **settings))
    texts = [*QUERIES, "bees " * 60, "a " * 60], ["wings beat fast", "", "a bridge", "stone " * 17, "honey"]
    first, second, counts = encoder.windowed(*map(encoder.segment, texts))
    assert counts.tolist() == [1] * 5
    assert rows(encoder, first, second) == rows(plain, *map(plain.segment, texts))


def test_windows_begin_at_the_end_that_is_kept():
    tokenizer = load_tokenizer(MINILM)
    tokenizer.truncation_side = "left"
    encoder = PairEncoder(tokenizer, LENGTH, windows=Windows(10, 3, 12))
    words = "one two three four five six seven eight nine ten " * 10
    ids = encoder.token_ids([words], 1000)[0]
    _, second, _ = encoder.windowed(encoder.segment(["bees"]), encoder.segment([words]))
    assert [*second.rows()] == [ids[-12:], ids[-22:-10], ids[-32:-20]]


def test_no_more_of_a_document_is_tokenised_than_its_windows_hold():
    tokenizer = load_tokenizer(MINILM)
    encoder = PairEncoder(tokenizer, LENGTH, windows=Windows(10, 4, 20))
    assert encoder.reach == 50
    assert PairEncoder(tokenizer, LENGTH, windows=Windows(1, 1, 2)).reach == LENGTH - 3  # a query may have that many
    assert encoder.segment(["stone " * 500]).lengths.tolist() == [50]


def test_the_window_wanted_is_taken_modulo_those_there_are_or_the_one_with_the_query_s_words():
    tokenizer = load_tokenizer(MINILM)
    encoder = PairEncoder(tokenizer, LENGTH, windows=Windows(5, 9, 5))
    document = "stone stone stone stone stone wings wings bees fly air honey honey honey honey honey"
    first = encoder.segment(["how do bees fly"] * 4)
    texts, place = encoder.segment(["short", document]), np.array([1, 1, 1, 0])
    found, numbers = encoder.window(first, texts, place, np.array([7, RICHEST, 2, RICHEST]))
    assert numbers.tolist() == [7 % 3, 1, 2, 0]
    words = [tokenizer.decode(row) for row in found.rows()]
    assert words == ["wings wings bees fly air"] * 2 + ["honey honey honey honey honey", "short"]


def test_a_window_that_leaves_no_room_for_the_query_is_refused():
    with pytest.raises(ValueError) as refused:
        PairEncoder(load_tokenizer(MINILM), LENGTH, windows=Windows(8, 5, 37))
    assert str(refused.value) == (
        "windows.size is 37; expected 36 at most: of the 40 tokens of a pair (data.max_length), 3 are special ones, and the "
        "query has one at least."
    )
