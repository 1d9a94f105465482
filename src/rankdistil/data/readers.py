"""One reader for every collection: an ir_datasets id, or a folder of plain files seen through the same interface.

A reader holds no open file until it is used and can be pickled, because ir_datasets' stores survive neither fork nor spawn.
"""

from collections.abc import Iterable, Iterator
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import ir_datasets
from ir_datasets.indices.base import DocstoreOptions, FileAccess

from rankdistil.data import almanac
from rankdistil.data.badlines import STRICT, BadLines, Tolerance
from rankdistil.data.bm25 import Bm25
from rankdistil.data.folder import FolderSplit
from rankdistil.data.records import Candidate, Qrels, Ranking, Triple
from rankdistil.files import stamp


class Holdout(NamedTuple):
    """A fixed share of queries set apart for validation.

    Attributes:
        queries: how many.
        inside: True for the reader of the queries set apart, False for the reader of the others.
    """

    queries: int
    inside: bool


class Reader:
    """Reads one split of a collection.

    Args:
        source: an ir_datasets id, or the files of a folder.
        holdout: restricts the split to, or keeps it clear of, queries set apart.
        tolerance: what becomes of bad lines and unknown ids.
    """

    def __init__(self, source: str | FolderSplit, holdout: Holdout | None = None, tolerance: Tolerance = STRICT) -> None:
        self.source = source
        self.holdout = holdout
        self.tolerance = tolerance

    def __getstate__(self) -> dict[str, object]:
        return {"source": self.source, "holdout": self.holdout, "tolerance": self.tolerance}

    @cached_property
    def bad(self) -> BadLines:
        """The bad lines of its files, as far as they have been read."""
        return BadLines(self.tolerance.on_bad)

    @property
    def name(self) -> str:
        """The id, or where the files are, for messages."""
        return self._named(self.source if isinstance(self.source, str) else f"{self.source.root}/{self.source.queries}")

    @property
    def label(self) -> str:
        """The id, or folder and file, for records and model cards: a path of this machine means nothing elsewhere."""
        if isinstance(self.source, str):
            return self._named(self.source)
        return self._named(f"{Path(self.source.root).expanduser().resolve().name}/{self.source.queries}")

    def _named(self, text: str) -> str:
        if self.holdout is None:
            return text
        return f"{text} ({'only' if self.holdout.inside else 'without'} {self.holdout.queries} held-out queries)"

    @cached_property
    def dataset(self) -> ir_datasets.Dataset:
        """The dataset behind the reader.

        Raises:
            ValueError: for an id that ir_datasets doesn't know.
        """
        if isinstance(self.source, FolderSplit):
            return self.source.open(self.bad)
        almanac.register()
        try:
            return ir_datasets.load(self.source)
        except KeyError:
            raise ValueError(
                f"ir_datasets knows no dataset {self.source!r}. Ids are listed at https://ir-datasets.com; "
                f"the embedded ones are {', '.join(almanac.IDS)}."
            ) from None

    def origin(self, kind: str) -> tuple[str, dict[str, str | int]]:
        """Say where ``queries``, ``passages`` or ``docpairs`` come from: a name for files, and what tells them from others.

        Splits of one collection share the origin of their passages.
        """
        if isinstance(self.source, str):
            self.dataset  # noqa: B018 - registers the embedded collection, and answers unknown ids
            parent = ir_datasets.parent_id(self.source, "docs" if kind == "passages" else kind)
            return parent.replace("/", "-"), {"dataset": parent}
        kind = {"passages": "corpus", "queries": "queries", "docpairs": "triples"}[kind]
        path, columns = self.source.files[kind], self.source.columns.get(kind)
        named = {"columns": str(sorted(columns.items()))} if columns else {}
        return f"{path.parent.resolve().name}-{path.name}", stamp(path) | named

    @cached_property
    def all_queries(self) -> dict[str, str]:
        """Text by query id, of held-out queries and others."""
        if not self.dataset.has_queries():
            raise ValueError(f"{self.name} has no queries: name a split of it, for example {self.name}/train.")
        return {query.query_id: query.default_text() for query in self.dataset.queries_iter()}

    @cached_property
    def queries(self) -> dict[str, str]:
        """Text by query id."""
        texts = self.all_queries
        if self.holdout is None:
            return texts
        ranked = sorted(texts, key=lambda key: sha256(key.encode()).digest())  # fixed, whatever the file's order
        if self.holdout.queries >= len(ranked):
            raise ValueError(f"data.holdout={self.holdout.queries} leaves no query of {len(ranked)} to train on; set it lower.")
        chosen = set(ranked[: self.holdout.queries])
        return {key: text for key, text in texts.items() if (key in chosen) == self.holdout.inside}

    @cached_property
    def qrels(self) -> Qrels:
        """Judgments of the split's queries; a negative grade counts as 0."""
        judged: Qrels = {}
        for qrel in self.dataset.qrels_iter():
            if qrel.query_id in self.queries:
                judged.setdefault(qrel.query_id, {})[qrel.doc_id] = max(qrel.relevance, 0)
        if not judged:
            raise ValueError(f"{self.name}: no query of the split has a judgment. Do queries and qrels belong together?")
        return judged

    @cached_property
    def _store(self) -> ir_datasets.indices.Docstore:
        return self.dataset.docs_store(options=DocstoreOptions(file_access=FileAccess.MMAP))

    def texts(self, passage_ids: Iterable[str]) -> dict[str, str]:
        """Text by passage id.

        Raises:
            ValueError: if a passage isn't in the collection; none is left out silently.
        """
        wanted = list(dict.fromkeys(passage_ids))
        found = self.find(wanted)
        if len(found) < len(wanted):
            missing = [key for key in wanted if key not in found]
            raise ValueError(
                f"{self.name}: {len(missing)} passages named by triples, judgments or candidates are not in the collection, "
                f"for example {', '.join(missing[:3])}. Do the files belong together?"
            )
        return found

    def find(self, passage_ids: Iterable[str]) -> dict[str, str]:
        """Text by passage id, of those that the collection holds."""
        return {key: doc.default_text() for key, doc in self._store.get_many(list(passage_ids)).items()}

    def contains(self, passage_id: str) -> bool:
        """Whether the collection holds a passage."""
        return bool(self._store.get_many([passage_id]))

    def passages(self) -> Iterator[tuple[str, str]]:
        """Yield (id, text) of the whole collection."""
        return ((doc.doc_id, doc.default_text()) for doc in self.dataset.docs_iter())

    def docpairs(self) -> Iterator[Triple]:
        """Yield the dataset's own triples.

        Raises:
            ValueError: if it has none.
        """
        if not self.dataset.has_docpairs():
            raise ValueError(f"{self.name} has no docpairs (triples). Set data.train_on=sampled, or name a triples file.")
        return (Triple(*pair[:3]) for pair in self.dataset.docpairs_iter() if pair.query_id in self.queries)

    @property
    def first_stage(self) -> str:
        """What ranked the candidates: the name of the run file, BM25 where it is built here, else the dataset's own."""
        if isinstance(self.source, FolderSplit) and self.source.candidates:
            return Path(self.source.candidates).name
        built_here = isinstance(self.source, FolderSplit) or self.source in almanac.IDS or not self.dataset.has_scoreddocs()
        return "BM25" if built_here else "scoreddocs"

    def candidates(self, depth: int, query_ids: Iterable[str] | None = None) -> Ranking:
        """Rank the first stage's candidates: the dataset's scoreddocs, or BM25 over the collection where it has none.

        Args:
            depth: candidates per query at most, best first; equal scores in order of descending passage id, as trec_eval.
            query_ids: the queries wanted; all by default.

        Raises:
            ValueError: if a candidate occurs twice.
        """
        wanted = self.queries if query_ids is None else {key: self.queries[key] for key in query_ids}
        if not self.dataset.has_scoreddocs():
            return self._bm25.search(wanted, depth)
        found: Ranking = {key: [] for key in wanted}
        for scored in self.dataset.scoreddocs_iter():
            if scored.query_id in found:
                found[scored.query_id].append(Candidate(scored.doc_id, scored.score))
        for query_id, row in found.items():
            if len({candidate.passage_id for candidate in row}) < len(row):
                raise ValueError(
                    f"{self.name}: the candidates of query {query_id} name a passage twice. Remove the repetition."
                )
            row.sort(key=lambda candidate: candidate.passage_id, reverse=True)
            row.sort(key=lambda candidate: -candidate.score)
            del row[depth:]
        return found

    @cached_property
    def _bm25(self) -> Bm25:
        return Bm25(self.passages())
