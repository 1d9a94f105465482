"""Training groups: listed by the dataset, or drawn from judgments and candidates, without likely false negatives."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest

from rankdistil.data.batches.groups import (
    BLOCK,
    SHUFFLED,
    ByMargin,
    GroupSource,
    ListedGroups,
    Margin,
    SafeGroups,
    SampledGroups,
    hard_negatives,
    list_groups,
    safe_negatives,
    sample_groups,
)
from rankdistil.data.batches.training_groups import open_source
from rankdistil.data.collections.reader import Reader
from rankdistil.data.collections.splits import Holdout
from rankdistil.data.collections.texts import Collection, LiveTexts, open_collection
from rankdistil.data.encode import PairEncoder
from rankdistil.data.files.bad_lines import STOP, Tolerance
from rankdistil.data.records import Candidate, Triple
from rankdistil.data.teacher_scores.folder import TeacherScores, keys_of

LISTED = [Triple(f"q{number}", f"p{number}", f"n{number}") for number in range(50)]
KEYS = range(50)


@pytest.fixture
def texts() -> Collection:
    """Texts of any id: what they say doesn't matter here."""
    return Collection(*(LiveTexts(lambda ids: dict.fromkeys(ids, ""), None) for _ in range(2)))


@pytest.fixture
def draw(texts):
    """Prepare sampled groups."""
    return lambda positives, negatives, size=1: sample_groups(positives, negatives, size, *texts)


@pytest.fixture
def sampled(draw) -> SampledGroups:
    """Fifty queries with two positives and three negatives each."""
    return draw({f"q{k}": [f"p{k}", f"P{k}"] for k in KEYS}, {f"q{k}": [f"n{k}", f"m{k}", f"o{k}"] for k in KEYS})


@pytest.fixture(params=["listed", "sampled"])
def source(request, sampled, texts) -> GroupSource:
    return sampled if request.param == "sampled" else ListedGroups(listed(LISTED, texts))


@pytest.fixture
def read(texts):
    """Name the groups of an epoch."""

    def read(source: GroupSource, seed: int, epoch: int, texts: Collection = texts) -> list[tuple[str, ...]]:
        return [group for rows in source.epoch(seed, epoch) for group in named(texts, rows)]

    return read


def listed(triples: list[Triple], texts: Collection) -> np.ndarray:
    return list_groups(enumerate(triples, 1), *texts, STOP.of("triples"))


def named(texts: Collection, rows: np.ndarray) -> Iterator[tuple[str, ...]]:
    columns = (texts.passages.names(column) for column in rows.T[1:])
    return zip(texts.queries.names(rows[:, 0]), *columns, strict=True)


def test_other_epoch_and_other_seed_give_other_orders(source, read):
    orders = {tuple(group[0] for group in read(source, *place)) for place in ((1, 0), (1, 1), (2, 0), (0, 1))}
    assert len(orders) == 4


def test_epoch_does_not_depend_on_the_epochs_read_before(source, read):
    later = read(source, 1, 3)
    for epoch in range(3):
        read(source, 1, epoch)
    assert read(source, 1, 3) == later


def test_every_query_comes_once_per_epoch(source, read):
    for epoch in range(3):
        assert Counter(group[0] for group in read(source, 0, epoch)) == {f"q{number}": 1 for number in KEYS}


def test_listed_triples_come_once_each_even_where_listed_twice(texts, read):
    source = ListedGroups(listed([*LISTED, LISTED[0]], texts))
    assert Counter(read(source, 3, 1)) == Counter(LISTED) + Counter([LISTED[0]])


def test_more_triples_than_are_shuffled_together_come_once_each_in_another_order():
    number = (SHUFFLED + 3) * BLOCK + 17
    rows = np.arange(number, dtype=np.int32)[:, None].repeat(3, axis=1)
    epoch = np.concatenate(list(ListedGroups(rows).epoch(0, 0)))[:, 0]
    assert np.array_equal(np.sort(epoch), np.arange(number))
    assert (np.diff(epoch) == 1).mean() < 0.01  # neighbours in the file aren't neighbours in the epoch


def test_sampled_passages_are_the_query_s_own(sampled, read):
    for query, positive, negative in read(sampled, 0, 0):
        number = query[1:]
        assert positive in {f"p{number}", f"P{number}"}
        assert negative in {f"n{number}", f"m{number}", f"o{number}"}


def test_sampling_reaches_every_positive_and_every_negative(sampled, read):
    drawn = set(chain.from_iterable(group[1:] for epoch in range(40) for group in read(sampled, 0, epoch)))
    assert len(drawn) == 50 * (2 + 3)  # a given one is missed in 40 epochs with a chance of (2/3)**40 < 1e-7


def test_queries_without_positive_or_enough_negatives_are_skipped_and_counted(draw, read):
    positives = {"1": ["a"], "2": [], "3": ["c"], "4": ["d"]}
    source = draw(positives, {"1": ["x"], "2": ["x"], "3": []})
    assert read(source, 0, 0) == [("1", "a", "x")]
    assert (len(source), source.left_out) == (1, 3)
    assert draw(positives, {"1": ["x"], "3": ["x", "y"]}, size=2).left_out == 3


def test_the_negatives_of_a_group_are_different_ones(draw, read):
    source = draw({"1": ["a"]}, {"1": ["x", "y", "z"]}, size=3)
    for epoch in range(5):
        ((query, positive, *negatives),) = read(source, 0, epoch)
        assert (query, positive, sorted(negatives)) == ("1", "a", ["x", "y", "z"])


def test_hard_negatives_are_never_judged_relevant():
    candidates = {"1": [Candidate(key, 1.0) for key in "abcd"], "2": [Candidate("a", 1.0)]}
    assert hard_negatives(candidates, {"1": {"a": 2, "b": 1, "c": 0}}) == {"1": ["c", "d"], "2": ["a"]}


def test_the_best_candidates_can_be_left_out():
    candidates = {"1": [Candidate(key, 1.0) for key in "abcd"], "2": [Candidate("a", 1.0)]}
    assert hard_negatives(candidates, {"1": {"c": 1}}, skip=1) == {"1": ["b", "d"], "2": []}


@pytest.fixture
def opened(tokenizer, read, tmp_path):
    """Open a reader's source, and give the groups of some of its epochs."""

    def opened(
        reader: Reader, train_on: str, level: int = 1, depth: int = 10, epochs: int = 1, **more
    ) -> list[tuple[str, ...]]:
        store = more.pop("store", None)
        texts = open_collection(reader, PairEncoder(tokenizer, 27), store)
        settings = {"skip": 0, "negatives": 1} | more
        source = open_source(reader, texts, train_on, level, depth, **settings, store=store)
        return [group for epoch in range(epochs) for group in read(source, 0, epoch, texts)]

    return opened


def test_sampled_triples_of_a_folder_are_those_worked_out_by_hand(collection, opened):
    drawn = set(opened(Reader(collection()), "sampled", epochs=40))
    assert drawn == {("1", "a", "e"), ("1", "a", "d"), ("2", "b", "c"), ("3", "c", "d")}


def test_negatives_come_from_the_best_candidates_only(collection, opened):
    drawn = set(opened(Reader(collection()), "sampled", depth=2, epochs=40))
    assert drawn == {("1", "a", "e"), ("2", "b", "c"), ("3", "c", "d")}


def test_negatives_of_a_depth_range(collection, opened):
    assert set(opened(Reader(collection()), "sampled", skip=2, epochs=10)) == {("1", "a", "d")}


def test_passage_below_the_relevance_level_is_neither_positive_nor_negative(collection, opened):
    reader = Reader(collection(qrels="1 0 a 2\n1 0 e 1\n2 0 b 1\n"))
    assert set(opened(reader, "sampled", level=2, epochs=10)) == {("1", "a", "d")}


def test_judged_passage_outside_of_the_collection_is_no_positive(collection, opened):
    reader = Reader(collection(qrels="1 0 elsewhere 1\n2 0 b 1\n"), tolerance=Tolerance(allow_unknown=True))
    assert opened(reader, "sampled") == [("2", "b", "c")]


def test_real_sampled_epoch_joins_a_judged_positive_with_an_unjudged_candidate(opened):
    reader = Reader("rankdistil/almanac/train")
    candidates = {query: {hit.passage_id for hit in row} for query, row in reader.candidates(30).items()}
    epoch = opened(reader, "sampled", depth=30)
    assert len({query for query, *_ in epoch}) == len(epoch) > 900
    for query, positive, negative in epoch:
        assert positive in reader.qrels[query]
        assert negative in candidates[query] - reader.qrels[query].keys()


@pytest.mark.parametrize("store", [False, True])
def test_docpairs_are_the_dataset_s_own(collection, opened, tmp_path, store):
    found = opened(Reader(collection()), "docpairs", store=tmp_path / "store" if store else None)
    assert sorted(found) == [("1", "a", "b"), ("1", "a", "e"), ("2", "b", "c"), ("3", "c", "d")]


TWICE = "d1\tbees live six weeks\nd3\tBees live six weeks.\nd4\tbees make honey\n"
ONE_QUERY = {"corpus": TWICE, "queries": "1\tbees live\n", "qrels": "1 0 d1 1\n"}


def test_a_candidate_with_the_text_of_the_positive_is_no_negative(collection, opened):
    split = collection(**ONE_QUERY)
    assert set(opened(Reader(replace(split, candidates=None)), "sampled", epochs=10)) == {("1", "d1", "d4")}


@pytest.mark.parametrize("store", [False, True])
def test_a_triple_whose_negative_has_the_text_of_its_positive_is_left_out(collection, opened, tmp_path, store):
    split = collection(**ONE_QUERY, triples="1\td1\td3\n1\td1\td4\n1\td4\td4\n")
    place = tmp_path / "store" if store else None
    for _ in range(2):  # the second time from the store
        assert opened(Reader(split, store=place), "docpairs", store=place) == [("1", "d1", "d4")]


@pytest.mark.parametrize("store", [False, True])
def test_triples_that_all_have_one_text_twice_are_refused(collection, opened, tmp_path, store):
    split = collection(**ONE_QUERY, triples="1\td1\td3\n")
    message = "^all 1 triples of the training split have a negative with the text of the positive.$"
    with pytest.raises(ValueError, match=message):
        opened(Reader(split), "docpairs", store=tmp_path / "store" if store else None)


@pytest.mark.parametrize("store", [False, True])
def test_docpairs_of_held_out_queries_are_not_trained_on(collection, opened, tmp_path, store):
    reader = Reader(collection(), Holdout(1, inside=False))
    found = opened(reader, "docpairs", store=tmp_path / "store" if store else None)
    assert {query for query, *_ in found} == set(reader.queries)


def test_triples_are_read_again_once_their_file_has_changed(collection, opened, tmp_path):
    first = opened(Reader(collection()), "docpairs", store=tmp_path / "store")
    again = opened(Reader(collection(triples="1\ta\td\n")), "docpairs", store=tmp_path / "store")
    assert (len(first), again) == (4, [("1", "a", "d")])


def test_no_positive_is_answered_before_training(collection, opened):
    message = "^no training query has both a relevant passage and a negative among its candidates.$"
    with pytest.raises(ValueError, match=message):
        opened(Reader(collection(qrels="1 0 a 0\n")), "sampled")


@pytest.mark.parametrize("store", [False, True])
@pytest.mark.parametrize(
    ("triples", "message"),
    [
        ("1\ta\telsewhere\n", r"triples\.tsv:1: passage 'elsewhere' is not in the collection\. Do the files belong"),
        ("1\ta\tb\n77\ta\tb\n", r"triples\.tsv:2: query '77' is not among the queries\. Do the files belong together"),
    ],
)
def test_what_a_triple_names_and_is_not_there_is_named_before_training(collection, opened, tmp_path, store, triples, message):
    with pytest.raises(ValueError, match=message):
        opened(Reader(collection(triples=triples)), "docpairs", store=tmp_path / "store" if store else None)


def test_no_triple_of_the_split_s_queries_is_answered_before_training(collection, opened):
    reader = Reader(collection(), Holdout(1, inside=False))
    (held_out,) = Reader(collection(), Holdout(1, inside=True)).queries
    collection(triples=f"{held_out}\ta\tb\n")
    with pytest.raises(ValueError, match=r"^the training split has no triple for its queries. Do triples and queries belong"):
        opened(reader, "docpairs")


SCORES = {(0, 0): 5.0, (0, 1): 4.5, (0, 2): 2.0, (0, 3): 3.0, (1, 4): 1.0, (1, 5): 0.0, (1, 6): 9.0}
TRIPLES = np.array([(0, 0, 1), (0, 0, 2), (0, 0, 3), (1, 4, 5), (1, 4, 6)], np.int32)


@pytest.fixture
def scores() -> TeacherScores:
    texts = Collection(*(LiveTexts(lambda ids: dict.fromkeys(ids, ""), None) for _ in range(2)))
    pairs = np.array(list(SCORES))
    return TeacherScores(keys_of(pairs[:, 0], pairs[:, 1]), np.array(list(SCORES.values()), np.float32), texts, "scores")


@pytest.mark.parametrize(("least", "kept"), [(-9.0, 5), (0.0, 4), (1.0, 3), (2.0, 2), (2.5, 1)])
def test_triples_below_the_margin_are_left_out_and_counted(scores, least, kept):
    groups = SafeGroups(ListedGroups(TRIPLES), Margin(scores, least))
    found = {tuple(row) for rows in groups.epoch(3, 0) for row in rows.tolist()}
    expected = {row for row in map(tuple, TRIPLES.tolist()) if SCORES[row[0], row[1]] - SCORES[row[0], row[2]] >= least}
    assert found == expected
    assert len(found) == kept
    assert groups.by_margin == ByMargin("triples", 5, 5 - kept)


def test_what_is_left_keeps_its_order(scores):
    whole = [tuple(row) for rows in ListedGroups(TRIPLES).epoch(3, 1) for row in rows.tolist()]
    left = [tuple(row) for rows in SafeGroups(ListedGroups(TRIPLES), Margin(scores, 1.0)).epoch(3, 1) for row in rows.tolist()]
    assert left == [row for row in whole if row in left]


def test_every_listed_pair_is_scored_whatever_the_margin(scores):
    listed = ListedGroups(TRIPLES)
    assert SafeGroups(listed, Margin(scores, 1.0)).pairs().tolist() == listed.pairs().tolist()


def test_a_margin_that_leaves_nothing_names_its_key(scores):
    with pytest.raises(
        ValueError, match=r"^data\.negatives_margin=99 leaves no triple of 5: the teacher scores no negative that"
    ):
        SafeGroups(ListedGroups(TRIPLES), Margin(scores, 99.0))


def test_sampled_negatives_are_compared_with_the_lowest_positive(scores):
    queries, positives, negatives = np.array([0, 1]), [np.array([0, 1]), np.array([4])], [np.array([2, 3]), np.array([5, 6])]
    kept = safe_negatives(Margin(scores, 2.0), queries, positives, negatives)
    assert [row.tolist() for row in kept] == [[2], []]
