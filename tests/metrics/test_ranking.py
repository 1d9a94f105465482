"""Measures: one total order for all of them, values by hand and by other tools; run files; what candidates allow."""

import itertools
import math
import random
from math import log2
from statistics import fmean

import ir_measures
import numpy as np
import pytest
import pytrec_eval
from ir_measures import AP, RR, nDCG

from rankdistil.data.records import Candidate
from rankdistil.metrics.ranking import (
    at_depths,
    ceiling,
    depths,
    main_measure,
    means,
    per_query,
    random_order,
    ranked,
    read_run,
    tied_queries,
    write_run,
)


def _order(*passages):
    return [Candidate(passage, 0.0) for passage in passages]


def test_scores_are_ranked_from_high_to_low():
    ranking = ranked({"q": {"a": -1.0, "b": 2.5, "c": 0.0}})
    assert ranking == {"q": [Candidate("b", 2.5), Candidate("c", 0.0), Candidate("a", -1.0)]}


@pytest.mark.fault("F6")
def test_equal_scores_are_ranked_by_descending_passage_id_whatever_order_they_came_in():
    ids = ["d9", "d10", "d1", "D5"]
    for seed in range(5):
        random.Random(seed).shuffle(ids)
        ranking = ranked({"q": {**dict.fromkeys(ids, 1.0), "best": 2.0}})
        assert [hit.passage_id for hit in ranking["q"]] == ["best", "d9", "d10", "d1", "D5"]


@pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.fault("F4")
def test_a_score_that_is_no_number_names_query_and_passage(score):
    with pytest.raises(ValueError, match=f"query q2, passage p7: the score is {score}"):
        ranked({"q1": {"p1": 0.0}, "q2": {"p6": 1.0, "p7": score}})


def test_values_are_those_computed_by_hand():
    ranking = {"q": _order("x", "a", "y", "b")}
    values = per_query(ranking, {"q": {"a": 1, "b": 1, "lost": 1, "y": 0}})["q"]
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert values["nDCG@10"] == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / ideal)
    assert values["RR@10"] == pytest.approx(1 / 2)
    assert values["AP"] == pytest.approx((1 / 2 + 2 / 4) / 3)


def test_a_passage_at_rank_eleven_counts_for_average_precision_only():
    values = per_query({"q": _order(*"abcdefghij", "hit")}, {"q": {"hit": 1}})["q"]
    assert values["nDCG@10"] == values["RR@10"] == 0
    assert values["AP"] == pytest.approx(1 / 11)


def test_the_relevance_level_moves_reciprocal_rank_and_precision_but_not_gain():
    ranking, qrels = {"q": _order("one", "two", "three")}, {"q": {"one": 1, "two": 2, "three": 0}}
    low, high = per_query(ranking, qrels, 1)["q"], per_query(ranking, qrels, 2)["q"]
    gain = (1 + 2 / math.log2(3)) / (2 + 1 / math.log2(3))
    assert list(low.values()) == pytest.approx([gain, 1, 1])
    assert high == pytest.approx({"nDCG@10": gain, "RR(rel=2)@10": 1 / 2, "AP(rel=2)": 1 / 2})


@pytest.mark.fault("F5")
def test_a_judged_query_without_candidates_scores_zero_and_is_counted():
    ranking, qrels = {"found": _order("a"), "empty": []}, {name: {"a": 1} for name in ("missing", "found", "empty")}
    values = per_query(ranking, qrels)
    assert list(values) == ["missing", "found", "empty"]
    assert set(values["missing"].values()) == set(values["empty"].values()) == {0.0}
    assert means(values) == pytest.approx({"nDCG@10": 1 / 3, "RR@10": 1 / 3, "AP": 1 / 3})


def test_every_query_without_candidates_scores_zero():
    assert means(per_query({}, {"q": {"a": 1}})) == {"nDCG@10": 0.0, "RR@10": 0.0, "AP": 0.0}


def test_a_query_judged_to_have_no_relevant_passage_scores_zero_and_is_counted():
    values = per_query({"q1": _order("a"), "q2": _order("a")}, {"q1": {"a": 1}, "q2": {"a": 0}})
    assert means(values)["RR@10"] == 0.5


@pytest.mark.fault("F5")
def test_a_query_without_judgments_is_left_out():
    assert list(per_query({"q1": _order("a"), "q2": _order("a")}, {"q1": {"a": 1}})) == ["q1"]


def _random_collection(distinct):
    source = random.Random(1)
    passages = [f"p{number}" for number in range(30)]
    draw = (lambda: source.gauss(0, 1)) if distinct else (lambda: float(source.randrange(3)))
    scores = {f"q{query}": {passage: draw() for passage in passages} for query in range(8)}
    return scores, {query: {p: source.choice([0, 0, 0, 1, 2]) for p in passages[:20]} for query in scores}


def test_distinct_scores_give_the_values_of_ir_measures():
    scores, qrels = _random_collection(distinct=True)
    expected = ir_measures.calc_aggregate([nDCG @ 10, RR @ 10, AP], qrels, scores)
    assert means(per_query(ranked(scores), qrels)) == pytest.approx({str(m): value for m, value in expected.items()})


@pytest.mark.fault("F2")
def test_tied_scores_give_the_values_of_trec_eval():
    scores, qrels = _random_collection(distinct=False)
    expected = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "map"}).evaluate(scores)
    for query, values in per_query(ranked(scores), qrels).items():
        assert values["nDCG@10"] == pytest.approx(expected[query]["ndcg_cut_10"])
        assert values["AP"] == pytest.approx(expected[query]["map"])


@pytest.mark.parametrize(("positive", "rank"), [("d0", 10), ("d4", 6), ("d9", 1)])
@pytest.mark.fault("F2")
def test_a_constant_scorer_gets_every_measure_from_one_ranking(positive, rank):
    scores = {"q": {f"d{number}": 1.0 for number in range(10)}}
    values = per_query(ranked(scores), {"q": {positive: 1}})["q"]
    assert values == pytest.approx({"nDCG@10": 1 / math.log2(rank + 1), "RR@10": 1 / rank, "AP": 1 / rank})


def test_a_mean_over_no_query_is_refused():
    with pytest.raises(ValueError, match="no judged query"):
        means({})


def test_the_random_order_s_value_is_the_mean_over_all_orders() -> None:
    names, judged = "abcd", {"q": {"a": 2, "b": 1, "c": 0, "lost": 3}}
    every = [per_query({"q": _order(*order)}, judged)["q"]["nDCG@10"] for order in itertools.permutations(names)]
    assert random_order({"q": _order(*names)}, judged) == {"q": pytest.approx(fmean(every))}


def test_the_random_order_s_value_of_many_candidates_counts_the_first_ten_places() -> None:
    names = [f"d{number}" for number in range(12)]  # one relevant passage: each of the twelve places is as likely
    every = [per_query({"q": _order(*names[place:], *names[:place])}, {"q": {"d3": 1}})["q"]["nDCG@10"] for place in range(12)]
    assert random_order({"q": _order(*names)}, {"q": {"d3": 1}})["q"] == pytest.approx(fmean(every))


def test_a_query_without_candidates_or_relevant_passages_has_no_value_to_expect() -> None:
    assert random_order({"q1": [], "q2": _order("a")}, {"q0": {"a": 1}, "q1": {"a": 1}, "q2": {"a": 0}}) == {
        "q0": 0.0, "q1": 0.0, "q2": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("scores", "tied"),
    [
        ([-127.9519, -127.9519, -127.9519], 1),
        ([-127.9519, -127.951912, -127.951904], 1),  # a few steps of float32
        ([-127.9519, -127.95, -127.9519], 0),
        ([0.0, 0.0], 1),
        ([1e-9, 2e-9], 0),
    ],
)
@pytest.mark.fault("F3")
def test_a_query_is_tied_if_float32_cannot_tell_its_scores_apart(scores: list[float], tied: int) -> None:
    assert tied_queries({"q": {str(place): score for place, score in enumerate(scores)}}) == tied


def test_a_query_with_one_candidate_has_nothing_to_tie() -> None:
    assert tied_queries({"q1": {"a": 1.0}, "q2": {"a": 1.0, "b": 1.0}, "q3": {"a": 1.0, "b": 0.0}, "q4": {}}) == 1


def _read(path):
    scores = {}
    for hit in ir_measures.read_trec_run(str(path)):
        scores.setdefault(hit.query_id, {})[hit.doc_id] = hit.score
    return scores


@pytest.fixture
def scores():
    """Two queries of forty passages, most of them tied."""
    source = random.Random(0)
    return {
        query: {f"p{number}": source.choice([0.0, 0.1, 1 / 3, -7.25, source.gauss(0, 9)]) for number in range(40)}
        for query in ("q2", "q1")
    }


def test_a_line_holds_query_q0_passage_rank_score_and_tag(tmp_path):
    write_run(tmp_path / "run", {"q1": [Candidate("a", 2.5), Candidate("b", -1.0)], "q0": [Candidate("c", 0.1)]}, "2l")
    assert (tmp_path / "run").read_bytes() == b"q1 Q0 a 1 2.5 2l\nq1 Q0 b 2 -1.0 2l\nq0 Q0 c 1 0.1 2l\n"


@pytest.mark.fault("F1")
def test_a_run_that_is_read_and_written_again_is_equal_byte_for_byte(tmp_path, scores):
    write_run(tmp_path / "first", ranked(scores), "tag")
    write_run(tmp_path / "second", ranked(_read(tmp_path / "first")), "tag")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.fault("F3")
def test_what_is_read_is_what_was_written_to_the_last_bit(tmp_path, scores, kind):
    """Order and scores, also of passages that only double precision tells apart."""
    close = {"q3": {"a": 1 + 1e-12, "b": 1 + 1e-13, "c": 1.0, "d": 1.0}}
    ranking = ranked(
        {query: {name: float(kind(score)) for name, score in row.items()} for query, row in (scores | close).items()}
    )
    write_run(tmp_path / "run", ranking, "tag")
    assert read_run(tmp_path / "run") == ranking


def test_runs_that_were_joined_keep_the_first_candidate_of_each(tmp_path):
    (tmp_path / "run").write_bytes(b"q1 Q0 d1 1 2.0 t\n\xef\xbb\xbfq2 Q0 d2 1 2.0 t\nq2 Q0 d3 2 1.0 t\n")
    assert read_run(tmp_path / "run") == {"q1": [("d1", 2.0)], "q2": [("d2", 2.0), ("d3", 1.0)]}


def test_scores_that_tell_nothing_apart_are_seen_by_a_reader(tmp_path):
    scores = {"q1": {f"p{number:02d}": -127.951900 for number in range(20)}, "q2": {"a": 1.0, "b": 0.0}}
    write_run(tmp_path / "run", ranked(scores), "tag")
    assert tied_queries(_read(tmp_path / "run")) == tied_queries(scores) == 1


@pytest.mark.fault("F1", "F3")
def test_trec_eval_gives_a_written_run_the_values_of_its_ranking(tmp_path, scores):
    qrels = {query: {f"p{number}": 1 for number in range(0, 40, 7)} for query in scores}
    write_run(tmp_path / "run", ranked(scores), "tag")
    found = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "map"}).evaluate(_read(tmp_path / "run"))
    for query, values in per_query(ranked(scores), qrels).items():
        assert values["nDCG@10"] == pytest.approx(found[query]["ndcg_cut_10"])
        assert values["AP"] == pytest.approx(found[query]["map"])


def test_a_written_run_replaces_the_old_one_and_leaves_no_other_file(tmp_path):
    for passage in "long-name", "b":
        write_run(tmp_path / "run", {"q": [Candidate(passage, 1.0)]}, "tag")
    assert (tmp_path / "run").read_text() == "q Q0 b 1 1.0 tag\n"
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


def hits(*passages: str) -> list[Candidate]:
    return [Candidate(passage, -place) for place, passage in enumerate(passages)]


def test_the_best_order_puts_the_grades_of_the_candidates_first() -> None:
    qrels = {"q1": {"a": 2, "b": 1, "c": 1}, "q2": {"d": 1}, "q3": {"e": 0}}
    most = ceiling({"q1": hits("x", "b", "a"), "q2": hits("x")}, qrels)
    best, ideal = 2 + 1 / log2(3), 2 + 1 / log2(3) + 1 / log2(4)  # a, b; and with c, which is no candidate
    assert most.relevant == 2 / 4
    assert most.answered == 1 / 2
    assert most.best == pytest.approx(best / ideal / 3)


def test_candidates_that_hold_everything_allow_everything() -> None:
    assert ceiling({"q": hits("x", "a", "b")}, {"q": {"a": 1, "b": 1}}) == (1, 1, 1)


def test_the_level_says_which_passages_count_in_the_shares() -> None:
    most = ceiling({"q": hits("b")}, {"q": {"a": 2, "b": 1}}, relevance_level=2)
    assert (most.relevant, most.answered) == (0, 0)
    assert most.best > 0


def test_without_a_relevant_passage_there_is_no_ceiling() -> None:
    assert ceiling({"q": hits("a")}, {"q": {"a": 0}}) is None


def test_depths_are_round_numbers_and_the_most() -> None:
    assert depths(100) == [1, 2, 5, 10, 20, 50, 100]
    assert depths(37) == [1, 2, 5, 10, 20, 37]
    assert depths(1) == [1]


@pytest.mark.parametrize("depth", [1, 3, 9, 10, 11, 25, 30])
def test_the_top_at_a_depth_has_the_ndcg_of_the_whole_re_ranked_list(depth: int) -> None:
    source = random.Random(depth)
    first = {query: source.sample([f"p{n}" for n in range(30)], 30) for query in ("a", "b", "c")}
    own = {query: source.sample(row, 30) for query, row in first.items()}
    qrels = {query: {passage: source.choice([0, 0, 1, 3]) for passage in row} for query, row in first.items()}
    whole = {query: [*sorted(row[:depth], key=own[query].index), *row[depth:]] for query, row in first.items()}
    run = {query: {passage: float(-place) for place, passage in enumerate(row)} for query, row in whole.items()}
    expected = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10"}).evaluate(run)
    found = main_measure(qrels)(at_depths(first, own, [depth])[depth])
    assert found == pytest.approx({query: row["ndcg_cut_10"] for query, row in expected.items()})


def test_the_main_measure_alone_is_that_of_all_measures_also_of_queries_that_nobody_judged_or_ranked():
    qrels = {"a": {"x": 2, "y": 1}, "b": {"x": 1}, "c": {"z": 1}}
    ranking = {"a": _order("z", "y", "x"), "b": [], "d": _order("x")}
    measure = main_measure(qrels)
    expected = {query: row["nDCG@10"] for query, row in per_query(ranking, qrels).items()}
    for _ in range(2):
        assert measure({query: [hit.passage_id for hit in row] for query, row in ranking.items()}) == expected
    assert measure({}) == dict.fromkeys(qrels, 0.0)
