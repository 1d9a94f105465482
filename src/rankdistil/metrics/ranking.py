"""Ranking measures by ir_measures, all computed from one total order; TREC run files; the most that candidates allow.

Libraries break ties differently (one call of ir_measures gives a constant scorer RR@10 = 1.0 and nDCG@10 = 0.29) and let NaN
win. So scores are ordered here first: by score, equal scores by descending passage id as trec_eval does, NaN refused; every
measure then sees distinct scores.

Run files hold scores as they are. Lowering ties, so that every tool keeps the written order, was rejected: it makes a ranking
of a ranker that has none.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from heapq import nsmallest
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import ir_measures
import numpy as np
from ir_measures import AP, RR, nDCG

from rankdistil.data.collections.reader import is_ordered
from rankdistil.data.files.lines import fields, number_in
from rankdistil.data.records import Candidate, Qrels, Ranking
from rankdistil.files import write_text
from rankdistil.metrics.comparing import Orders
from rankdistil.metrics.fitted import INTERPOLATION, RRF, WEIGHTS, Fitted, Fusion, Fusions, Split, fit

CUTOFF = 10  # passages that nDCG and RR look at
EQUAL = 8 * 2.0**-23  # steps of float32, relative
MAIN = f"nDCG@{CUTOFF}"  # what tests and verdicts are of
COLLAPSED = 0.5  # share of queries without an order from which on a ranker is called collapsed: a few have one text twice


def measures(relevance_level: int = 1) -> list[ir_measures.Measure]:
    """The measures that runs report; the level is the lowest grade that RR and AP count as relevant."""
    if relevance_level == 1:
        return [nDCG @ CUTOFF, RR @ CUTOFF, AP]
    return [nDCG @ CUTOFF, RR(rel=relevance_level) @ CUTOFF, AP(rel=relevance_level)]


def ranked(scores: Mapping[str, Mapping[str, float]]) -> Ranking:
    """Put scored passages into a total order.

    Args:
        scores: query id -> passage id -> score.

    Returns:
        Candidates by descending score; equal scores by descending passage id.

    Raises:
        ValueError: for a score that is NaN or infinite, naming query and passage.
    """
    ranking: Ranking = {}
    for query_id, row in scores.items():
        for passage_id, score in row.items():
            if not math.isfinite(score):
                raise ValueError(f"query {query_id}, passage {passage_id}: the score is {score}. Nothing can be ranked by it.")
        order = sorted(row.items(), key=lambda item: (item[1], item[0]), reverse=True)
        ranking[query_id] = [Candidate(passage_id, score) for passage_id, score in order]
    return ranking


def tied_queries(scores: Mapping[str, Mapping[str, float]]) -> int:
    """Count the queries whose candidates all have one score, so that nothing but their ids orders them.

    Args:
        scores: query id -> passage id -> score, computed in float32. Batches round differently, so scores that are a few of its
            steps apart are equal; a query with fewer than two candidates has nothing to order.
    """
    rows = [row.values() for row in scores.values() if len(row) > 1]
    return sum(max(row) - min(row) <= EQUAL * max(map(abs, row)) for row in rows)


def with_choice(scores: Mapping[str, Mapping[str, float]]) -> int:
    """Count the queries with two candidates or more."""
    return sum(len(row) > 1 for row in scores.values())


def is_collapsed(tied: int, of: int) -> bool:
    """Whether a ranker orders too few queries to be one.

    Args:
        tied: see ``tied_queries``.
        of: see ``with_choice``.
    """
    return tied > 0 and tied >= COLLAPSED * of


def passage_ids(ranking: Ranking) -> dict[str, list[str]]:
    """Return the order alone: passage ids of each query that has candidates, best first."""
    return {query_id: [hit.passage_id for hit in row] for query_id, row in ranking.items() if row}


def restricted(ranking: Ranking, candidates: Ranking) -> Ranking:
    """Keep of each query's passages those that are candidates, in their order; queries without one get an empty row."""
    wanted = {query: {hit.passage_id for hit in row} for query, row in candidates.items()}
    return {query: [hit for hit in ranking.get(query, []) if hit.passage_id in wanted[query]] for query in candidates}


def depths(most: int) -> list[int]:
    """List the numbers of candidates that a curve over depth shows: 1, 2, 5, 10, 20, 50 and so on, and the most."""
    steps = (step * 10**power for power, step in product(range(len(str(most))), (1, 2, 5)))
    return [*(step for step in steps if step < most), most]


def at_depths(first: Orders, own: Orders, wanted: Sequence[int]) -> dict[int, Orders]:
    """Rank as if only the first candidates had been re-ranked: these in a ranker's order, the others below them as they were.

    One scoring of all candidates tells every depth, for a score is of its pair alone.

    Args:
        first: the candidates of each query in the first stage's order.
        own: the same candidates in the ranker's order.
        wanted: depths, each a number of candidates.

    Returns:
        By depth, of each query the first ``CUTOFF`` passages, which are all that nDCG@10 looks at.
    """
    found: dict[int, dict[str, list[str]]] = {depth: {} for depth in wanted}
    for query, row in first.items():
        place = {passage: number for number, passage in enumerate(own[query])}
        for depth, order in found.items():
            order[query] = [*nsmallest(CUTOFF, row[:depth], key=place.__getitem__), *row[depth:CUTOFF]]
    return found


def per_query(ranking: Ranking, qrels: Qrels, relevance_level: int = 1) -> dict[str, dict[str, float]]:
    """Compute every measure of every judged query.

    Args:
        ranking: candidates in their order; only the order counts. A judged query without candidates scores 0, a query
            without judgments is left out.
        qrels: judgments.
        relevance_level: see ``measures``.

    Returns:
        Query id -> measure name -> value, queries in the order of the qrels.
    """
    wanted = measures(relevance_level)
    run = {query: {hit.passage_id: -place for place, hit in enumerate(ranking.get(query, []))} for query in qrels}
    values = {query: {str(measure): 0.0 for measure in wanted} for query in qrels}
    found = {query: row for query, row in run.items() if row}
    if found:
        for metric in ir_measures.iter_calc(wanted, {query: qrels[query] for query in found}, found):
            values[metric.query_id][str(metric.measure)] = float(metric.value)
    return values


def main_measure(qrels: Qrels) -> Callable[[Orders], dict[str, float]]:
    """Return what computes nDCG@10 of every judged query, as ``per_query`` does, of one order after another.

    Judgments are read once, and the other measures left out: curves and fusions ask for dozens of orders.
    """
    evaluator = ir_measures.pytrec_eval.evaluator([nDCG @ CUTOFF], qrels)

    def values(orders: Orders) -> dict[str, float]:
        judged = ((query, row) for query, row in orders.items() if row and query in qrels)
        run = {query: {passage: -place for place, passage in enumerate(row)} for query, row in judged}
        found = dict.fromkeys(qrels, 0.0)
        if run:
            found.update((metric.query_id, float(metric.value)) for metric in evaluator.iter_calc(run))
        return found

    return values


def fused_values(split: Split, *ways: Fusion) -> list[dict[str, float]]:
    """Compute nDCG@10 of each query of a split, fused in each of some ways; equal values stay in the first stage's order."""
    tops: list[dict[str, list[str]]] = [{} for _ in ways]
    for query, row in split.first.items():
        if row:
            own = {hit.passage_id: hit.score for hit in split.own[query]}
            sides = np.array([own[hit.passage_id] for hit in row]), np.array([hit.score for hit in row])
            for top, way in zip(tops, ways, strict=True):
                best = np.argsort(-way.fuse(*sides), kind="stable")[:CUTOFF].tolist()
                top[query] = [row[place].passage_id for place in best]
    measure = main_measure(split.qrels)
    return [measure(top) for top in tops]


def fit_fusion(valid: Split) -> Fusions:
    """Choose the weight, and the method, by nDCG@10 of validation; where fusing gains nothing the weight is 1."""
    ways = [*(Fusion(INTERPOLATION, weight) for weight in WEIGHTS), Fusion(RRF)]
    found = {way: fmean(of.values()) for way, of in zip(ways, fused_values(valid, *ways), strict=True)}
    interpolation = max((way for way in found if way.method == INTERPOLATION), key=found.__getitem__)
    return Fusions(interpolation, max(found, key=found.__getitem__))


def fit_validation(valid: Split, wished: float) -> Fitted:
    """Fit all that a scored validation tells; no fusion where its candidates have no order."""
    return fit(valid, wished, fit_fusion(valid) if is_ordered(valid.first) else None)


def means(values: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Mean over queries of each measure.

    Raises:
        ValueError: if there is no query.
    """
    if not values:
        raise ValueError("no judged query to average over.")
    rows = list(values.values())
    return {name: fmean(row[name] for row in rows) for name in rows[0]}


def random_order(candidates: Mapping[str, Sequence[Candidate]], qrels: Qrels) -> dict[str, float]:
    """Compute the expected nDCG@10 of a random order of each judged query's candidates, exactly.

    In a random order every place has the mean gain of the candidates.

    Args:
        candidates: by query id, in any order.
        qrels: judgments.

    Returns:
        By query id, in the order of the qrels; 0 without candidates or without a relevant passage.
    """
    values = {}
    for query, judged in qrels.items():
        row = candidates.get(query, [])
        best = sorted(judged.values(), reverse=True)[:CUTOFF]
        ideal = sum(grade * weight for grade, weight in zip(best, _weights(len(best)), strict=True))
        gain = sum(judged.get(hit.passage_id, 0) for hit in row)
        values[query] = gain / len(row) * sum(_weights(min(len(row), CUTOFF))) / ideal if row and ideal else 0.0
    return values


def _weights(places: int) -> list[float]:
    """Return the weight of each of the first places, as trec_eval's nDCG has it."""
    return [1 / math.log2(place + 1) for place in range(1, places + 1)]


def write_run(path: Path, ranking: Ranking, tag: str) -> None:
    """Write a ranking as ``query_id Q0 passage_id rank score tag``; ``read_run`` reads the same one, to the last bit.

    Args:
        path: the file, replaced in one step.
        ranking: candidates in the order of ``ranked``.
        tag: name of the run, without white space.
    """
    rows = []
    for query_id, row in ranking.items():
        for rank, candidate in enumerate(row, 1):
            rows.append(f"{query_id} Q0 {candidate.passage_id} {rank} {float(candidate.score)!r} {tag}\n")
    write_text(path, "".join(rows))


def read_run(path: Path) -> Ranking:
    """Read a run file into the total order of ``ranked``: ranks in the file don't count, scores do.

    Raises:
        ValueError: for a bad line or a passage ranked twice, naming the line.
    """
    scores: dict[str, dict[str, float]] = {}
    names = ("query_id", "Q0", "passage_id", "rank", "score", "tag")
    for line, (query_id, _, passage_id, _, score, _) in fields(path, None, names):
        row = scores.setdefault(query_id, {})
        if passage_id in row:
            raise ValueError(f"{path}:{line}: query {query_id} ranks passage {passage_id} again. Keep one of the lines.")
        row[passage_id] = float(number_in(path, line, score, float, "score"))
    return ranked(scores)


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
