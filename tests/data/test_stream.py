"""Streams give the same triples and pairs, however many processes and workers share them."""

from collections import Counter
from itertools import chain, islice

import pytest
from torch.utils.data import DataLoader

from rankdistil.data.batch import PairBatch
from rankdistil.data.encode import PairEncoder
from rankdistil.data.readers import Reader
from rankdistil.data.records import Pair, Triple
from rankdistil.data.stream import CandidateStream, TripleStream
from rankdistil.data.triples import ListedTriples

LENGTHS = range(1, 41)
TRIPLES = [Triple(f"q{n}", f"p{n}", f"p{max(n - 1, 1)}") for n in LENGTHS]
EPOCH = 14  # batches of three: 13 full ones and a last triple
PLACES = [(world, workers) for world in (1, 2, 3) for workers in (0, 2)]


@pytest.fixture(scope="module")
def encoder(tokenizer) -> PairEncoder:
    return PairEncoder(tokenizer, query_tokens=8, passage_tokens=50)


@pytest.fixture
def reader(collection) -> Reader:
    """Forty questions of one word, forty passages of 1 to 40 words."""
    corpus = "".join(f"p{n}\t{'word ' * n}\n" for n in LENGTHS)
    queries = "".join(f"q{n}\tquestion\n" for n in LENGTHS)
    return Reader(collection(corpus=corpus, queries=queries))


@pytest.fixture
def stream(reader, encoder):
    """Build a stream of one rank; batches of three triples, seed 5."""
    return lambda rank=0, world=1, start=0, seed=5: TripleStream(
        ListedTriples(TRIPLES), reader, encoder, 3, seed, rank, world, start
    )


def load(stream: TripleStream, batches: int, workers: int = 0) -> list[list[Triple]]:
    """The triples of a stream's first batches, as a DataLoader gives them."""
    loader = DataLoader(stream, batch_size=None, num_workers=workers)
    return [triples(batch) for batch in islice(loader, batches)]


def triples(batch: PairBatch) -> list[Triple]:
    found: dict[int, dict[float, tuple[str, str]]] = {}
    columns = batch.groups.tolist(), batch.labels.tolist(), batch.query_ids, batch.passage_ids
    for group, label, query, passage in zip(*columns, strict=True):
        found.setdefault(group, {})[label] = (query, passage)
    assert all(row[1.0][0] == row[0.0][0] for row in found.values())  # one query per triple
    return [Triple(*row[1.0], row[0.0][1]) for row in found.values()]


def padding(encoder: PairEncoder, rows: list[list[Triple]]) -> int:
    words = {f"p{n}": "word " * n for n in LENGTHS}
    batches = [[Pair("q", p, "question", words[p]) for triple in row for p in triple[1:]] for row in rows]
    return sum(int((encoder.batch(pairs).attention_mask == 0).sum()) for pairs in batches)


def test_epoch_gives_every_triple_once(stream):
    batches = load(stream(), 2 * EPOCH)
    for epoch in (batches[:EPOCH], batches[EPOCH:]):
        assert Counter(chain.from_iterable(epoch)) == Counter(TRIPLES)
        assert sorted(len(batch) for batch in epoch) == [1] + [3] * 13


@pytest.mark.parametrize(("world", "workers"), PLACES)
def test_ranks_and_workers_together_see_each_triple_of_the_global_batches_once(stream, world, workers):
    steps = 2 * EPOCH - 4  # 24 global batches, in the second epoch; each of 1, 2 and 3 ranks takes the same number
    seen = chain.from_iterable(load(stream(rank, world), steps // world, workers) for rank in range(world))
    assert Counter(chain.from_iterable(seen)) == Counter(chain.from_iterable(islice(stream().batches(), steps)))


@pytest.mark.parametrize(("world", "workers"), PLACES)
def test_ranks_take_turns_in_the_one_global_order(stream, world, workers):
    ranks = [load(stream(rank, world), 24 // world, workers) for rank in range(world)]
    assert list(chain.from_iterable(zip(*ranks, strict=True))) == list(islice(stream().batches(), 24))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("start", [1, 3, EPOCH])
def test_start_skips_exactly_that_many_batches_of_the_rank(stream, start, workers):
    whole = load(stream(rank=1, world=2), start + 4)
    assert load(stream(rank=1, world=2, start=start), 4, workers) == whole[start:]


def test_order_depends_on_the_seed_and_on_nothing_else(stream):
    assert load(stream(), EPOCH) == load(stream(), EPOCH) != load(stream(seed=6), EPOCH)


def test_batches_hold_triples_of_similar_length(stream, encoder):
    arbitrary = list(ListedTriples(TRIPLES).epoch(5, 0))
    cut = [arbitrary[at : at + 3] for at in range(0, len(arbitrary), 3)]
    assert padding(encoder, load(stream(), EPOCH)) < 0.2 * padding(encoder, cut)


def test_batches_do_not_come_in_order_of_length(stream):
    lengths = [int(batch[0].positive_id[1:]) for batch in load(stream(), EPOCH)]
    assert lengths not in (sorted(lengths), sorted(lengths, reverse=True))


def test_pairs_of_a_triple_stand_side_by_side_positive_first(stream):
    batch = next(islice((batch for batch in stream() if len(batch.labels) == 6), 1))
    assert batch.labels.tolist() == [1.0, 0.0] * 3
    assert batch.groups.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(("world", "workers"), PLACES)
def test_each_candidate_is_given_once_over_all_ranks_and_workers(encoder, world, workers):
    pairs = [Pair(f"q{n % 7}", f"p{n}", "question", "word " * n) for n in LENGTHS]
    seen = []
    for rank in range(world):
        loader = DataLoader(CandidateStream(pairs, encoder, 6, rank, world), batch_size=None, num_workers=workers)
        seen += [ids for batch in loader for ids in zip(batch.query_ids, batch.passage_ids, strict=True)]
    assert sorted(seen) == sorted((pair.query_id, pair.passage_id) for pair in pairs)


def test_candidates_come_longest_first_whatever_their_order(encoder):
    pairs = [Pair("q", f"p{n}", "question", "word " * n) for n in LENGTHS]
    expected = [f"p{n}" for n in reversed(LENGTHS)]
    for order in (pairs, pairs[::-1], pairs[20:] + pairs[:20]):
        assert [key for batch in CandidateStream(order, encoder, 6) for key in batch.passage_ids] == expected


def test_candidate_stream_knows_its_number_of_batches(encoder):
    pairs = [Pair("q", f"p{n}", "question", "word") for n in LENGTHS]
    streams = [CandidateStream(pairs, encoder, 6, rank, 3) for rank in range(3)]
    assert [len(stream) for stream in streams] == [len(list(stream)) for stream in streams] == [3, 2, 2]
