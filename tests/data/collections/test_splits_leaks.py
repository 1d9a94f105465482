"""Leaks: which texts count as one, what a ranker was trained on, and questions that two splits share."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from rankdistil.data.collections.splits import (
    FILE,
    Asked,
    Leak,
    TextMarks,
    find_leak,
    mark,
    normal,
    overlaps,
    shared,
    without_twins,
    write_trained_on,
)
from rankdistil.data.collections.texts import LiveTexts


@pytest.mark.parametrize(
    "text",
    [
        "How long  do BEES live?", " how long do bees live", "how long do\u00a0bees live .", "how long do bees live\uff1f",
        "how long do bee\uff53 live!",
    ],
)  # fmt: skip
def test_case_width_white_space_and_the_sign_at_the_end_make_no_other_text(text: str) -> None:
    assert normal(text) == "how long do bees live"
    assert mark(text) == mark("how long do bees live")


def test_composed_and_decomposed_letters_are_one() -> None:
    assert normal("caf\u00e9") == normal("cafe\u0301")


@pytest.mark.parametrize(("one", "other"), [("what is C++", "what is C#"), ("1.5 l", "15 l"), (".net", "net"), ("?", "!")])
def test_signs_inside_of_a_text_make_another_text(one: str, other: str) -> None:
    assert mark(one) != mark(other)


def test_a_text_of_signs_alone_stays_what_it_is() -> None:
    assert (normal("???"), normal(" \t"), normal("")) == ("???", "", "")


def test_a_mark_is_the_same_in_every_process_and_fits_a_signed_number_of_eight_bytes() -> None:
    assert mark("bees") == int.from_bytes(bytes.fromhex(DIGEST)) >> 1 < 2**63


DIGEST = "8debaa289b33d946"  # b2sum -l 64 of "bees"


CORPUS = {"a": "Bees live six weeks.", "b": "bees  live six weeks", "c": "The bridge has four arches.", "d": "", "e": " "}


@pytest.fixture
def passages() -> LiveTexts:
    return LiveTexts(lambda ids: {key: CORPUS[key] for key in ids}, None)


def test_marks_of_rows_are_those_of_their_texts_and_each_text_is_read_once(passages) -> None:
    asked: list[str] = []

    def find(ids: Sequence[str]) -> dict[str, str]:
        asked.extend(ids)
        return {key: CORPUS[key] for key in ids}

    marks, rows = TextMarks(passages, find), passages.rows("abcab")
    assert marks.of(rows).tolist() == [mark(CORPUS[key]) for key in "abcab"]
    marks.of(passages.rows("cd"))
    assert sorted(asked) == ["a", "b", "c", "d"]


def test_negatives_with_the_text_of_an_answer_are_left_out_and_counted(passages) -> None:
    marks = TextMarks(passages, lambda ids: {key: CORPUS[key] for key in ids})
    hard = {"1": ["b", "c"], "2": ["b", "c"], "3": ["e", "a"]}
    kept = without_twins(hard, {"1": ["a"], "2": ["c"], "3": ["d"]}, passages, marks)
    assert kept == ({"1": ["c"], "2": ["b"], "3": ["a"]}, 3)  # nor can an empty text be both


def test_a_triple_differs_by_the_texts_of_its_passages(passages) -> None:
    marks = TextMarks(passages, lambda ids: {key: CORPUS[key] for key in ids})
    triples = np.stack([np.zeros(3, np.int64), passages.rows("aac"), passages.rows("bcc")], axis=1)
    assert marks.differ(triples).tolist() == [False, True, False]
    assert marks.differ(triples[:0]).tolist() == []


TRAINED = {"q1": "how long do bees live", "q2": "what do bees make", "q3": ""}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    write_trained_on(folder, TRAINED, [])
    return folder


def test_queries_that_were_trained_on_are_found_by_their_text_whatever_their_id(run: Path) -> None:
    leak = find_leak(run, {"t9": "How long do bees live?", "q2": "what do  bees make", "t1": "what do cats eat"})
    assert leak == Leak(2, 3, ["q2", "t9"], 0)
    assert leak.told() == "2 of 3 test queries, for example q2, t9"


def test_an_id_that_names_another_text_is_counted_apart_and_an_empty_query_is_none(run: Path) -> None:
    assert find_leak(run, {"q1": "what do cats eat", "t3": " "}) == Leak(0, 2, [], 1)


def test_what_a_student_learnt_from_was_trained_on_counts_as_its_own(run: Path, tmp_path: Path) -> None:
    student = tmp_path / "student"
    student.mkdir()
    write_trained_on(student, {"s1": "which bridge has four arches"}, [run, tmp_path / "nowhere"])
    asked = {"a": "what do bees make", "b": "Which bridge has four arches?", "c": "another"}
    assert find_leak(student, asked).examples == ["a", "b"]


def test_a_language_model_is_trained_on_no_query(tmp_path: Path) -> None:
    write_trained_on(tmp_path, {}, [])
    assert find_leak(tmp_path, TRAINED) == Leak(0, 3, [], 0)


def test_without_the_file_nothing_is_known_and_a_damaged_one_is_named(run: Path, tmp_path: Path) -> None:
    assert find_leak(tmp_path, TRAINED) is None
    (run / FILE).write_bytes(b"no numbers")
    with pytest.raises(ValueError, match=rf"^{run / FILE} is damaged \(.*\)\. Remove it to test without knowing"):
        find_leak(run, TRAINED)


def test_queries_are_compared_by_text_whatever_their_ids_and_by_id() -> None:
    found = shared({"a": 1, "b": 2, "c": 3}, {"x": 1, "b": 2, "c": 9, "d": 4})
    assert found.by_text == {"x": "a", "b": "b"}
    assert found.by_id == ["c"]


def test_empty_queries_are_no_question() -> None:
    assert shared({"a": 0}, {"b": 0, "a": 0}).by_text == {}


def test_every_two_splits_are_compared() -> None:
    leaks, notes = overlaps([Asked("train", {"a": 1}), Asked("valid", {"b": 2}), Asked("test", {"b": 2, "a": 3, "z": 1})])
    assert leaks == [
        "1 of 3 test queries have the text of a training query, for example z (a in training).",
        "1 of 3 test queries have the text of a validation query, for example b (b in validation).",
    ]
    assert notes == ["1 of 3 test queries have the id of a training query with another text, for example a."]


def test_three_examples_are_given_at_most() -> None:
    many = {str(number): number + 1 for number in range(5)}
    (leak,), _ = overlaps([Asked("train", many), Asked("test", many)])
    assert leak.startswith("5 of 5 test queries")
    assert leak.count("in training") == 3
