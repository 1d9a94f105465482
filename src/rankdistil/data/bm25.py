"""BM25 over a collection that fits in memory: first-stage candidates and hard negatives, by bm25s.

Equal scores rank by descending passage id, as everywhere here, so candidates don't depend on the platform's sort.
"""

import logging
from collections.abc import Iterable, Mapping

import bm25s
import numpy as np
import Stemmer

from rankdistil.data.records import Candidate, Ranking

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to DEBUG when imported
K1, B = 0.9, 0.4  # Anserini's values for MS MARCO passages


class Bm25:
    """An index of passages; English stop words, Porter2 stems.

    Args:
        passages: (id, text) of each passage.

    Raises:
        ValueError: if there is no passage.
    """

    def __init__(self, passages: Iterable[tuple[str, str]]) -> None:
        ordered = sorted(passages, reverse=True)  # equal scores then rank by descending id, as in trec_eval
        if not ordered:
            raise ValueError("BM25 needs at least one passage; the collection is empty.")
        self.ids = [key for key, _ in ordered]
        self._stem = Stemmer.Stemmer("english").stemWords
        self._index = bm25s.BM25(k1=K1, b=B)
        self._index.index(self._tokens([text for _, text in ordered]), show_progress=False)

    def search(self, queries: Mapping[str, str], depth: int) -> Ranking:
        """Rank the passages that share a term with each query.

        Args:
            queries: text by id.
            depth: number of candidates per query at most; passages without a common term are never candidates.
        """
        found: Ranking = {}
        for (query_id, _), terms in zip(queries.items(), self._tokens(list(queries.values())), strict=True):
            scores = self._index.get_scores(terms) if terms else np.zeros(len(self.ids), dtype=np.float32)
            best = np.argsort(-scores, kind="stable")[:depth]
            found[query_id] = [Candidate(self.ids[i], float(scores[i])) for i in best if scores[i] > 0]
        return found

    def _tokens(self, texts: list[str]) -> list[list[str]]:
        return bm25s.tokenize(texts, stopwords="en", stemmer=self._stem, return_ids=False, show_progress=False)
