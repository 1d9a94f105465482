"""Judgments, triples and candidates counted, and compared with the queries and passages that they name."""

from collections import Counter
from collections.abc import Iterable
from operator import eq
from typing import Any, NamedTuple

import numpy as np

from rankdistil.data.check_files import Ids, Listing, TextsFound
from rankdistil.data.store.build import in_chunks
from rankdistil.data.unknown import known_triples

CHUNK = 1 << 14

Numbered = Iterable[tuple[int, Any]]
"""(line, record)"""


class Named(NamedTuple):
    """Attributes: queries: of the split; passages: of its collection."""

    queries: TextsFound
    passages: TextsFound


class Judged(NamedTuple):
    """Attributes: told: in words; queries: with a judgment; answered: with a relevant passage that is there."""

    told: str
    queries: set[str]
    answered: set[str]


def count_judgments(rows: Numbered, named: Named, level: int, listing: Listing, allow_unknown: bool) -> Judged:
    """Count judgments; unknown ids are complaints unless they are allowed.

    Args:
        rows: (line, judgment).
        named: what they may name.
        level: lowest grade that is relevant.
        listing: takes complaints.
        allow_unknown: of ``data``.
    """
    counts: Counter[int] = Counter()
    unknown = {"passage": 0, "query": 0}
    judged, answered, every = set(), set(), Ids()
    for chunk in in_chunks(rows, CHUNK):
        passages = named.passages.ids.rows([row.doc_id for _, row in chunk])
        queries = named.queries.ids.rows([row.query_id for _, row in chunk])
        for (line, row), passage, query in zip(chunk, passages.tolist(), queries.tolist(), strict=True):
            counts[row.relevance] += 1
            every.add((row.query_id, row.doc_id))
            for what, key, place in (("passage", row.doc_id, passage), ("query", row.query_id, query)):
                unknown[what] += place < 0
                if place < 0 and not allow_unknown:
                    listing.refuse(line, f"{what} {key!r} is not there; data.allow_unknown=true would accept that.")
            if query >= 0:
                judged.add(row.query_id)
                if passage >= 0 and row.relevance >= level:
                    answered.add(row.query_id)
    if not judged:
        listing.fail(f"{listing.file}: no query of the split has a judgment. Do queries and qrels belong together?")
    grades = ", ".join(f"{grade}: {counts[grade]}" for grade in sorted(counts))
    parts = {
        "of unknown passages": unknown["passage"],
        "of unknown queries": unknown["query"],
        "repeated": every.repetitions(),
        "queries without a judgment": len(named.queries.ids) - len(judged),
        f"judged queries without a passage of grade {level} or more": len(judged - answered),
    }
    told = [f"{counts.total()} judgments of {len(judged)} queries", f"grades {grades}", *_some(parts)]
    return Judged("; ".join(told), judged, answered)


class Listed(NamedTuple):
    """Attributes: told: in words; queries: that triples are of."""

    told: str
    queries: set[str]


def count_triples(rows: Numbered, named: Named, listing: Listing) -> Listed:
    """Count triples; those that name an unknown query or passage are complaints."""
    every, queries = Ids(), set()
    empty = same = twins = 0
    for chunk in in_chunks(rows, CHUNK):
        asked, positives, negatives = zip(*(row[:3] for _, row in chunk), strict=True)
        columns = [named.queries.ids.rows(asked), *(named.passages.ids.rows(ids) for ids in (positives, negatives))]
        known_triples(*zip(*chunk, strict=True), columns, listing)
        queries.update(asked)
        every.add_all(row for _, row in chunk)
        empty += sum(key in named.passages.empty for key in positives)
        same += sum(map(eq, positives, negatives))
        twins += int((named.passages.same(positives, negatives) & ~np.fromiter(map(eq, positives, negatives), np.bool_)).sum())
    parts = {
        "with an empty positive": empty,
        "whose negative is the positive": same,
        "whose negative has the positive's text": twins,
        "repeated": every.repetitions(),
    }
    return Listed("; ".join([f"{len(every)} triples of {len(queries)} queries", *_some(parts)]), queries)


class Ranked(NamedTuple):
    """Attributes: told: in words; queries: of the split, with candidates."""

    told: str
    queries: set[str]


def count_candidates(rows: Numbered, named: Named, listing: Listing, again: Numbered) -> Ranked:
    """Count candidates; unknown and repeated passages are complaints.

    Args:
        rows: (line, candidate).
        named: what they may name; further queries do no harm.
        listing: takes complaints.
        again: the same rows, read where one stands twice.
    """
    hits: Counter[str] = Counter()
    pairs, other = Ids(), 0
    for chunk in in_chunks(rows, CHUNK):
        passages = named.passages.ids.rows([row.doc_id for _, row in chunk])
        queries = named.queries.ids.rows([row.query_id for _, row in chunk])
        other += int((queries < 0).sum())
        for index in np.flatnonzero(queries >= 0).tolist():
            line, row = chunk[index]
            hits[row.query_id] += 1
            pairs.add((row.query_id, row.doc_id))
            if passages[index] < 0:
                listing.add(line, f"passage {row.doc_id!r} is not in the collection. Do the files belong together?")
    twice, first = pairs.repeated(), {}
    for line, row in again if twice else ():
        pair = row.query_id, row.doc_id
        if hash(pair) in twice and first.setdefault(pair, line) != line:
            listing.refuse(line, f"query {pair[0]} names passage {pair[1]} again (line {first[pair]}). Remove the repetition.")
    told = [f"{hits.total()} candidates of {len(hits)} queries"]
    if hits:
        told.append(f"{min(hits.values())} to {max(hits.values())} each")
    return Ranked("; ".join([*told, *_some({"lines of other queries": other})]), set(hits))


def _some(counts: dict[str, int]) -> list[str]:
    return [f"{count} {what}" for what, count in counts.items() if count > 0]
