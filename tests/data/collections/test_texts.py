"""Ids that lead nowhere: their lines are bad ones, and no triple or candidate is exchanged for another."""

import re
from pathlib import Path

import pytest

from rankdistil.data.batches.training_groups import open_source
from rankdistil.data.collections.reader import Reader
from rankdistil.data.collections.splits import Holdout
from rankdistil.data.collections.texts import judgments, known_candidates, numbered, open_collection, training_triples
from rankdistil.data.encode import PairEncoder
from rankdistil.data.files.bad_lines import Tolerance

SKIP, ALLOW = Tolerance(on_bad="skip"), Tolerance(allow_unknown=True)
HINT = "Do the files belong together?"


@pytest.fixture(params=[False, True], ids=["in memory", "token store"])
def opened(request, tokenizer, tmp_path):
    """Open the training groups of a reader; return (query, positive, negative) of all."""

    def opened(reader: Reader, train_on: str = "docpairs") -> list[tuple[str, ...]]:
        store: Path | None = tmp_path / "store" if request.param else None
        texts = open_collection(reader, PairEncoder(tokenizer, 27), store)
        rows = next(open_source(reader, texts, train_on, 1, 10, 0, 1, store).epoch(0, 0))
        named = (texts.queries.names(rows[:, 0]), *(texts.passages.names(rows[:, place]) for place in (1, 2)))
        return sorted(zip(*named, strict=True))

    return opened


@pytest.fixture
def passages(tokenizer):
    return lambda reader: open_collection(reader, PairEncoder(tokenizer, 27), None).passages


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("9\ta\tb", f"query '9' is not among the queries. {HINT}"),
        ("1\tA\tb", f"passage 'A' is not in the collection. {HINT}"),
        ("1\ta\tzz", f"passage 'zz' is not in the collection. {HINT}"),
    ],
)
@pytest.mark.fault("B3")
def test_an_unknown_id_in_a_triple_is_named_with_its_line(collection, opened, tmp_path, line, complaint):
    with pytest.raises(ValueError, match=f"^{re.escape(f'{tmp_path}/triples.tsv:2: {complaint}')}$"):
        opened(Reader(collection(triples=f"1\ta\te\n{line}\n")))


@pytest.mark.fault("B3")
def test_a_triple_with_an_unknown_id_may_be_left_out_whole(collection, opened, tmp_path):
    reader = Reader(collection(triples="1\ta\te\n1\ta\tzz\n2\tb\tc\n"), tolerance=SKIP)
    assert opened(reader) == [("1", "a", "e"), ("2", "b", "c")]
    first = f"{tmp_path}/triples.tsv:2: passage 'zz' is not in the collection. {HINT}"
    assert reader.bad.account() == {f"{tmp_path}/triples.tsv": {"lines": 3, "bad": 1, "first": first}}


def test_wrong_columns_and_unknown_ids_are_counted_together(collection, opened, tmp_path):
    reader = Reader(collection(triples="1\ta\te\n1\ta\tzz\n2\tb\n2\tb\tc\n"), tolerance=SKIP)
    with pytest.raises(
        ValueError, match=r"triples\.tsv: 2 of 4 lines are bad; .* at most 1 \(0\.1 %, at least 1\)\. The first: "
    ):
        opened(reader)
    assert not list((tmp_path / "store").glob("*-triples"))


def test_a_store_tells_what_it_was_built_without_and_is_refused_where_nothing_may_be_left_out(collection, tokenizer, tmp_path):
    split, told = collection(triples="1\ta\te\n1\ta\tzz\n"), []
    for tolerance in (SKIP, SKIP):
        reader = Reader(split, tolerance=tolerance)
        texts = open_collection(reader, PairEncoder(tokenizer, 27), tmp_path / "store")
        open_source(reader, texts, "docpairs", 1, 10, 0, 1, tmp_path / "store")
        told.append(reader.bad.account())
    assert told[0] == told[1] != {}
    with pytest.raises(ValueError, match=r"triples\.tsv:2: passage 'zz' is not in the collection"):
        open_source(Reader(split), texts, "docpairs", 1, 10, 0, 1, tmp_path / "store")


def test_triples_of_held_out_queries_are_no_bad_lines(collection):
    reader = Reader(collection(), Holdout(1, inside=False))
    assert {triple.query_id for _, triple in training_triples(reader)[1]} == set(reader.queries)


def test_triples_of_ir_datasets_are_counted_from_one():
    reader = Reader("rankdistil/almanac/train")
    tally, rows = numbered(reader, "docpairs")
    assert tally.file == "rankdistil/almanac/train docpairs"
    assert [number for number, _ in rows] == list(range(1, tally.lines + 1))


UNKNOWN = "1 0 a 2\n1 0 v 1\n2 0 w 1\n2 0 x 0\n3 0 y 1\n77 0 a 1\n"


@pytest.mark.fault("B8")
def test_judgments_of_unknown_passages_and_queries_name_the_first_three_the_count_and_the_ways_out(
    collection, passages, tmp_path
):
    reader = Reader(collection(qrels=UNKNOWN))
    with pytest.raises(ValueError) as caught:
        judgments(reader, passages(reader))
    assert str(caught.value) == (
        f"{tmp_path}/qrels.txt: 4 judgments name passages that are not in corpus.tsv (line 2: v, line 3: w, line 4: x, ...); "
        f"1 judgments name queries that are not in queries.tsv (line 6: 77). {HINT} Remove these lines, or set "
        "data.allow_unknown=true: unknown passages then count for the ideal ranking, unknown queries don't."
    )


@pytest.mark.fault("B8")
def test_allowed_unknown_passages_stay_judged_and_unknown_queries_are_left_out(collection, passages):
    reader = Reader(collection(qrels=UNKNOWN), tolerance=ALLOW)
    assert judgments(reader, passages(reader)) == {"1": {"a": 2, "v": 1}, "2": {"w": 1, "x": 0}, "3": {"y": 1}}


def test_judgments_of_held_out_queries_are_not_unknown(collection, passages):
    for inside in (True, False):
        reader = Reader(collection(), Holdout(1, inside))
        assert judgments(reader, passages(reader)) == reader.qrels


def test_an_unknown_candidate_is_named_with_its_line(collection, passages, tmp_path):
    reader = Reader(collection(run="1 Q0 a 1 3.0 tag\n1 Q0 zz 2 2.0 tag\n"))
    message = f"{tmp_path}/run.txt:2: passage 'zz' is not in the collection. {HINT}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        known_candidates(reader, reader.candidates(10), passages(reader))


def test_an_unknown_candidate_may_be_left_out(collection, passages, tmp_path):
    reader = Reader(collection(run="1 Q0 a 1 3.0 tag\n1 Q0 zz 2 2.0 tag\n1 Q0 e 3 1.0 tag\n"), tolerance=SKIP)
    found = known_candidates(reader, reader.candidates(10), passages(reader))
    assert [hit.passage_id for hit in found["1"]] == ["a", "e"]
    assert reader.bad.account()[f"{tmp_path}/run.txt"]["bad"] == 1


def test_an_unknown_negative_never_becomes_another_passage(collection, opened, tmp_path):
    files = {"run": "1 Q0 a 1 3.0 tag\n1 Q0 zz 2 2.0 tag\n1 Q0 e 3 1.0 tag\n", "qrels": "1 0 a 1\n"}
    with pytest.raises(ValueError, match=r"run\.txt:2: passage 'zz' is not in the collection"):
        opened(Reader(collection(**files)), "sampled")
    assert opened(Reader(collection(**files), tolerance=SKIP), "sampled") == [("1", "a", "e")]
