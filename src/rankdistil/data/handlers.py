"""The files of a folder as ir_datasets' handlers: passages, queries, judgments, triples and candidates.

Records that can be wrong in themselves come with the number of their line too (``numbered``).
"""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from ir_datasets.formats import (
    BaseDocPairs,
    BaseDocs,
    BaseQrels,
    BaseQueries,
    BaseScoredDocs,
    GenericDoc,
    GenericDocPair,
    GenericQrel,
    GenericQuery,
    GenericScoredDoc,
)
from ir_datasets.indices import Docstore

from rankdistil.data import parse
from rankdistil.data.badlines import STOP, BadLines
from rankdistil.data.repeats import Row, distinct, repeated
from rankdistil.data.run_table import RunTable, run_table, scored_lines

HIGHEST_GRADE = 1000
"""What is above is no grade but a number of another column; measures take memory by it, and overflow beyond 32 bits."""


class MemoryDocstore(Docstore):
    """Passages by id, in memory."""

    def __init__(self, docs: dict[str, GenericDoc]) -> None:
        super().__init__(GenericDoc)
        self._docs = docs

    def get_many_iter(self, doc_ids: list[str]) -> Iterator[GenericDoc]:
        """Yield the documents that exist, as ir_datasets' stores do."""
        return (self._docs[doc_id] for doc_id in doc_ids if doc_id in self._docs)


class FileDocs(BaseDocs):
    """Passages of a file.

    Args:
        path: the file.
        columns: see ``FolderSplit``.
        bad: takes bad lines down.
        stored: a store on disk keeps them: iterating reads the file, and keeps nothing (once before, to find repeated ids).
    """

    def __init__(self, path: Path, columns: parse.Columns | None = None, bad: BadLines = STOP, stored: bool = False) -> None:
        self._path, self._columns, self._bad, self._stored = path, columns, bad, stored

    @cached_property
    def _docs(self) -> dict[str, GenericDoc]:
        return {key: GenericDoc(key, text) for key, text in parse.texts(self._path, self._columns, bad=self._bad)}

    @cached_property
    def _repeated(self) -> set[int]:
        return repeated(key for _, key, _ in self._rows())

    def _rows(self) -> Iterator[Row]:
        return parse.numbered_texts(self._path, self._columns, self._bad)

    def docs_iter(self) -> Iterator[GenericDoc]:
        if self._stored:
            rows = distinct(self._rows(), self._bad.of(self._path), self._repeated)
            return (GenericDoc(key, text) for _, key, text in rows)
        return iter(self._docs.values())

    def docs_store(self, field: str = "doc_id", options: object = None) -> MemoryDocstore:
        return MemoryDocstore(self._docs)


class Lines:
    """Records of a file, each with the number of its line."""

    names: tuple[str, ...]
    separator: str | None = None

    def __init__(self, path: Path, columns: parse.Columns | None = None, bad: BadLines = STOP) -> None:
        self.path, self._columns, self._bad = path, columns, bad

    def _fields(self) -> Iterator[tuple[int, list[str]]]:
        return parse.fields(self.path, self.separator, self.names, self._columns, self._bad)


class FileQueries(Lines, BaseQueries):
    """Queries of a file."""

    def queries_iter(self) -> Iterator[GenericQuery]:
        return (GenericQuery(key, text) for key, text in parse.texts(self.path, self._columns, bad=self._bad))


class FileQrels(Lines, BaseQrels):
    """TREC judgments of a file."""

    names = ("query_id", "0", "passage_id", "grade")

    def qrels_iter(self) -> Iterator[GenericQrel]:
        return (qrel for _, qrel in self.numbered())

    def numbered(self) -> Iterator[tuple[int, GenericQrel]]:
        """Yield (line, judgment); one that stands twice comes twice."""
        seen: dict[tuple[str, str], tuple[int, int]] = {}
        for line, (query, _, passage, grade) in self._fields():
            if (value := parse.number_in(self.path, line, grade, int, "grade", self._bad)) is None:
                continue
            if value > HIGHEST_GRADE:
                self._bad.of(self.path).add(line, f"grade is {grade[:80]}, expected at most {HIGHEST_GRADE}.")
                continue
            first, before = seen.setdefault((query, passage), (line, value))
            if before == value:
                yield line, GenericQrel(query, passage, value)
            else:
                complaint = f"query {query} judges passage {passage} again, as {value}; line {first} says {before}. Keep one."
                self._bad.of(self.path).add(line, complaint)

    def qrels_defs(self) -> dict[int, str]:
        return {}


class FileDocPairs(Lines, BaseDocPairs):
    """Id triples of a file."""

    names, separator = ("query_id", "positive_id", "negative_id"), "\t"

    def docpairs_iter(self) -> Iterator[GenericDocPair]:
        return (triple for _, triple in self.numbered())

    def numbered(self) -> Iterator[tuple[int, GenericDocPair]]:
        """Yield (line, triple)."""
        return ((line, GenericDocPair(*parts)) for line, parts in self._fields())


class FileScoredDocs(Lines, BaseScoredDocs):
    """A TREC run of a file."""

    def scoreddocs_iter(self) -> Iterator[GenericScoredDoc]:
        return (hit for _, hit in self.numbered())

    def numbered(self) -> Iterator[tuple[int, GenericScoredDoc]]:
        """Yield (line, candidate)."""
        return scored_lines(self.path, self._columns, self._bad)

    def table(self) -> RunTable:
        """Return all candidates, read once for whoever asks."""
        return run_table(self.path, self._columns, self._bad)
