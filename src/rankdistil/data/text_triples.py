"""Triples of texts instead of ids, as MS MARCO's ``triples.train.small.tsv``: they are their own collection.

A text's id is a hash of it, so equal texts are one query, or one passage.
"""

from collections.abc import Iterator
from functools import cached_property
from hashlib import sha256

import ir_datasets
from ir_datasets.formats import BaseQueries, GenericDoc, GenericDocPair, GenericQuery

from rankdistil.data.handlers import FileDocPairs, FileDocs


class TextDocPairs(FileDocPairs):
    """Triples of a file with ``query<TAB>positive<TAB>negative``, by the ids of their texts."""

    names = ("query", "positive", "negative")

    def numbered(self) -> Iterator[tuple[int, GenericDocPair]]:
        """Yield (line, triple)."""
        return ((line, GenericDocPair(*map(text_id, parts))) for line, parts in self._fields())

    def texts(self, *columns: int) -> Iterator[tuple[str, str]]:
        """Yield (id, text) of what some columns hold, once each. Memory holds the ids."""
        seen: set[str] = set()
        for _, parts in self._fields():
            for column in columns:
                key = text_id(parts[column])
                if key not in seen:
                    seen.add(key)
                    yield key, parts[column]


class TripleDocs(FileDocs):
    """The passages of triples."""

    def __init__(self, triples: TextDocPairs, stored: bool) -> None:
        self._triples, self._stored = triples, stored

    @cached_property
    def _docs(self) -> dict[str, GenericDoc]:
        return {key: GenericDoc(key, text) for key, text in self._triples.texts(1, 2)}

    def docs_iter(self) -> Iterator[GenericDoc]:
        if self._stored:
            return (GenericDoc(key, text) for key, text in self._triples.texts(1, 2))
        return iter(self._docs.values())


class TripleQueries(BaseQueries):
    """The queries of triples."""

    def __init__(self, triples: TextDocPairs) -> None:
        self._triples = triples

    def queries_iter(self) -> Iterator[GenericQuery]:
        return (GenericQuery(key, text) for key, text in self._triples.texts(0))


def open_text_triples(triples: TextDocPairs, stored: bool = False) -> ir_datasets.Dataset:
    """Build a dataset of text triples; it has no judgments.

    Args:
        triples: the file.
        stored: passages are kept elsewhere, on disk.
    """
    return ir_datasets.Dataset(TripleDocs(triples, stored), TripleQueries(triples), triples)


def text_id(text: str) -> str:
    """Return the id of a text: 16 hexadecimal digits."""
    return sha256(text.encode()).hexdigest()[:16]
