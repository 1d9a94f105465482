"""Streams give the same triples and pairs, however many processes and workers share them, and from any position."""

from collections import Counter
from itertools import chain, islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from rankdistil.data.batches.groups import ListedGroups, list_groups, sample_groups
from rankdistil.data.batches.stream import CandidateStream, GroupStream, ShardStream, Size, StreamDataModule, begin_worker
from rankdistil.data.collections.reader import Reader
from rankdistil.data.collections.texts import Collection, open_collection
from rankdistil.data.encode import PairEncoder
from rankdistil.data.files.bad_lines import STOP
from rankdistil.data.records import Pair, PairBatch, Triple

LENGTHS = range(1, 41)
THREE = Size(3)
TRIPLES = [Triple(f"q{n}", f"p{n}", f"p{max(n - 1, 1)}") for n in LENGTHS]
EPOCH = 14  # batches of three: 13 full ones and a last triple
PLACES = [(1, 2), (2, 0), (3, 2)]


@pytest.fixture(scope="module")
def encoder(tokenizer) -> PairEncoder:
    return PairEncoder(tokenizer, 61)


@pytest.fixture
def reader(collection) -> Reader:
    """Forty questions of one word, forty passages of 1 to 40 words."""
    corpus = "".join(f"p{n}\t{'word ' * n}\n" for n in LENGTHS)
    queries = "".join(f"q{n}\tquestion\n" for n in LENGTHS)
    return Reader(collection(corpus=corpus, queries=queries))


@pytest.fixture(params=["tokenised each time", "token store"])
def collected(request, reader, encoder, tmp_path) -> Collection:
    """The texts, from either side: all else must be the same."""
    return open_collection(reader, encoder, tmp_path / "store" if request.param == "token store" else None)


@pytest.fixture
def stream(collected, encoder):
    """Build a stream of one rank; batches of three triples, seed 5."""

    def build(rank: int = 0, world: int = 1, start: int = 0, seed: int = 5, size: Size = THREE) -> GroupStream:
        source = ListedGroups(listed(collected))
        return GroupStream(source, *collected, encoder, size, seed, rank, world, start)

    return build


def listed(collected: Collection) -> np.ndarray:
    return list_groups(enumerate(TRIPLES, 1), *collected, STOP.of("triples"))


def named(collected: Collection, rows) -> list[Triple]:
    columns = collected.queries.names(rows[:, 0]), *(collected.passages.names(rows[:, place]) for place in (1, 2))
    return [Triple(*row) for row in zip(*columns, strict=True)]


def load(stream: GroupStream, batches: int, workers: int = 0) -> list[list[Triple]]:
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


@pytest.mark.parametrize(("own", "expected"), [(None, "false"), ("true", "true")])
def test_a_loader_s_process_tokenises_in_one_thread_unless_it_is_told_otherwise(own, expected, monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("os.environ", environment := {"TOKENIZERS_PARALLELISM": own} if own else {})
    begin_worker(0)
    assert environment == {"TOKENIZERS_PARALLELISM": expected}


@pytest.mark.parametrize(("device", "pinned"), [("cuda", True), ("cpu", False)])
def test_batches_that_go_to_a_gpu_are_pinned(device, pinned):
    data = StreamDataModule(workers=0)
    assert data.loader([]).pin_memory is False
    data.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)))
    data.setup("fit")
    assert data.loader([]).pin_memory is pinned


def test_epoch_gives_every_triple_once(stream):
    batches = load(stream(), 2 * EPOCH)
    for epoch in (batches[:EPOCH], batches[EPOCH:]):
        assert Counter(chain.from_iterable(epoch)) == Counter(TRIPLES)
        assert sorted(len(batch) for batch in epoch) == [1] + [3] * 13


@pytest.mark.parametrize(("world", "workers"), PLACES)
def test_ranks_and_workers_together_see_each_triple_of_the_global_batches_once(stream, collected, world, workers):
    steps = 2 * EPOCH - 4  # 24 global batches, in the second epoch; each of 1, 2 and 3 ranks takes the same number
    seen = chain.from_iterable(load(stream(rank, world), steps // world, workers) for rank in range(world))
    whole = chain.from_iterable(named(collected, rows) for rows in islice(stream().batches(), steps))
    assert Counter(chain.from_iterable(seen)) == Counter(whole)


@pytest.mark.parametrize(("world", "workers"), PLACES)
def test_in_an_epoch_all_ranks_and_workers_see_each_triple_once(stream, world, workers):
    steps = 3 * EPOCH // world  # an epoch's 14 batches don't divide by 3, those of three epochs do
    seen = chain.from_iterable(chain.from_iterable(load(stream(rank, world), steps, workers)) for rank in range(world))
    assert Counter(seen) == Counter(3 * TRIPLES)


@pytest.mark.parametrize(("world", "workers"), PLACES)
def test_ranks_take_turns_in_the_one_global_order(stream, collected, world, workers):
    ranks = [load(stream(rank, world), 24 // world, workers) for rank in range(world)]
    whole = [named(collected, rows) for rows in islice(stream().batches(), 24)]
    assert list(chain.from_iterable(zip(*ranks, strict=True))) == whole


@pytest.mark.parametrize(("start", "workers"), [(1, 2), (3, 0), (EPOCH, 2)])
def test_start_skips_exactly_that_many_batches_of_the_rank(stream, start, workers):
    whole = load(stream(rank=1, world=2), start + 4)
    assert load(stream(rank=1, world=2, start=start), 4, workers) == whole[start:]


@pytest.mark.parametrize("world", [2, 3, 6])
@pytest.mark.fault("E5")
def test_parts_of_a_batch_are_of_equal_size_and_join_to_it_and_only_an_epoch_s_last_begins_again(stream, collected, world):
    size = Size(6)  # an epoch: six full batches and one of four triples
    whole = [named(collected, rows) for rows in islice(stream(size=size).batches(), 14)]
    ranks = [load(stream(rank, world, size=size._replace(parts=world)), 14) for rank in range(world)]
    for batch, *parts in zip(whole, *ranks, strict=True):
        assert len({len(part) for part in parts}) == 1
        joined = list(chain.from_iterable(parts))
        assert joined == [*batch, *batch][: len(joined)]
        assert len(joined) == -(-len(batch) // world) * world


@pytest.mark.parametrize("collected", ["token store"], indirect=True)
@pytest.mark.parametrize("parts", [2, 4])
def test_every_part_keeps_to_its_share_of_a_token_budget(stream, parts):
    batches = list(islice(stream(size=Size(20, 800, parts)), 60))
    assert all(batch.input_ids.numel() <= 800 / parts for batch in batches)
    assert sum(batch.input_ids.numel() for batch in batches) > 0.5 * 800 / parts * len(batches)
    assert set(chain.from_iterable(triples(batch) for batch in batches)) == set(TRIPLES)


def test_order_depends_on_the_seed_and_on_nothing_else(stream):
    assert load(stream(), EPOCH) == load(stream(), EPOCH) != load(stream(seed=6), EPOCH)


def test_batches_hold_triples_of_similar_length(stream, collected, encoder):
    (rows,) = ListedGroups(listed(collected)).epoch(5, 0)
    arbitrary = named(collected, rows)
    cut = [arbitrary[at : at + 3] for at in range(0, len(arbitrary), 3)]
    assert padding(encoder, load(stream(), EPOCH)) < 0.2 * padding(encoder, cut)


def test_batches_do_not_come_in_order_of_length(stream):
    lengths = [int(batch[0].positive_id[1:]) for batch in load(stream(), EPOCH)]
    assert lengths not in (sorted(lengths), sorted(lengths, reverse=True))


def test_pairs_of_a_triple_stand_side_by_side_positive_first(stream):
    batch = next(islice((batch for batch in stream() if len(batch.labels) == 6), 1))
    assert batch.labels.tolist() == [1.0, 0.0] * 3
    assert batch.groups.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("collected", ["token store"], indirect=True)  # which knows lengths in tokens
@pytest.mark.parametrize("budget", [150, 400])
def test_batches_of_a_token_budget_fill_it_and_never_exceed_it(stream, budget):
    batches = list(islice(stream(size=Size(20, budget)), 60))
    assert all(batch.input_ids.numel() <= budget for batch in batches)
    assert sum(batch.input_ids.numel() for batch in batches) > 0.6 * budget * len(batches)
    epoch = Counter(chain.from_iterable(triples(batch) for batch in batches))
    assert epoch.keys() == set(TRIPLES)


@pytest.mark.parametrize(("limit", "larger"), [(24, None), (23, 1), (16, 1), (15, 2), (8, 2)])
def test_groups_that_take_more_tokens_than_a_batch_may_are_counted(limit, larger):
    """Pairs of 1, 5 and 9 tokens and three special ones: two of each take 8, 16 and 24."""
    found = Size(2, limit).larger(np.array([5, 9, 1]), 2, "groups")
    assert found == (larger and {"what": "groups", "larger": larger, "of": 3, "largest": 24, "limit": limit})
    assert Size(2).larger(np.array([5, 9, 1]), 2, "groups") is None


@pytest.mark.parametrize(
    ("pairs", "which", "least", "fix"),
    [(1, "", 4, ""), (2, ", of 2 pairs each,", 8, ""), (8, ", of 8 pairs each,", 32, ", or data.negatives lower")],
)
def test_a_token_budget_below_every_group_is_refused_with_the_size_of_the_largest(pairs, which, least, fix):
    with pytest.raises(ValueError) as caught:
        Size(2, 3).larger(np.array([5, 9, 1]), pairs, "groups")
    assert str(caught.value) == (
        f"data.max_tokens=3 has no effect: the smallest of the first 3 groups{which} takes {least} tokens, the largest "
        f"{3 * least}. Set data.max_tokens to at least {3 * least}{fix}."
    )


def test_batches_of_a_token_budget_count_long_pairs_as_they_are_cut(reader, tokenizer, tmp_path):
    encoder = PairEncoder(tokenizer, 13)  # ten tokens of text, the question one of them
    collected = open_collection(reader, encoder, tmp_path / "store")
    stream = GroupStream(ListedGroups(listed(collected)), *collected, encoder, Size(20, 52), 5)
    batches = list(islice(stream, 40))
    assert all(batch.input_ids.numel() <= 52 for batch in batches)
    assert any(batch.input_ids.shape == (4, 13) for batch in batches)  # two groups of cut pairs fill it


@pytest.mark.parametrize("stored", [False, True])
def test_of_two_texts_that_each_fill_a_pair_the_longer_has_the_odd_token(collection, tokenizer, tmp_path, stored):
    reader = Reader(collection(corpus=f"short\t{'word ' * 9}\nlong\t{'word ' * 11}\n", queries=f"q\t{'question ' * 10}\n"))
    encoder = PairEncoder(tokenizer, 8)  # five tokens of text
    collected = open_collection(reader, encoder, tmp_path / "store" if stored else None)
    pairs = np.stack([collected.queries.rows(["q", "q"]), collected.passages.rows(["short", "long"])], axis=1)
    (batch,) = CandidateStream(pairs, *collected, encoder, 2)
    kept = dict(zip(batch.passage_ids, batch.token_type_ids.sum(1).tolist(), strict=True))
    assert kept == {"short": 2 + 1, "long": 3 + 1}  # and [SEP]


def test_a_group_holds_its_negatives_behind_its_positive(reader, collected, encoder):
    pools = {f"q{n}": [f"p{m}" for m in LENGTHS if m != n] for n in LENGTHS}
    source = sample_groups({f"q{n}": [f"p{n}"] for n in LENGTHS}, pools, 4, *collected)
    batches = list(islice(GroupStream(source, *collected, encoder, Size(5), seed=0), 8))
    for batch in batches:
        assert batch.labels.tolist() == [1.0, 0, 0, 0, 0] * 5
        assert batch.groups.tolist() == [place for place in range(5) for _ in range(5)]
        assert (batch.tokens, batch.sizes) == (int(batch.attention_mask.sum()), (5, 5))
    seen = [pair for batch in batches for pair in zip(batch.query_ids, batch.passage_ids, strict=True)]
    assert len(set(seen)) == len(seen) == 200  # no negative twice in a group, and every query once
    assert sum(query[1:] == passage[1:] for query, passage in seen) == 40


def pair_rows(collected: Collection, pairs: list[tuple[str, str]]):
    queries, passages = zip(*pairs, strict=True)
    return np.stack([collected.queries.rows(queries), collected.passages.rows(passages)], axis=1)


@pytest.mark.parametrize(("world", "workers"), PLACES)
def test_each_candidate_is_given_once_over_all_ranks_and_workers(collected, encoder, world, workers):
    pairs = [(f"q{n % 7 + 1}", f"p{n}") for n in LENGTHS]
    seen = []
    for rank in range(world):
        stream = CandidateStream(pair_rows(collected, pairs), *collected, encoder, 6, rank, world)
        loader = DataLoader(stream, batch_size=None, num_workers=workers)
        seen += [ids for batch in loader for ids in zip(batch.query_ids, batch.passage_ids, strict=True)]
    assert sorted(seen) == sorted(pairs)


def test_candidates_come_longest_first_whatever_their_order(collected, encoder):
    pairs = [("q1", f"p{n}") for n in LENGTHS]
    expected = [f"p{n}" for n in reversed(LENGTHS)]
    for order in (pairs, pairs[::-1], pairs[20:] + pairs[:20]):
        stream = CandidateStream(pair_rows(collected, order), *collected, encoder, 6)
        assert [key for batch in stream for key in batch.passage_ids] == expected


def test_candidate_stream_knows_its_number_of_batches(collected, encoder):
    rows = pair_rows(collected, [("q1", f"p{n}") for n in LENGTHS])
    streams = [CandidateStream(rows, *collected, encoder, 6, rank, 3) for rank in range(3)]
    assert [len(stream) for stream in streams] == [len(list(stream)) for stream in streams] == [3, 2, 2]


@pytest.mark.parametrize(("world", "workers"), [(2, 0), (3, 2), (8, 0)])
@pytest.mark.fault("E4")
def test_a_rank_without_candidates_has_a_batch_that_counts_for_nothing(collected, encoder, world, workers):
    pairs = [("q1", f"p{n}") for n in LENGTHS[:9]]  # two batches
    streams = [CandidateStream(pair_rows(collected, pairs), *collected, encoder, 6, rank, world) for rank in range(world)]
    batches = [list(DataLoader(stream, batch_size=None, num_workers=workers)) for stream in streams]
    assert [len(stream) for stream in streams] == [len(row) for row in batches] == [1] * world
    seen = [pair for (batch,) in batches for pair in zip(batch.query_ids, batch.passage_ids, strict=True)]
    assert sorted(seen) == sorted(pairs)
    for (batch,) in batches[2:]:
        assert len(batch.labels) == len(batch.input_ids) == 1, "a network can be run on it"


def test_without_any_candidate_there_is_no_batch(collected, encoder):
    assert len(CandidateStream(np.zeros((0, 2), np.int64), *collected, encoder, 6, 1, 2)) == 0


def shard_pairs(streams: list[ShardStream], workers: int = 0) -> Counter:
    """(shard, query, passage) of all ranks."""
    batches = chain.from_iterable(DataLoader(stream, batch_size=None, num_workers=workers) for stream in streams)
    return Counter((int(b.groups[0]), *pair) for b in batches for pair in zip(b.query_ids, b.passage_ids, strict=True))


@pytest.mark.parametrize("left", [[0, 1, 2], [1, 2], [2]], ids=str)
@pytest.mark.parametrize(("world", "workers"), [(1, 2), (2, 0), (3, 2), (5, 0)])
def test_each_pair_of_the_shards_left_is_given_once_and_no_rank_is_without_a_batch(collected, encoder, left, world, workers):
    pairs = [("q1", f"p{n}") for n in LENGTHS]
    shards = {number: pair_rows(collected, pairs[15 * number : 15 * number + 15]) for number in left}
    streams = [ShardStream(shards, *collected, encoder, 4, rank, world) for rank in range(world)]
    assert all(len(stream) == len(list(stream)) > 0 for stream in streams)
    expected = [(number, *pair) for number in left for pair in pairs[15 * number : 15 * number + 15]]
    assert shard_pairs(streams, workers) == Counter(expected)


def test_a_batch_from_the_token_store_is_that_of_the_texts(reader, encoder, tmp_path):
    """Tokenised once or each time: the same token ids, masks, types and ids."""
    live, stored = (open_collection(reader, encoder, store) for store in (None, tmp_path / "store"))
    pairs = [(f"q{n}", f"p{41 - n}") for n in LENGTHS]
    one, other = (next(iter(CandidateStream(pair_rows(c, pairs), *c, encoder, 40))) for c in (live, stored))
    expected = encoder.batch(
        [Pair(q, p, reader.queries[q], reader.texts([p])[p]) for q, p in zip(one.query_ids, one.passage_ids, strict=True)]
    )
    for batch in (one, other):
        assert all(torch.equal(*fields) for fields in zip(batch[:3], expected[:3], strict=True))
        assert (batch.query_ids, batch.passage_ids) == (expected.query_ids, expected.passage_ids)


@pytest.mark.parametrize("size", [3, 7])
def test_a_batch_doesn_t_depend_on_those_its_texts_are_fetched_with(reader, collected, encoder, size):
    """Small batches are fetched several at a time; the last one is smaller still."""
    rows = pair_rows(collected, [(f"q{n}", f"p{41 - n}") for n in LENGTHS])
    batches = list(CandidateStream(rows, *collected, encoder, size))
    assert [len(batch.labels) for batch in batches] == [size] * (40 // size) + [40 % size]
    for batch in batches:
        ids = list(zip(batch.query_ids, batch.passage_ids, strict=True))
        alone = encoder.batch([Pair(q, p, reader.queries[q], reader.texts([p])[p]) for q, p in ids])
        assert all(torch.equal(*fields) for fields in zip(batch[:5], alone[:5], strict=True))
        assert batch[5:] == alone[5:]


def test_a_position_goes_on_where_it_was_saved() -> None:
    before, after = StreamDataModule(workers=0), StreamDataModule(workers=0)
    before.trained_batches = 7
    after.load_state_dict(before.state_dict())
    assert after.trained_batches == 7


@pytest.mark.parametrize(("processes", "accumulated"), [(2, 1), (1, 4)])
@pytest.mark.fault("E6")
def test_a_position_of_other_processes_or_accumulated_batches_is_refused(processes: int, accumulated: int) -> None:
    """``trainer.devices=-1`` is the same setting on a machine with more of them."""
    saved = {"trained_batches": 7, "processes": processes, "accumulated": accumulated}
    with pytest.raises(ValueError) as error:
        StreamDataModule(workers=0).load_state_dict(saved)
    assert str(error.value) == (
        f"the checkpoint was saved by {processes} processes with {accumulated} accumulated batches, and 1 processes with 1 "
        "accumulated batches would continue it: not the same batches. Continue with trainer.devices x trainer.num_nodes = "
        f"{processes} and trainer.accumulate_grad_batches={accumulated}, or start again in another folder."
    )
