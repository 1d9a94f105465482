"""Unlabelled text for LM distillation: passages without queries or judgments.

Each passage is cut in two segments, [CLS] a [SEP] b [SEP], as in BERT's own pretraining: a student that had only seen one
segment would meet the second kind of token for the first time when it ranks. The first segment is as short as a query.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from rankdistil.data.batches.groups import ListedGroups, cut_windows, own_share
from rankdistil.data.batches.stream import WINDOW, Size, StreamDataModule
from rankdistil.data.collections.reader import Reader
from rankdistil.data.collections.texts import open_passages
from rankdistil.data.encode import PairEncoder, Rows, Segment
from rankdistil.data.records import PairBatch
from rankdistil.data.settings import DataSettings
from rankdistil.data.stores.ragged import RaggedStore

Passage = tuple[str, str]
"""Passage id and text."""


class Window(Protocol):
    """Passages that are grouped by length together."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """How long each is, (N,)."""
        ...

    def take(self, places: NDArray[np.int64]) -> tuple[tuple[str, ...], Segment]:
        """Return ids and tokens of some of them."""
        ...


class PassageSource(Protocol):
    """All passages that are trained on, each once an epoch."""

    def windows(self, size: int, seed: int, epoch: int) -> Iterator[Window]:
        """Yield the passages of an epoch, ``size`` at a time."""
        ...


class LiveWindow(NamedTuple):
    """Passages as text; lengths are in characters."""

    passages: Sequence[Passage]
    encoder: PairEncoder

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Characters, (N,)."""
        return np.array([len(text) for _, text in self.passages])

    def take(self, places: NDArray[np.int64]) -> tuple[tuple[str, ...], Segment]:
        """Tokenise some of them."""
        keys, texts = zip(*(self.passages[place] for place in places.tolist()), strict=True)
        return keys, self.encoder.segment(texts)


class LivePassages:
    """Reads a collection in its order, so memory doesn't grow with it.

    Args:
        reader: gives the passages.
        left_out: ids of those that aren't trained on.
        encoder: gives the token ids.
    """

    def __init__(self, reader: Reader, left_out: Collection[str], encoder: PairEncoder) -> None:
        self._reader, self._left_out, self._encoder = reader, left_out, encoder

    def windows(self, size: int, seed: int, epoch: int) -> Iterator[LiveWindow]:
        """Yield windows in the order of the collection, in every epoch the same."""
        passages = ((key, text) for key, text in self._reader.passages() if key not in self._left_out)
        while rows := list(islice(passages, size)):
            yield LiveWindow(rows, self._encoder)


class StoredWindow(NamedTuple):
    """Rows of a token store; lengths are in tokens."""

    rows: Rows
    store: RaggedStore

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens, (N,)."""
        return self.store.lengths(self.rows)

    def take(self, places: NDArray[np.int64]) -> tuple[tuple[str, ...], Segment]:
        """Fetch some of them."""
        rows = self.rows[places]
        return self.store.names(rows), self.store.gather(rows)


class StoredPassages:
    """Reads a token store, shuffled within bounds.

    Args:
        store: tokens of the collection.
        left_out: ids of those that aren't trained on.
    """

    def __init__(self, store: RaggedStore, left_out: Collection[str]) -> None:
        self._store = store
        kept = np.ones(len(store), dtype=bool)
        kept[store.rows(list(left_out))] = False
        self._rows = ListedGroups(np.flatnonzero(kept).astype(np.int32))

    def windows(self, size: int, seed: int, epoch: int) -> Iterator[StoredWindow]:
        """Yield windows in an order of (seed, epoch)."""
        return (StoredWindow(rows, self._store) for rows in cut_windows(self._rows.epoch(seed, epoch), size))


SET_APART = 8  # one passage of so many may be set apart, by the hash of its id
SHORTEST, LONGEST = 2, 24  # tokens of the first segment: a question has as many


class PassageStream(IterableDataset):
    """Yields batches of passages of similar length, epoch after epoch; endless.

    Which passages share a batch, the order of a window's batches and where passages are cut depend on (seed, epoch) only.

    Args:
        source: the passages.
        encoder: lays out the segments.
        size: of a batch; a passage is a group.
        seed: seed of order and cuts.
        rank: this process.
        world: number of processes.
        start: local batches to skip, for a run that resumes.
    """

    def __init__(
        self, source: PassageSource, encoder: PairEncoder, size: Size, seed: int,
        rank: int = 0, world: int = 1, start: int = 0,
    ) -> None:  # fmt: skip
        self._source, self._encoder = source, encoder
        self._size, self._seed = size, seed
        self._rank, self._world, self._start = rank, world, start

    def __iter__(self) -> Iterator[PairBatch]:
        share = own_share(self.batches(), self._rank, self._world, self._start)
        return (cut_in_two(self._encoder, *window.take(places), (self._seed, number)) for number, (window, places) in share)

    def batches(self) -> Iterator[tuple[Window, NDArray[np.int64]]]:
        """Yield a window and the places in it of the batches of every process. An epoch's last ones may be smaller."""
        for epoch in count():
            for number, window in enumerate(self._source.windows(WINDOW * self._size.groups, self._seed, epoch)):
                random, lengths = np.random.default_rng([self._seed, epoch, number]), window.lengths
                ordered = (lengths * random.uniform(0.9, 1.1, len(lengths))).argsort(kind="stable")
                cut = np.split(ordered, self._size.cuts(lengths[ordered], 1, self._encoder.room))
                for index in random.permutation(len(cut)):
                    yield from ((window, places) for places in self._size.shares(cut[index]))


class _Batches(IterableDataset):
    """A fixed list of batches, shared out over loader processes."""

    def __init__(self, batches: list[PairBatch]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[PairBatch]:
        info = get_worker_info()
        return iter(self._batches[info.id :: info.num_workers] if info else self._batches)


class PassageDataModule(StreamDataModule):
    """Streams passages for training, and holds a few apart for validation.

    Args:
        reader: gives the passages.
        encoder: gives the token ids.
        settings: sizes; a step reads twice ``batch_size`` passages, as many texts as one on triples has pairs.
        seed: seed of order and cuts.
    """

    def __init__(self, reader: Reader, encoder: PairEncoder, settings: DataSettings, seed: int) -> None:
        super().__init__(settings.workers)
        self.encoder, self.settings = encoder, settings
        self._reader, self._seed = reader, seed
        self._valid: list[Passage] = []
        size = Size(2 * settings.batch_size, settings.max_tokens, special=encoder.layout.special)
        self._size, self._larger = size, None

    @property
    def readers(self) -> list[Reader]:
        """The reader of the passages."""
        return [self._reader]

    @property
    def names(self) -> dict[str, str]:
        """Name of what is read, for records."""
        return {"train": f"{self._reader.label} (passages)"}

    def open(self) -> None:
        """Choose the passages set apart.

        Raises:
            ValueError: if the collection leaves none for either side.
        """
        self._valid = set_apart(self._reader.passages(), self.settings.valid_passages)
        apart = frozenset(key for key, _ in self._valid)
        if not self._valid or next((key for key, _ in self._reader.passages() if key not in apart), None) is None:
            raise ValueError(f"{self._reader.name} has too few passages to train on some and validate on others.")

        if self.settings.store is None:
            self._source = LivePassages(self._reader, apart, self.encoder)
        else:
            store = Path(self.settings.store).expanduser()
            self._source = StoredPassages(open_passages(self._reader, self.encoder, store), apart)
        if self.settings.max_tokens is not None:
            first = next(self._source.windows(WINDOW * self._size.groups, self._seed, 0))
            self._larger = self._size.larger(first.lengths, 1, "passages")

    def account(self) -> dict[str, Any]:
        """Say what was left out of the data, and how many passages don't fit into a batch."""
        return super().account() | ({"max_tokens": self._larger} if self._larger else {})

    def training_stream(self, rank: int, world: int, start: int, accumulated: int = 1) -> PassageStream:
        """Return the stream of batches of passages."""
        self.settings.require_equal_shares(world, accumulated)
        size = self._size._replace(parts=world * accumulated)
        return PassageStream(self._source, self.encoder, size, self._seed, rank, world, start)

    def val_dataloader(self) -> DataLoader:
        """Return the passages set apart, always cut at the same places."""
        rank, world = self.place()
        size = self.settings.eval_batch_size
        cut = [self._valid[at : at + size] for at in range(0, len(self._valid), size)]
        own = [encode_passages(self.encoder, passages) for passages in cut[rank::world]]
        return self.loader(_Batches(own or [encode_passages(self.encoder, cut[-1]).uncounted()]))


def set_apart(passages: Iterable[Passage], limit: int) -> list[Passage]:
    """Take the first passages whose id's hash says so: the same ones for every seed and order of reading."""
    return list(islice(((key, text) for key, text in passages if crc32(key.encode()) % SET_APART == 0), limit))


def encode_passages(encoder: PairEncoder, passages: list[Passage], seed: tuple[int, ...] = ()) -> PairBatch:
    """Encode passages as two segments each; see ``cut_in_two``."""
    keys, texts = zip(*passages, strict=True)
    return cut_in_two(encoder, keys, encoder.segment(texts), seed)


def cut_in_two(encoder: PairEncoder, keys: tuple[str, ...], tokens: Segment, seed: tuple[int, ...]) -> PairBatch:
    """Lay out passages as two segments each, cut at a random token.

    Args:
        encoder: lays them out.
        keys: ids.
        tokens: of each passage.
        seed: of the cuts, with each passage's id; the other passages of the batch have no say.
    """
    cuts = []
    for key, length in zip(keys, tokens.lengths.tolist(), strict=True):
        random, most = np.random.default_rng([*seed, crc32(key.encode())]), length // 2
        cuts.append(int(random.integers(min(SHORTEST, most), min(LONGEST, most) + 1)))
    first, second = tokens.split(np.array(cuts))
    inputs, zeros, own = encoder.assemble(first, second), torch.zeros(len(keys)), torch.arange(len(keys))
    return PairBatch(*inputs, zeros, own, keys, keys, tokens=int(inputs[1].sum()))
