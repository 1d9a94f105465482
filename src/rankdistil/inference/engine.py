"""Strings to scores, outside of training."""

import os
import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from rankdistil.data.assemble import Segment
from rankdistil.data.encode import PairEncoder
from rankdistil.data.records import Pair
from rankdistil.metrics.timing import Sample

CHUNK = 1 << 13  # pairs that are tokenised and sorted at a time: memory stays flat, however many there are


class _Threads:
    """Threads that compute, torch's or a runtime's. A forked process hasn't got them, and would wait for them for ever.

    Attributes: of: the process that has them, once it has loaded a ranker; lost: this process was forked from that one.
    """

    of, lost = 0, False


def _note_fork() -> None:
    _Threads.lost = _Threads.lost or _Threads.of != 0


os.register_at_fork(after_in_child=_note_fork)


def require_threads() -> None:
    """See that this process can load rankers, and compute their scores.

    Raises:
        RuntimeError: if it was forked from one that has loaded one, and computes in several threads.
    """
    if _Threads.lost:
        raise RuntimeError(
            f"process {os.getpid()} was forked from {_Threads.of}, which had loaded a ranker: it lacks the threads that "
            "compute, and would wait for them for ever. Load rankers behind the fork only; or start processes by spawn or "
            "forkserver (multiprocessing.get_context('spawn')); or set OMP_NUM_THREADS=1."
        )
    if torch.get_num_threads() > 1:
        _Threads.of = os.getpid()


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
    """

    def __init__(self, network: Network, encoder: PairEncoder) -> None:
        self.network, self.encoder = network, encoder

    def score(self, pairs: Sequence[Pair]) -> tuple[list[float], Sample]:
        """Score pairs.

        Returns:
            Logits in the order of the pairs, and the seconds spent on tokenising and in the network.

        Raises:
            RuntimeError: in a process that was forked from one that has loaded a ranker.
        """
        require_threads()
        scores, tokenising, scoring = np.empty(len(pairs), np.float32), 0.0, 0.0
        for at in range(0, len(pairs), CHUNK):
            start = time.perf_counter()
            chunk = pairs[at : at + CHUNK]
            first, second = self.tokens(chunk)
            order = (first.lengths + second.lengths).argsort(kind="stable")
            tokenised = time.perf_counter()
            scores[at + order] = self.network(first.take(order), second.take(order))
            tokenising, scoring = tokenising + tokenised - start, scoring + time.perf_counter() - tokenised
        return scores.tolist(), Sample(tokenising, scoring)

    def tokens(self, pairs: Sequence[Pair]) -> tuple[Segment, Segment]:
        """Tokenise queries and passages of pairs, cut to what fits; a query that stands in many pairs is tokenised once."""
        place = {text: number for number, text in enumerate(dict.fromkeys(pair.query for pair in pairs))}
        asked = np.fromiter((place[pair.query] for pair in pairs), np.int64, len(pairs))
        return self.encoder.cut(self.encoder.segment(list(place)).take(asked), self.encoder.segment([p.passage for p in pairs]))
