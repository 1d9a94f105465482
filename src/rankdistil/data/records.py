"""The records that readers yield. Ids are strings, as in ir_datasets and TREC files."""

from typing import NamedTuple


class Triple(NamedTuple):
    """A query, a passage that answers it, and one that doesn't (or is not known to)."""

    query_id: str
    positive_id: str
    negative_id: str


class Candidate(NamedTuple):
    """A passage that a first stage found for a query, with the first stage's score."""

    passage_id: str
    score: float


class Pair(NamedTuple):
    """A query-passage pair with its texts, ready to be encoded."""

    query_id: str
    passage_id: str
    query: str
    passage: str


Qrels = dict[str, dict[str, int]]
"""Judgments: query id -> passage id -> grade."""

Ranking = dict[str, list[Candidate]]
"""Query id -> candidates, best first."""
