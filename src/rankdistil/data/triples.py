"""Where training triples come from: the dataset's own, or sampled from judgments and BM25's hits.

The order of an epoch depends on (seed, epoch) only, never on the process that reads it.
"""

from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np

from rankdistil.data.readers import Reader
from rankdistil.data.records import Qrels, Ranking, Triple

TRAIN_ON = ("docpairs", "sampled")


class TripleSource(Protocol):
    """A source of triples, read in epochs."""

    def epoch(self, seed: int, epoch: int) -> Iterator[Triple]:
        """Yield the triples of an epoch in their order."""
        ...


class ListedTriples:
    """The dataset's own triples, each once an epoch, shuffled.

    Args:
        triples: all of them; kept in memory.

    Raises:
        ValueError: if there is none.
    """

    def __init__(self, triples: list[Triple]) -> None:
        if not triples:
            raise ValueError("the training split has no triple for its queries. Do triples and queries belong together?")
        self._triples = triples

    def epoch(self, seed: int, epoch: int) -> Iterator[Triple]:
        """Yield every triple once."""
        order = np.random.default_rng([seed, epoch]).permutation(len(self._triples))
        return (self._triples[index] for index in order)


class SampledTriples:
    """One triple per query and epoch: a positive drawn from the judged passages, a negative from BM25's other hits.

    Args:
        positives: query id -> passages judged relevant.
        negatives: query id -> hard negatives.

    Raises:
        ValueError: if no query has both.
    """

    def __init__(self, positives: Mapping[str, list[str]], negatives: Mapping[str, list[str]]) -> None:
        self._queries = [query for query, row in positives.items() if row and negatives.get(query)]
        if not self._queries:
            raise ValueError("no training query has both a relevant passage and a negative among its candidates.")
        self._positives, self._negatives = positives, negatives
        self.skipped = len(positives) - len(self._queries)

    def epoch(self, seed: int, epoch: int) -> Iterator[Triple]:
        """Yield one triple of every query."""
        random = np.random.default_rng([seed, epoch])
        for index in random.permutation(len(self._queries)):
            query = self._queries[index]
            positives, negatives = self._positives[query], self._negatives[query]
            yield Triple(query, positives[random.integers(len(positives))], negatives[random.integers(len(negatives))])


def hard_negatives(candidates: Ranking, qrels: Qrels) -> dict[str, list[str]]:
    """Candidates that aren't judged relevant (grade 1 or more), by query."""
    return {
        query: [hit.passage_id for hit in row if qrels.get(query, {}).get(hit.passage_id, 0) < 1]
        for query, row in candidates.items()
    }


def open_triples(reader: Reader, train_on: str, relevance_level: int, negatives_depth: int) -> TripleSource:
    """Open the source that ``data.train_on`` names.

    Args:
        reader: the training split.
        train_on: one of ``TRAIN_ON``: ``docpairs`` (the dataset's own) or ``sampled``.
        relevance_level: lowest grade of a positive.
        negatives_depth: how many candidates of a query negatives are drawn from.

    """
    if train_on == "docpairs":
        return ListedTriples(list(reader.docpairs()))
    positives = {
        query: [passage for passage, grade in row.items() if grade >= relevance_level and reader.contains(passage)]
        for query, row in reader.qrels.items()
    }
    return SampledTriples(positives, hard_negatives(reader.candidates(negatives_depth), reader.qrels))
