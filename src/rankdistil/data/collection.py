"""The texts of a split: its queries, and the passages of its collection."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rankdistil.data.encode import PairEncoder
from rankdistil.data.readers import Reader
from rankdistil.data.store.ragged import RaggedStore
from rankdistil.data.store.tokens import open_tokens
from rankdistil.data.texts import LiveTexts, Texts


class Collection(NamedTuple):
    """Attributes: queries: of the split; passages: of the whole collection."""

    queries: Texts
    passages: Texts


def open_collection(reader: Reader, encoder: PairEncoder, store: Path | None) -> Collection:
    """Open the texts of a split.

    Args:
        reader: the split.
        encoder: gives the token ids.
        store: folder of the token stores, which are built there once; None tokenises texts each time.
    """
    if store is None:
        fetch = _Queries(reader)
        return Collection(LiveTexts(fetch, encoder), LiveTexts(reader.find, encoder))
    origin = reader.origin("queries")
    texts = lambda: reader.all_queries.items()  # noqa: E731 - they are read only where their store must be built
    queries = open_tokens(origin.folder(store, "queries"), texts, encoder, origin.source)
    return Collection(queries, open_passages(reader, encoder, store))


def open_passages(reader: Reader, encoder: PairEncoder, store: Path) -> RaggedStore:
    """Open the token store of a collection's passages."""
    origin = reader.origin("passages")
    folder = origin.folder(store, "passages")
    return open_tokens(folder, reader.passages, encoder, origin.source, reader.passages_tally)


class _Queries:
    """Fetches queries; pickles as its reader."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def __call__(self, ids: Sequence[str]) -> dict[str, str]:
        return self._reader.queries
