"""Batching across requests: a fair queue of their pairs, and the threads that score them.

Next comes the request that would end first if all that wait had equal shares of the machine (the fair sojourn protocol of
Friedman and Henderson, SIGMETRICS 2003). So ten passages don't wait for a thousand, a thousand don't wait for ever, and none
ends later than with equal shares, but for the step that is being computed. First come, first served was rejected for the first
of these reasons; taking turns because requests of one size would then all end with the last.
"""

import asyncio
import math
import sys
import threading
import time
from bisect import bisect_right
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import accumulate, count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rankdistil.data.records import Pair
from rankdistil.inference.engine import Engine, Tokens
from rankdistil.inference.machine import trim_heap

FEWEST = 256  # tokens of a step, where the rest is shared out among threads: fewer would be computed at a lower rate


class FullError(Exception):
    """There is no room in the queue.

    Attributes:
        excess: pairs that have to be computed before there is.
    """

    def __init__(self, excess: int) -> None:
        super().__init__(excess)
        self.excess = excess


class ClosedError(Exception):
    """The queue takes nothing any more, and computes nothing of what waited."""


class Share(NamedTuple):
    """What a step computes of an item: its pairs from ``start`` to before ``stop``."""

    item: Hashable
    start: int
    stop: int


@dataclass(order=True)
class _Entry:
    """An item that waits.

    Attributes:
        finish: where the clock of equal shares stands when they have computed it.
        number: of its arrival: of two that would end together the first goes first.
        item: what its owner knows it by.
        ends: tokens of its pairs up to and with each.
        taken: pairs that are computed, or being so.
    """

    finish: float
    number: int
    item: Hashable = field(compare=False)
    ends: list[int] = field(compare=False)
    taken: int = field(default=0, compare=False)


class FairQueue:
    """Items of several pairs each, which are taken in steps of so many tokens, in a fair order. For any threads.

    Args:
        most: pairs that wait, from which on no more are admitted. An item may be larger than what is left to it, since a
            large one would seldom find room for all of its pairs at once while small ones keep coming: so fewer than ``most``
            and the largest item's wait.
        workers: threads that take from it; the last tokens of all are shared out among them.

    Attributes:
        waiting: pairs that were admitted, and not taken yet.
    """

    def __init__(self, most: int, workers: int = 1) -> None:
        self.most, self.waiting, self._workers = most, 0, workers
        self._entries: list[_Entry] = []  # a heap
        self._tokens = 0  # of the entries, not taken yet
        self._clock = 0.0  # of equal shares: tokens that each item has had
        self._sharing: list[float] = []  # where on this clock items end, a heap
        self._numbers, self._closed = count(), False
        self._changed = threading.Condition()

    def admit(self, pairs: int) -> None:
        """Admit the pairs of an item, before it is tokenised.

        Raises:
            FullError: if as many wait as may.
            ClosedError: once it is closed.
        """
        with self._changed:
            if self._closed:
                raise ClosedError
            if self.waiting >= self.most:
                raise FullError(self.waiting - self.most + 1)
            self.waiting += pairs

    def leave(self, pairs: int) -> None:
        """Give back the room of an item that was never put."""
        with self._changed:
            self.waiting -= pairs

    def put(self, item: Hashable, lengths: Sequence[int]) -> None:
        """Let an admitted item wait.

        Args:
            item: what ``take`` names it by.
            lengths: tokens of its pairs, at least 1 each.

        Raises:
            ClosedError: once it is closed.
        """
        ends = list(accumulate(lengths))
        with self._changed:
            if self._closed:
                self.waiting -= len(ends)
                raise ClosedError
            if not self._entries:
                self._sharing.clear()  # what an item that was dropped has left
            finish = self._clock + ends[-1]
            heappush(self._entries, _Entry(finish, next(self._numbers), item, ends))
            heappush(self._sharing, finish)
            self._tokens += ends[-1]
            self._changed.notify_all()

    def take(self, tokens: int) -> list[Share]:
        """Take what is to be computed next; wait until there is something.

        Args:
            tokens: of all pairs together at most, but one pair at least.

        Returns:
            Shares of different items; none once the queue is closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._entries or self._closed)
            room = min(tokens, max(math.ceil(self._tokens / self._workers), FEWEST))
            shares: list[Share] = []
            while self._entries:
                entry = self._entries[0]
                before = entry.ends[entry.taken - 1] if entry.taken else 0
                stop = bisect_right(entry.ends, before + room, entry.taken)
                if stop == entry.taken and shares:
                    break
                stop = max(stop, entry.taken + 1)
                shares.append(Share(entry.item, entry.taken, stop))
                self.waiting -= stop - entry.taken
                entry.taken, taken = stop, entry.ends[stop - 1] - before
                self._advance(taken)
                room -= taken
                if stop < len(entry.ends):
                    break
                heappop(self._entries)
            return shares

    def _advance(self, tokens: int) -> None:
        """Note that so many tokens are taken, and let equal shares compute as many."""
        self._tokens -= tokens
        left = float(tokens)
        while self._sharing:
            until = (self._sharing[0] - self._clock) * len(self._sharing)  # the next of them ends
            if left < until:
                self._clock += left / len(self._sharing)
                break
            left = max(left - until, 0.0)
            self._clock = heappop(self._sharing)

    def drop(self, item: Hashable) -> None:
        """Take out what waits of an item; nothing where it is all taken."""
        with self._changed:
            for entry in [entry for entry in self._entries if entry.item is item]:
                self._entries.remove(entry)
                self.waiting -= len(entry.ends) - entry.taken
                self._tokens -= entry.ends[-1] - (entry.ends[entry.taken - 1] if entry.taken else 0)
                if entry.finish in self._sharing:
                    self._sharing.remove(entry.finish)
            heapify(self._entries)
            heapify(self._sharing)

    def close(self) -> list[Hashable]:
        """Let ``take`` return nothing from now on; returns the items that wait."""
        with self._changed:
            self._closed = True
            left = [entry.item for entry in self._entries]
            self._entries.clear()
            self._changed.notify_all()
            return left


class ScoringError(Exception):
    """The network failed on pairs of a request."""


class Scored(NamedTuple):
    """What was found of a request: logits in the order of its pairs, and the tokens of all its pairs."""

    scores: list[float]
    tokens: int


class _Work:
    """The pairs of a request: tokens in ascending order of length, and the scores that are there.

    A document's windows are computed in one step: in the queue it is one pair of as many tokens as they have.
    """

    def __init__(self, parts: Sequence[Tokens], special: int) -> None:
        tokens = Tokens.joined(parts)
        lengths = tokens.lengths(special)
        self.order = lengths.argsort(kind="stable")
        self.tokens, self.lengths = tokens.take(self.order), lengths[self.order].tolist()
        self.scores, self.missing = np.empty(len(self.order), np.float32), len(self.order)
        self.future: Future[Scored] = Future()

    def part(self, start: int, stop: int) -> Tokens:
        return self.tokens.take(np.arange(start, stop))


PIECE = 16_000  # characters that are tokenised at a time, milliseconds: those of other requests come in between


def _pieces(pairs: Sequence[Pair]) -> Iterator[Sequence[Pair]]:
    start = characters = 0
    for at, pair in enumerate(pairs, 1):
        characters += len(pair.query) + len(pair.passage)
        if characters >= PIECE or at == len(pairs):
            yield pairs[start:at]
            start, characters = at, 0


TRIM_S = 5.0  # between two times that free memory is given back: without it, 400 requests of random sizes left 160 MiB more
STEP = 2  # batches of the engine that a step fills: pairs of several requests are sorted by length over so many


class Scorer:
    """Scores the pairs of many requests at once.

    One thread tokenises, since a tokenizer is for one thread at a time; ``workers`` threads take steps from the queue, sort
    them by length and compute. A network that fails fails the requests of its step, and no others.

    Args:
        engine: a reranker's.
        workers: threads that compute; each has torch's threads.
        most: pairs that wait, from which on no more are admitted.

    Attributes:
        queue: what waits.
        pairs: scored so far. tokens: of them. failures: steps that failed.
    """

    def __init__(self, engine: Engine, workers: int, most: int) -> None:
        self.queue, self._engine, self._workers = FairQueue(most, workers), engine, workers
        self.pairs = self.tokens = self.failures = 0
        self._recent = 0.0, 0.0  # pairs, and seconds of all workers together; the older, the less they count
        self._lock, self._trimmed = threading.Lock(), time.monotonic()
        self._tokeniser = ThreadPoolExecutor(1, "tokeniser")
        self._threads = [threading.Thread(target=self._work, name=f"worker{n}", daemon=True) for n in range(workers)]
        for thread in self._threads:
            thread.start()

    async def score(self, pairs: Sequence[Pair]) -> Scored:
        """Score the pairs of a request; if this is cancelled, what isn't computed yet never is.

        Raises:
            FullError: if too many pairs wait.
            ClosedError: once it is closed.
            ScoringError: if the network failed on them.
        """
        self.queue.admit(len(pairs))
        loop, parts = asyncio.get_running_loop(), []
        try:
            for some in _pieces(pairs):
                parts.append(await loop.run_in_executor(self._tokeniser, self._engine.tokens, some))
            special = self._engine.encoder.layout.special
            work = await loop.run_in_executor(self._tokeniser, _Work, parts, special)
        except BaseException:
            self.queue.leave(len(pairs))
            raise
        self.queue.put(work, work.lengths)
        try:
            return await asyncio.wrap_future(work.future)
        except asyncio.CancelledError:
            self.queue.drop(work)
            raise

    def seconds(self, pairs: int) -> int:
        """Say how long so many pairs take at the measured rate, in whole seconds, 1 at least."""
        with self._lock:
            done, seconds = self._recent
        return max(math.ceil(pairs * seconds / done), 1) if done else 1

    def close(self, timeout: float = 10.0) -> None:
        """End the threads; what waits fails with ``ClosedError``. ``timeout`` is in seconds."""
        for work in self.queue.close():
            _fail(work, ClosedError())
        for thread in self._threads:
            thread.join(timeout)

    def _work(self) -> None:
        budget = STEP * self._engine.network.budget
        while shares := self.queue.take(budget):
            began = time.perf_counter()
            try:
                scores = self._engine.score_tokens(Tokens.joined([work.part(*rows) for work, *rows in shares]))
            except Exception as error:  # whatever a runtime raises: the other requests go on
                self.failures += 1
                told = f"{sum(stop - start for _, start, stop in shares)} pairs of {len(shares)} requests"
                print(f"a step of {told} failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                for work, *_ in shares:
                    self.queue.drop(work)
                    _fail(work, ScoringError())
            else:
                self._measure(shares, time.perf_counter() - began)
                at = 0
                for work, start, stop in shares:
                    self._give(work, start, scores[at : at + stop - start])
                    at += stop - start

    def _give(self, work: Any, start: int, scores: NDArray[np.float32]) -> None:
        if not np.isfinite(scores).all():
            print("a request failed: a score of it is no finite number", file=sys.stderr, flush=True)
            self.queue.drop(work)
            _fail(work, ScoringError())
            return
        work.scores[work.order[start : start + len(scores)]] = scores
        with self._lock:
            work.missing -= len(scores)
            done = not work.missing
        if done:
            with suppress(InvalidStateError):  # its client has gone
                work.future.set_result(Scored(work.scores.tolist(), sum(work.lengths)))

    def _measure(self, shares: Sequence[Share], seconds: float) -> None:
        pairs = sum(stop - start for _, start, stop in shares)
        with self._lock:
            self.pairs += pairs
            self.tokens += sum(sum(work.lengths[start:stop]) for work, start, stop in shares)
            done, spent = self._recent
            self._recent = 0.95 * done + pairs, 0.95 * spent + seconds / self._workers
            now = time.monotonic()
            if due := now - self._trimmed >= TRIM_S:
                self._trimmed = now
        if due:
            trim_heap()


def _fail(work: Any, error: Exception) -> None:
    with suppress(InvalidStateError):
        work.future.set_exception(error)
