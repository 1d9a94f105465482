"""BM25: first-stage candidates and hard negatives, by bm25s.

The index is built in memory: 2.7 KB per passage at the peak for 50,000 passages of MS MARCO (57 words), 2.5 KB for 200,000,
so about 23 GB for its 8.8 million. With a store that is done once; from then on the index and its ids are memory maps.

Equal scores rank by descending passage id, as everywhere here, so candidates don't depend on the platform's sort.
"""

import json
import logging
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import bm25s
import numpy as np
import Stemmer
from numpy.typing import NDArray

from rankdistil.data.badlines import Tally
from rankdistil.data.origin import Origin
from rankdistil.data.records import Candidate, Ranking
from rankdistil.data.store.build import SOURCE, ensure
from rankdistil.data.store.tokens import Passages

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to DEBUG when imported
K1, B = 0.9, 0.4  # Anserini's values for MS MARCO passages
IDS = "ids.npy"
BYTES_EACH = 2600  # of memory while an index is built, per passage of MS MARCO
MANY = 2_000_000  # passages from which on that is told beforehand


class Bm25:
    """An index of passages; English stop words, Porter2 stems.

    Args:
        index: made by ``build``, or loaded.
        ids: of the passages in UTF-8, in the order of the index, (N,).
    """

    def __init__(self, index: bm25s.BM25, ids: NDArray[np.bytes_]) -> None:
        self._index, self._ids = index, ids
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
        if len(ordered) >= MANY:
            needed = (
                f"about {len(ordered) * BYTES_EACH / 1e9:.0f} GB of memory ({BYTES_EACH / 1000:g} KB per passage of 57 words)"
            )
            print(f"BM25: building the index of {len(ordered)} passages takes {needed}.", file=sys.stderr, flush=True)
        made = cls(bm25s.BM25(k1=K1, b=B), np.array([key.encode() for key, _ in ordered]))
        made._index.index(made._tokens([text for _, text in ordered]), show_progress=False)
        return made

    @classmethod
    def open(cls, folder: Path, passages: Passages, source: dict[str, Any], tally: Tally | None = None) -> "Bm25":
        """Open an index on disk, built first where it is missing or its data have changed.

        Args:
            folder: where it is or goes.
            passages: gives (id, text) of every passage.
            source: what tells the data from others.
            tally: see ``ensure``.
        """

        def write(building: Path) -> dict[str, Any]:
            made = cls.build(passages())
            made._index.save(building, show_progress=False)
            np.save(building / IDS, made._ids)
            return {"count": len(made)}

        return ensure(folder, {"k1": K1, "b": B, SOURCE: source}, write, cls._load, tally)

    @classmethod
    def _load(cls, folder: Path) -> "Bm25":
        return cls(bm25s.BM25.load(folder, mmap=True, show_progress=False), np.load(folder / IDS, mmap_mode="r"))

    def __len__(self) -> int:
        return len(self._ids)

    def search(self, queries: Mapping[str, str], depth: int) -> Ranking:
        """Rank the passages that share a term with each query.

        Args:
            queries: text by id.
            depth: number of candidates per query at most; passages without a common term are never candidates.
        """
        found: Ranking = {}
        for (query_id, _), terms in zip(queries.items(), self._tokens(list(queries.values())), strict=True):
            scores = self._index.get_scores(terms) if terms else np.zeros(len(self), dtype=np.float32)
            found[query_id] = [Candidate(self._ids[i].decode(), float(scores[i])) for i in _best(scores, depth)]
        return found

    def _tokens(self, texts: list[str]) -> list[list[str]]:
        return bm25s.tokenize(texts, stopwords="en", stemmer=self._stem, return_ids=False, show_progress=False)


_OPEN: WeakValueDictionary[str, Bm25] = WeakValueDictionary()


def shared_index(origin: Origin, passages: Passages, store: Path | None, tally: Tally | None) -> Bm25:
    """Open the index of a collection: one for all splits of it that a process reads, as long as one of them is in use.

    Args:
        origin: of the passages.
        passages: gives (id, text) of every passage.
        store: folder of the stores; None builds the index in memory.
        tally: see ``ensure``.
    """
    key = json.dumps([origin.source, str(store)])
    found = _OPEN.get(key)
    if found is None:
        folder = None if store is None else origin.folder(store, "bm25")
        found = Bm25.build(passages()) if folder is None else Bm25.open(folder, passages, origin.source, tally)
        _OPEN[key] = found
    return found


def _best(scores: NDArray[np.float32], depth: int) -> NDArray[np.int64]:
    """Return the places of the best positive scores, equal ones in their order. Most passages share no term with a query."""
    hits = np.flatnonzero(scores > 0)
    if len(hits) > depth:
        hits = hits[scores[hits] >= np.partition(scores[hits], -depth)[-depth]]
    return hits[np.argsort(-scores[hits], kind="stable")][:depth]
