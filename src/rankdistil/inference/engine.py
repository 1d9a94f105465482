"""Strings to scores, outside of training."""

import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rankdistil.data.assemble import Segment
from rankdistil.data.encode import PairEncoder
from rankdistil.data.records import Pair
from rankdistil.metrics.timing import Sample

CHUNK = 1 << 13  # pairs that are tokenised and sorted at a time: memory stays flat, however many there are


class Network(Protocol):
    """Scores pairs that are given in ascending order of length."""

    def __call__(self, first: Segment, second: Segment) -> NDArray[np.float32]:
        """Score pairs of queries and passages, (B,)."""
        ...


class Engine:
    """Scores pairs: tokenises each text once, without padding, and hands the pairs over in the order of their lengths.

    Args:
        network: gives the scores.
        encoder: gives the token ids.
        spare: of the two budgets, query and passage get what the other leaves: only pairs that are too long are cut. By default
            each has its own only, as in training.
    """

    def __init__(self, network: Network, encoder: PairEncoder, spare: bool = False) -> None:
        self.network, self.encoder, self._spare = network, encoder, spare

    def score(self, pairs: Sequence[Pair]) -> tuple[list[float], Sample]:
        """Score pairs.

        Returns:
            Logits in the order of the pairs, and the seconds spent on tokenising and in the network.
        """
        scores, tokenising, scoring = np.empty(len(pairs), np.float32), 0.0, 0.0
        for at in range(0, len(pairs), CHUNK):
            start = time.perf_counter()
            chunk = pairs[at : at + CHUNK]
            first, second = self._tokens(chunk)
            order = (first.lengths + second.lengths).argsort(kind="stable")
            tokenised = time.perf_counter()
            scores[at + order] = self.network(first.take(order), second.take(order))
            tokenising, scoring = tokenising + tokenised - start, scoring + time.perf_counter() - tokenised
        return scores.tolist(), Sample(tokenising, scoring)

    def _tokens(self, pairs: Sequence[Pair]) -> tuple[Segment, Segment]:
        """Tokenise; a query that stands in many pairs is tokenised once."""
        place = {text: number for number, text in enumerate(dict.fromkeys(pair.query for pair in pairs))}
        asked = np.fromiter((place[pair.query] for pair in pairs), np.int64, len(pairs))
        passages = [pair.passage for pair in pairs]
        if not self._spare:
            return self.encoder.queries(list(place)).take(asked), self.encoder.passages(passages)
        own, both = self.encoder.query_tokens, self.encoder.query_tokens + self.encoder.passage_tokens
        first = Segment.of(self.encoder.token_ids(list(place), both)).take(asked)
        second = Segment.of(self.encoder.token_ids(passages, both))
        first = first.split(np.minimum(first.lengths, np.maximum(own, both - second.lengths)))[0]
        return first, second.split(np.minimum(second.lengths, both - first.lengths))[0]
