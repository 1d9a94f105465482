"""How closely a ranker follows its teacher: agreement of two orders of the same candidates, whatever the judgments say.

Scores aren't compared: a distilled ranker may be on another scale than its teacher and still order passages alike. Kendall's
tau looks at the whole list, so most of it is about passages nobody will see; the overlap of the first ten is about the top.
"""

from bisect import bisect
from collections.abc import Mapping, Sequence
from statistics import fmean

Orders = Mapping[str, Sequence[str]]
"""Query id -> passage ids, best first."""


def kendall_tau(a: Orders, b: Orders) -> float | None:
    """Mean over queries of Kendall's tau: share of passage pairs in the same order minus the share in opposite orders.

    The orders have no ties, so tau-a and tau-b are one. Counting is O(n log n) comparisons a query.

    Args:
        a: passage ids of each query, best first.
        b: the same candidates of the same queries, in another order.

    Returns:
        From -1 (reversed) to 1 (equal). A query with fewer than two candidates has no pair and is left out of the mean; None
        if there is no other.

    Raises:
        ValueError: if queries or candidates differ, or a passage is listed twice.

    Source: Kendall 1938, "A new measure of rank correlation"; Knight 1966 for the counting.
    """
    _check(a, b)
    return _mean([_tau(order, b[query]) for query, order in a.items() if len(order) > 1])


def overlap(a: Orders, b: Orders, depth: int = 10) -> float | None:
    """Mean over queries of the share of the first passages that two orders have in common.

    Args:
        a: passage ids of each query, best first.
        b: the same candidates of the same queries, in another order.
        depth: how many passages count as the first. A query with fewer candidates has all of them in common, which is 1.

    Returns:
        From 0 to 1. A query without candidates is left out of the mean; None if there is no other.

    Raises:
        ValueError: if queries or candidates differ, or a passage is listed twice.
    """
    _check(a, b)
    return _mean(
        [len({*order[:depth]} & {*b[query][:depth]}) / min(depth, len(order)) for query, order in a.items() if len(order)]
    )


def _check(a: Orders, b: Orders) -> None:
    if a.keys() != b.keys():
        raise ValueError(f"agreement needs the same queries on both sides; {len(a.keys() ^ b.keys())} of them differ.")
    for query, order in a.items():
        first, second = set(order), set(b[query])
        if first != second:
            raise ValueError(
                f"query {query}: agreement needs the same candidates on both sides; of {len(first)} and {len(second)}, "
                f"{len(first ^ second)} are on one side only. Rank the same candidates with both."
            )
        if len(first) != len(order) or len(second) != len(b[query]):
            raise ValueError(f"query {query}: a passage is ranked twice. List each candidate once.")


def _tau(order: Sequence[str], other: Sequence[str]) -> float:
    place = {passage: rank for rank, passage in enumerate(other)}
    seen: list[int] = []
    inversions = 0
    for passage in order:
        at = bisect(seen, place[passage])
        inversions += len(seen) - at
        seen.insert(at, place[passage])
    return 1 - 4 * inversions / (len(order) * (len(order) - 1))


def _mean(values: list[float]) -> float | None:
    return fmean(values) if values else None
