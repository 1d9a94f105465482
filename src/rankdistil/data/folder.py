"""A folder of plain files as an ir_datasets dataset, so that every reader sees one interface.

ir_datasets' own TSV handlers were rejected: their errors name neither file nor line, and they build a docstore of pickles
beside the corpus that goes on serving old texts after an edit.
"""

from collections.abc import Iterator, Mapping
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

from rankdistil.data import parse


@dataclass(frozen=True)
class FolderSplit:
    """The files of one split, relative to ``root``.

    Attributes:
        root: the folder.
        corpus: passages, ``id<TAB>text`` (.tsv) or BEIR ``{"_id", "title", "text"}`` (.jsonl).
        queries: ``id<TAB>text`` or BEIR .jsonl.
        qrels: TREC, ``query_id 0 passage_id grade``.
        triples: ``query_id<TAB>positive_id<TAB>negative_id``; optional.
        candidates: a TREC run, ``query_id Q0 passage_id rank score tag``; optional.
        columns: where fields stand that aren't where they are expected, by kind of file: ``{"corpus": {"id": "docno"}}``.
    """

    root: str
    corpus: str
    queries: str
    qrels: str
    triples: str | None = None
    candidates: str | None = None
    columns: Mapping[str, parse.Columns] = field(default_factory=dict)

    def path(self, file: str) -> Path:
        """Return where a file of the folder is."""
        return Path(self.root).expanduser() / file

    def open(self, stored: bool = False) -> ir_datasets.Dataset:
        """Build the dataset. Files are read on first use and kept in memory, passages not if they are ``stored`` elsewhere."""
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise FileNotFoundError(
                f"data.root={self.root} is no folder. Set data.root to the folder that holds {self.corpus}."
            )
        for file in (self.corpus, self.queries, self.qrels, self.triples, self.candidates):
            if file is not None and not (root / file).is_file():
                raise FileNotFoundError(f"{root / file} is not there. Set its name under data.*, or put the file in place.")
        return ir_datasets.Dataset(
            FileDocs(root / self.corpus, self._columns("corpus"), stored),
            FileQueries(root / self.queries, self._columns("queries")),
            FileQrels(root / self.qrels, self._columns("qrels")),
            FileDocPairs(root / self.triples, self._columns("triples")) if self.triples else None,
            FileScoredDocs(root / self.candidates, self._columns("candidates")) if self.candidates else None,
        )

    def _columns(self, kind: str) -> parse.Columns | None:
        return self.columns.get(kind)


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
        stored: a text store keeps them (and finds ids that occur twice): iterating reads the file, and keeps nothing.
    """

    def __init__(self, path: Path, columns: parse.Columns | None = None, stored: bool = False) -> None:
        self._path, self._columns, self._stored = path, columns, stored

    @cached_property
    def _docs(self) -> dict[str, GenericDoc]:
        return {key: GenericDoc(key, text) for key, text in parse.texts(self._path, self._columns)}

    def docs_iter(self) -> Iterator[GenericDoc]:
        if self._stored:
            return (GenericDoc(key, text) for key, text in parse.texts(self._path, self._columns, repeated=True))
        return iter(self._docs.values())

    def docs_count(self) -> int:
        return len(self._docs)

    def docs_store(self, field: str = "doc_id", options: object = None) -> MemoryDocstore:
        return MemoryDocstore(self._docs)


class FileQueries(BaseQueries):
    """Queries of a file."""

    def __init__(self, path: Path, columns: parse.Columns | None = None) -> None:
        self._path, self._columns = path, columns

    def queries_iter(self) -> Iterator[GenericQuery]:
        return (GenericQuery(key, text) for key, text in parse.texts(self._path, self._columns))


class FileQrels(BaseQrels):
    """TREC judgments of a file."""

    def __init__(self, path: Path, columns: parse.Columns | None = None) -> None:
        self._path, self._columns = path, columns

    def qrels_iter(self) -> Iterator[GenericQrel]:
        seen: dict[tuple[str, str], int] = {}
        names = ("query_id", "0", "passage_id", "grade")
        for line, (query, _, passage, grade) in parse.fields(self._path, None, names, self._columns):
            if (query, passage) in seen:
                first = seen[query, passage]
                raise ValueError(f"{self._path}:{line}: query {query} judges passage {passage} again (line {first}). Keep one.")
            seen[query, passage] = line
            yield GenericQrel(query, passage, int(parse.number_in(self._path, line, grade, int, "grade")))

    def qrels_defs(self) -> dict[int, str]:
        return {}


class FileDocPairs(BaseDocPairs):
    """Id triples of a file."""

    def __init__(self, path: Path, columns: parse.Columns | None = None) -> None:
        self._path, self._columns = path, columns

    def docpairs_iter(self) -> Iterator[GenericDocPair]:
        names = ("query_id", "positive_id", "negative_id")
        return (GenericDocPair(*parts) for _, parts in parse.fields(self._path, "\t", names, self._columns))


class FileScoredDocs(BaseScoredDocs):
    """A TREC run of a file."""

    def __init__(self, path: Path, columns: parse.Columns | None = None) -> None:
        self._path, self._columns = path, columns

    def scoreddocs_iter(self) -> Iterator[GenericScoredDoc]:
        names = ("query_id", "Q0", "passage_id", "rank", "score", "tag")
        for line, (query, _, passage, _, score, _) in parse.fields(self._path, None, names, self._columns):
            yield GenericScoredDoc(query, passage, float(parse.number_in(self._path, line, score, float, "score")))
