"""The text store: the passages of files that are too large for memory, by id."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ir_datasets.formats import GenericDoc
from ir_datasets.indices import Docstore
from numpy.typing import NDArray

from rankdistil.data.assemble import Segment
from rankdistil.data.badlines import Tally
from rankdistil.data.store.build import SOURCE, Chunks, ensure, in_chunks, write_ragged
from rankdistil.data.store.ragged import RaggedStore

CHUNK = 8192


class TextStore(RaggedStore):
    """Texts by id, in UTF-8."""

    def texts(self, ids: Sequence[str]) -> dict[str, str]:
        """Return text by id, of those that are there."""
        rows = self.rows(ids)
        known = rows >= 0
        return dict(zip([key for key, there in zip(ids, known, strict=True) if there], self._decoded(rows[known]), strict=True))

    def _decoded(self, rows: NDArray[np.integer]) -> list[str]:
        content = self.gather(rows)
        raw, ends = content.tokens.tobytes(), content.lengths.cumsum()
        bounds = zip((ends - content.lengths).tolist(), ends.tolist(), strict=True)
        return [raw[start:end].decode() for start, end in bounds]


class TextDocstore(Docstore):
    """A text store as ir_datasets' readers know stores."""

    def __init__(self, texts: TextStore) -> None:
        super().__init__(GenericDoc)
        self._texts = texts

    def get_many_iter(self, doc_ids: Sequence[str]) -> Iterator[GenericDoc]:
        """Yield the documents that exist."""
        return (GenericDoc(key, text) for key, text in self._texts.texts(doc_ids).items())


def open_texts(
    folder: Path, texts: Callable[[], Iterable[tuple[str, str]]], source: dict[str, Any], tally: Tally | None = None
) -> TextStore:
    """Open a text store, built first where it is missing or its data have changed.

    Args:
        folder: where it is or goes.
        texts: gives (id, text) of every text.
        source: what tells the data from others.
        tally: see ``ensure``.
    """

    def write(building: Path) -> dict[str, Any]:
        return write_ragged(building, _bytes(texts()), np.dtype(np.uint8))

    return ensure(folder, {SOURCE: source}, write, TextStore, tally)


def _bytes(texts: Iterable[tuple[str, str]]) -> Chunks:
    for chunk in in_chunks(texts, CHUNK):
        raw = [text.encode() for _, text in chunk]
        lengths = np.fromiter(map(len, raw), np.int64, len(raw))
        yield [key for key, _ in chunk], Segment(np.frombuffer(b"".join(raw), np.uint8), lengths)
