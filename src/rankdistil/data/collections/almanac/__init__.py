"""The embedded collection: short factual passages and questions, written for this project (see CARD.md).

Registered with ir_datasets under the ids below. Topics are split, so no passage that answers a training question answers a
test question. The training split's collection holds training topics only: not even a negative comes from a test topic.
"""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import ir_datasets
from ir_datasets.formats import BaseDocPairs, BaseScoredDocs, GenericDoc, GenericDocPair, GenericQrel, GenericScoredDoc

from rankdistil.data.collections.bm25 import Bm25
from rankdistil.data.files.folder import FileDocs, FileQrels, FileQueries

FOLDER = Path(__file__).parent
NAME = "rankdistil/almanac"
SPLITS = ("train", "valid", "test")
IDS = tuple(f"{NAME}/{split}" for split in SPLITS)
DEPTH = 100


def topic(identifier: str) -> str:
    """The topic of a passage (``honey-bees-03``) or a question (``honey-bees-03-w``)."""
    return identifier.removesuffix("-w").removesuffix("-p").removesuffix("-b").rsplit("-", 1)[0]


def register() -> None:
    """Make the ids known to ``ir_datasets.load``; calling it again changes nothing."""
    if NAME in ir_datasets.registry:
        return
    everything = FileDocs(FOLDER / "passages.tsv")
    ir_datasets.registry.register(NAME, ir_datasets.Dataset(everything))
    for split, name in zip(SPLITS, IDS, strict=True):
        queries = FileQueries(FOLDER / f"queries.{split}.tsv")
        qrels = FileQrels(FOLDER / f"qrels.{split}.txt")
        docs = TopicDocs(everything, queries) if split == "train" else everything
        parts = docs, queries, qrels, TopicDocPairs(docs, qrels), Bm25ScoredDocs(docs, queries)
        ir_datasets.registry.register(name, ir_datasets.Dataset(*parts))


class TopicDocs(FileDocs):
    """The passages of the topics that a split's questions ask about."""

    def __init__(self, docs: FileDocs, queries: FileQueries) -> None:
        self._all, self._queries, self._stored = docs, queries, False

    @cached_property
    def _docs(self) -> dict[str, GenericDoc]:
        topics = {topic(query.query_id) for query in self._queries.queries_iter()}
        return {doc.doc_id: doc for doc in self._all.docs_iter() if topic(doc.doc_id) in topics}


class TopicDocPairs(BaseDocPairs):
    """Each judged passage of a question against each passage of its topic that doesn't answer it."""

    def __init__(self, docs: FileDocs, qrels: FileQrels) -> None:
        self._docs, self._qrels = docs, qrels

    def docpairs_iter(self) -> Iterator[GenericDocPair]:
        topics: dict[str, list[str]] = {}
        for doc in self._docs.docs_iter():
            topics.setdefault(topic(doc.doc_id), []).append(doc.doc_id)
        judged: dict[str, list[GenericQrel]] = {}
        for qrel in self._qrels.qrels_iter():
            judged.setdefault(qrel.query_id, []).append(qrel)
        for query_id, qrels in judged.items():
            answers = {qrel.doc_id for qrel in qrels}
            for qrel in qrels:
                for other in topics[topic(qrel.doc_id)]:
                    if other not in answers:
                        yield GenericDocPair(query_id, qrel.doc_id, other)


class Bm25ScoredDocs(BaseScoredDocs):
    """BM25's best passages of each question, computed when first asked for."""

    def __init__(self, docs: FileDocs, queries: FileQueries) -> None:
        self._docs, self._queries = docs, queries

    @cached_property
    def _rows(self) -> list[GenericScoredDoc]:
        index = Bm25.build((doc.doc_id, doc.text) for doc in self._docs.docs_iter())
        found = index.search({query.query_id: query.text for query in self._queries.queries_iter()}, DEPTH)
        return [GenericScoredDoc(query_id, *candidate) for query_id, row in found.items() for candidate in row]

    def scoreddocs_iter(self) -> Iterator[GenericScoredDoc]:
        return iter(self._rows)
