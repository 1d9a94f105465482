"""Folder of plain files as an ir_datasets dataset, so that every reader sees one interface.

Records that can be wrong in themselves come with the number of their line too (``numbered``).

Triples of texts, as MS MARCO's ``triples.train.small.tsv``, are their own collection: a text's id is a hash of it, so equal
texts are one query, or one passage.

ir_datasets' own TSV handlers were rejected: their errors name neither file nor line, and they build a docstore of pickles
beside the corpus that goes on serving old texts after an edit.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import ir_datasets
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

from rankdistil.data.files import lines as file_lines
from rankdistil.data.files.bad_lines import STOP, BadLines, Row, distinct, repeated
from rankdistil.data.files.layout import Columns, checked
from rankdistil.data.files.trec_runs import RunTable, run_table, scored_lines
from rankdistil.files import short_hash

BM25 = "bm25"
"""Among the names of run files: no file, but BM25 over the collection."""
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

    def __init__(
        self, path: Path, columns: file_lines.Columns | None = None, bad: BadLines = STOP, stored: bool = False
    ) -> None:
        self._path, self._columns, self._bad, self._stored = path, columns, bad, stored

    @cached_property
    def _docs(self) -> dict[str, GenericDoc]:
        return {key: GenericDoc(key, text) for key, text in file_lines.texts(self._path, self._columns, bad=self._bad)}

    @cached_property
    def _repeated(self) -> set[int]:
        return repeated(key for _, key, _ in self._rows())

    def _rows(self) -> Iterator[Row]:
        return file_lines.numbered_texts(self._path, self._columns, self._bad)

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

    def __init__(self, path: Path, columns: file_lines.Columns | None = None, bad: BadLines = STOP) -> None:
        self.path, self._columns, self._bad = path, columns, bad

    def _fields(self) -> Iterator[tuple[int, list[str]]]:
        return file_lines.fields(self.path, self.separator, self.names, self._columns, self._bad)


class FileQueries(Lines, BaseQueries):
    """Queries of a file."""

    def queries_iter(self) -> Iterator[GenericQuery]:
        return (GenericQuery(key, text) for key, text in file_lines.texts(self.path, self._columns, bad=self._bad))


class FileQrels(Lines, BaseQrels):
    """TREC judgments of a file."""

    names = ("query_id", "0", "passage_id", "grade")

    def qrels_iter(self) -> Iterator[GenericQrel]:
        return (qrel for _, qrel in self.numbered())

    def numbered(self) -> Iterator[tuple[int, GenericQrel]]:
        """Yield (line, judgment); one that stands twice comes twice."""
        seen: dict[tuple[str, str], tuple[int, int]] = {}
        for line, (query, _, passage, grade) in self._fields():
            if (value := file_lines.number_in(self.path, line, grade, int, "grade", self._bad)) is None:
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
    return short_hash(text)


KINDS = ("corpus", "queries", "qrels", "triples", "candidates")
HANDLERS = {"queries": FileQueries, "qrels": FileQrels, "triples": FileDocPairs, "candidates": FileScoredDocs}


@dataclass(frozen=True)
class FolderSplit:
    """The files of one split, relative to ``root``.

    Attributes:
        root: the folder.
        corpus: passages, ``id<TAB>text`` (.tsv) or BEIR ``{"_id", "title", "text"}`` (.jsonl).
        queries: ``id<TAB>text`` or BEIR .jsonl.
        qrels: TREC, ``query_id 0 passage_id grade``.
        triples: ``query_id<TAB>positive_id<TAB>negative_id``; optional.
        triples_text: ``query<TAB>positive<TAB>negative``, in place of all other files of the split; optional.
        candidates: a TREC run, ``query_id Q0 passage_id rank score tag``; optional.
        shares_queries: other splits have the same file of queries: this one's are those that its judgments name.
        columns: where fields stand that aren't where they are expected, by kind of file: ``{"corpus": {"id": "docno"}}``.

    Raises:
        ValueError: for columns of a kind of file or a field that there isn't, or a column that is neither a name nor a number.
    """

    root: str
    corpus: str
    queries: str | None
    qrels: str | None
    triples: str | None = None
    candidates: str | None = None
    columns: Mapping[str, Columns] = field(default_factory=dict)
    triples_text: str | None = None
    shares_queries: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", checked(self.columns))

    def path(self, file: str) -> Path:
        """Return where a file of the folder is."""
        return Path(self.root).expanduser() / file

    @property
    def name(self) -> str:
        """The file that tells the split from others."""
        return str(self.triples_text or (self.qrels if self.shares_queries else self.queries))

    @property
    def files(self) -> dict[str, Path]:
        """Its files by kind: ``corpus``, ``queries`` and so on; a file of text triples is all of them."""
        if self.triples_text is not None:
            return dict.fromkeys(("corpus", "queries", "triples"), self.path(self.triples_text))
        return {kind: self.path(file) for kind in KINDS if (file := getattr(self, kind)) is not None}

    def require_root(self) -> Path:
        """Return the folder.

        Raises:
            FileNotFoundError: if it isn't there.
        """
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise FileNotFoundError(
                f"data.root={self.root} is no folder. Set data.root to the folder that holds {self.corpus}."
            )
        return root

    def open(self, bad: BadLines = STOP, stored: bool = False) -> ir_datasets.Dataset:
        """Build the dataset. Files are read on first use and kept in memory.

        Args:
            bad: takes the files' bad lines down.
            stored: passages are kept elsewhere, on disk.
        """
        self.require_root()
        for file in self.files.values():
            if not file.is_file():
                bad.of(file).fail(
                    FileNotFoundError(f"{file} is not there. Set its name under data.*, or put the file in place.")
                )
        if self.triples_text is not None:
            triples = TextDocPairs(self.files["triples"], self.columns.get("triples_text"), bad)
            return open_text_triples(triples, stored)
        for kind in ("queries", "qrels"):
            if kind not in self.files:
                raise ValueError(f"a split of data.root={self.root} has no {kind}. Name the file, or triples_text.")
        return ir_datasets.Dataset(
            FileDocs(self.files["corpus"], self.columns.get("corpus"), bad, stored),
            *(HANDLERS[kind](path, self.columns.get(kind), bad) for kind, path in self.files.items() if kind != "corpus"),
        )


class RunFiles:
    """Candidates in TREC run files, for those splits whose queries are among theirs.

    Args:
        files: the runs; ``BM25`` among them names no file, but BM25 built here for the other splits.
        bad: takes bad lines down.
        key: that names them, for messages.
    """

    def __init__(self, files: Sequence[str], bad: BadLines, key: str = "data.candidates") -> None:
        self._files, self._built = [file for file in files if file != BM25], BM25 in files
        self._bad, self._key = bad, key

    def check(self) -> None:
        """See that the files are there.

        Raises:
            FileNotFoundError: if one isn't.
        """
        for file in self._files:
            if not Path(file).expanduser().is_file():
                raise FileNotFoundError(f"{self._key}={file} is not there. Name a TREC run, or null for the dataset's own.")

    def covering(self, queries: Collection[str]) -> str | None:
        """Return the file that ranks the most of some queries; if none ranks any, ``BM25`` where that is named, else None."""
        counts = {file: len(self.rows(file).table().queries & set(queries)) for file in self._files}
        best = max(counts, key=lambda file: counts[file], default=None)
        if best is not None and counts[best]:
            return best
        return BM25 if self._built else None

    def rows(self, file: str) -> FileScoredDocs:
        """Return the candidates that a file names."""
        return FileScoredDocs(Path(file).expanduser(), bad=self._bad)
