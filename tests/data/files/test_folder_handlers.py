"""Passages on disk answer as those in memory do; records come with the numbers of their lines."""

from pathlib import Path

import pytest

from rankdistil.data.collections.reader import Reader
from rankdistil.data.files.folder import FileDocPairs, FileQrels, FileScoredDocs


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
