"""BM25: first-stage candidates and hard negatives, by bm25s. The index is built in memory, and read from disk once saved.

Equal scores rank by descending passage id, as everywhere here, so candidates don't depend on the platform's sort.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
import Stemmer
from numpy.typing import NDArray

from rankdistil.data.records import Candidate, Ranking
from rankdistil.data.store.build import SOURCE, ensure
from rankdistil.data.store.tokens import Passages
from rankdistil.files import write_text

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to DEBUG when imported
K1, B = 0.9, 0.4  # Anserini's values for MS MARCO passages


IDS = "ids.json"


class Bm25:
    """An index of passages; English stop words, Porter2 stems.

    Args:
        index: made by ``build``, or loaded.
        ids: of the passages, in the order of the index.
    """

    def __init__(self, index: bm25s.BM25, ids: list[str]) -> None:
        self._index, self.ids = index, ids
        self._stem = Stemmer.Stemmer("english").stemWords

    @classmethod
    def build(cls, passages: Iterable[tuple[str, str]]) -> "Bm25":
        """Index passages, (id, text) each.

        Raises:
            ValueError: if there is none.
        """
        ordered = sorted(passages, reverse=True)  # equal scores then rank by descending id, as in trec_eval
        if not ordered:
            raise ValueError("BM25 needs at least one passage; the collection is empty.")
        made = cls(bm25s.BM25(k1=K1, b=B), [key for key, _ in ordered])
        made._index.index(made._tokens([text for _, text in ordered]), show_progress=False)
        return made

    @classmethod
    def open(cls, folder: Path, passages: Passages, source: dict[str, Any]) -> "Bm25":
        """Open an index on disk, built first where it is missing or its data have changed.

        Args:
            folder: where it is or goes.
            passages: gives (id, text) of every passage.
            source: what tells the data from others.
        """

        def write(building: Path) -> dict[str, Any]:
            made = cls.build(passages())
            made._index.save(building, show_progress=False)
            write_text(building / IDS, json.dumps(made.ids))
            return {"count": len(made.ids)}

        return ensure(folder, {"k1": K1, "b": B, SOURCE: source}, write, cls._load)

    @classmethod
    def _load(cls, folder: Path) -> "Bm25":
        ids = json.loads((folder / IDS).read_text(encoding="utf-8"))
        return cls(bm25s.BM25.load(folder, mmap=True, show_progress=False), ids)

    def search(self, queries: Mapping[str, str], depth: int) -> Ranking:
        """Rank the passages that share a term with each query.

        Args:
            queries: text by id.
            depth: number of candidates per query at most; passages without a common term are never candidates.
        """
        found: Ranking = {}
        for (query_id, _), terms in zip(queries.items(), self._tokens(list(queries.values())), strict=True):
            scores = self._index.get_scores(terms) if terms else np.zeros(len(self.ids), dtype=np.float32)
            found[query_id] = [Candidate(self.ids[i], float(scores[i])) for i in _best(scores, depth)]
        return found

    def _tokens(self, texts: list[str]) -> list[list[str]]:
        return bm25s.tokenize(texts, stopwords="en", stemmer=self._stem, return_ids=False, show_progress=False)


def _best(scores: NDArray[np.float32], depth: int) -> NDArray[np.int64]:
    """Return the places of the best positive scores, equal ones in their order. Most passages share no term with a query."""
    hits = np.flatnonzero(scores > 0)
    if len(hits) > depth:
        hits = hits[scores[hits] >= np.partition(scores[hits], -depth)[-depth]]
    return hits[np.argsort(-scores[hits], kind="stable")][:depth]
