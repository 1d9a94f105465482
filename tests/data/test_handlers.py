"""Passages on disk answer as those in memory do; records come with the numbers of their lines."""

from dataclasses import replace

from rankdistil.data.handlers import FileDocPairs, FileQrels, FileScoredDocs


def test_stored_passages_come_in_file_order_and_by_id(collection, tmp_path):
    split = collection()
    stored, kept = replace(split, store=str(tmp_path / "store")).open(), split.open()
    assert list(stored.docs_iter()) == list(kept.docs_iter())
    assert stored.docs_count() == 5
    assert stored.docs_store().get_many(["e", "nowhere", "a"]) == kept.docs_store().get_many(["e", "nowhere", "a"])


def test_more_passages_than_are_read_together_come_all_in_order(collection, tmp_path, monkeypatch):
    monkeypatch.setattr("rankdistil.data.store.texts.CHUNK", 2)
    stored = replace(collection(), store=str(tmp_path / "store")).open()
    assert [doc.doc_id for doc in stored.docs_iter()] == ["a", "b", "c", "d", "e"]


def test_records_come_with_the_numbers_of_their_lines(tmp_path):
    path = tmp_path / "some.txt"
    path.write_text("1\ta\tb\n\n2\tb\tc\n")
    assert [(line, tuple(row)) for line, row in FileDocPairs(path).numbered()] == [(1, ("1", "a", "b")), (3, ("2", "b", "c"))]
    path.write_text("\n1 0 a 2\n")
    assert [(line, tuple(row)) for line, row in FileQrels(path).numbered()] == [(2, ("1", "a", 2))]
    path.write_text("1 Q0 a 1 2.5 tag\n")
    assert [(line, tuple(row)) for line, row in FileScoredDocs(path).numbered()] == [(1, ("1", "a", 2.5))]
