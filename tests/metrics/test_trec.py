"""Run files: every reader sees our order, and writing what was read changes no byte."""

import random

import ir_measures
import numpy as np
import pytest

from rankdistil.data.records import Candidate
from rankdistil.metrics.measures import means, per_query, ranked
from rankdistil.metrics.trec import strictly_decreasing, write_run


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
    assert (tmp_path / "run").read_bytes() == b"q1 Q0 a 1 2.5 2l\nq1 Q0 b 2 -1 2l\nq0 Q0 c 1 0.100000001 2l\n"


def test_a_run_that_is_read_and_written_again_is_equal_byte_for_byte(tmp_path, scores):
    write_run(tmp_path / "first", ranked(scores), "tag")
    write_run(tmp_path / "second", ranked(_read(tmp_path / "first")), "tag")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_a_reader_who_sorts_by_float32_scores_sees_our_order(tmp_path, scores):
    ranking = ranked(scores)
    write_run(tmp_path / "run", ranking, "tag")
    for query, row in _read(tmp_path / "run").items():
        written = np.array(list(row.values()), dtype=np.float32)
        assert (np.diff(written) < 0).all()
        assert list(row) == [hit.passage_id for hit in ranking[query]]


def test_ir_measures_gives_a_written_run_the_values_of_its_ranking(tmp_path, scores):
    qrels = {query: {f"p{number}": 1 for number in range(0, 40, 7)} for query in scores}
    write_run(tmp_path / "run", ranked(scores), "tag")
    measures = [ir_measures.nDCG @ 10, ir_measures.RR @ 10, ir_measures.AP]
    values = ir_measures.calc_aggregate(measures, qrels, ir_measures.read_trec_run(str(tmp_path / "run")))
    assert means(per_query(ranked(scores), qrels)) == pytest.approx({str(m): value for m, value in values.items()})


def test_scores_that_differ_are_kept_as_float32():
    assert strictly_decreasing([2.5, 0.1, -3.0]) == [2.5, float(np.float32(0.1)), -3.0]


@pytest.mark.parametrize("score", [1.0, 0.0, -5.0, 1e30])
def test_ties_are_lowered_by_one_float32_step_each(score):
    fixed = np.array(strictly_decreasing([score] * 4), dtype=np.float32)
    assert fixed[0] == np.float32(score)
    assert (fixed[1:] == np.nextafter(fixed[:-1], np.float32(-np.inf))).all()


def test_scores_that_differ_in_double_precision_only_stay_in_order():
    fixed = np.array(strictly_decreasing([1 + 1e-12, 1 + 1e-13, 1.0]), dtype=np.float32)
    assert (np.diff(fixed) < 0).all()


def test_a_score_just_below_a_long_tie_stays_below_it():
    below = float(np.nextafter(np.float32(1), np.float32(0)))
    fixed = strictly_decreasing([1.0, 1.0, 1.0, below, 0.5])
    assert fixed == sorted(set(fixed), reverse=True)
    assert fixed[-1] == 0.5


def test_a_written_run_replaces_the_old_one_and_leaves_no_other_file(tmp_path):
    for passage in "long-name", "b":
        write_run(tmp_path / "run", {"q": [Candidate(passage, 1.0)]}, "tag")
    assert (tmp_path / "run").read_text() == "q Q0 b 1 1 tag\n"
    assert [file.name for file in tmp_path.iterdir()] == ["run"]
