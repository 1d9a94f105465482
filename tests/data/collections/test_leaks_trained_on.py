"""What a ranker was trained on, as a test of it finds out."""

from pathlib import Path

import pytest

from rankdistil.data.collections.leaks import FILE, Leak, find_leak, write_trained_on

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
