"""Which texts count as one."""

from collections.abc import Sequence

import numpy as np
import pytest

from rankdistil.data.collections.leaks import TextMarks, mark, normal, without_twins
from rankdistil.data.encode import LiveTexts


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
