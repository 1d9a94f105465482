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

from rankdistil.data.collections.origin import Origin
from rankdistil.data.files.bad_lines import Tally
from rankdistil.data.records import Candidate, Ranking
from rankdistil.data.settings import STEMMERS
from rankdistil.data.stores.contents import Passages
from rankdistil.data.stores.ragged import SOURCE, ensure

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to DEBUG when imported
K1, B = 0.9, 0.4  # Anserini's values for MS MARCO passages
IDS, STARTS = "ids.npy", "starts.npy"
LAYOUT = 2  # of the files of an index on disk
BYTES_EACH = 2600  # of memory while an index is built, per passage of MS MARCO
MANY = 2_000_000  # passages from which on that is told beforehand
STOP_WORDS = {"da", "de", "en", "es", "fr", "it", "nl", "no", "pt", "ru", "sv", "tr"}  # languages of which bm25s has a list


class Bm25:
    """An index of passages: words of two letters or more, without stop words, as Snowball's stems (English: Porter2).

    Args:
        index: made by ``build``, or loaded.
        ids: of the passages in UTF-8, one behind the other in the order of the index, (bytes,): no long one widens the others.
        starts: where each begins, and where the last one ends, (N + 1,).
        language: of passages and queries, see ``STEMMERS``; None takes all words as they are.
    """

    def __init__(
        self, index: bm25s.BM25, ids: NDArray[np.uint8], starts: NDArray[np.int64], language: str | None = "en"
    ) -> None:
        self._index, self._ids, self._starts = index, ids, starts
        self._stem = None if language is None else Stemmer.Stemmer(STEMMERS[language]).stemWords
        self._stop_words = language if language in STOP_WORDS else None

    @classmethod
    def build(cls, passages: Iterable[tuple[str, str]], name: str = "the collection", language: str | None = "en") -> "Bm25":
        """Index passages, (id, text) each.

        Args:
            passages: to index.
            name: where they come from, for messages.
            language: see ``Bm25``.

        Raises:
            ValueError: if there is none, or none has a term.
        """
        ordered = sorted(passages, reverse=True)  # equal scores then rank by descending id, as in trec_eval
        if not ordered:
            raise ValueError(f"BM25 needs at least one passage; {name} is empty.")
        if len(ordered) >= MANY:
            needed = (
                f"about {len(ordered) * BYTES_EACH / 1e9:.0f} GB of memory ({BYTES_EACH / 1000:g} KB per passage of 57 words)"
            )
            print(f"BM25: building the index of {len(ordered)} passages takes {needed}.", file=sys.stderr, flush=True)
        ids = [key.encode() for key, _ in ordered]
        starts = np.cumsum([0, *map(len, ids)], dtype=np.int64)
        made = cls(bm25s.BM25(k1=K1, b=B), np.frombuffer(b"".join(ids), np.uint8), starts, language)
        tokens = made._tokens([text for _, text in ordered])
        if not any(tokens):
            raise ValueError(
                f"{name}: no passage holds a term that BM25 can index: a word of two letters or more that is no stop word "
                f"(data.language={language or 'null'}). Name a run of candidates: data.candidates=<TREC run>."
            )
        made._index.index(tokens, show_progress=False)
        return made

    @classmethod
    def open(
        cls, folder: Path, passages: Passages, source: dict[str, Any], tally: Tally | None = None,
        name: str = "the collection", language: str | None = "en",
    ) -> "Bm25":  # fmt: skip
        """Open an index on disk, built first where it is missing or its data have changed.

        Args:
            folder: where it is or goes.
            passages: gives (id, text) of every passage.
            source: what tells the data from others.
            tally: see ``ensure``.
            name: see ``build``.
            language: see ``Bm25``.
        """

        def write(building: Path) -> dict[str, Any]:
            made = cls.build(passages(), name, language)
            made._index.save(building, show_progress=False)
            np.save(building / IDS, made._ids)
            np.save(building / STARTS, made._starts)
            return {"count": len(made)}

        def load(folder: Path) -> "Bm25":
            files = (np.load(folder / file, mmap_mode="r") for file in (IDS, STARTS))
            return cls(bm25s.BM25.load(folder, mmap=True, show_progress=False), *files, language)

        settings = {"k1": K1, "b": B, "layout": LAYOUT, "language": language, SOURCE: source}
        return ensure(folder, settings, write, load, tally)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def _id(self, place: int) -> str:
        return self._ids[self._starts[place] : self._starts[place + 1]].tobytes().decode()

    def search(self, queries: Mapping[str, str], depth: int) -> Ranking:
        """Rank the passages that share a term with each query.

        Args:
            queries: text by id.
            depth: number of candidates per query at most; passages without a common term are never candidates.
        """
        found: Ranking = {}
        for (query_id, _), terms in zip(queries.items(), self._tokens(list(queries.values())), strict=True):
            scores = self._index.get_scores(terms) if terms else np.zeros(len(self), dtype=np.float32)
            found[query_id] = [Candidate(self._id(i), float(scores[i])) for i in _best(scores, depth)]
        return found

    def _tokens(self, texts: list[str]) -> list[list[str]]:
        return bm25s.tokenize(texts, stopwords=self._stop_words, stemmer=self._stem, return_ids=False, show_progress=False)


_OPEN: WeakValueDictionary[str, Bm25] = WeakValueDictionary()


def shared_index(origin: Origin, passages: Passages, store: Path | None, tally: Tally | None, language: str | None) -> Bm25:
    """Open the index of a collection: one for all splits of it that a process reads, as long as one of them is in use.

    Args:
        origin: of the passages.
        passages: gives (id, text) of every passage.
        store: folder of the stores; None builds the index in memory.
        tally: see ``ensure``.
        language: see ``Bm25``.
    """
    key = json.dumps([origin.source, str(store), language])
    found = _OPEN.get(key)
    if found is None:
        name = str(origin.files[0]) if origin.files else origin.label
        if store is None:
            found = Bm25.build(passages(), name, language)
        else:
            folder = origin.folder(store, "bm25" if language == "en" else f"bm25_{language or 'words'}")
            found = Bm25.open(folder, passages, origin.source, tally, name, language)
        _OPEN[key] = found
    return found


def _best(scores: NDArray[np.float32], depth: int) -> NDArray[np.int64]:
    """Return the places of the best positive scores, equal ones in their order. Most passages share no term with a query."""
    hits = np.flatnonzero(scores > 0)
    if len(hits) > depth:
        hits = hits[scores[hits] >= np.partition(scores[hits], -depth)[-depth]]
    return hits[np.argsort(-scores[hits], kind="stable")][:depth]
