"""Run files: what was written is read again, ties are ties, and trec_eval sees our order."""

import random

import ir_measures
import numpy as np
import pytest
import pytrec_eval

from rankdistil.data.records import Candidate
from rankdistil.metrics.ranking import per_query, ranked, read_run, tied_queries, write_run


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


def test_a_run_that_is_read_and_written_again_is_equal_byte_for_byte(tmp_path, scores):
    write_run(tmp_path / "first", ranked(scores), "tag")
    write_run(tmp_path / "second", ranked(_read(tmp_path / "first")), "tag")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
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
