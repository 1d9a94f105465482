"""What candidates allow at most, by hand."""

from math import log2

import pytest

from rankdistil.data.records import Candidate
from rankdistil.metrics.ranking import ceiling


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
