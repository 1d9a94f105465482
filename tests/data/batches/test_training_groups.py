"""Training groups: which a split is trained on; triples on disk, of which an epoch reads all and keeps none."""

import os
import pickle
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import FORKS
from torch.utils.data import DataLoader, IterableDataset

from rankdistil.data.batches import training_groups
from rankdistil.data.batches.groups import BLOCK, ListedGroups
from rankdistil.data.batches.stream import GroupStream, Size
from rankdistil.data.batches.training_groups import open_source, open_triples
from rankdistil.data.collections.reader import Reader
from rankdistil.data.collections.splits import Holdout
from rankdistil.data.collections.texts import Collection, LiveTexts, open_collection
from rankdistil.data.encode import PairEncoder
from rankdistil.data.records import PairBatch
from rankdistil.data.stores.ragged import StoredRows


@pytest.fixture
def stream(collection, tokenizer, tmp_path) -> GroupStream:
    """A stream over stored triples and tokens."""
    numbers = range(1, 41)
    reader = Reader(
        collection(
            corpus="".join(f"p{n}\t{'word ' * n}\n" for n in numbers),
            queries="".join(f"q{n}\tquestion\n" for n in numbers),
            triples="".join(f"q{n}\tp{n}\tp{n % 40 + 1}\n" for n in numbers),
        )
    )
    encoder = PairEncoder(tokenizer, 61)
    collected = open_collection(reader, encoder, tmp_path / "store")
    return GroupStream(ListedGroups(*open_triples(tmp_path / "store", reader, collected)), *collected, encoder, Size(4), seed=5)


class First(IterableDataset):
    """The first batches of a stream, as many in each loader process: one that ends while it sends a batch may abort."""

    def __init__(self, stream: GroupStream, count: int) -> None:
        self._stream, self._count = stream, count

    def __iter__(self) -> Iterator[PairBatch]:
        return islice(self._stream, self._count)


def same(some: Iterable[PairBatch], others: Iterable[PairBatch]) -> bool:
    pairs = zip(some, others, strict=True)
    return all(a[5:7] == b[5:7] and all(map(torch.equal, a[:5], b[:5])) for a, b in pairs)


def test_an_epoch_reads_every_triple_and_maps_none(tmp_path):
    count = 20 * BLOCK + 5
    numbers = np.arange(3 * count, dtype=np.int32)
    numbers.tofile(tmp_path / "rows.bin")
    groups = ListedGroups(StoredRows(tmp_path / "rows.bin", 3))
    rows = np.concatenate(list(groups.epoch(0, 0)))
    assert np.array_equal(rows[rows[:, 0].argsort()], numbers.reshape(count, 3))
    assert not np.array_equal(rows, numbers.reshape(count, 3))
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    assert len(pickle.dumps(groups)) < 1000, "a loader process gets their path"


@pytest.mark.fault("D6")
def test_every_way_to_start_a_loader_process_gives_the_same_batches(stream):
    """Processes that are forked share the files, all others are sent the stream, and open them again by their paths."""
    expected = list(islice(stream, 24))  # two epochs and more
    for context in ("fork", FORKS):
        first = First(stream, 12)
        loader = DataLoader(first, batch_size=None, num_workers=2, multiprocessing_context=context, collate_fn=as_it_is)
        assert same(loader, expected), context
    assert same(islice(pickle.loads(pickle.dumps(stream)), 24), expected)


def as_it_is(batch: PairBatch) -> PairBatch:
    """Keep a batch as it is."""
    return batch


def test_triples_that_were_cut_off_after_they_were_opened_are_named(stream, tmp_path):
    (rows,) = (tmp_path / "store").glob("*-triples/rows.bin")
    rows.write_bytes(rows.read_bytes()[:-4])
    with pytest.raises(ValueError) as caught:
        next(iter(stream))
    assert str(caught.value) == f"{rows} was cut off while it was read. Remove the folder {rows.parent} to build it anew."


def test_runs_that_hold_out_other_queries_never_read_each_others_triples(collection, tokenizer, tmp_path, monkeypatch):
    queries = "".join(f"{number}\tquestion {number}\n" for number in range(10))
    triples_of, judged = (("".join(line.format(number) for number in range(10))) for line in ("{}\ta\tb\n", "{} 0 a 1\n"))
    split = collection(queries=queries, triples=triples_of, qrels=judged)
    store, encoder = tmp_path / "store", PairEncoder(tokenizer, 27)

    def opened(held_out: int) -> set[str]:
        reader = Reader(split, Holdout(held_out, inside=False), store=store)
        texts = open_collection(reader, encoder, store)
        found = set(texts.queries.names(open_triples(store, reader, texts)[0][:][:, 0]))
        assert found == set(reader.queries)
        return found

    ensure = training_groups.ensure

    def overtaken(*arguments: object) -> object:
        """Let another run start as soon as this one has found its store."""
        found = ensure(*arguments)
        monkeypatch.setattr(training_groups, "ensure", ensure)
        opened(5)
        return found

    monkeypatch.setattr(training_groups, "ensure", overtaken)
    assert len(opened(2)) == 8
    built = {path: path.stat().st_mtime_ns for path in store.glob("*-triples/rows.bin")}
    assert [len(opened(held_out)) for held_out in (5, 2)] == [5, 8]
    assert {path: path.stat().st_mtime_ns for path in store.glob("*-triples/rows.bin")} == built  # nothing was built in turn


def test_a_loader_process_refuses_triples_that_were_built_anew(tmp_path):
    path = tmp_path / "rows.bin"
    np.zeros(6, np.int32).tofile(path)
    sent = pickle.dumps(StoredRows(path, 3))
    os.utime(path, ns=(0, 0))
    with pytest.raises(ValueError) as caught:
        pickle.loads(sent)
    assert str(caught.value) == f"{path} was built anew while a run reads it. Start the run again."


def test_triples_are_read_again_once_judgments_move_a_query_to_the_other_side(collection, tokenizer, tmp_path):
    store, encoder = tmp_path / "store", PairEncoder(tokenizer, 27)
    for answered in "12":
        reader = Reader(collection(qrels=f"{answered} 0 a 1\n"), Holdout(1, inside=False), store=store)
        texts = open_collection(reader, encoder, store)
        found = set(texts.queries.names(open_triples(store, reader, texts)[0][:][:, 0]))
        assert found == {"1", "2", "3"} - {answered}


def test_passages_get_their_rows_in_the_order_of_the_judgments_in_every_process() -> None:
    """Shards of scores are cut by rows: processes that numbered passages differently would leave out some and repeat others."""
    reader = Reader("rankdistil/almanac/train")
    texts = Collection(*(LiveTexts(lambda ids: dict.fromkeys(ids, ""), None) for _ in range(2)))
    open_source(reader, texts, "sampled", 1, 10, 0, 1)
    judged = list(dict.fromkeys(passage for row in reader.qrels.values() for passage in row))
    assert list(texts.passages.names(texts.passages.rows(judged))) == judged
    assert texts.passages.rows(judged).tolist() == list(range(len(judged)))
