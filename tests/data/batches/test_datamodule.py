"""The DataModule over a small folder: what it trains on, what it re-ranks, which settings it refuses."""

from collections import Counter
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

import pytest

from rankdistil.data.batches.datamodule import RankingDataModule, pooled, spread
from rankdistil.data.collections.bm25 import Bm25
from rankdistil.data.collections.reader import Reader
from rankdistil.data.collections.splits import Holdout
from rankdistil.data.encode import PairEncoder
from rankdistil.data.files.folder import BM25
from rankdistil.data.records import PairBatch
from rankdistil.data.settings import DataSettings

SETTINGS = DataSettings(
    batch_size=2, eval_batch_size=3, max_length=27, train_on="docpairs", negatives_depth=10,
    relevance_level=1, depth=10, valid_depth=2, valid_queries=10, valid_passages=1,
)  # fmt: skip


NO_COUNT = ("train_on", "store", "negatives_margin", "negatives_scores", "language", "windows")
OPEN = (*NO_COUNT, "test_queries", "max_tokens")


@pytest.fixture(scope="module")
def encoder(tokenizer) -> PairEncoder:
    return PairEncoder(tokenizer, SETTINGS.max_length)


@pytest.fixture
def build(collection, encoder):
    """Build an opened DataModule whose three splits are one folder; ``files`` replaces some of its files."""

    def build(seed: int = 0, files: dict[str, str] | None = None, **settings: object) -> RankingDataModule:
        reader = Reader(collection(**(files or {})))
        data = RankingDataModule(reader, reader, reader, encoder, replace(SETTINGS, **settings), seed)
        data.open()
        return data

    return build


def ids(task) -> dict[str, list[str]]:
    return {query: [hit.passage_id for hit in row] for query, row in task.candidates.items()}


def pairs_of(loader) -> list[tuple[str, str]]:
    return [pair for batch in loader for pair in zip(batch.query_ids, batch.passage_ids, strict=True)]


def test_train_batch_holds_two_encoded_pairs_per_triple(build, encoder, collection):
    batch = next(iter(build().train_dataloader()))
    assert batch.labels.tolist() == [1.0, 0.0, 1.0, 0.0]
    assert batch.groups.tolist() == [0, 0, 1, 1]
    reader = Reader(collection())
    for row, (query, passage) in enumerate(zip(batch.query_ids, batch.passage_ids, strict=True)):
        expected = encoder.tokenizer(reader.queries[query], reader.texts([passage])[passage])["input_ids"]
        assert batch.input_ids[row, batch.attention_mask[row] == 1].tolist() == expected


@pytest.mark.parametrize("negatives", [1, 2])
@pytest.mark.parametrize("pairs", [1, 9, 20])
def test_the_first_batches_hold_the_pairs_asked_for_whatever_the_size_of_a_group(build, negatives, pairs):
    """An epoch is two batches, of two groups and of one."""
    run = "".join(f"{query} Q0 {passage} 1 {score} tag\n" for query in "123" for score, passage in enumerate("abcde"))
    data = build(train_on="sampled", negatives=negatives, files={"run": run})
    sizes = [len(batch.labels) for batch in data.first_batches(pairs)]
    assert set(sizes) <= {2 * (1 + negatives), 1 + negatives}
    assert sum(sizes[:-1]) < pairs <= sum(sizes)


def test_a_token_budget_is_held_against_the_first_groups(build, tmp_path):
    store = str(tmp_path / "store")
    with pytest.raises(ValueError, match=r"^data\.max_tokens=6 has no effect: the smallest of the first 4 groups, of 2 pairs"):
        build(store=store, max_tokens=6)
    tokens = [batch.input_ids.numel() for batch in islice(build(store=store, batch_size=1).train_dataloader(), 4)]
    told = build(store=store, max_tokens=max(tokens) - 1).account()["max_tokens"]
    assert (told["of"], told["largest"], told["limit"]) == (4, max(tokens), max(tokens) - 1)
    assert "max_tokens" not in build(store=store, max_tokens=max(tokens)).account()


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_arrive_as_they_were_made(build, workers):
    data = build(workers=workers)
    for loader in (data.train_dataloader(), data.test_dataloader()):
        batch = next(iter(loader))
        assert isinstance(batch, PairBatch)
        assert (type(batch.query_ids), type(batch.passage_ids)) == (tuple, tuple)


@pytest.mark.parametrize("workers", [0, 2])
def test_train_epoch_gives_the_triples_of_the_folder(build, workers):
    batches = islice(build(workers=workers).train_dataloader(), 2)
    found = [(batch.query_ids[at], *batch.passage_ids[at : at + 2]) for batch in batches for at in (0, 2)]
    assert sorted(found) == [("1", "a", "b"), ("1", "a", "e"), ("2", "b", "c"), ("3", "c", "d")]


def test_train_on_sampled_draws_from_judgments_and_candidates(build):
    batches = islice(build(train_on="sampled", batch_size=3).train_dataloader(), 20)
    found = {(batch.query_ids[at], *batch.passage_ids[at : at + 2]) for batch in batches for at in (0, 2, 4)}
    assert found == {("1", "a", "e"), ("1", "a", "d"), ("2", "b", "c"), ("3", "c", "d")}


def test_order_of_training_follows_the_seed(build):
    orders = [[batch.passage_ids for batch in islice(build(seed).train_dataloader(), 6)] for seed in (0, 0, 1, 2, 3)]
    assert orders[0] == orders[1]
    assert any(order != orders[0] for order in orders[2:])


def test_resumed_stream_continues_behind_the_batches_trained(build):
    whole = [batch.passage_ids for batch in islice(build().train_dataloader(), 5)]
    stopped, resumed = build(), build()
    stopped.trained_batches = 3
    resumed.load_state_dict(stopped.state_dict())
    assert [batch.passage_ids for batch in islice(resumed.train_dataloader(), 2)] == whole[3:]


def place(rank: int, world: int, accumulated: int) -> SimpleNamespace:
    return SimpleNamespace(global_rank=rank, world_size=world, accumulate_grad_batches=accumulated)


def test_processes_share_test_pairs(build):
    shares = []
    for rank in range(2):
        data = build()
        data.trainer = place(rank, 2, 1)
        shares += pairs_of(data.test_dataloader())
    assert sorted(shares) == sorted(pairs_of(build().test_dataloader()))


@pytest.mark.parametrize(("world", "accumulated"), [(1, 1), (1, 4), (4, 1), (2, 2)])
@pytest.mark.fault("E5")
def test_a_step_reads_the_same_groups_on_any_number_of_processes_and_in_any_number_of_batches(build, world, accumulated):
    whole = [Counter(batch.passage_ids) for batch in islice(build(batch_size=4).train_dataloader(), 3)]
    steps = [Counter() for _ in whole]
    for rank in range(world):
        data = build(batch_size=4)
        data.trainer = place(rank, world, accumulated)
        for number, batch in enumerate(islice(data.train_dataloader(), 3 * accumulated)):
            assert len(batch.query_ids) == 2 * 4 / world / accumulated
            steps[number // accumulated].update(batch.passage_ids)
    assert steps == whole


@pytest.mark.fault("E5")
def test_groups_of_a_step_that_can_not_be_shared_out_evenly_are_refused_with_a_number_that_can(build):
    data = build(batch_size=8)
    data.trainer = place(0, 3, 2)
    with pytest.raises(ValueError) as caught:
        data.train_dataloader()
    assert str(caught.value) == (
        "data.batch_size=8 is the size of a whole step, which can't be shared out evenly over 3 processes (trainer.devices x "
        "trainer.num_nodes) x 2 accumulated batches (trainer.accumulate_grad_batches). Set it to a multiple of 6, for example "
        "6."
    )


def test_test_task_has_the_candidates_and_judgments_of_the_split(build, tmp_path):
    task = build().task("test")
    assert task.name == f"{tmp_path.name}/queries.tsv"
    assert ids(task) == {"1": ["a", "e", "d"], "2": ["b", "c"], "3": ["d", "c"]}
    assert task.qrels == {"1": {"a": 2, "d": 0}, "2": {"b": 1}, "3": {"c": 1}}


def test_validation_and_test_have_depths_of_their_own(build):
    data = build(depth=1, valid_depth=2)
    assert ids(data.task("test")) == {"1": ["a"], "2": ["b"], "3": ["d"]}
    assert ids(data.task("valid")) == {"1": ["a", "e"], "2": ["b", "c"], "3": ["d", "c"]}


@pytest.mark.parametrize(("limit", "chosen"), [(1, ["1"]), (2, ["1", "2"]), (3, ["1", "2", "3"]), (99, ["1", "2", "3"])])
def test_limited_queries_are_spread_over_the_ids(build, limit, chosen):
    data = build(valid_queries=limit, test_queries=limit)
    for split in ("valid", "test"):
        assert list(data.task(split).qrels) == list(data.task(split).candidates) == chosen


@pytest.mark.parametrize("there", [100, 101, 150, 199, 1000])
def test_as_many_queries_are_used_as_were_asked_for_evenly_spread(there):
    chosen = [int(query) for query in spread({f"{number:04d}": {} for number in range(there)}, 100)]
    gaps = [after - before for before, after in zip(chosen, [*chosen[1:], there], strict=True)]
    assert (len(chosen), chosen[0]) == (100, 0)
    assert max(gaps) - min(gaps) <= 1


def test_limit_of_one_split_leaves_the_other_alone(build):
    data = build(valid_queries=1)
    assert (len(data.task("valid").qrels), len(data.task("test").qrels)) == (1, 3)


def test_judged_query_without_candidates_stays_in_the_task(build):
    task = build(files={"run": "2 Q0 b 1 2.0 tag\n"}).task("test")
    assert ids(task) == {"1": [], "2": ["b"], "3": []}
    assert list(task.qrels) == ["1", "2", "3"]


def test_query_without_judgments_is_not_evaluated(build):
    task = build(files={"qrels": "1 0 a 1\n3 0 c 1\n"}).task("test")
    assert list(task.candidates) == list(task.qrels) == ["1", "3"]


def test_loaders_give_every_candidate_once(build):
    data = build()
    assert sorted(pairs_of(data.val_dataloader())) == [("1", "a"), ("1", "e"), ("2", "b"), ("2", "c"), ("3", "c"), ("3", "d")]
    assert sorted(pairs_of(data.test_dataloader())) == [
        ("1", "a"), ("1", "d"), ("1", "e"), ("2", "b"), ("2", "c"), ("3", "c"), ("3", "d"),
    ]  # fmt: skip


def test_pairs_carry_the_texts_of_their_ids(build):
    pair = build().pairs("test")[0]
    assert (pair.query_id, pair.passage_id) == ("1", "a")
    assert (pair.query, pair.passage) == ("where do apples grow", "Apples grow on trees.")


def test_pairs_that_are_timed_are_those_of_the_first_queries_at_a_depth_of_their_own(build):
    found = build().timed_pairs(queries=2, depth=1)
    assert [[(pair.query_id, pair.passage_id) for pair in pairs] for pairs in found] == [[("1", "a")], [("2", "b")]]


def test_what_is_timed_beyond_the_depth_of_the_test_is_asked_for_and_no_more(build, collection, encoder, monkeypatch):
    asked = []
    monkeypatch.setattr(Bm25, "search", lambda self, queries, depth: asked.append(depth) or {key: [] for key in queries})
    reader = Reader(replace(collection(), candidates=None))
    data = RankingDataModule(None, None, reader, encoder, replace(SETTINGS, depth=3), 0)
    monkeypatch.setitem(data._tasks, "test", build().task("test"))
    assert (len(data.timed_pairs(2, 3)), asked) == (2, [])
    assert (data.timed_pairs(2, 50), asked) == ([[], []], [50])


def test_candidate_that_is_not_in_the_collection_is_answered_when_opened(build):
    with pytest.raises(ValueError, match=r"run\.txt:1: passage 'elsewhere' is not in the collection\. Do the files belong"):
        build(files={"run": "1 Q0 elsewhere 1 2.0 tag\n"})


def test_other_source_of_triples_names_the_key(build):
    with pytest.raises(ValueError, match=r"^data.language is 'german'; expected one of ar, .*, or null for another language"):
        DataSettings(1, 1, 8, "auto", 1, 1, 1, 1, 1, language="german")
    with pytest.raises(ValueError, match=r"^data.train_on is 'docpair'; expected one of auto, docpairs, sampled.$"):
        build(train_on="docpair")


def test_more_negatives_than_a_triple_has_are_refused(build):
    with pytest.raises(ValueError, match=r"^data\.negatives=3 needs data\.train_on=sampled: the triples of a dataset have one"):
        build(train_on="docpairs", negatives=3)


def test_names_of_the_splits_are_for_records(collection, tmp_path, encoder):
    split = collection()
    readers = [Reader(split, Holdout(1, inside)) for inside in (False, True)]
    data = RankingDataModule(*readers, Reader(split), encoder, SETTINGS, 0)
    path = f"{tmp_path.name}/queries.tsv"
    assert data.names == {
        "train": f"{path} (without 1 held-out queries)", "valid": f"{path} (only 1 held-out queries)", "test": path,
    }  # fmt: skip


def test_evaluation_needs_neither_training_nor_validation_data(collection, tmp_path, encoder):
    split = replace(collection(), triples=None)
    data = RankingDataModule(None, None, Reader(split), encoder, SETTINGS, 0)
    assert data.names == {"train": None, "valid": None, "test": f"{tmp_path.name}/queries.tsv"}
    assert len(pairs_of(data.test_dataloader())) == 7


@pytest.mark.parametrize("name", [name for name in vars(SETTINGS) if name not in (*NO_COUNT, "workers", "negatives_skip")])
@pytest.mark.parametrize("value", [0, -3, 1.5, "2", True])
@pytest.mark.fault("A4")
def test_setting_below_one_or_no_whole_number_names_its_key(name, value):
    with pytest.raises(ValueError, match=f"^data.{name} is {value!r}; expected a whole number of at least 1.$"):
        replace(SETTINGS, **{name: value})


@pytest.mark.parametrize("name", [name for name in vars(SETTINGS) if name not in OPEN])
def test_only_limits_and_the_store_may_be_left_open(name):
    with pytest.raises(ValueError, match=f"^data.{name} is None; expected a whole number of at least [01].$"):
        replace(SETTINGS, **{name: None})


def test_batches_by_tokens_need_a_store():
    with pytest.raises(ValueError, match=r"^data\.max_tokens needs data\.store=<folder>: without one, "):
        replace(SETTINGS, max_tokens=4096)
    assert replace(SETTINGS, max_tokens=4096, store="stores").max_tokens == 4096


@pytest.mark.parametrize("value", ["1", True])
def test_a_margin_that_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match=rf"^data\.negatives_margin is {value!r}; expected a number of logits, or null\.$"):
        replace(SETTINGS, negatives_margin=value, negatives_scores="runs/scores")


def test_no_worker_is_a_choice_and_a_negative_number_is_not():
    assert replace(SETTINGS, workers=0).workers == 0
    with pytest.raises(ValueError, match=r"^data.workers is -1; expected a whole number of at least 0.$"):
        replace(SETTINGS, workers=-1)


@pytest.mark.parametrize("train_on", ["docpairs", "sampled"])
def test_the_queries_that_are_trained_on_are_those_of_the_groups(build, train_on):
    data = build(train_on=train_on, files={"triples": "1\ta\te\n3\tc\td\n", "qrels": "1 0 a 1\n3 0 c 1\n"})
    assert data.trained_queries() == {"1": "where do apples grow", "3": "how long do cats sleep"}


def test_the_queries_that_a_split_asks_are_the_judged_ones(build):
    data = build(files={"qrels": "1 0 a 1\n2 0 b 0\n"})
    assert data.asked("test") == data.asked("valid") == {"1": "where do apples grow", "2": "what do bees make"}


def test_negatives_with_the_text_of_the_positive_and_the_sides_of_a_holdout_are_told(build, collection, encoder):
    told = build(files={"triples": "1\ta\ta\n1\ta\tb\n"}).account()
    assert (told["same_text"], told["training_queries"]) == (1, {"left_out": 0, "groups": 1})
    assert not {"same_text", "holdout"} & build().account().keys()
    train, valid = (Reader(collection(), Holdout(1, inside)) for inside in (False, True))
    held_out = RankingDataModule(train, valid, Reader(collection()), encoder, SETTINGS, 0)
    sides = {"train": {"queries": 2, "answered": 2}, "valid": {"queries": 1, "answered": 1}}
    assert held_out.account()["holdout"] == {"level": 1, "sides": sides}


def test_candidates_of_several_first_stages_are_pooled_and_tested_together(build, tmp_path) -> None:
    data = build()
    own = ids(data.task("test"))
    query = next(iter(own))
    last = own[query][-1]
    (tmp_path / "other.run").write_text(f"{query} Q0 {last} 1 2.0 x\n")
    tasks = [data.after(BM25), data.after(str(tmp_path / "other.run"))]
    assert [task.first_stage for task in tasks] == ["BM25", "other.run (no order)"]
    assert ids(tasks[1])[query] == [last]
    assert tasks[1].qrels == data.task("test").qrels
    pool = pooled([tasks[1], tasks[0]])
    assert pool.first_stage == "other.run (no order) + BM25"
    assert ids(pool)[query][0] == last
    for key, row in ids(pool).items():
        assert len(row) == len({*row})
        assert {*row} == {*ids(tasks[0])[key], *ids(tasks[1])[key]}
    data.rerank(tasks[1])
    assert pairs_of(data.test_dataloader()) == [(query, last)]
    deeper = data.settings.depth + 1
    assert [[pair.passage_id for pair in call] for call in data.timed_pairs(9, deeper)] == [[last]]
    data.rerank(tasks[0])
    assert [len(call) for call in data.timed_pairs(9, deeper)] == [
        min(len(row), deeper) for row in ids(data.task("test")).values()
    ]


@pytest.mark.fault("B9")
def test_a_validation_without_any_candidate_is_refused_before_training(build):
    with pytest.raises(ValueError, match=r"finds no candidate for any of the 3 validation queries: nothing would tell "):
        build(files={"run": "9 Q0 b 1 2.0 tag\n"}).open()
