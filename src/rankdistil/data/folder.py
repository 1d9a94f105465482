"""A folder of plain files as an ir_datasets dataset, so that every reader sees one interface.

ir_datasets' own TSV handlers were rejected: their errors name neither file nor line, and they build a docstore of pickles
beside the corpus that goes on serving old texts after an edit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import ir_datasets

from rankdistil.data.badlines import STOP, BadLines
from rankdistil.data.columns import Columns, checked
from rankdistil.data.handlers import FileDocPairs, FileDocs, FileQrels, FileQueries, FileScoredDocs
from rankdistil.data.text_triples import TextDocPairs, open_text_triples

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
                raise FileNotFoundError(f"{file} is not there. Set its name under data.*, or put the file in place.")
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
