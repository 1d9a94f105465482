"""Text store and token store: passages by id, and texts as token ids, tokenised once on all cores."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ir_datasets.formats import GenericDoc
from ir_datasets.indices import Docstore
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from rankdistil.data.encode import PairEncoder, Segment
from rankdistil.data.files.bad_lines import Tally
from rankdistil.data.stores.ragged import SOURCE, Chunks, RaggedStore, ensure, in_chunks, write_ragged
from rankdistil.files import short_hash

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


TOKENISED = 8192  # texts tokenised together: the tokenizer shares them out over the cores

Passages = Callable[[], Iterable[tuple[str, str]]]


def open_tokens(
    folder: Path, texts: Passages, encoder: PairEncoder, source: dict[str, Any], tally: Tally | None = None
) -> RaggedStore:
    """Open a token store, built first where it is missing or its data have changed.

    Args:
        folder: where it is or goes.
        texts: gives (id, text) of every text.
        encoder: gives the token ids, without special tokens; each text is cut to what is looked at of any.
        source: what tells the data from others.
        tally: see ``ensure``.

    Raises:
        ValueError: if it was built with another tokenizer or length; if an id occurs twice.
    """

    def write(building: Path) -> dict[str, Any]:
        counts = {"cut": 0, "empty": 0}
        dtype = np.dtype(np.uint16 if len(encoder.tokenizer) <= 1 << 16 else np.uint32)
        return write_ragged(building, _tokenised(texts(), encoder, counts), dtype) | counts

    made_of = {"tokenizer": tokenizer_fingerprint(encoder.tokenizer), "tokens": encoder.reach, SOURCE: source}
    return ensure(folder, made_of, write, RaggedStore, tally)


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """Tell tokenizers apart by what they do to a text: which end of it they cut counts, the last call's truncation doesn't."""
    own = tokenizer.backend_tokenizer
    truncation, padding = own.truncation, own.padding
    own.no_truncation()
    own.no_padding()
    try:
        side = "" if tokenizer.truncation_side == "right" else tokenizer.truncation_side
        return short_hash(own.to_str() + side)
    finally:
        if truncation:
            own.enable_truncation(**truncation)
        if padding:
            own.enable_padding(**padding)


def _tokenised(texts: Iterable[tuple[str, str]], encoder: PairEncoder, counts: dict[str, int]) -> Chunks:
    for chunk in in_chunks(texts, TOKENISED):
        found = encoder.segment([text for _, text in chunk])
        whole = found.lengths if found.whole is None else found.whole
        counts["cut"] += int((whole > encoder.reach).sum())
        counts["empty"] += int((whole == 0).sum())
        yield [key for key, _ in chunk], found._replace(whole=whole)
