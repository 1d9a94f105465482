"""Texts by row: what streams are made of. Tokenised when asked for, or once for all (``store.tokens.TokenStore``)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rankdistil.data.assemble import Segment
from rankdistil.data.encode import PairEncoder

Rows = NDArray[np.integer]
"""Places of texts, (N,) or (N, K)."""


class Texts(Protocol):
    """Many texts, each at a row."""

    def rows(self, ids: Sequence[str]) -> Rows:
        """Find texts by id: (N,), -1 for one that isn't there."""
        ...

    def names(self, rows: Rows) -> tuple[str, ...]:
        """Return the ids of rows, (N,)."""
        ...

    def lengths(self, rows: Rows) -> NDArray[np.int64]:
        """Return how long the texts are, the same shape; in what unit is the implementation's business."""
        ...

    def gather(self, rows: Rows) -> Segment:
        """Fetch the token ids of rows, (N,)."""
        ...


class LiveTexts:
    """Texts that are tokenised each time they are gathered; lengths are in characters.

    Rows are given out in the order in which ids are first asked for.

    Args:
        fetch: text by id, for those of some ids that are there.
        encoder: gives the token ids.
    """

    def __init__(self, fetch: Callable[[Sequence[str]], Mapping[str, str]], encoder: PairEncoder) -> None:
        self._fetch, self._encoder = fetch, encoder
        self._row: dict[str, int] = {}
        self._ids: list[str] = []

    def rows(self, ids: Sequence[str]) -> Rows:
        """Give each new id whose text is there a row."""
        new = [key for key in dict.fromkeys(ids) if key not in self._row]
        found = self._fetch(new) if new else {}
        for key in new:
            if key in found:
                self._row[key] = len(self._ids)
                self._ids.append(key)
        return np.array([self._row.get(key, -1) for key in ids], dtype=np.int64)

    def names(self, rows: Rows) -> tuple[str, ...]:
        """Return the ids of rows, (N,)."""
        return tuple(self._ids[row] for row in rows.tolist())

    def lengths(self, rows: Rows) -> NDArray[np.int64]:
        """Return the characters of each row's text, the same shape."""
        return np.array([len(text) for text in self._texts(rows.reshape(-1))], dtype=np.int64).reshape(rows.shape)

    def gather(self, rows: Rows) -> Segment:
        """Tokenise the texts of rows, (N,)."""
        return self._encoder.segment(self._texts(rows))

    def _texts(self, rows: Rows) -> list[str]:
        ids = self.names(rows)
        found = self._fetch(ids)
        return [found[key] for key in ids]
