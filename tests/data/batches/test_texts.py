"""Pairs as texts: the same pairs that a ranker would score, with and without a store, and nothing is tokenised."""

from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from rankdistil.data.batches import texts as batches_of_texts
from rankdistil.data.batches.datamodule import RankingDataModule
from rankdistil.data.batches.stream import CandidateStream, ShardStream
from rankdistil.data.batches.texts import TextShards
from rankdistil.data.collections.reader import Reader
from rankdistil.data.records import TextBatch
from rankdistil.data.settings import DataSettings
from tests.data.conftest import FILES

SETTINGS = {"batch_size": 2, "eval_batch_size": 2, "max_length": 20, "train_on": "auto", "negatives_depth": 3,
            "relevance_level": 1, "depth": 3, "valid_depth": 3, "valid_queries": 3}  # fmt: skip


@pytest.fixture(params=[None, "store"], ids=["in memory", "in a store"])
def data(request, collection, tmp_path: Path) -> RankingDataModule:
    store = request.param and tmp_path / request.param
    readers = [Reader(collection(), store=store) for _ in range(2)]
    return RankingDataModule(readers[0], None, readers[1], None, DataSettings(**SETTINGS, store=store and str(store)), 0)


def texts(name: str) -> dict[str, str]:
    return dict(line.split("\t") for line in FILES[name].splitlines())


def test_shards_hold_the_texts_of_the_pairs_that_are_trained_on(data: RankingDataModule) -> None:
    collection, source = data.open_training()
    pairs = source.pairs()
    stream = ShardStream({0: pairs[:3], 1: pairs[3:]}, *collection, data.encoder_of("train"), 2)
    found = [*DataLoader(stream, batch_size=None, collate_fn=lambda batch: batch)]
    assert all(isinstance(batch, TextBatch) for batch in found)
    assert [batch.groups.tolist() for batch in found] == [[0, 0], [0], [1, 1], [1, 1]]
    rows = [row for batch in found for row in zip(*batch[:2], *batch[3:], strict=True)]
    triples = [line.split("\t") for line in FILES["triples.tsv"].splitlines()]
    assert {(query, passage) for *_, query, passage in rows} == {(query, key) for query, *both in triples for key in both}
    queries, passages = texts("queries.tsv"), texts("corpus.tsv")
    assert all((asked, answer) == (queries[query], passages[passage]) for asked, answer, query, passage in rows)


def test_test_candidates_come_as_texts_longest_first(data: RankingDataModule) -> None:
    batches = [*data.test_dataloader()]
    pairs = [pair for batch in batches for pair in zip(batch.queries, batch.passages, strict=True)]
    lengths = [len(asked) + len(answer) for asked, answer in pairs]
    assert lengths == sorted(lengths, reverse=True)
    assert {key for batch in batches for key in batch.query_ids} == {"1", "2", "3"}


def test_a_process_without_pairs_has_a_batch_that_counts_for_nothing(data: RankingDataModule) -> None:
    collection, source = data.open_training()
    (batch,) = CandidateStream(source.pairs()[:1], *collection, data.encoder_of("train"), 2, rank=1, world=2)
    assert (batch.query_ids, batch.passage_ids, len(batch.queries)) == ((), (), 1)


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_shards_of_single_texts_are_shared_out_and_each_text_read_once_in_its_order(monkeypatch, world: int) -> None:
    monkeypatch.setattr(batches_of_texts, "TOGETHER", 2)
    every = [(str(number), f"text {number}") for number in range(13)]
    left = {0: 3, 2: 3, 4: 1}  # of five shards; two are there
    streams = [TextShards(lambda: every, 3, left, rank, world) for rank in range(world)]
    found = [[*stream] for stream in streams]
    assert [len(stream) for stream in streams] == [max(1, len(batches)) for batches in found]
    counted = [batch for batches in found for batch in batches if batch.query_ids]
    read = [row for batch in counted for row in zip(batch.groups.tolist(), batch.query_ids, batch.passages, strict=True)]
    assert sorted(read, key=lambda row: int(row[1])) == [(n // 3, *every[n]) for n in (0, 1, 2, 6, 7, 8, 12)]
    assert all(len(batch.passages) <= 2 for batches in found for batch in batches)
    idle = [batches for batches in found if all(batch.query_ids == () for batch in batches)]
    assert len(idle) == max(0, world - 3)
    assert all(len(batches) == 1 for batches in idle)
