"""The endless stream of training batches, and the finite one of pairs to score.

Batches are numbered over all epochs. Local step s of rank r takes global batch s·world + r, and a rank's worker w its steps w,
w + workers, ...: together they read each triple exactly once, in an order that depends on (seed, epoch) only.
"""

from collections.abc import Iterable, Iterator
from itertools import count, islice
from typing import TypeVar

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from rankdistil.data.batch import PairBatch
from rankdistil.data.encode import PairEncoder
from rankdistil.data.readers import Reader
from rankdistil.data.records import Pair, Triple
from rankdistil.data.triples import TripleSource

Rows = TypeVar("Rows")
WINDOW = 64  # batches that are grouped by length together; the bound of the shuffle


def own_share(batches: Iterable[Rows], rank: int, world: int, start: int) -> Iterator[tuple[int, Rows]]:
    """Pick the batches of this process and loader worker out of all.

    Args:
        batches: every global batch, in order.
        rank: this process.
        world: number of processes.
        start: local batches to skip, for a run that resumes.

    Yields:
        Number of the global batch, and the batch.
    """
    info = get_worker_info()
    worker, workers = (info.id, info.num_workers) if info else (0, 1)
    for number, batch in enumerate(batches):
        step, owner = divmod(number, world)
        if owner == rank and step >= start and (step - start) % workers == worker:
            yield number, batch


class TripleStream(IterableDataset):
    """Yields whole batches of triples of similar length; endless.

    Args:
        source: the triples.
        reader: gives the texts.
        encoder: gives the token ids.
        batch_size: triples per batch; a batch holds two pairs for each.
        seed: seed of the order.
        rank: this process.
        world: number of processes.
        start: local batches to skip, for a run that resumes.
    """

    def __init__(
        self, source: TripleSource, reader: Reader, encoder: PairEncoder, batch_size: int, seed: int,
        rank: int = 0, world: int = 1, start: int = 0,
    ) -> None:  # fmt: skip
        self._source, self._reader, self._encoder = source, reader, encoder
        self._batch_size, self._seed = batch_size, seed
        self._rank, self._world, self._start = rank, world, start

    def __iter__(self) -> Iterator[PairBatch]:
        share = own_share(self.batches(), self._rank, self._world, self._start)
        return (self._encode(triples) for _, triples in share)

    def batches(self) -> Iterator[list[Triple]]:
        """Yield the triples of every global batch, epoch after epoch. An epoch's last batch may be smaller."""
        for epoch in count():
            triples = self._source.epoch(self._seed, epoch)
            for window in count():
                rows = list(islice(triples, WINDOW * self._batch_size))
                if not rows:
                    break
                rows.sort(key=self._length)
                cut = [rows[at : at + self._batch_size] for at in range(0, len(rows), self._batch_size)]
                order = np.random.default_rng([self._seed, epoch, window]).permutation(len(cut))
                yield from (cut[index] for index in order)

    def _length(self, triple: Triple) -> int:
        texts = self._reader.texts(triple[1:])
        return len(self._reader.queries[triple.query_id]) + max(len(text) for text in texts.values())

    def _encode(self, triples: list[Triple]) -> PairBatch:
        texts = self._reader.texts(passage for triple in triples for passage in triple[1:])
        pairs = [
            Pair(triple.query_id, passage, self._reader.queries[triple.query_id], texts[passage], label, group)
            for group, triple in enumerate(triples)
            for passage, label in ((triple.positive_id, 1.0), (triple.negative_id, 0.0))
        ]
        return self._encoder.batch(pairs)


class CandidateStream(IterableDataset):
    """Yields batches of pairs to score, longest first; each pair once over all ranks and workers.

    Longest first shows a lack of memory at once, and makes the time left predictable from above.

    Args:
        pairs: the pairs, in any order.
        encoder: gives the token ids.
        batch_size: pairs per batch.
        rank: this process.
        world: number of processes.
    """

    def __init__(self, pairs: list[Pair], encoder: PairEncoder, batch_size: int, rank: int = 0, world: int = 1) -> None:
        ordered = sorted(pairs, key=lambda pair: (-len(pair.query) - len(pair.passage), pair.query_id, pair.passage_id))
        self._batches = [ordered[at : at + batch_size] for at in range(0, len(ordered), batch_size)][rank::world]
        self._encoder = encoder

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[PairBatch]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        return (self._encoder.batch(pairs) for pairs in self._batches[worker::workers])
