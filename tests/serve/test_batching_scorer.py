"""Scores of many requests at once: those of each alone; failures and clients that go stay with their requests."""

import asyncio
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from families import TEXT
from gate import PATIENCE_S, Gate

from rankdistil import Reranker
from rankdistil.data.records import Pair
from rankdistil.inference.engine import Engine
from rankdistil.serve.batching import ClosedError, FullError, Scored, Scorer, ScoringError


def pairs(count: int, seed: int = 0) -> list[Pair]:
    """Make pairs of one query whose passages have 0 to 40 words."""
    random = np.random.default_rng(seed)
    words = " ".join(TEXT).split()
    return [
        Pair("", "", TEXT[seed % len(TEXT)], " ".join(random.choice(words, size))) for size in random.integers(0, 40, count)
    ]


@pytest.fixture
def make(engine: Engine, gate: Gate) -> Iterator[Callable[..., Scorer]]:
    """Make scorers that are closed at the end."""
    made: list[Scorer] = []

    def scorer(own: Engine = engine, workers: int = 1, most: int = 10_000) -> Scorer:
        made.append(Scorer(own, workers, most))
        return made[-1]

    yield scorer
    gate.opened.set()
    for each in made:
        each.close()


async def together(scorer: Scorer, *requests: list[Pair]) -> list[Scored | BaseException]:
    return await asyncio.gather(*map(scorer.score, requests), return_exceptions=True)


async def until(event: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not event():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(("dtype", "off"), [("float32", 1e-5), ("int8", 1e-3)])
def test_each_request_gets_the_scores_that_the_reranker_gives_it_alone(make, export, dtype: str, off: float) -> None:
    ranker = Reranker(export, device="cpu", dtype=dtype)
    requests = [pairs(count, seed) for seed, count in enumerate([1, 10, 300, 7, 64, 65, 128, 2])]
    alone = [ranker.score([(pair.query, pair.passage) for pair in request]) for request in requests]
    scorer = make(Engine(Gate(ranker.engine.network, 100), ranker.engine.encoder), workers=2)
    found = asyncio.run(together(scorer, *requests))
    assert [scored.scores for scored in found] == [pytest.approx(scores, abs=off) for scores in alone]
    assert np.std(alone[2]) > 100 * off
    assert scorer.queue.waiting == 0


def test_tokens_are_those_of_the_pairs_as_the_network_gets_them(make, ranker: Reranker) -> None:
    requests = [pairs(3), [Pair("", "", "bees", "fly " * 200)]]
    found = asyncio.run(together(scorer := make(), *requests))
    expected = [int(ranker.engine.encoder.batch(request).attention_mask.sum()) for request in requests]
    assert [scored.tokens for scored in found] == expected
    assert expected[1] == 64
    assert (scorer.pairs, scorer.tokens) == (4, sum(expected))


def test_a_network_that_fails_fails_the_requests_of_its_step_and_no_others(make, gate: Gate, capsys) -> None:
    bad, good = [Pair("", "", "bees", "fly " * 60)] * 3, [Pair("", "", "bees", "wings")] * 3
    gate.fails = lambda lengths: RuntimeError("no memory") if lengths.max() > 20 else None
    scorer = make()
    found = asyncio.run(together(scorer, bad, good))
    assert isinstance(found[0], ScoringError)
    assert len(found[1].scores) == 3
    assert (scorer.failures, scorer.queue.waiting) == (1, 0)
    assert capsys.readouterr().err == "a step of 1 pairs of 1 requests failed: RuntimeError: no memory\n"
    assert len(asyncio.run(together(scorer, good))[0].scores) == 3  # it goes on


def test_a_score_that_is_no_number_fails_its_request_alone(make, ranker: Reranker, capsys) -> None:
    class Overflows(Gate):
        def __call__(self, first, second):
            return np.where(second.lengths == 3, np.nan, super().__call__(first, second))

    requests = [[Pair("", "", "bees", text)] for text in ("a b c", "a b", "a")]
    scorer = make(Engine(Overflows(ranker.engine.network, 1000), ranker.engine.encoder))
    found = asyncio.run(together(scorer, *requests))
    assert isinstance(found[0], ScoringError)
    assert [len(scored.scores) for scored in found[1:]] == [1, 1]
    assert capsys.readouterr().err == "a request failed: a score of it is no finite number\n"


def test_what_is_given_up_is_not_computed(make, gate: Gate) -> None:
    scorer = make()
    gate.shut()

    async def act() -> None:
        first = asyncio.ensure_future(scorer.score(pairs(1)))
        await until(gate.inside.is_set)
        second = asyncio.ensure_future(scorer.score(pairs(50)))
        await until(lambda: scorer.queue.waiting == 50 and scorer.queue._entries)
        second.cancel()
        await asyncio.wait([second])
        assert scorer.queue.waiting == 0
        gate.opened.set()
        assert len((await first).scores) == 1

    asyncio.run(act())
    assert gate.entered == [1]


def test_a_full_queue_refuses_and_tells_how_long_it_takes(make, gate: Gate) -> None:
    scorer = make(most=10)
    assert scorer.seconds(1000) == 1  # nothing was measured yet
    gate.shut()

    async def act() -> None:
        first = asyncio.ensure_future(scorer.score(pairs(90)))
        await until(gate.inside.is_set)
        with pytest.raises(FullError):
            await scorer.score(pairs(1))
        gate.opened.set()
        await first
        assert len((await scorer.score(pairs(100))).scores) == 100

    asyncio.run(act())
    scorer._recent = 200.0, 4.0
    assert [scorer.seconds(count) for count in (1, 50, 120)] == [1, 1, 3]


def test_closing_answers_what_is_computed_and_fails_the_rest(make, gate: Gate) -> None:
    scorer = make()
    gate.shut()

    async def act() -> list[Scored | BaseException]:
        tasks = [asyncio.ensure_future(scorer.score(pairs(1)))]
        await until(gate.inside.is_set)
        tasks.append(asyncio.ensure_future(scorer.score(pairs(9))))
        await until(lambda: scorer.queue._entries)
        closing = asyncio.ensure_future(asyncio.to_thread(scorer.close))
        await asyncio.wait(tasks[1:])
        gate.opened.set()
        await closing
        return await asyncio.gather(*tasks, scorer.score(pairs(1)), return_exceptions=True)

    first, second, third = asyncio.run(act())
    assert len(first.scores) == 1
    assert [type(second), type(third)] == [ClosedError, ClosedError]


@pytest.mark.parametrize("aggregate", ["max", "mean"])
def test_documents_in_windows_are_scored_as_the_reranker_does_and_wait_as_one_pair_each(make, export, aggregate: str) -> None:
    ranker = Reranker(export, device="cpu", windows={"stride": 5, "most": 4, "size": 8, "aggregate": aggregate})
    requests = [pairs(count, seed) for seed, count in enumerate([1, 10, 80, 7])]
    alone = [ranker.score([(pair.query, pair.passage) for pair in request]) for request in requests]
    gate = Gate(ranker.engine.network, 100)
    scorer = make(Engine(gate, ranker.engine.encoder), workers=2, most=98)
    found = asyncio.run(together(scorer, *requests))
    assert [scored.scores for scored in found] == [pytest.approx(scores, abs=1e-5) for scores in alone]
    assert (scorer.queue.waiting, scorer.pairs) == (0, 98)
    lengths = [ranker.engine.tokens(request).lengths(3).sum() for request in requests]
    assert [scored.tokens for scored in found] == lengths
    assert scorer.tokens == sum(lengths)
    cut = Reranker(export, device="cpu", windows=False).engine
    assert lengths[2] > cut.tokens(requests[2]).lengths(3).sum()
