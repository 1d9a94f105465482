"""Where fields stand: what may be said, and what a first line says."""

import re
from pathlib import Path

import pytest
from support import composed

from rankdistil.config.schema import plain
from rankdistil.data.files.layout import FIELDS, checked, places

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
