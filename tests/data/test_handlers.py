"""Passages on disk answer as those in memory do; records come with the numbers of their lines."""

from rankdistil.data.handlers import FileDocPairs, FileQrels, FileScoredDocs
from rankdistil.data.readers import Reader


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
    monkeypatch.setattr("rankdistil.data.store.texts.CHUNK", 2)
    assert list(Reader(collection(), store=tmp_path / "store").find("abcde")) == ["a", "b", "c", "d", "e"]


def test_records_come_with_the_numbers_of_their_lines(tmp_path):
    path = tmp_path / "some.txt"
    path.write_text("1\ta\tb\n\n2\tb\tc\n")
    assert [(line, tuple(row)) for line, row in FileDocPairs(path).numbered()] == [(1, ("1", "a", "b")), (3, ("2", "b", "c"))]
    path.write_text("\n1 0 a 2\n")
    assert [(line, tuple(row)) for line, row in FileQrels(path).numbered()] == [(2, ("1", "a", 2))]
    path.write_text("1 Q0 a 1 2.5 tag\n")
    assert [(line, tuple(row)) for line, row in FileScoredDocs(path).numbered()] == [(1, ("1", "a", 2.5))]
