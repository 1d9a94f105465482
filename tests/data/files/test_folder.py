"""A folder of plain files answers as an ir_datasets dataset does; triples of texts are a collection of their own."""

import re
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from rankdistil.data.batches.training_groups import open_source
from rankdistil.data.collections.reader import Reader
from rankdistil.data.collections.texts import open_collection, training_triples
from rankdistil.data.encode import PairEncoder
from rankdistil.data.files.bad_lines import Tolerance
from rankdistil.data.files.folder import FileDocPairs, FileQrels, FileScoredDocs, FolderSplit, text_id


def test_documents_come_in_file_order_and_are_counted(collection):
    dataset = collection().open()
    assert [doc.doc_id for doc in dataset.docs_iter()] == ["a", "b", "c", "d", "e"]
    assert next(dataset.docs_iter()).default_text() == "Apples grow on trees."
    assert len(list(dataset.docs_iter())) == 5


def test_docs_store_finds_documents_by_id(collection):
    store = collection().open().docs_store()
    assert store.get("d").default_text() == "Dogs descend from wolves."
    assert list(store.get_many(["e", "nowhere", "a"])) == ["e", "a"]


def test_docs_store_knows_no_other_id(collection):
    store = collection().open().docs_store()
    with pytest.raises(KeyError):
        store.get("nowhere")


def test_queries_qrels_docpairs_and_scoreddocs_are_records_of_ir_datasets(collection):
    dataset = collection().open()
    assert next(dataset.queries_iter())._asdict() == {"query_id": "1", "text": "where do apples grow"}
    assert next(dataset.qrels_iter())._asdict() == {"query_id": "1", "doc_id": "a", "relevance": 2}
    assert next(dataset.docpairs_iter())._asdict() == {"query_id": "1", "doc_id_a": "a", "doc_id_b": "e"}
    assert next(dataset.scoreddocs_iter())._asdict() == {"query_id": "1", "doc_id": "d", "score": 1.5}
    lengths = [len(list(rows())) for rows in (dataset.queries_iter, dataset.qrels_iter, dataset.docpairs_iter)]
    assert lengths == [3, 4, 4]


def test_dataset_tells_what_it_has(collection):
    split = collection()
    always, optional = ("docs", "queries", "qrels"), ("docpairs", "scoreddocs")
    full, bare = split.open(), replace(split, triples=None, candidates=None).open()
    assert all(full.has(kind) for kind in (*always, *optional))
    assert all(bare.has(kind) for kind in always)
    assert not any(bare.has(kind) for kind in optional)


def test_ir_datasets_own_lookups_work(collection):
    dataset = collection().open()
    assert dataset.qrels.asdict() == {"1": {"a": 2, "d": 0}, "2": {"b": 1}, "3": {"c": 1}}
    assert dataset.docs.lookup("b").text == "Bees make honey from nectar."
    assert dataset.queries.lookup("2").text == "what do bees make"


def test_beir_corpus_and_queries_are_read_by_their_ending(collection, tmp_path):
    split = replace(collection(), corpus="corpus.jsonl", queries="queries.jsonl")
    (tmp_path / "corpus.jsonl").write_text('{"_id": "a", "title": "Apples", "text": "grow."}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "1", "text": "what grows"}\n')
    dataset = split.open()
    assert next(dataset.docs_iter()).text == "Apples grow."
    assert next(dataset.queries_iter()).text == "what grows"


def test_home_directory_may_be_written_as_a_tilde(collection, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(list(replace(collection(), root="~").open().docs_iter())) == 5


def test_missing_folder_names_the_key():
    with pytest.raises(FileNotFoundError) as caught:
        FolderSplit("/no/where", "corpus.tsv", "queries.tsv", "qrels.txt").open()
    message = "data.root=/no/where is no folder. Set data.root to the folder that holds corpus.tsv."
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["corpus.tsv", "queries.tsv", "qrels.txt", "triples.tsv", "run.txt"])
def test_missing_file_is_named_when_the_split_is_opened(collection, tmp_path, name):
    split = collection()
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        split.open()
    assert str(caught.value) == f"{tmp_path}/{name} is not there. Set its name under data.*, or put the file in place."


def test_a_judgment_may_stand_twice(collection):
    assert collection(qrels="1 0 a 2\n1 0 d 0\n1 0 a 2.0\n").open().qrels.asdict() == {"1": {"a": 2, "d": 0}}


@pytest.mark.fault("F5")
def test_another_grade_of_a_passage_is_refused(collection, tmp_path):
    dataset = collection(qrels="1 0 a 2\n1 0 d 0\n1 0 a 1\n").open()
    message = f"{tmp_path}/qrels.txt:3: query 1 judges passage a again, as 1; line 1 says 2. Keep one."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        list(dataset.qrels_iter())


@pytest.mark.fault("B8")
def test_grade_and_score_must_be_numbers(collection):
    dataset = collection(qrels="1 0 a good\n", run="1 Q0 a 1 2.0 tag\n1 Q0 b 2 best tag\n").open()
    with pytest.raises(ValueError, match=r"qrels.txt:1: grade is 'good', expected a whole number.$"):
        list(dataset.qrels_iter())
    with pytest.raises(ValueError, match=r"run.txt:2: score is 'best', expected a finite number.$"):
        list(dataset.scoreddocs_iter())


def test_score_that_nothing_can_be_ranked_by_is_refused(collection):
    dataset = collection(run="1 Q0 a 1 nan tag\n").open()
    with pytest.raises(ValueError, match=r"run.txt:1: score is 'nan'"):
        list(dataset.scoreddocs_iter())


def test_triples_need_tabs_and_three_columns(collection):
    dataset = collection(triples="1\ta\te\n1 a b\n").open()
    with pytest.raises(ValueError, match=r"triples.tsv:2: 1 columns, expected 3 \(query_id<TAB>positive_id<TAB>neg"):
        list(dataset.docpairs_iter())


@pytest.mark.fault("B13")
def test_edited_file_is_read_anew_by_the_next_dataset(collection):
    split = collection()
    assert len(list(split.open().docs_iter())) == 5
    collection(corpus="a\tOne passage only.\n")
    assert [doc.text for doc in split.open().docs_iter()] == ["One passage only."]


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


def test_stored_passages_come_in_file_order_and_by_id(collection, tmp_path):
    split = collection()
    stored, kept = Reader(split, store=tmp_path / "store"), Reader(split)
    assert list(stored.passages()) == list(kept.passages())
    assert stored.find(["e", "nowhere", "a"]) == kept.find(["e", "nowhere", "a"])


def test_stored_passages_are_no_reason_to_keep_them_in_memory_too(collection, tmp_path):
    stored = Reader(collection(), store=tmp_path / "store")
    assert (stored.find(["a"]), len(list(stored.passages()))) == ({"a": "Apples grow on trees."}, 5)
    assert "_docs" not in vars(stored.dataset.docs_handler())


def test_more_passages_than_are_written_together_are_all_found(collection, tmp_path, monkeypatch):
    monkeypatch.setattr("rankdistil.data.stores.contents.CHUNK", 2)
    assert list(Reader(collection(), store=tmp_path / "store").find("abcde")) == ["a", "b", "c", "d", "e"]


def test_records_come_with_the_numbers_of_their_lines(tmp_path):
    path = tmp_path / "some.txt"
    path.write_text("1\ta\tb\n\n2\tb\tc\n")
    assert [(line, tuple(row)) for line, row in FileDocPairs(path).numbered()] == [(1, ("1", "a", "b")), (3, ("2", "b", "c"))]
    path.write_text("\n1 0 a 2\n")
    assert [(line, tuple(row)) for line, row in FileQrels(path).numbered()] == [(2, ("1", "a", 2))]
    path.write_text("1 Q0 a 1 2.5 tag\n")
    assert [(line, tuple(row)) for line, row in FileScoredDocs(path).numbered()] == [(1, ("1", "a", 2.5))]


@pytest.mark.parametrize("grade", ["1001", "20260101", "4294967297", "4611686018427387904", "99999999999999999999"])
def test_a_number_that_is_no_grade_is_refused_where_it_is_read(tmp_path: Path, grade: str) -> None:
    file = tmp_path / "qrels.txt"
    file.write_text(f"q1 0 d1 1000\nq1 0 d2 {grade}\n")
    with pytest.raises(ValueError) as caught:
        list(FileQrels(file).qrels_iter())
    assert str(caught.value) == f"{file}:2: grade is {grade}, expected at most 1000."
