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
from rankdistil.data.batches.groups import GroupSource, ListedGroups
from rankdistil.data.batches.stream import WINDOW, CandidateStream, GroupStream, Size
from rankdistil.data.batches.training_groups import open_triples
from rankdistil.data.collections.reader import Reader
from rankdistil.data.collections.texts import Collection, open_collection
from rankdistil.data.encode import PairEncoder
from rankdistil.data.records import PairBatch
from rankdistil.data.stores.ragged import ITEMS, RaggedStore

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


class Parts(NamedTuple):
    """What batches are made from, either way."""

    reader: Reader
    collection: Collection
    source: GroupSource
    encoder: PairEncoder

    @classmethod
    def of(cls, setting: Setting) -> "Parts":
        """Open a collection whose stores are built."""
        reader, encoder = setting.reader(), setting.encoder()
        collection = open_collection(reader, encoder, setting.store)
        return cls(reader, collection, ListedGroups(*open_triples(setting.store, reader, collection)), encoder)

    def groups(self, rows: int, seed: int = 0) -> GroupStream:
        """Return the stream of training batches of so many rows."""
        return GroupStream(self.source, *self.collection, self.encoder, Size(rows // 2), seed)

    def candidates(self, count: int, rows: int, random: np.random.Generator) -> CandidateStream:
        """Return the stream of batches of ``count`` pairs drawn at random."""
        pairs = random.integers(0, [len(texts) for texts in self.collection], (count, 2))
        return CandidateStream(pairs, *self.collection, self.encoder, rows)

    def naive(self, batch: PairBatch) -> BatchEncoding:
        """Make the batch that any collate function would make of a batch's ids."""
        queries, passages = self.reader.queries, self.reader.find(batch.passage_ids)
        return self.encoder.tokenizer(
            [queries[key] for key in batch.query_ids], [passages[key] for key in batch.passage_ids],
            padding=True, truncation="longest_first", max_length=self.encoder.max_length, return_tensors="pt",
        )  # fmt: skip


def compare(setting: Setting) -> int:
    """Compare batches of each size with what the naive path makes of their ids.

    Returns:
        Rows compared.

    Raises:
        ValueError: at the first batch that differs.
    """
    parts, count = Parts.of(setting), 0
    for rows in ROWS:
        candidates = parts.candidates(max(ROWS), rows, np.random.default_rng(0))
        for name, stream in (("groups", islice(parts.groups(rows), max(ROWS) // rows)), ("candidates", candidates)):
            for batch in stream:
                expected = parts.naive(batch)
                for field in ("input_ids", "attention_mask", "token_type_ids"):
                    if not torch.equal(getattr(batch, field), expected[field]):
                        raise ValueError(f"{name} {rows}: {field} from the token store and from the texts differ.")
                count += len(batch.labels)
    return count


def measure(setting: Setting, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure all variants in turns.

    Args:
        setting: of the collection; its stores are built.
        rounds: turns of each variant.
        seconds: of process time per turn, at least.

    Returns:
        By variant: rows per core-second of each round, median, least and most; ratio to the naive path and share of the bare
        gather of as many rows, medians over rounds.
    """
    variants = _variants(Parts.of(setting))
    for variant in variants.values():
        _rate(variant, 0.0)  # warm
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, variant in variants.items():
            rates[name].append(_rate(variant, seconds))
    return {
        name: {
            "rows_per_core_s": median(row),
            "least": min(row),
            "most": max(row),
            "rounds": row,
            "over_naive": _ratio(row, rates[f"naive {NAIVE_ROWS}"]),
            "of_bare_gather": _ratio(row, rates[f"bare gather {name.split()[-1]}"]),
        }
        for name, row in rates.items()
    }


def _ratio(rates: list[float], others: list[float]) -> float:
    return median(rate / other for rate, other in zip(rates, others, strict=True))


def _variants(parts: Parts) -> dict[str, Variant]:
    drawn = iter(parts.groups(NAIVE_ROWS, seed=1))
    variants = {
        f"naive {NAIVE_ROWS}": Variant(
            lambda: list(islice(drawn, WINDOW)),
            lambda batches: sum(len(parts.naive(batch)["input_ids"]) for batch in batches),
        )
    }
    for rows in ROWS:
        variants[f"groups {rows}"] = _of_groups(iter(parts.groups(rows)))
        variants[f"candidates {rows}"] = _of_candidates(parts, rows)
        variants[f"bare gather {rows}"] = _bare(parts.collection.passages, list(islice(parts.groups(rows, seed=1), WINDOW)))
    return variants


def _of_groups(stream: Iterator[PairBatch]) -> Variant:
    return Variant(lambda: None, lambda _: sum(len(batch.labels) for batch in islice(stream, WINDOW)))


def _of_candidates(parts: Parts, rows: int) -> Variant:
    random = np.random.default_rng(rows)
    return Variant(lambda: None, lambda _: sum(len(batch.labels) for batch in parts.candidates(WINDOW * rows, rows, random)))


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
