"""Triples of texts: their own collection, told apart by what the texts are."""

from itertools import islice

import pytest

from rankdistil.data.batches.training_groups import open_source
from rankdistil.data.collections.reader import Reader
from rankdistil.data.collections.texts import open_collection, training_triples
from rankdistil.data.encode import PairEncoder
from rankdistil.data.files.bad_lines import Tolerance
from rankdistil.data.files.folder import FolderSplit, text_id

ROWS = [
    ("what do bees make", "Bees make honey.", "Cats sleep."),
    ("what do bees make", "Bees make honey.", "Dogs descend from wolves."),
    ("how long do cats sleep", "Cats sleep.", "Bees make honey."),
]


@pytest.fixture(scope="module")
def encoder(tokenizer) -> PairEncoder:
    return PairEncoder(tokenizer, 27)


@pytest.fixture
def split(tmp_path):
    """Write triples; return the split that they are."""

    def write(rows=ROWS) -> FolderSplit:
        (tmp_path / "triples.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
        return FolderSplit(str(tmp_path), "corpus.tsv", None, None, triples_text="triples.tsv")

    return write


def test_equal_texts_are_one_query_or_one_passage(split):
    reader = Reader(split())
    assert sorted(reader.queries.values()) == ["how long do cats sleep", "what do bees make"]
    assert sorted(text for _, text in reader.passages()) == ["Bees make honey.", "Cats sleep.", "Dogs descend from wolves."]
    assert all(key == text_id(text) for key, text in [*reader.queries.items(), *reader.passages()])
    assert len({text_id(text) for row in ROWS for text in row}) == 5


@pytest.mark.parametrize("stored", [False, True])
def test_an_epoch_trains_on_each_triple_once(split, encoder, tmp_path, stored):
    store = tmp_path / "store" if stored else None
    reader = Reader(split(), store=store)
    collection = open_collection(reader, encoder, store)
    source = open_source(reader, collection, "auto", 1, 10, 0, 1, store)
    rows = next(islice(source.epoch(0, 0), 1))
    found = [(*collection.queries.names(row[:1]), *collection.passages.names(row[1:])) for row in rows]
    assert sorted(found) == sorted(tuple(map(text_id, row)) for row in ROWS)
    assert reader.texts([text_id("Cats sleep.")]) == {text_id("Cats sleep."): "Cats sleep."}


def test_a_line_with_two_texts_is_named(split, tmp_path):
    with pytest.raises(ValueError) as caught:
        list(training_triples(Reader(split([*ROWS, ("only", "two")])))[1])
    expected = f"{tmp_path}/triples.tsv:4: 2 columns, expected 3 (query<TAB>positive<TAB>negative): 'only\\ttwo'"
    assert str(caught.value) == expected
    reader = Reader(split([*ROWS, ("only", "two")]), tolerance=Tolerance(on_bad="skip"))
    assert len(list(training_triples(reader)[1])) == 3


def test_there_are_no_judgments_and_the_message_says_what_to_name(split, tmp_path):
    with pytest.raises(ValueError) as caught:
        _ = Reader(split()).qrels
    assert str(caught.value) == (
        f"{tmp_path}/triples.tsv has no judgments (qrels). Name splits that have some: data.valid, data.test."
    )


def test_a_split_without_queries_is_refused(tmp_path):
    for name in ("corpus.tsv", "qrels.txt"):
        (tmp_path / name).write_text("a\tone\n")
    with pytest.raises(ValueError) as caught:
        FolderSplit(str(tmp_path), "corpus.tsv", None, "qrels.txt").open()
    assert str(caught.value) == f"a split of data.root={tmp_path} has no queries. Name the file, or triples_text."
