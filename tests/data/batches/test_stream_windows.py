"""Windows of documents in training and in what is scored: which, when, and always the same."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from rankdistil.data.batches.datamodule import RankingDataModule
from rankdistil.data.collections.reader import Reader
from rankdistil.data.collections.texts import open_passages
from rankdistil.data.encode import PairEncoder
from rankdistil.data.records import PairBatch
from rankdistil.data.settings import DataSettings
from rankdistil.data.windows import Windows

NAMES = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
WINDOWS = Windows(stride=4, most=5, size=6)
SETTINGS = DataSettings(
    batch_size=2, eval_batch_size=3, max_length=16, train_on="docpairs", negatives_depth=10, relevance_level=1, depth=10,
    valid_depth=10, valid_queries=10, windows=WINDOWS,
)  # fmt: skip


def words(seed: int, count: int) -> str:
    return " ".join(np.random.default_rng(seed).choice(NAMES, count))


DOCUMENTS = {
    "a": "trees grow apples", "b": f"{words(1, 9)} bees make honey {words(2, 30)}", "c": words(3, 17), "d": words(4, 90),
    "e": words(5, 23),
}  # fmt: skip


def corpus() -> str:
    return "".join(f"{key}\t{text}\n" for key, text in DOCUMENTS.items())


@pytest.fixture(params=["tokenised each time", "token store"])
def build(request, collection, tokenizer, tmp_path):
    """Build an opened DataModule of documents of 3 to 90 words, whose windows have 6 tokens."""
    reader = Reader(collection(corpus=corpus()))
    store = str(tmp_path / "store") if request.param == "token store" else None

    def build(windows: Windows | None = WINDOWS, seed: int = 0) -> RankingDataModule:
        settings = DataSettings(**vars(SETTINGS) | {"windows": windows, "store": store})
        data = RankingDataModule(
            reader, reader, reader, PairEncoder(tokenizer, SETTINGS.max_length, windows=windows), settings, seed
        )
        data.open()
        return data

    return build


def texts(batch: PairBatch, tokenizer) -> list[tuple[str, str, str]]:
    """Query id, passage id and what is read of the passage, of each pair."""
    rows = zip(batch.input_ids, batch.token_type_ids.bool() & batch.attention_mask.bool(), strict=True)
    read = [tokenizer.decode(row[own][:-1]) for row, own in rows]
    return [*zip(batch.query_ids, batch.passage_ids, read, strict=True)]


def pieces(text: str) -> list[str]:
    own = text.lower().replace(".", " .").split()
    count = min(max(1, 1 + -(-(len(own) - 6) // 4)), 5)
    return [" ".join(own[4 * number : 4 * number + 6]) for number in range(count)]


def test_every_window_of_every_candidate_is_scored_once_with_its_number(build, tokenizer):
    data = build()
    batches = [*data.test_dataloader()]
    assert [len(batch.labels) for batch in batches[:-1]] == [3] * (len(batches) - 1)
    found = {}
    for batch in batches:
        for (query, passage, read), number in zip(texts(batch, tokenizer), batch.windows, strict=True):
            assert found.setdefault((query, passage), {}).setdefault(number, read) == read
    candidates = {(query, hit.passage_id) for query, row in data.task("test").candidates.items() for hit in row}
    assert {pair: [parts[number] for number in range(len(parts))] for pair, parts in found.items()} == {
        (query, passage): pieces(DOCUMENTS[passage]) for query, passage in candidates
    }
    windows = sum(len(pieces(DOCUMENTS[passage])) for _, passage in candidates)
    assert data.account()["test_windows"] == {"windows": windows, "pairs": len(candidates)}
    assert sum(len(batch.labels) for batch in batches) == windows


def test_first_windows_alone_are_read_where_they_alone_count(build, tokenizer):
    for batch in build(Windows(4, 5, 6, "first")).test_dataloader():
        assert set(batch.windows) == {0}
        assert {read == pieces(DOCUMENTS[passage])[0] for _, passage, read in texts(batch, tokenizer)} == {True}


def test_training_reads_a_window_of_each_document_and_of_the_relevant_one_the_query_s(build, tokenizer):
    seen = {}
    for batch in islice(build().train_dataloader(), 120):
        assert batch.windows is None
        for (query, passage, read), label in zip(texts(batch, tokenizer), batch.labels.tolist(), strict=True):
            assert read in pieces(DOCUMENTS[passage])
            seen.setdefault((query, passage, label), set()).add(read)
    assert seen["2", "b", 1.0] == {next(piece for piece in pieces(DOCUMENTS["b"]) if "bees make" in piece)}
    assert len(seen["3", "d", 0.0]) == 5  # drawn anew in each of 60 epochs: all that there are


def test_draws_depend_on_seed_epoch_and_ids_and_a_resumed_run_goes_on_with_them(build):
    def ids(seed: int = 0, start: int = 0, workers: int = 0, count: int = 12) -> list[list[int]]:
        stream = build(seed=seed).training_stream(0, 1, start)
        loader = DataLoader(stream, batch_size=None, num_workers=workers)
        return [batch.input_ids.tolist() for batch in islice(loader, count)]

    whole = ids()
    assert ids() == whole
    assert ids(start=5, count=7) == whole[5:]
    assert ids(workers=2) == whole
    assert ids(seed=1) != whole


def test_ranks_read_what_one_process_reads(build):
    def rows(rank: int, world: int) -> list[set[tuple[int, ...]]]:
        batches = islice(build().training_stream(rank, world, 0), 8)
        return [{tuple(row[keep.bool()].tolist()) for row, keep in zip(*batch[:2], strict=True)} for batch in batches]

    assert rows(0, 1) == [one | other for one, other in zip(rows(0, 2), rows(1, 2), strict=True)]


def test_data_with_windows_and_without_share_a_folder_of_stores(collection, tokenizer, tmp_path):
    reader, store = Reader(collection(corpus=corpus())), tmp_path / "store"
    plain = PairEncoder(tokenizer, SETTINGS.max_length)
    first = open_passages(reader, plain, store)  # as by the first stage of a chain, which never has windows

    def build(windows: Windows | None, store: Path) -> RankingDataModule:
        settings = replace(SETTINGS, windows=windows, store=str(store))
        encoder = PairEncoder(tokenizer, SETTINGS.max_length, windows=windows)
        data = RankingDataModule(reader, reader, reader, encoder, settings, 0)
        data.open()
        return data

    def built() -> dict[str, int]:
        return {folder.name: folder.stat().st_ino for folder in store.iterdir() if folder.is_dir()}

    several = [WINDOWS, None, Windows(4, 9, 6), Windows(4, 5, 6, "first")]
    for number, windows in enumerate(several):
        found = []
        for folder in (store, tmp_path / f"alone {number}"):
            data = build(windows, folder)
            batches = [*data.test_dataloader(), *islice(data.training_stream(0, 1, 0), 8)]
            found.append([batch.input_ids.tolist() for batch in batches])
        assert found[0] == found[1], windows
    folders = built()
    kinds = {kind: sum(name.endswith(f"-{kind}") for name in folders) for kind in ("passages", "queries", "triples")}
    assert kinds == {"passages": 3, "queries": 3, "triples": 1}
    assert first.folder == build(None, store).collection("test").passages.folder
    assert first.folder == reader.origin("passages").folder(store, "passages")
    for windows in several:
        build(windows, store)
    assert built() == folders, "none is built in turn"
