"""Texts of a split, its queries and the passages of its collection; and ids that lead nowhere.

A triple is never shortened, a candidate never exchanged for another passage: its line is a bad one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rankdistil.data.collections.origin import with_ids
from rankdistil.data.collections.reader import Reader
from rankdistil.data.encode import PairEncoder, Rows, Segment, Texts
from rankdistil.data.files.bad_lines import Tally
from rankdistil.data.files.folder import FolderSplit, Lines
from rankdistil.data.records import Candidate, Qrels, Ranking, Triple
from rankdistil.data.stores.contents import TextStore, open_texts, open_tokens
from rankdistil.data.stores.ragged import RaggedStore

COUNTED = 1 << 10  # texts that are tokenised together to be counted


class LiveTexts:
    """Texts that are tokenised each time they are gathered; lengths are in characters.

    Rows are given out in the order in which ids are first asked for.

    Args:
        fetch: text by id, for those of some ids that are there.
        encoder: gives the token ids; None where they are never gathered.
    """

    def __init__(self, fetch: Callable[[Sequence[str]], Mapping[str, str]], encoder: PairEncoder | None) -> None:
        self._fetch, self._encoder = fetch, encoder
        self._row: dict[str, int] = {}
        self._ids: list[str] = []

    def rows(self, ids: Sequence[str]) -> Rows:
        """Give each new id whose text is there a row."""
        new = [key for key in dict.fromkeys(ids) if key not in self._row]
        found = self._fetch(new) if new else {}
        for key in new:
            if key in found:
                self._row[key] = len(self._ids)
                self._ids.append(key)
        return np.array([self._row.get(key, -1) for key in ids], dtype=np.int64)

    def names(self, rows: Rows) -> tuple[str, ...]:
        """Return the ids of rows, (N,)."""
        return tuple(self._ids[row] for row in rows.tolist())

    def lengths(self, rows: Rows) -> NDArray[np.int64]:
        """Return the characters of each row's text, the same shape."""
        return np.array([len(text) for text in self._texts(rows.reshape(-1))], dtype=np.int64).reshape(rows.shape)

    def tokens(self, rows: Rows) -> NDArray[np.int64]:
        """Tokenise the texts of rows, (N,), each once, to count them."""
        own, place = np.unique(rows, return_inverse=True)
        parts = np.array_split(own, -(-len(own) // COUNTED) or 1)
        return np.concatenate([self.gather(part).lengths for part in parts])[place]

    def gather(self, rows: Rows) -> Segment:
        """Tokenise the texts of rows, (N,)."""
        return self._encoder.segment(self._texts(rows))

    def _texts(self, rows: Rows) -> list[str]:
        ids = self.names(rows)
        found = self._fetch(ids)
        return [found[key] for key in ids]


class Collection(NamedTuple):
    """Attributes: queries: of the split; passages: of the whole collection."""

    queries: Texts
    passages: Texts


def open_collection(reader: Reader, encoder: PairEncoder | None, store: Path | None) -> Collection:
    """Open the texts of a split.

    Args:
        reader: the split.
        encoder: gives the token ids; None where nothing is tokenised.
        store: folder of the token stores, which are built there once; None tokenises texts each time.
    """
    if store is None:
        fetch = _Queries(reader)
        return Collection(LiveTexts(fetch, encoder), LiveTexts(reader.find, encoder))
    if encoder is None:
        return Collection(_open_queries(reader, store), reader.open_texts())
    origin = reader.origin("queries")
    texts = lambda: reader.all_queries.items()  # noqa: E731 - they are read only where their store must be built
    queries = open_tokens(origin.folder(store, "queries", **_longer(encoder)), texts, encoder, origin.source)
    return Collection(queries, open_passages(reader, encoder, store))


def _open_queries(reader: Reader, store: Path) -> TextStore:
    """Open the store of a collection's queries as texts."""
    origin = reader.origin("queries")
    return open_texts(origin.folder(store, "query_texts"), lambda: reader.all_queries.items(), origin.source)


def open_passages(reader: Reader, encoder: PairEncoder, store: Path) -> RaggedStore:
    """Open the token store of a collection's passages."""
    origin = reader.origin("passages")
    folder = origin.folder(store, "passages", **_longer(encoder))
    return open_tokens(folder, reader.passages, encoder, origin.source, reader.passages_tally)


def _longer(encoder: PairEncoder) -> dict[str, int]:
    """Tell a store of longer texts by their tokens: stages and rankers with windows share ``data.store`` with others."""
    return {} if encoder.reach == encoder.room else {"tokens": encoder.reach}


class _Queries:
    """Fetches queries; pickles as its reader."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def __call__(self, ids: Sequence[str]) -> dict[str, str]:
        return self._reader.queries


FIRST = 3  # examples in a message


def training_triples(reader: Reader) -> tuple[Tally, Iterator[tuple[int, Triple]]]:
    """Return the tally of a split's own triples, and (line, triple) of all but those of held-out queries.

    Raises:
        ValueError: if it has none.
    """
    reader.require_docpairs()
    tally, rows = numbered(reader, "docpairs")
    return tally, _of_split(rows, reader)


def _of_split(rows: Iterator[tuple[int, Any]], reader: Reader) -> Iterator[tuple[int, Triple]]:
    """Leave out the triples of held-out queries. Queries are read with the first triple: a store may spare both."""
    own, everything = reader.queries, reader.all_queries
    for line, row in rows:
        if row.query_id in own or row.query_id not in everything:
            yield line, Triple(*row[:3])


def numbered(reader: Reader, kind: str) -> tuple[Tally, Iterator[tuple[int, Any]]]:
    """Return the tally of a split's ``docpairs`` or ``qrels``, and (line, record).

    Records of ir_datasets are counted from 1.
    """
    handler = getattr(reader.dataset, f"{kind}_handler")()
    if isinstance(handler, Lines):
        return reader.bad.of(handler.path), handler.numbered()
    tally = reader.bad.of(f"{reader.source} {kind}")
    return tally, with_ids(getattr(handler, f"{kind}_iter")(), kind, tally)


def judgments(reader: Reader, passages: Texts) -> Qrels:
    """Return the judgments of a split's queries.

    Args:
        reader: the split.
        passages: the collection.

    Raises:
        ValueError: if a file names passages or queries that aren't there, unless ``data.allow_unknown`` accepts them.
    """
    if reader.tolerance.allow_unknown or not isinstance(reader.source, FolderSplit) or not reader.dataset.has_qrels():
        return reader.qrels
    tally, rows = numbered(reader, "qrels")
    judged = [(line, row.query_id, row.doc_id) for line, row in rows]
    there = passages.rows([passage for *_, passage in judged]) >= 0
    problems = (
        (f"passages that are not in {reader.source.corpus}", [
            (line, passage) for (line, _, passage), known in zip(judged, there, strict=True) if not known
        ]),
        (f"queries that are not in {reader.source.queries}", [
            (line, query) for line, query, _ in judged if query not in reader.all_queries
        ]),
    )  # fmt: skip
    found = [f"{len(rows)} judgments name {what} ({_examples(rows)})" for what, rows in problems if rows]
    if found:
        raise ValueError(
            f"{tally.file}: {'; '.join(found)}. Do the files belong together? Remove these lines, or set "
            "data.allow_unknown=true: unknown passages then count for the ideal ranking, unknown queries don't."
        )
    return reader.qrels


def negative_candidates(reader: Reader, depth: int, passages: Texts, query_ids: Iterable[str] | None = None) -> Ranking:
    """Rank what hard negatives of training queries are drawn from: runs that were mined, or else the candidates.

    Args:
        reader: the split.
        depth: passages per query at most.
        passages: the collection.
        query_ids: the queries wanted; all by default.

    Raises:
        ValueError: for a passage that isn't in the collection, unless bad lines may be left out; for a run of other queries.
    """
    runs = reader.negatives_runs or (None,)
    return interleaved(
        [known_candidates(reader, reader.candidates(depth, query_ids, run), passages, run) for run in runs], depth
    )


def interleaved(rankings: Sequence[Ranking], depth: int) -> Ranking:
    """Unite rankings of the same queries: the best of each in their order, then the second of each, and so on.

    Args:
        rankings: best first.
        depth: passages per query at most; one that several rank stands where it comes first.
    """
    if len(rankings) == 1:
        return rankings[0]
    united: Ranking = {}
    for query in rankings[0]:
        found: dict[str, Candidate] = {}
        for hit in chain.from_iterable(zip_longest(*(ranking[query] for ranking in rankings))):
            if hit is not None:
                found.setdefault(hit.passage_id, hit)
        united[query] = [*found.values()][:depth]
    return united


def known_candidates(reader: Reader, ranking: Ranking, passages: Texts, run: str | None = None) -> Ranking:
    """Leave out candidates that aren't in the collection, if bad lines may be; ``run``: see ``Reader.candidates``.

    Raises:
        ValueError: naming the first one, if they may not.
    """
    ids = list(dict.fromkeys(hit.passage_id for row in ranking.values() for hit in row))
    missing = {key for key, row in zip(ids, passages.rows(ids).tolist(), strict=True) if row < 0}
    if not missing:
        return ranking
    named = set()
    if run is not None or reader.scored is not None:
        tally, rows = reader.scored_rows(ranking, run)
        for line, row in sorted(each for each in rows if each[1].doc_id in missing and each[1].query_id in ranking):
            tally.add(line, f"passage {row.doc_id!r} is not in the collection. Do the files belong together?")
            named.add(row.doc_id)
    require_known(missing - named)
    return {query: [hit for hit in row if hit.passage_id not in missing] for query, row in ranking.items()}


def known_triples(
    lines: Sequence[int], triples: Sequence[tuple[str, ...]], columns: Sequence[np.ndarray], tally: Tally
) -> np.ndarray:
    """Stack the rows of triples, (N, 3), leaving out those that name what isn't there, if bad lines may be.

    Args:
        lines: of each triple, N of them.
        triples: ids.
        columns: rows of their queries, positives and negatives, (N,) each; -1 for one that isn't there.
        tally: takes them down.

    Raises:
        ValueError: naming the first one, if they may not.
    """
    rows = np.stack(columns, axis=1)
    for index in np.flatnonzero((rows < 0).any(axis=1)).tolist():
        line, triple = lines[index], triples[index]
        which = int((rows[index] < 0).argmax())
        what, where = ("passage", "in the collection") if which else ("query", "among the queries")
        tally.add(line, f"{what} {triple[which]!r} is not {where}. Do the files belong together?")
    return rows[(rows >= 0).all(axis=1)]


def require_known(missing: Set[str]) -> None:
    """Refuse passages that aren't in the collection.

    Raises:
        ValueError: naming the first three.
    """
    if missing:
        raise ValueError(
            f"{len(missing)} passages named by triples, judgments or candidates are not in the collection, for example "
            f"{', '.join(sorted(missing)[:FIRST])}. Do the files belong together?"
        )


def _examples(rows: Sequence[tuple[int, str]]) -> str:
    told = ", ".join(f"line {line}: {key}" for line, key in rows[:FIRST])
    return told + (", ..." if len(rows) > FIRST else "")
