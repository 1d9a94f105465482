"""Passages as text: cut in two segments, read once per epoch by all processes together, some set apart for validation."""

from collections import Counter
from dataclasses import replace
from itertools import chain, islice
from types import SimpleNamespace
from zlib import crc32

import pytest
import torch
from torch.utils.data import DataLoader

from rankdistil.data.batches.passages import (
    LivePassages,
    PassageDataModule,
    PassageStream,
    StoredPassages,
    encode_passages,
    set_apart,
)
from rankdistil.data.batches.stream import Size
from rankdistil.data.collections.reader import Reader
from rankdistil.data.collections.texts import open_passages
from rankdistil.data.encode import PairEncoder
from rankdistil.data.files.bad_lines import Tolerance
from rankdistil.data.settings import DataSettings

SETTINGS = DataSettings(
    batch_size=2, eval_batch_size=3, max_length=33, train_on="docpairs", negatives_depth=10,
    relevance_level=1, depth=10, valid_depth=2, valid_queries=10, valid_passages=4,
)  # fmt: skip
LENGTHS = range(1, 41)
IDS = {f"p{n}" for n in LENGTHS}
EPOCH = 14  # batches of three: 13 full ones and a last passage
PLACES = [(1, 2), (2, 0), (3, 2)]


@pytest.fixture(scope="module")
def encoder(tokenizer) -> PairEncoder:
    return PairEncoder(tokenizer, SETTINGS.max_length)


@pytest.fixture
def reader(collection) -> Reader:
    """Forty passages of 1 to 40 words."""
    return Reader(collection(corpus="".join(f"p{n}\t{'word ' * n}\n" for n in LENGTHS)))


@pytest.fixture(params=["live", "stored"])
def stream(reader, encoder, tmp_path, request):
    """Build a stream of one rank over texts or their stored tokens; batches of three passages, seed 5."""
    store = open_passages(reader, encoder, tmp_path / "store") if request.param == "stored" else None

    def build(rank: int = 0, world: int = 1, start: int = 0, seed: int = 5, left_out: frozenset = frozenset()):
        source = LivePassages(reader, left_out, encoder) if store is None else StoredPassages(store, left_out)
        return PassageStream(source, encoder, Size(3), seed, rank, world, start)

    return build


@pytest.fixture
def build(reader, encoder):
    """Build an opened DataModule."""

    def build(seed: int = 0, reader: Reader = reader, **settings: object) -> PassageDataModule:
        data = PassageDataModule(reader, encoder, replace(SETTINGS, **settings), seed)
        data.open()
        return data

    return build


def load(stream: PassageStream, batches: int, workers: int = 0) -> list[tuple[str, ...]]:
    """The ids of a stream's first batches, as a DataLoader gives them."""
    return [batch.passage_ids for batch in islice(DataLoader(stream, batch_size=None, num_workers=workers), batches)]


def segments(encoder: PairEncoder, batch, row: int) -> tuple[list[str], list[str]]:
    words = encoder.tokenizer.convert_ids_to_tokens(batch.input_ids[row, batch.attention_mask[row] == 1].tolist())
    first = words.index("[SEP]")
    assert words[0] == words[-1].replace("SEP", "CLS") == "[CLS]"
    return words[1:first], words[first + 1 : -1]


def test_the_segments_of_a_passage_join_to_its_tokens(encoder):
    texts = ["Bees, e.g. Apis mellifera, make 25 kg of honey a year.", "Zürich isn't Geneva", "tree " * 90, "why", ""]
    batch = encode_passages(encoder, [(str(at), text) for at, text in enumerate(texts)], (0, 0))
    for row, text in enumerate(texts):
        first, second = segments(encoder, batch, row)
        assert first + second == encoder.tokenizer.tokenize(text)[:30]


def test_the_first_segment_is_as_long_as_a_query_at_most_and_never_longer_than_the_second(encoder):
    longer = PairEncoder(encoder.tokenizer, 83)
    batch = encode_passages(longer, [(str(n), "word " * (n % 80)) for n in range(800)], (0, 0))
    lengths = [tuple(len(part) for part in segments(encoder, batch, row)) for row in range(800)]
    assert all(min(2, (first + second) // 2) <= first <= min(24, second) for first, second in lengths)
    assert {first for first, _ in lengths} == set(range(25))


def test_token_types_turn_behind_the_first_separator_and_padding_has_neither_mask_nor_type(encoder):
    batch = encode_passages(encoder, [("a", "word " * 9), ("b", "word " * 3)], (0, 0))
    for row in range(2):
        first, second = segments(encoder, batch, row)
        zeros, ones = len(first) + 2, len(second) + 1
        padding = [0] * (batch.input_ids.size(1) - zeros - ones)
        assert batch.token_type_ids[row].tolist() == [0] * zeros + [1] * ones + padding
        assert batch.attention_mask[row].tolist() == [1] * (zeros + ones) + padding


def test_an_empty_passage_is_two_empty_segments(encoder):
    batch = encode_passages(encoder, [("a", "  "), ("b", "one two three")], (0, 0))
    assert segments(encoder, batch, 0) == ([], [])
    assert batch.attention_mask[0].sum() == 3


def test_a_bad_line_of_the_collection_may_be_left_out(collection, encoder, tmp_path):
    split = collection(corpus="".join(f"p{n}\tword\n" for n in LENGTHS) + "no tab\n")
    data = PassageDataModule(Reader(split, tolerance=Tolerance(on_bad="skip")), encoder, SETTINGS, 0)
    data.open()
    first = f"{tmp_path}/corpus.tsv:41: 1 columns, expected 2 (id<TAB>text): 'no tab'"
    assert data.account() == {"bad_lines": {f"{tmp_path}/corpus.tsv": {"lines": 41, "bad": 1, "first": first}}}


def test_a_batch_has_no_labels_and_every_passage_is_a_group_of_its_own(encoder):
    batch = encode_passages(encoder, [("a", "one two"), ("b", "three")], (0, 0))
    assert batch.query_ids == batch.passage_ids == ("a", "b")
    assert (batch.labels.tolist(), batch.groups.tolist()) == ([0.0, 0.0], [0, 1])


def test_an_epoch_reads_every_passage_once(stream):
    batches = load(stream(), 2 * EPOCH)
    for epoch in (batches[:EPOCH], batches[EPOCH:]):
        assert sorted(chain.from_iterable(epoch)) == sorted(IDS)
        assert sorted(len(batch) for batch in epoch) == [1] + [3] * 13


@pytest.mark.parametrize(("world", "workers"), PLACES)
def test_ranks_and_workers_together_read_each_passage_of_the_global_batches_once(stream, world, workers):
    steps = 2 * EPOCH - 4  # 24 global batches, in the second epoch; each of 1, 2 and 3 ranks takes the same number
    seen = chain.from_iterable(load(stream(rank, world), steps // world, workers) for rank in range(world))
    expected = [window.take(places)[0] for window, places in islice(stream().batches(), steps)]
    assert Counter(chain.from_iterable(seen)) == Counter(chain.from_iterable(expected))


@pytest.mark.parametrize(("start", "workers"), [(1, 2), (3, 0), (EPOCH, 2)])
def test_a_stream_that_starts_later_continues_with_the_same_tokens(stream, start, workers):
    whole = list(islice(stream(rank=1, world=2), start + 4))[start:]
    resumed = islice(DataLoader(stream(rank=1, world=2, start=start), batch_size=None, num_workers=workers), 4)
    for one, other in zip(whole, resumed, strict=True):
        assert one.passage_ids == tuple(other.passage_ids)
        assert torch.equal(one.input_ids, other.input_ids)


def test_order_and_cuts_follow_the_seed_and_nothing_else(stream):
    first, again, other = (list(islice(stream(seed=seed), EPOCH)) for seed in (5, 5, 6))
    torch.rand(7)
    assert [batch.passage_ids for batch in first] == [batch.passage_ids for batch in again]
    assert all(torch.equal(one.token_type_ids, two.token_type_ids) for one, two in zip(first, again, strict=True))
    assert [batch.passage_ids for batch in first] != [batch.passage_ids for batch in other]


def test_a_passage_is_cut_alike_in_any_company_so_validation_is_the_same_in_any_number_of_processes(encoder):
    texts = [(str(n), "word " * n) for n in LENGTHS]
    together = encode_passages(encoder, texts)
    alone = [encode_passages(encoder, [row]) for row in texts]
    assert [segments(encoder, together, at) for at in range(40)] == [segments(encoder, batch, 0) for batch in alone]


def test_a_batch_is_cut_by_the_seed_and_its_number(stream, encoder):
    for number, batch in enumerate(islice(stream(), 20)):
        passages = [(key, "word " * int(key[1:])) for key in batch.passage_ids]
        assert torch.equal(batch.token_type_ids, encode_passages(encoder, passages, (5, number)).token_type_ids)
    texts = [(str(n), "word " * n) for n in LENGTHS]
    first, seed, number = (encode_passages(encoder, texts, cut).token_type_ids for cut in ((5, 0), (6, 0), (5, 1)))
    assert not torch.equal(first, seed)
    assert not torch.equal(first, number)


def test_the_next_epoch_has_another_order_and_cuts_a_passage_elsewhere(stream):
    batches = list(islice(stream(), 6 * EPOCH))
    assert load(stream(), EPOCH) != load(stream(start=EPOCH), EPOCH)
    lengths = {int((batch.token_type_ids[batch.passage_ids.index("p30")] == 0).sum()) for batch in batches
               if "p30" in batch.passage_ids}  # fmt: skip
    assert len(lengths) > 1


def test_batches_hold_passages_of_similar_length_and_do_not_come_in_order_of_length(stream):
    batches = [sorted(min(int(key[1:]), 30) for key in batch) for batch in load(stream(), EPOCH)]  # cut to 30 tokens
    assert max(batch[-1] - batch[0] for batch in batches) < 12
    assert batches not in (sorted(batches), sorted(batches, reverse=True))


def test_passages_left_out_never_stream(stream):
    seen = set(chain.from_iterable(load(stream(left_out=frozenset({"p3", "p20"})), 30)))
    assert seen == IDS - {"p3", "p20"}


def test_the_passages_set_apart_are_the_first_whose_hash_says_so():
    passages = [(f"p{n}", "text") for n in range(200)]
    chosen = [row for row in passages if crc32(row[0].encode()) % 8 == 0]
    assert len(chosen) > 10
    assert set_apart(passages, 10) == chosen[:10]
    assert set_apart(passages, 10**6) == chosen


@pytest.mark.parametrize("stored", [False, True])
def test_what_is_validated_on_is_never_trained_on_and_the_same_for_every_seed(build, tmp_path, stored):
    store = str(tmp_path / "store") if stored else None
    apart = [[key for batch in build(seed, store=store).val_dataloader() for key in batch.passage_ids] for seed in (0, 1)]
    assert apart[0] == apart[1]
    assert len(apart[0]) == SETTINGS.valid_passages
    trained = chain.from_iterable(batch.passage_ids for batch in islice(build(1, store=store).train_dataloader(), 18))
    assert set(trained) == IDS - set(apart[0])


def test_validation_reads_the_same_tokens_every_time_and_for_every_seed(build):
    data = build(0)
    first, again, other = (list(one.val_dataloader()) for one in (data, data, build(1)))
    for batches in (again, other):
        assert all(torch.equal(a.input_ids, b.input_ids) for a, b in zip(first, batches, strict=True))


def test_a_training_batch_has_as_many_passages_as_a_batch_of_triples_has_pairs(build):
    batches = list(islice(build(batch_size=6).train_dataloader(), 3))
    assert [len(batch.passage_ids) for batch in batches] == [12, 12, 12]  # 40 passages but 4
    assert {len(batch.passage_ids) for batch in build().val_dataloader()} == {3, 1}


@pytest.mark.parametrize("budget", [90, 200])
def test_training_batches_of_a_token_budget_fill_it_and_never_exceed_it(build, tmp_path, budget):
    data = build(store=str(tmp_path / "store"), max_tokens=budget, batch_size=20)
    batches = list(islice(data.train_dataloader(), 40))
    assert all(batch.input_ids.numel() <= budget for batch in batches)
    assert sum(batch.input_ids.numel() for batch in batches) > 0.6 * budget * len(batches)
    apart = {key for batch in data.val_dataloader() for key in batch.passage_ids}
    assert set(chain.from_iterable(batch.passage_ids for batch in batches)) == IDS - apart


def test_a_token_budget_below_every_passage_is_refused(build, tmp_path):
    with pytest.raises(
        ValueError, match=r"^data\.max_tokens=3 has no effect: the smallest of the first 36 passages takes \d+ tok"
    ):
        build(store=str(tmp_path / "store"), max_tokens=3, batch_size=20)


def test_every_process_has_something_to_validate_on_and_together_they_have_all(build):
    seen, batches = [], []
    for rank in range(4):
        data = build()  # four passages, a process each
        data.trainer = SimpleNamespace(global_rank=rank, world_size=4)
        seen.append([key for batch in data.val_dataloader() for key in batch.passage_ids])
        batches.append(len(data.val_dataloader()))
    whole = [key for batch in build().val_dataloader() for key in batch.passage_ids]
    assert sorted(chain.from_iterable(seen)) == sorted(whole)
    assert [len(keys) for keys in seen] == [3, 1, 0, 0]  # batches of three, however many processes
    assert batches == [1, 1, 1, 1], "Lightning raises in a process without a batch"


def test_processes_share_the_passages_of_a_step(build):
    shares = []
    for rank in range(2):
        data = build()
        data.trainer = SimpleNamespace(global_rank=rank, world_size=2, accumulate_grad_batches=1)
        shares.append(next(iter(data.train_dataloader())).passage_ids)
    assert [len(share) for share in shares] == [2, 2]
    assert shares[0] + shares[1] == next(iter(build().train_dataloader())).passage_ids


def test_a_resumed_module_continues_behind_the_batches_trained(build):
    whole = [batch.passage_ids for batch in islice(build().train_dataloader(), 5)]
    resumed = build()
    resumed.load_state_dict({"trained_batches": 3})
    assert [batch.passage_ids for batch in islice(resumed.train_dataloader(), 2)] == whole[3:]


def test_the_first_batches_are_the_same_in_every_process_and_leave_the_position_alone(build):
    data = build()
    data.trainer = SimpleNamespace(global_rank=1, world_size=2)
    found = [batch.passage_ids for batch in data.first_batches(9)]  # of four passages each
    assert found == [batch.passage_ids for batch in islice(build().train_dataloader(), 3)]
    assert data.trained_batches == 0


@pytest.mark.parametrize("ids", [["a"], [key for key in map(str, range(40)) if crc32(key.encode()) % 8 == 0]], ids=str)
def test_a_collection_too_small_for_two_sides_is_refused_by_name(build, collection, tmp_path, ids):
    small = Reader(collection(corpus="".join(f"{key}\tword\n" for key in ids)))
    with pytest.raises(ValueError) as caught:
        build(reader=small, valid_passages=40)
    name = f"{tmp_path}/queries.tsv"
    assert str(caught.value) == f"{name} has too few passages to train on some and validate on others."


def test_records_say_what_text_was_read(build, tmp_path):
    assert build().names == {"train": f"{tmp_path.name}/queries.tsv (passages)"}
