"""Texts in place of token ids: batches of pairs, or of single texts, for a teacher that reads them with its own tokenizer.

The stream of pairs is the one that our rankers score from; only what a batch holds is another thing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

import torch
from torch.utils.data import IterableDataset

from rankdistil.data.collections.reader import Reader
from rankdistil.data.encode import Rows, Texts
from rankdistil.data.records import TextBatch
from rankdistil.data.stores.ragged import in_chunks

TOGETHER = 1 << 8  # single texts in a batch


class PairTexts:
    """Fetches the texts of pairs. Pickles as its reader, so loader processes open it anew.

    Args:
        reader: the split that the pairs are of.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def batches(self, queries: Texts, passages: Texts, batches: Iterable[Rows]) -> Iterator[tuple[Rows, TextBatch]]:
        """Fetch the texts of batches of pairs.

        Args:
            queries: their queries.
            passages: their passages.
            batches: query and passage of each pair, (B, 2) each.

        Yields:
            The pairs of a batch, and the batch.
        """
        for rows in batches:
            asked, answers = queries.names(rows[:, 0]), passages.names(rows[:, 1])
            own, found = self._reader.all_queries, self._reader.texts(answers)
            texts = tuple(own[key] for key in asked), tuple(found[key] for key in answers)
            yield rows, TextBatch(*texts, torch.zeros(len(rows), dtype=torch.int64), asked, answers)


class TextShards(IterableDataset):
    """Yields the batches of shards of single texts, in their order; a batch's group is its shard's number.

    A rank that is left without any has a batch that counts for nothing.

    Args:
        texts: gives (id, text) of all, from the first shard's on.
        size: texts in a shard; the last one has the rest.
        left: texts of each shard that is wanted, by number; a process takes every ``world``-th.
        rank: this process.
        world: number of processes.
    """

    def __init__(
        self, texts: Callable[[], Iterable[tuple[str, str]]], size: int, left: Mapping[int, int], rank: int = 0, world: int = 1
    ) -> None:
        own = sorted(left)[rank::world]
        self._counts, self._texts, self._size = bool(own), texts, size
        self._left = {number: left[number] for number in own} or {min(left): 1}

    def __len__(self) -> int:
        return sum(-(-count // TOGETHER) for count in self._left.values())

    def __iter__(self) -> Iterator[TextBatch]:
        shards = islice(in_chunks(self._texts(), self._size), max(self._left) + 1)
        for number, rows in enumerate(shards):
            for some in in_chunks(rows[: self._left.get(number, 0)], TOGETHER):
                ids, texts = zip(*some, strict=True)
                batch = TextBatch((), texts, torch.full((len(some),), number), ids, ids)
                yield batch if self._counts else batch.uncounted()
