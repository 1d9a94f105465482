"""A folder of plain files answers as an ir_datasets dataset does."""

import re
from dataclasses import replace

import pytest

from rankdistil.data.files.folder import FolderSplit


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


def test_another_grade_of_a_passage_is_refused(collection, tmp_path):
    dataset = collection(qrels="1 0 a 2\n1 0 d 0\n1 0 a 1\n").open()
    message = f"{tmp_path}/qrels.txt:3: query 1 judges passage a again, as 1; line 1 says 2. Keep one."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        list(dataset.qrels_iter())


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


def test_edited_file_is_read_anew_by_the_next_dataset(collection):
    split = collection()
    assert len(list(split.open().docs_iter())) == 5
    collection(corpus="a\tOne passage only.\n")
    assert [doc.text for doc in split.open().docs_iter()] == ["One passage only."]
