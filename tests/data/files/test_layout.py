"""Where fields stand, what may be an id, and how files that nobody names are called."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from support import composed

from rankdistil.config.schema import plain
from rankdistil.data.collections.reader import Reader
from rankdistil.data.files.layout import FIELDS, checked, file_name, id_fault, id_of, is_id, places, validation_files
from rankdistil.stages import data as run_data

PATH, TEXTS, TREC = Path("c.tsv"), ("id", "text", "title"), ("query_id", "0", "passage_id", "grade")


def test_what_is_not_set_is_left_out() -> None:
    said = {"corpus": {"id": "docno", "text": 3, "title": None}, "queries": {"id": None}, "qrels": {}}
    assert checked(said) == {"corpus": {"id": "docno", "text": 3}}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            {"corpuss": {"id": 1}},
            "data.columns.corpuss is no kind of file; expected one of corpus, queries, qrels, triples, tri",
        ),
        (5, "data.columns is 5; expected columns by kind of file: {corpus: {id: docno, text: 3}}."),
        ({"corpus": "docno"}, "data.columns.corpus is 'docno'; expected columns by field, as in {id: docno, text: 3}."),
        ({"corpus": {"docid": 1}}, "data.columns.corpus.docid is no field; expected one of id, text, title."),
        ({"qrels": {"0": 1}}, "data.columns.qrels.0 is no field; expected one of query_id, passage_id, grade."),
        *(
            ({"corpus": {"id": column}}, f"data.columns.corpus.id is {column!r}; expected a column's number, from 1, or name.")
            for column in (0, -1, True, 1.5, "", ["id"])
        ),
    ],
)
def test_a_kind_a_field_or_a_column_that_there_is_not_is_refused_by_name(said, message) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        checked(said)


def test_the_settings_have_every_kind_and_field() -> None:
    columns = plain(composed("+experiment=smoke", "data=files", "data.root=x").data.columns)
    assert {kind: tuple(fields) for kind, fields in columns.items()} == FIELDS
    assert checked(columns) == {}


def test_columns_are_typed_as_the_readme_says_and_one_by_one() -> None:
    for words in (
        ["data.columns={corpus: {id: docno, text: 3}}"],
        ["data.columns.corpus.id=docno", "data.columns.corpus.text=3"],
    ):
        found = checked(plain(composed("+experiment=smoke", "data=files", "data.root=x", *words).data.columns))
        assert found == {"corpus": {"id": "docno", "text": 3}}


@pytest.mark.parametrize(
    ("names", "line", "expected"),
    [
        (TEXTS, "id text", [0, 1, None]),
        (TEXTS, "_id title text", [0, 2, 1]),
        (TEXTS, "text url docno", [2, 0, None]),
        (TEXTS, "qid query", [0, 1, None]),
        (TREC, "query-id corpus-id score", [0, None, 1, 2]),
        (TREC, "query_id 0 passage_id grade", [0, None, 2, 3]),
        (("query", "positive", "negative"), "query positive negative", [0, 1, 2]),
        (("score", "query_id", "passage_id"), "passage_id query_id score", [2, 1, 0]),
    ],
)
def test_a_first_line_of_known_names_says_where_fields_stand(names, line, expected) -> None:
    assert places(PATH, names, None, line.split()) == (expected, True)


@pytest.mark.parametrize(
    ("names", "line"),
    [(TEXTS, ["d1", "text"]), (TEXTS, ["D1", "id"]), (TREC, ["q1", "0", "d1", "1"]), (TEXTS, []), (TEXTS, ["id2", "text"])],
)
def test_any_other_first_line_is_a_record(names, line) -> None:
    assert places(PATH, names, None, line) == (None, False)


def test_names_that_leave_something_open_are_no_record_either() -> None:
    message = (
        "c.tsv:1: 'docno' is the name of a column, no id. Remove the line, or say in data.columns which of its names are those "
        "of id and text: 'docno', 'abstract'."
    )
    for columns in (None, {"id": 1, "text": 2}):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            places(PATH, TEXTS, columns, ["docno", "abstract"])


def test_what_is_said_by_name_goes_before_known_names_and_these_before_the_expected_order() -> None:
    assert places(PATH, TEXTS, {"id": "no"}, ["title", "text", "no"]) == ([2, 1, None], True)
    assert places(PATH, TEXTS, {"id": "no"}, ["no", "words"]) == ([0, 1, None], True)
    assert places(PATH, TEXTS, {"id": 1, "title": 2, "text": 3}, ["d1", "Bees", "live"]) == ([0, 2, 1], False)


def test_no_column_is_read_as_two_fields_unless_that_is_said() -> None:
    with pytest.raises(ValueError, match=r"^c.tsv:1: column 2 is another field's. Say in data.columns where text stands.$"):
        places(PATH, TEXTS, {"id": "no"}, ["words", "no"])
    assert places(PATH, TEXTS, {"id": 1, "text": 1}, ["d1"]) == ([0, 0, None], False)


QUERIES = "".join(
    f'{{"_id": "{key}", "text": "question {key}", "metadata": {{}}}}\n' for key in ("t1", "t2", "v1", "e1", "none")
)
HEADER = "query-id\tcorpus-id\tscore\n"
FILES = {
    "corpus.jsonl": '{"_id": "a", "title": "Bees", "text": "live."}\n{"_id": "b", "title": "", "text": "Cats sleep."}\n',
    "queries.jsonl": QUERIES,
    "qrels/train.tsv": f"{HEADER}t1\ta\t1\nt2\tb\t2\n",
    "qrels/dev.tsv": f"{HEADER}v1\ta\t1\n",
    "qrels/test.tsv": f"{HEADER}e1\tb\t1\n",
}


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    (tmp_path / "qrels").mkdir()
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def opened(beir: Path) -> Callable[..., Reader]:
    def opened(split: str, *words: str) -> Reader:
        cfg = composed("+experiment=smoke", "data=files", f"data.root={beir}", "data.holdout=1", *words)
        return run_data.open_reader(cfg.data, split)

    return opened


def test_a_beir_folder_is_read_as_it_is(opened, beir) -> None:
    readers = {split: opened(split) for split in ("train", "valid", "test")}
    assert {split: reader.qrels for split, reader in readers.items()} == {
        "train": {"t1": {"a": 1}, "t2": {"b": 2}}, "valid": {"v1": {"a": 1}}, "test": {"e1": {"b": 1}},
    }  # fmt: skip
    assert dict(readers["test"].passages()) == {"a": "Bees live.", "b": "Cats sleep."}
    assert [reader.label for reader in readers.values()] == [
        f"{beir.name}/qrels/{name}.tsv" for name in ("train", "dev", "test")
    ]


def test_queries_of_a_shared_file_are_those_of_the_split_that_its_judgments_name(opened) -> None:
    assert [list(opened(split).queries) for split in ("train", "valid", "test")] == [["t1", "t2"], ["v1"], ["e1"]]
    assert len(opened("train").all_queries) == 5


def test_without_validation_files_or_where_none_are_wanted_training_queries_are_held_out(opened, beir) -> None:
    assert list(opened("valid", "data.valid=null").queries) in (["t1"], ["t2"])
    (beir / "qrels/dev.tsv").unlink()
    assert sorted([*opened("train").queries, *opened("valid").queries]) == ["t1", "t2"]


def test_names_that_are_given_win(opened) -> None:
    reader = opened("test", "data.test.qrels=qrels/dev.tsv", "data.corpus=other.jsonl")
    assert (reader.source.corpus, reader.source.qrels) == ("other.jsonl", "qrels/dev.tsv")


def test_packed_files_of_a_beir_folder_are_found(beir) -> None:
    (beir / "corpus.jsonl").rename(beir / "corpus.jsonl.gz")
    assert file_name(str(beir), "corpus") == "corpus.jsonl.gz"
    assert file_name(str(beir), "qrels", "nowhere") == "qrels/nowhere.tsv"


def test_any_other_folder_has_this_project_s_names(tmp_path) -> None:
    for root in (None, "/no/such", str(tmp_path)):
        assert [file_name(root, kind, "train") for kind in ("corpus", "queries", "qrels")] == [
            "corpus.tsv", "queries.train.tsv", "qrels.train.txt",
        ]  # fmt: skip
        assert validation_files(root) is None
    (tmp_path / "corpus.tsv").touch()
    (tmp_path / "qrels").mkdir()
    assert file_name(str(tmp_path), "corpus") == "corpus.tsv"


ODD = " \t\n\r\x00\x0b\x0c\x1c\x7f\x85\xa0\u1680\u2003\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
RULE = "in it: an id has neither white space nor control characters."


@pytest.mark.parametrize("letter", ODD, ids=ascii)
def test_nothing_invisible_can_stand_in_an_id(letter: str) -> None:
    assert not any(is_id(text) for text in (f"{letter}d1", f"d{letter}1", f"d1{letter}", letter))


LETTERS = ["d1", "-7", "<dbpedia:Zürich_(city)>", "東京", "\u0645\u06cc\u200c\u062e\u0648", "a\u0301", "_", "\U0001f41d", '"q"']


@pytest.mark.parametrize("text", LETTERS, ids=ascii)
def test_letters_of_any_script_can(text: str) -> None:
    assert is_id(text)
    assert text.split() == [text]


def test_whatever_a_run_file_is_cut_at_is_no_id() -> None:
    spaces = [chr(code) for code in range(0x110000) if chr(code).isspace()]
    assert not any(is_id(f"d{letter}1") for letter in spaces)


def test_the_letter_is_named_as_it_cannot_be_seen() -> None:
    assert id_fault("d\xa01", "passage_id") == f"passage_id is 'd\\xa01', with U+00A0 (no-break space) {RULE}"
    assert id_fault("d\x851", "id") == f"id is 'd\\x851', with U+0085 (control character) {RULE}"
    assert id_fault("", "id") == id_fault(" \u3000", "id") == "empty id"


def test_a_value_of_json_is_held_to_the_same() -> None:
    assert (id_of("d1", "_id"), id_of(7, "_id")) == ("d1", "7")
    message = re.escape(f"_id is 'd\\n1', with U+000A (control character) {RULE}")
    with pytest.raises(ValueError, match=f"^{message}$"):
        id_of("d\n1", "_id")
