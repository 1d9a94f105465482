"""The text store: the passages of files that are too large for memory, by id."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rankdistil.data.assemble import Segment
from rankdistil.data.store.build import SOURCE, Chunks, ensure, in_chunks, write_ragged
from rankdistil.data.store.ragged import RaggedStore

CHUNK = 8192


class TextStore(RaggedStore):
    """Texts by id, in UTF-8."""

    def texts(self, ids: Sequence[str]) -> dict[str, str]:
        """Return text by id, of those that are there."""
        rows = self.rows(ids)
        known = rows >= 0
        content = self.gather(rows[known])
        ends = content.lengths.cumsum()
        raw, keys = content.tokens.tobytes(), [key for key, there in zip(ids, known, strict=True) if there]
        return {
            key: raw[start:end].decode()
            for key, start, end in zip(keys, (ends - content.lengths).tolist(), ends.tolist(), strict=True)
        }


def open_texts(folder: Path, texts: Callable[[], Iterable[tuple[str, str]]], source: dict[str, Any]) -> TextStore:
    """Open a text store, built first where it is missing or its data have changed.

    Args:
        folder: where it is or goes.
        texts: gives (id, text) of every text.
        source: what tells the data from others.
    """
    ensure(folder, {SOURCE: source}, lambda building: write_ragged(building, _bytes(texts()), np.dtype(np.uint8)))
    return TextStore(folder)


def _bytes(texts: Iterable[tuple[str, str]]) -> Chunks:
    for chunk in in_chunks(texts, CHUNK):
        raw = [text.encode() for _, text in chunk]
        lengths = np.fromiter(map(len, raw), np.int64, len(raw))
        yield [key for key, _ in chunk], Segment(np.frombuffer(b"".join(raw), np.uint8), lengths)
