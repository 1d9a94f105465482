"""Triples on disk: an epoch reads them all and keeps none of them."""

from pathlib import Path

import numpy as np

from rankdistil.data.collection import open_collection
from rankdistil.data.encode import PairEncoder
from rankdistil.data.groups import BLOCK, ListedGroups
from rankdistil.data.holdout import Holdout
from rankdistil.data.readers import Reader
from rankdistil.data.store import triples
from rankdistil.data.store.triples import open_triples


def test_an_epoch_leaves_nothing_of_the_file_in_memory(tmp_path):
    path, count = tmp_path / "rows.bin", 20 * BLOCK + 5
    np.arange(3 * count, dtype=np.int32).tofile(path)
    groups = ListedGroups(np.memmap(path, np.int32, "r", shape=(count, 3)))
    rows = np.concatenate(list(groups.epoch(0, 0)))
    assert np.array_equal(rows[rows[:, 0].argsort()], np.arange(3 * count).reshape(count, 3))
    lines = Path("/proc/self/smaps").read_text().splitlines()
    (start,) = (number for number, line in enumerate(lines) if line.endswith(str(path)))
    assert next(line.split()[1] for line in lines[start:] if line.startswith("Rss:")) == "0"


def test_runs_that_hold_out_other_queries_never_read_each_others_triples(collection, tokenizer, tmp_path, monkeypatch):
    queries = "".join(f"{number}\tquestion {number}\n" for number in range(10))
    split = collection(queries=queries, triples="".join(f"{number}\ta\tb\n" for number in range(10)))
    store, encoder = tmp_path / "store", PairEncoder(tokenizer, 8, 16)

    def opened(held_out: int) -> set[str]:
        reader = Reader(split, Holdout(held_out, inside=False), store=store)
        texts = open_collection(reader, encoder, store)
        found = set(texts.queries.names(open_triples(store, reader, texts)[:, 0]))
        assert found == set(reader.queries)
        return found

    ensure = triples.ensure

    def overtaken(*arguments: object) -> object:
        """Let another run start as soon as this one has found its store."""
        found = ensure(*arguments)
        monkeypatch.setattr(triples, "ensure", ensure)
        opened(5)
        return found

    monkeypatch.setattr(triples, "ensure", overtaken)
    assert len(opened(2)) == 8
    built = {path: path.stat().st_mtime_ns for path in store.glob("*-triples/rows.bin")}
    assert [len(opened(held_out)) for held_out in (5, 2)] == [5, 8]
    assert {path: path.stat().st_mtime_ns for path in store.glob("*-triples/rows.bin")} == built  # nothing was built in turn
