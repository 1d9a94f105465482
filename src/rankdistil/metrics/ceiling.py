"""What a first stage's candidates allow at most, whatever re-ranks them."""

from statistics import fmean
from typing import NamedTuple

from rankdistil.data.records import Qrels, Ranking
from rankdistil.metrics.measures import per_query


class Ceiling(NamedTuple):
    """What candidates hold.

    Attributes:
        relevant: share of the relevant passages that are candidates.
        answered: share of the queries with a relevant passage for which one is a candidate.
        best: nDCG@10 of the candidates in the order of their grades, mean over all judged queries.
    """

    relevant: float
    answered: float
    best: float


def ceiling(candidates: Ranking, qrels: Qrels, relevance_level: int = 1) -> Ceiling | None:
    """Measure candidates in the best order there is.

    Args:
        candidates: cut to the depth that is re-ranked.
        qrels: judgments.
        relevance_level: lowest grade that counts as relevant for the shares; nDCG knows all grades.

    Returns:
        None where no query has a relevant passage.
    """
    relevant = {query: {key for key, grade in row.items() if grade >= relevance_level} for query, row in qrels.items()}
    relevant = {query: row for query, row in relevant.items() if row}
    if not relevant:
        return None
    there = {query: {hit.passage_id for hit in candidates.get(query, [])} & row for query, row in relevant.items()}
    ordered = {
        query: sorted(row, key=lambda hit: -qrels[query].get(hit.passage_id, 0))
        for query, row in candidates.items() if query in qrels
    }  # fmt: skip
    best = per_query(ordered, qrels, relevance_level)
    return Ceiling(
        sum(map(len, there.values())) / sum(map(len, relevant.values())),
        fmean(bool(row) for row in there.values()),
        fmean(row["nDCG@10"] for row in best.values()),
    )
