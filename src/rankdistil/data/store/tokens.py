"""The token store: texts as token ids, tokenised once, on all cores."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from rankdistil.data.badlines import Tally
from rankdistil.data.encode import PairEncoder
from rankdistil.data.store.build import SOURCE, Chunks, ensure, in_chunks, write_ragged
from rankdistil.data.store.ragged import RaggedStore

TOKENISED = 8192  # texts tokenised together: the tokenizer shares them out over the cores

Passages = Callable[[], Iterable[tuple[str, str]]]


def open_tokens(
    folder: Path, texts: Passages, encoder: PairEncoder, source: dict[str, Any], tally: Tally | None = None
) -> RaggedStore:
    """Open a token store, built first where it is missing or its data have changed.

    Args:
        folder: where it is or goes.
        texts: gives (id, text) of every text.
        encoder: gives the token ids, without special tokens; each text is cut to the room of a pair.
        source: what tells the data from others.
        tally: see ``ensure``.

    Raises:
        ValueError: if it was built with another tokenizer or length; if an id occurs twice.
    """

    def write(building: Path) -> dict[str, Any]:
        counts = {"cut": 0, "empty": 0}
        dtype = np.dtype(np.uint16 if len(encoder.tokenizer) <= 1 << 16 else np.uint32)
        return write_ragged(building, _tokenised(texts(), encoder, counts), dtype) | counts

    made_of = {"tokenizer": tokenizer_fingerprint(encoder.tokenizer), "tokens": encoder.room, SOURCE: source}
    return ensure(folder, made_of, write, RaggedStore, tally)


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """Tell tokenizers apart by what they do to a text: which end of it they cut counts, the last call's truncation doesn't."""
    own = tokenizer.backend_tokenizer
    truncation, padding = own.truncation, own.padding
    own.no_truncation()
    own.no_padding()
    try:
        side = "" if tokenizer.truncation_side == "right" else tokenizer.truncation_side
        return hashlib.sha256((own.to_str() + side).encode()).hexdigest()[:16]
    finally:
        if truncation:
            own.enable_truncation(**truncation)
        if padding:
            own.enable_padding(**padding)


def _tokenised(texts: Iterable[tuple[str, str]], encoder: PairEncoder, counts: dict[str, int]) -> Chunks:
    for chunk in in_chunks(texts, TOKENISED):
        found = encoder.segment([text for _, text in chunk])
        whole = found.lengths if found.whole is None else found.whole
        counts["cut"] += int((whole > encoder.room).sum())
        counts["empty"] += int((whole == 0).sum())
        yield [key for key, _ in chunk], found._replace(whole=whole)
