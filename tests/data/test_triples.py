"""Training triples: listed by the dataset, or drawn from judgments and candidates."""

from collections import Counter
from itertools import chain

import pytest

from rankdistil.data.readers import Holdout, Reader
from rankdistil.data.records import Candidate, Triple
from rankdistil.data.triples import ListedTriples, SampledTriples, hard_negatives, open_triples

LISTED = [Triple(f"q{number}", f"p{number}", f"n{number}") for number in range(50)]


@pytest.fixture
def sampled() -> SampledTriples:
    """Fifty queries with two positives and three negatives each."""
    keys = range(50)
    return SampledTriples({f"q{k}": [f"p{k}", f"P{k}"] for k in keys}, {f"q{k}": [f"n{k}", f"m{k}", f"o{k}"] for k in keys})


@pytest.fixture(params=["listed", "sampled"])
def source(request, sampled) -> ListedTriples | SampledTriples:
    return sampled if request.param == "sampled" else ListedTriples(LISTED)


def test_same_seed_and_epoch_give_the_same_order(source):
    assert list(source.epoch(1, 4)) == list(source.epoch(1, 4))


def test_other_epoch_and_other_seed_give_other_orders(source):
    orders = {tuple(triple.query_id for triple in source.epoch(*place)) for place in ((1, 0), (1, 1), (2, 0), (0, 1))}
    assert len(orders) == 4


def test_epoch_does_not_depend_on_the_epochs_read_before(source):
    later = list(source.epoch(1, 3))
    for epoch in range(3):
        list(source.epoch(1, epoch))
    assert list(source.epoch(1, 3)) == later


def test_every_query_comes_once_per_epoch(source):
    for epoch in range(3):
        assert Counter(triple.query_id for triple in source.epoch(0, epoch)) == {f"q{number}": 1 for number in range(50)}


def test_listed_triples_come_once_each_even_where_listed_twice():
    source = ListedTriples([*LISTED, LISTED[0]])
    assert Counter(source.epoch(3, 1)) == Counter(LISTED) + Counter([LISTED[0]])


def test_sampled_passages_are_the_query_s_own(sampled):
    for triple in sampled.epoch(0, 0):
        number = triple.query_id[1:]
        assert triple.positive_id in {f"p{number}", f"P{number}"}
        assert triple.negative_id in {f"n{number}", f"m{number}", f"o{number}"}


def test_sampling_reaches_every_positive_and_every_negative(sampled):
    drawn = set(chain.from_iterable(triple[1:] for epoch in range(40) for triple in sampled.epoch(0, epoch)))
    assert len(drawn) == 50 * (2 + 3)  # a given one is missed in 40 epochs with a chance of (2/3)**40 < 1e-7


def test_queries_without_positive_or_negative_are_skipped_and_counted():
    positives = {"1": ["a"], "2": [], "3": ["c"], "4": ["d"]}
    source = SampledTriples(positives, {"1": ["x"], "2": ["x"], "3": []})
    assert list(source.epoch(0, 0)) == [("1", "a", "x")]
    assert source.skipped == 3


def test_hard_negatives_are_never_judged_relevant():
    candidates = {"1": [Candidate(key, 1.0) for key in "abcd"], "2": [Candidate("a", 1.0)]}
    assert hard_negatives(candidates, {"1": {"a": 2, "b": 1, "c": 0}}) == {"1": ["c", "d"], "2": ["a"]}


def test_sampled_triples_of_a_folder_are_those_worked_out_by_hand(collection):
    source = open_triples(Reader(collection()), "sampled", relevance_level=1, negatives_depth=10)
    drawn = {triple for epoch in range(40) for triple in source.epoch(0, epoch)}
    assert drawn == {("1", "a", "e"), ("1", "a", "d"), ("2", "b", "c"), ("3", "c", "d")}


def test_negatives_come_from_the_best_candidates_only(collection):
    source = open_triples(Reader(collection()), "sampled", relevance_level=1, negatives_depth=2)
    drawn = {triple for epoch in range(40) for triple in source.epoch(0, epoch)}
    assert drawn == {("1", "a", "e"), ("2", "b", "c"), ("3", "c", "d")}


def test_passage_below_the_relevance_level_is_neither_positive_nor_negative(collection):
    reader = Reader(collection(qrels="1 0 a 2\n1 0 e 1\n2 0 b 1\n"))
    source = open_triples(reader, "sampled", relevance_level=2, negatives_depth=10)
    assert {triple for epoch in range(10) for triple in source.epoch(0, epoch)} == {("1", "a", "d")}


def test_judged_passage_outside_of_the_collection_is_no_positive(collection):
    reader = Reader(collection(qrels="1 0 elsewhere 1\n2 0 b 1\n"))
    source = open_triples(reader, "sampled", relevance_level=1, negatives_depth=10)
    assert list(source.epoch(0, 0)) == [("2", "b", "c")]


def test_real_sampled_epoch_joins_a_judged_positive_with_an_unjudged_candidate():
    reader = Reader("rankdistil/almanac/train")
    source = open_triples(reader, "sampled", relevance_level=1, negatives_depth=30)
    candidates = {query: {hit.passage_id for hit in row} for query, row in reader.candidates(30).items()}
    epoch = list(source.epoch(0, 0))
    assert len({triple.query_id for triple in epoch}) == len(epoch) == 1224 - source.skipped
    for query, positive, negative in epoch:
        assert positive in reader.qrels[query]
        assert negative in candidates[query] - reader.qrels[query].keys()


def test_docpairs_are_the_dataset_s_own(collection):
    source = open_triples(Reader(collection()), "docpairs", relevance_level=1, negatives_depth=10)
    assert sorted(source.epoch(0, 0)) == [("1", "a", "b"), ("1", "a", "e"), ("2", "b", "c"), ("3", "c", "d")]


def test_docpairs_of_held_out_queries_are_not_trained_on(collection):
    reader = Reader(collection(), Holdout(1, inside=False))
    source = open_triples(reader, "docpairs", relevance_level=1, negatives_depth=10)
    assert {triple.query_id for triple in source.epoch(0, 0)} == set(reader.queries)


def test_no_positive_is_answered_before_training(collection):
    reader = Reader(collection(qrels="1 0 a 0\n"))
    message = "^no training query has both a relevant passage and a negative among its candidates.$"
    with pytest.raises(ValueError, match=message):
        open_triples(reader, "sampled", relevance_level=1, negatives_depth=10)


def test_triples_of_no_query_are_answered_before_training(collection):
    reader = Reader(collection(triples="77\ta\tb\n"))
    message = "^the training split has no triple for its queries. Do triples and queries belong together"
    with pytest.raises(ValueError, match=message):
        open_triples(reader, "docpairs", relevance_level=1, negatives_depth=10)
