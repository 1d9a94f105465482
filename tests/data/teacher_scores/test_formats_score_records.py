"""Scores in the layouts of sentence-transformers and FlagEmbedding."""

import json
from pathlib import Path
from typing import Any

import pytest

from rankdistil.data.teacher_scores.formats import Ids, TextIds, read_scores

QUERIES = "1\twhere do apples grow\n2\twhat do bees make\n"
CORPUS = "a\tApples grow on trees.\nb\tBees make honey.\nc\tCats sleep.\n"
MINED = {"qid": 7, "pos": [{"pid": 1, "ce-score": 9.5}], "neg": {"bm25": [{"pid": 2, "ce-score": -4}], "tas": []}}
TEXTS = {"query": "what do bees make", "positive": "Bees make honey.", "negative": "Cats sleep."}
FLAG = {"query": "what do bees make", "pos": ["Bees make honey."], "neg": ["Cats sleep.", "Apples grow on trees."]}
FLAG_SCORES = {"pos_scores": [9], "neg_scores": [0.5, -1.5]}


def read(folder: Path, *rows: dict[str, Any], name: str = "sentence_transformers") -> list[tuple[int, str, str, float]]:
    """Write rows as JSON lines, and texts; read the rows' scores."""
    for file, content in (("queries.tsv", QUERIES), ("corpus.tsv", CORPUS)):
        (folder / file).write_text(content)
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    ids = Ids(TextIds(folder / "queries.tsv", "queries"), TextIds(folder / "corpus.tsv", "corpus"))
    return list(read_scores(name, path, ids))


def complaint(folder: Path, row: dict[str, Any], name: str = "sentence_transformers") -> str:
    """What is said of a bad row behind a good one."""
    good = FLAG | FLAG_SCORES if name == "flag_embedding" else {"query_id": "1", "passage_id": "a", "score": 1.0}
    with pytest.raises(ValueError) as caught:
        read(folder, good, row, name=name)
    assert str(caught.value).startswith(f"{folder}/rows.jsonl:2: ")
    return str(caught.value).removeprefix(f"{folder}/rows.jsonl:2: ")


def test_mined_negatives_of_every_system_carry_their_scores(tmp_path):
    more = MINED | {"neg": {"bm25": [{"pid": 2, "ce-score": -4}], "tas": [{"pid": "3", "ce-score": 0.5}]}}
    assert read(tmp_path, MINED, more) == [
        (1, "7", "1", 9.5), (1, "7", "2", -4), (2, "7", "1", 9.5), (2, "7", "2", -4), (2, "7", "3", 0.5)
    ]  # fmt: skip


def test_mined_negatives_without_scores_say_which_file_has_them(tmp_path):
    assert complaint(tmp_path, {"qid": 7, "pos": [5238393], "neg": {"bm25": [1, 2]}}) == (
        "5238393 has no pid and ce-score. Of msmarco-hard-negatives.jsonl.gz, the file at sbert.net/datasets has scores; the "
        "one on the Hugging Face hub has ids only."
    )


RULE = "in it: an id has neither white space nor control characters."


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"neg": [1]}, "neg is [1], expected lists by system."),
        ({"neg": {"bm25": 1}}, "bm25 is 1, expected a list."),
        ({"pos": None}, "pos is null, expected a list."),
        ({"qid": 7.0}, "qid is 7.0, expected an id: a text or a whole number."),
        ({"qid": "7\0"}, f"qid is '7\\x00', with U+0000 (control character) {RULE}"),
        ({"pos": [{"pid": " ", "ce-score": 1}]}, 'pid is " ", expected an id: a text or a whole number.'),
        ({"pos": [{"pid": 1, "ce-score": "1"}]}, 'ce-score is "1", expected a number.'),
        ({"pos": [{"pid": 1, "ce-score": True}]}, "ce-score is true, expected a number."),
        (
            {"pos": [{"pid": 1, "ce-score": float("nan")}]},
            "the score of query 7 and passage 1 is nan, expected a finite float32.",
        ),
    ],
)
def test_a_bad_mined_row_is_located(tmp_path, changed, message):
    assert complaint(tmp_path, MINED | changed) == message


def test_rows_of_one_passage_hold_its_score(tmp_path):
    rows = {"query_id": "1", "passage_id": "a", "score": 2.5}, {"query": "what do bees make", "positive_id": 3, "score": -1}
    assert read(tmp_path, *rows) == [(1, "1", "a", 2.5), (2, "2", "3", -1)]


@pytest.mark.parametrize("key", ["score", "scores", "label"])
def test_a_list_holds_the_positive_first(tmp_path, key):
    ids = {"negative_id": "c", "positive_id": "b", "query_id": "2"}  # in any order of columns
    assert read(tmp_path, TEXTS | {key: [7.5, -2]}, ids | {key: [7.5, -2]}) == [
        (1, "2", "b", 7.5), (1, "2", "c", -2), (2, "2", "b", 7.5), (2, "2", "c", -2)
    ]  # fmt: skip


def test_numbered_negatives_come_in_the_order_of_their_numbers(tmp_path):
    row = {"query_id": "1", "positive_id": "p"} | {f"negative_{n}": "Cats sleep." for n in (10, 2)} | {"negative_1_id": "x"}
    found = read(tmp_path, row | {"scores": [4, 3, 2, 1]})
    assert found == [(1, "1", "p", 4), (1, "1", "x", 3), (1, "1", "c", 2), (1, "1", "c", 1)]


@pytest.mark.parametrize("value", [4.028059, [4.028059]])
def test_a_margin_is_refused_with_what_works(tmp_path, value):
    row = {"query_id": "400296", "positive_id": "1540783", "negative_id": "3518497", "score": value}
    assert complaint(tmp_path, row) == (
        "score has one number for positive and negative: the margin between them, not the teacher's score of each, which can't "
        "be told from it. What works: a list [positive, negative] in score; rows of query_id, passage_id, score; "
        "format=triples."
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (TEXTS | {"score": [1, 2, 3]}, "3 values in score, expected 2: the positive's, then each negative's."),
        (TEXTS | {"score": [1, "2"]}, 'score is "2", expected a number.'),
        (TEXTS | {"positive": 5, "score": [1, 2]}, "positive is 5, expected a text (or positive_id, an id)."),
        (
            {"query_id": "1", "passage_id": "a", "label": 1},
            "label is a judgment of one passage, no teacher's score. Import a file with score.",
        ),
        ({"passage_id": "a", "score": 1}, "query is null, expected a text (or query_id, an id)."),
    ],
)
def test_a_bad_row_is_located(tmp_path, row, message):
    assert complaint(tmp_path, row) == message


@pytest.mark.parametrize(
    "row",
    [
        {"query_id": "1", "doc_ids": ["a"], "labels": [1]},
        {"query_id": "1", "negative_id": "a", "score": 1},
        {"query_id": "1", "passage_id": "a", "negative_id": "b", "score": [1, 2]},
        {"query_id": "1", "positive_id": "a"},
        {"query_id": "1", "positive_id": "a", "score": 1, "label": 2},
    ],
)
def test_other_columns_are_listed_with_those_that_are_read(tmp_path, row):
    assert complaint(tmp_path, row) == (
        f"the columns are {', '.join(row)}; expected query_id (or query), positive_id (or positive), negative_id (or negative, "
        "negative_1, ...) and a list score; query_id, passage_id and one score; or qid, pos and neg with ce-score."
    )


def test_an_unknown_text_is_located(tmp_path):
    message = complaint(tmp_path, TEXTS | {"negative": "Dogs bark.", "score": [1, 2]})
    assert message == f"no text of corpus={tmp_path}/corpus.tsv is 'Dogs bark.'. Do the files belong together?"


def test_flag_embedding_rows_give_every_text_its_score(tmp_path):
    found = read(tmp_path, FLAG | FLAG_SCORES, name="flag_embedding")
    assert found == [(1, "2", "b", 9), (1, "2", "c", 0.5), (1, "2", "a", -1.5)]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pos_scores": None}, "no pos_scores. FlagEmbedding's add_reranker_score.py adds a teacher's scores."),
        ({"neg_scores": [1.0]}, "1 neg_scores, expected 2, one for each of neg."),
        ({"neg_scores": [1.0, None]}, "neg_scores is null, expected a number."),
        ({"neg": None}, "neg is null, expected a list."),
        ({"pos": [3]}, "pos is 3, expected a text (or pos_id, an id)."),
        ({"query": 2}, "query is 2, expected a text (or query_id, an id)."),
    ],
)
def test_a_bad_flag_embedding_row_is_located(tmp_path, changed, message):
    assert complaint(tmp_path, FLAG | FLAG_SCORES | changed, "flag_embedding") == message


def test_a_bad_line_of_the_texts_is_located_in_their_file(tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps(FLAG | FLAG_SCORES))
    (tmp_path / "queries.tsv").write_text("1\n")
    ids = Ids(TextIds(tmp_path / "queries.tsv", "queries"), TextIds(None, "corpus"))
    with pytest.raises(ValueError) as caught:
        list(read_scores("flag_embedding", tmp_path / "rows.jsonl", ids))
    assert str(caught.value).startswith(f"{tmp_path}/queries.tsv:1: ")
