"""The one reader of every collection: splits, held-out queries, candidates and run files, texts."""

import pickle
import random
from dataclasses import replace
from pathlib import Path

import pytest
from ir_datasets.formats import GenericScoredDoc

from rankdistil.data.collections.reader import Reader, RunFiles, rank, require_used
from rankdistil.data.collections.splits import Holdout
from rankdistil.data.collections.texts import training_triples
from rankdistil.data.files.bad_lines import STOP, Tolerance
from rankdistil.data.files.folder import FolderSplit
from rankdistil.metrics.ranking import means, per_query

TWENTY = "".join(f"q{number}\tquestion {number}\n" for number in range(20))
JUDGED = "".join(f"q{number} 0 a 1\n" for number in range(20))


def test_unknown_id_of_ir_datasets_is_named_with_the_embedded_ones():
    with pytest.raises(ValueError, match="nowhere/at-all") as caught:
        _ = Reader("nowhere/at-all").dataset
    assert str(caught.value) == (
        "ir_datasets knows no dataset 'nowhere/at-all'. Ids are listed at https://ir-datasets.com; "
        "the embedded ones are rankdistil/almanac/train, rankdistil/almanac/valid, rankdistil/almanac/test."
    )


def test_names_tell_splits_apart(collection, tmp_path):
    split = collection()
    names = [Reader(split, holdout).name for holdout in (None, Holdout(5, inside=True), Holdout(5, inside=False))]
    path = f"{tmp_path}/queries.tsv"
    assert names == [path, f"{path} (only 5 held-out queries)", f"{path} (without 5 held-out queries)"]


def test_held_out_queries_and_the_others_are_disjoint_and_complete(collection):
    split = collection(queries=TWENTY, qrels=JUDGED)
    inside, outside = (Reader(split, Holdout(6, inside)).queries for inside in (True, False))
    assert (len(inside), len(outside)) == (6, 14)
    assert inside | outside == Reader(split).queries


def test_held_out_queries_do_not_depend_on_the_order_of_the_file(collection):
    shuffled = TWENTY.splitlines(keepends=True)
    random.Random(3).shuffle(shuffled)
    first = Reader(collection(queries=TWENTY, qrels=JUDGED), Holdout(6, inside=True)).queries
    second = Reader(collection(queries="".join(shuffled), qrels=JUDGED), Holdout(6, inside=True)).queries
    assert first == second


def test_validation_and_test_take_queries_of_their_own_from_the_training_queries(collection):
    split = collection(queries=TWENTY, qrels=JUDGED)
    holdouts = Holdout(6, inside=True), Holdout(6, inside=True, behind=6), Holdout(12, inside=False)
    readers = [Reader(split, holdout) for holdout in holdouts]
    assert [len(reader.queries) for reader in readers] == [6, 6, 8]
    assert readers[0].queries | readers[1].queries | readers[2].queries == Reader(split).queries
    endings = [reader.name.partition(" ")[2] for reader in readers]
    assert endings == ["(only 6 held-out queries)", "(another 6 held-out queries)", "(without 12 held-out queries)"]


def test_larger_holdout_holds_the_smaller(collection):
    split = collection(queries=TWENTY, qrels=JUDGED)
    assert Reader(split, Holdout(3, inside=True)).queries.items() < Reader(split, Holdout(9, inside=True)).queries.items()


@pytest.mark.parametrize("queries", [3, 4])
def test_holdout_that_leaves_nothing_to_train_on_is_refused(collection, queries):
    reader = Reader(collection(), Holdout(queries, inside=False))
    message = f"^data.holdout sets {queries} queries apart, which leaves none of 3 to train on; set it lower.$"
    with pytest.raises(ValueError, match=message):
        _ = reader.queries


def test_held_out_queries_take_their_judgments_and_triples_along(collection):
    split = collection()
    inside, outside = (Reader(split, Holdout(1, inside)) for inside in (True, False))
    assert set(inside.qrels) == set(inside.queries)
    assert inside.qrels | outside.qrels == Reader(split).qrels
    triples = [sorted(training_triples(reader)[1]) for reader in (inside, outside, Reader(split))]
    assert {triple.query_id for _, triple in triples[0]} == set(inside.queries)
    assert sorted(triples[0] + triples[1]) == triples[2]


def test_judgments_of_queries_outside_of_the_split_are_left_out(collection):
    reader = Reader(collection(qrels="1 0 a 2\n77 0 b 1\n"))
    assert reader.qrels == {"1": {"a": 2}}


@pytest.mark.fault("B8")
def test_negative_grade_counts_as_not_relevant(collection):
    assert Reader(collection(qrels="1 0 a -2\n1 0 b 3\n")).qrels == {"1": {"a": 0, "b": 3}}


def test_split_without_any_judgment_is_refused(collection):
    reader = Reader(collection(qrels="77 0 b 1\n"))
    with pytest.raises(ValueError, match=r"queries.tsv: no query of the split has a judgment. Do queries and qrels belong"):
        _ = reader.qrels


def test_texts_come_by_id_and_repetitions_do_no_harm(collection):
    texts = Reader(collection()).texts(["d", "a", "d"])
    assert texts == {"d": "Dogs descend from wolves.", "a": "Apples grow on trees."}


def test_missing_passages_are_counted_and_named(collection, tmp_path):
    reader = Reader(collection())
    with pytest.raises(ValueError, match="not in the collection") as caught:
        reader.texts(["a", "w", "x", "y", "z"])
    assert str(caught.value) == (
        f"{tmp_path}/queries.tsv: 4 passages named by triples, judgments or candidates are not in the collection, "
        "for example w, x, y. Do the files belong together?"
    )


def test_split_without_triples_says_what_to_set(collection):
    reader = Reader(replace(collection(), triples=None))
    with pytest.raises(ValueError, match=r"has no docpairs \(triples\). Set data.train_on=sampled, or name a triples"):
        reader.require_docpairs()


def test_candidates_come_best_first_and_ties_by_descending_id(collection):
    found = Reader(collection()).candidates(10)
    assert found["1"] == [("a", 3.0), ("e", 1.5), ("d", 1.5)]  # as trec_eval orders ties; the rank column says nothing


def test_candidates_do_not_depend_on_the_order_of_the_file(collection, tmp_path):
    expected = Reader(collection()).candidates(10)
    lines = (tmp_path / "run.txt").read_text().splitlines(keepends=True)
    assert Reader(collection(run="".join(reversed(lines)))).candidates(10) == expected


def test_depth_cuts_behind_the_sort(collection):
    found = Reader(collection()).candidates(2)
    assert {query: [hit.passage_id for hit in row] for query, row in found.items()} == {
        "1": ["a", "e"], "2": ["b", "c"], "3": ["d", "c"],
    }  # fmt: skip


def test_query_without_candidates_keeps_an_empty_row(collection):
    reader = Reader(collection(run="2 Q0 b 1 2.0 tag\n"))
    assert reader.candidates(10) == {"1": [], "2": [("b", 2.0)], "3": []}


def test_only_the_queries_asked_for_get_candidates(collection):
    assert list(Reader(collection()).candidates(10, ["3", "1"])) == ["3", "1"]


@pytest.mark.fault("F5")
def test_candidate_named_twice_is_refused_with_both_lines(collection):
    reader = Reader(collection(run="2 Q0 b 1 2.0 tag\n1 Q0 b 1 2.0 tag\n2 Q0 b 2 1.0 tag\n"))
    with pytest.raises(ValueError, match=r"run.txt:3: query 2 names passage b again \(line 1\). Remove the repetition.$"):
        reader.candidates(10)
    with pytest.raises(ValueError, match=r"^beir/x: the candidates of query 2 name a passage twice. Remove the repetition.$"):
        rank([GenericScoredDoc("2", "b", score) for score in (2.0, 1.0)], ["2"], 10, "beir/x")


def test_bm25_stands_in_where_no_candidates_are_supplied(collection):
    found = Reader(replace(collection(), candidates=None)).candidates(10)
    assert {query: [hit.passage_id for hit in row] for query, row in found.items()} == {"1": ["a", "e"], "2": ["b"], "3": ["c"]}


def test_bm25_candidates_break_ties_as_supplied_ones_do(collection):
    corpus = "a\tred car\nb\tred car\nc\tred car\nd\tblue boat\n"
    split = collection(corpus=corpus, queries="1\tred cars\n")
    found = Reader(replace(split, candidates=None)).candidates(10)
    assert [hit.passage_id for hit in found["1"]] == ["c", "b", "a"]


def test_pickled_reader_carries_no_texts_and_reads_the_same(collection):
    reader = Reader(collection(), Holdout(1, inside=False), Tolerance(on_bad="skip", allow_unknown=True))
    expected = reader.queries, reader.qrels, reader.texts(["b"]), reader.candidates(3)
    data = pickle.dumps(reader)
    assert b"honey" not in data
    copy = pickle.loads(data)
    assert (copy.queries, copy.qrels, copy.texts(["b"]), copy.candidates(3)) == expected
    assert (copy.name, copy.tolerance) == (reader.name, reader.tolerance)


@pytest.mark.parametrize(
    ("run", "expected"), [("bm25", 0.5058), ("d_bert_kd_tasb", 0.7210), ("splade_p_p_ensemble_distil", 0.7308)]
)
def test_supplied_runs_have_their_known_scores_on_trec_dl_2019(shared: Path, run, expected):
    folder = str(shared / "data/msmarco-small")
    files = FolderSplit(folder, "corpus.tsv", "queries.dl19.tsv", "qrels.dl19.full.txt", None, f"run.{run}.dl19.txt")
    reader = Reader(files)
    assert len(reader.qrels) == 43
    assert means(per_query(reader.candidates(100), reader.qrels))["nDCG@10"] == pytest.approx(expected, abs=5e-5)


def test_the_first_stage_is_named_after_what_ranked(collection):
    given, without = Reader(collection()), Reader(replace(collection(), candidates=None))
    assert (given.first_stage, without.first_stage) == (collection().candidates, "BM25")
    assert Reader("rankdistil/almanac/test").first_stage == "BM25"


@pytest.mark.fault("G7")
def test_the_tag_of_a_run_names_nothing(collection):
    run = "1 Q0 d 1 1.5 ../../x\n1 Q0 a 2 3.0 /etc/x\n"
    reader = Reader(collection(run=run))
    assert reader.first_stage == "run.txt"
    assert [hit.passage_id for hit in reader.candidates(10)["1"]] == ["a", "d"]


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    """Write a run of queries 1 and 2, and one of query 2 alone."""
    for name, queries in {"both.run": "12", "one.run": "2"}.items():
        (tmp_path / name).write_text("".join(f"{query} Q0 a 1 1.0 tag\n" for query in queries))
    return [str(tmp_path / "both.run"), str(tmp_path / "one.run")]


def test_a_split_is_ranked_by_the_run_of_most_of_its_queries(runs: list[str]) -> None:
    files = RunFiles(runs, STOP)
    assert files.covering(["1", "2"]) == runs[0]
    assert files.covering(["3"]) is None


def test_a_run_that_no_split_uses_is_refused(runs: list[str]) -> None:
    require_used(runs, {*runs, None})
    with pytest.raises(ValueError) as caught:
        require_used(runs, [runs[0], None])
    assert str(caught.value) == (
        f"data.candidates={runs[1]} is used by no split: it ranks none of their queries, or fewer than another run does. "
        "Name a run of these queries, or leave it out."
    )
