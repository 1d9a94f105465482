"""Where passages without queries come from: a collection read in its order, or the token store, shuffled."""

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rankdistil.data.assemble import Segment
from rankdistil.data.encode import PairEncoder
from rankdistil.data.groups import ListedGroups
from rankdistil.data.readers import Reader
from rankdistil.data.store.ragged import RaggedStore
from rankdistil.data.stream import cut_windows
from rankdistil.data.texts import Rows

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
