"""Rows per core-second of batches of pairs: the naive path, the token store, and the gather that none can do without.

A row is one query-passage pair in a padded batch. All variants run on one core in one process, in turns; time is the process's
own. The naive path is that of any collate function: passages from ir_datasets' docstore, the tokenizer, padding. It is given
the batches of the token store's stream, whose passages are of similar length, so its padding is no worse.
"""

import time
from collections.abc import Callable, Iterator
from itertools import islice
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import BatchEncoding

from benchmarks.setting import Setting
from rankdistil.data.batch import PairBatch
from rankdistil.data.collection import Collection
from rankdistil.data.encode import PairEncoder
from rankdistil.data.groups import GroupSource
from rankdistil.data.readers import Reader
from rankdistil.data.store.ragged import ITEMS, RaggedStore
from rankdistil.data.stream import WINDOW, CandidateStream, GroupStream, Size

ROWS = (32, 128, 512)  # rows of a batch
NAIVE_ROWS = 32


class Variant(NamedTuple):
    """One way to make batches.

    Attributes:
        prepare: gives what isn't timed.
        run: makes batches from it; returns their rows.
    """

    prepare: Callable[[], Any]
    run: Callable[[Any], int]


def measure(setting: Setting, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure all variants in turns, once their token ids are known to be equal.

    Args:
        setting: of the collection; its stores are built.
        rounds: turns of each variant.
        seconds: of process time per turn, at least.

    Returns:
        By variant: rows per core-second of each round, median, least and most; ratio to the naive path and share of the bare
        gather, medians over rounds.

    Raises:
        ValueError: if the token ids of the paths differ.
    """
    reader, data = setting.reader(), setting.data()
    collection, source = data.open_training()
    variants = _variants(reader, collection, data.encoder, source)
    compared = compare(reader, collection, data.encoder, source)
    for variant in variants.values():
        _rate(variant, 0.0)  # warm
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, variant in variants.items():
            rates[name].append(_rate(variant, seconds))
    naive = rates[f"naive {NAIVE_ROWS}"]
    found = {}
    for name, row in rates.items():
        bare = rates[f"bare gather {name.split()[-1]}"]
        found[name] = {
            "rows_per_core_s": median(row),
            "least": min(row),
            "most": max(row),
            "rounds": row,
            "over_naive": median(one / other for one, other in zip(row, naive, strict=True)),
            "of_bare_gather": median(one / other for one, other in zip(row, bare, strict=True)),
        }
    return {"rows_compared": compared, "variants": found}


def _variants(reader: Reader, collection: Collection, encoder: PairEncoder, source: GroupSource) -> dict[str, Variant]:
    drawn = _groups(collection, encoder, source, NAIVE_ROWS, seed=1)
    texts = reader.queries
    variants = {
        f"naive {NAIVE_ROWS}": Variant(
            lambda: list(islice(drawn, WINDOW)),
            lambda batches: sum(len(naive(reader, texts, encoder, batch)["input_ids"]) for batch in batches),
        )
    }
    for rows in ROWS:
        variants[f"groups {rows}"] = _of_groups(_groups(collection, encoder, source, rows, seed=0))
        variants[f"candidates {rows}"] = _of_candidates(collection, encoder, rows)
        variants[f"bare gather {rows}"] = _bare(
            collection.passages, list(islice(_groups(collection, encoder, source, rows, seed=1), WINDOW))
        )
    return variants


def _groups(collection: Collection, encoder: PairEncoder, source: GroupSource, rows: int, seed: int) -> Iterator[PairBatch]:
    return iter(GroupStream(source, *collection, encoder, Size(rows // 2), seed))


def _of_groups(stream: Iterator[PairBatch]) -> Variant:
    return Variant(lambda: None, lambda _: sum(len(batch.labels) for batch in islice(stream, WINDOW)))


def _of_candidates(collection: Collection, encoder: PairEncoder, rows: int) -> Variant:
    random = np.random.default_rng(rows)
    return Variant(
        lambda: random.integers(0, [len(texts) for texts in collection], (WINDOW * rows, 2)),
        lambda pairs: sum(len(batch.labels) for batch in CandidateStream(pairs, *collection, encoder, rows)),
    )


def naive(reader: Reader, queries: dict[str, str], encoder: PairEncoder, batch: PairBatch) -> BatchEncoding:
    """Make the batch that any collate function would make of a batch's ids."""
    passages = reader.find(batch.passage_ids)
    return encoder.tokenizer(
        [queries[key] for key in batch.query_ids], [passages[key] for key in batch.passage_ids],
        padding=True, truncation="only_second", max_length=encoder.max_tokens, return_tensors="pt",
    )  # fmt: skip


def _bare(passages: RaggedStore, batches: list[PairBatch]) -> Variant:
    """Gather as many tokens as batches hold, every index known, and widen masks and types that are known too.

    The limit of any reader that gives three int64 arrays: the same tokens read, the same bytes written, nothing decided.
    """
    tokens = np.memmap(passages.folder / ITEMS, np.dtype(passages.header["dtype"]), "r")
    lengths = passages.lengths(np.arange(len(passages)))
    begins, work = lengths.cumsum() - lengths, []
    for batch in batches:
        index = begins[passages.rows(batch.passage_ids)][:, None] + np.arange(batch.input_ids.shape[1])
        work.append((index.clip(max=len(tokens) - 1), *(mask.numpy().astype(bool) for mask in batch[1:3])))
    return Variant(lambda: work, lambda work: sum(_fill(tokens, *one) for one in work))


def _fill(tokens: NDArray[np.integer], index: NDArray[np.int64], mask: NDArray[np.bool_], types: NDArray[np.bool_]) -> int:
    for array in (tokens[index], mask, types):
        array.astype(np.int64)
    return len(index)


def _rate(variant: Variant, seconds: float) -> float:
    """Return rows per second of process time."""
    rows, spent = 0, 0.0
    while not rows or spent < seconds:
        work = variant.prepare()
        start = time.process_time()
        rows += variant.run(work)
        spent += time.process_time() - start
    return rows / spent


def compare(reader: Reader, collection: Collection, encoder: PairEncoder, source: GroupSource) -> int:
    """Compare a window of batches of each size with what the naive path makes of their ids.

    Returns:
        Rows compared.

    Raises:
        ValueError: at the first batch that differs.
    """
    rows = 0
    for size in ROWS:
        pairs = np.random.default_rng(0).integers(0, [len(texts) for texts in collection], (2 * size, 2))
        streams = {
            "groups": islice(_groups(collection, encoder, source, size, seed=0), max(ROWS) // size),
            "candidates": CandidateStream(pairs, *collection, encoder, size),
        }
        for name, stream in streams.items():
            for batch in stream:
                expected = naive(reader, reader.queries, encoder, batch)
                for field in ("input_ids", "attention_mask", "token_type_ids"):
                    if not torch.equal(getattr(batch, field), expected[field]):
                        raise ValueError(
                            f"{name} {size}: {field} of the token store aren't the tokenizer's: {batch.passage_ids[:3]}"
                        )
                rows += len(batch.labels)
    return rows
