"""Which training queries are set apart: whole questions, and only those that somebody has answered."""

import pytest

from rankdistil.data.collections.reader import Reader
from rankdistil.data.collections.splits import Holdout

LOG = {f"q{number}": f"Question {number // 2}{'?' * (number % 2)}" for number in range(20)}  # each question twice
ANSWERS = {key: {"a": 1} for key in LOG}
SIDES = Holdout(3, True), Holdout(3, True, behind=3), Holdout(6, False)


def test_a_question_that_stands_twice_in_a_log_is_on_one_side() -> None:
    valid, test, train = ({text.rstrip("?") for text in side.of(LOG, ANSWERS).values()} for side in SIDES)
    assert (len(valid), len(test), len(train)) == (3, 3, 4)
    assert len(valid | test | train) == 10


def test_every_id_of_a_question_goes_with_it() -> None:
    found = [side.of(LOG, ANSWERS) for side in SIDES]
    assert [len(side) for side in found] == [6, 6, 8]
    assert found[0] | found[1] | found[2] == LOG


def test_only_questions_with_an_answer_are_set_apart() -> None:
    texts = {f"q{number}": f"question {number}" for number in range(20)}
    some = {"q3": {"a": 1}, "q8": {"b": 2}, "q9": {"c": 0}, "q12": {"d": 1}}
    found = Holdout(1, True).of(texts, some) | Holdout(1, True, behind=1).of(texts, some)
    assert found.keys() < {"q3", "q8", "q12"}
    assert Holdout(1, True, level=2).of(texts, some).keys() == {"q8"}
    assert len(Holdout(2, False).of(texts, some)) == 18


def test_one_answered_id_is_enough_for_its_question() -> None:
    assert Holdout(1, True).of(LOG, {"q5": {"a": 1}}).keys() == {"q4", "q5"}


def test_too_few_answered_questions_are_named_with_the_ways_out() -> None:
    with pytest.raises(ValueError) as caught:
        Holdout(2, True, behind=2).of(LOG, {"q0": {"a": 1}, "q5": {"a": 1}, "q9": {"a": 0}})
    assert str(caught.value) == (
        "data.holdout sets 4 queries apart, but only 2 of 10 have a passage of grade 1 or more, which they need to be measured "
        "on. Set it lower, or name splits: data.valid, data.test."
    )


def test_unjudged_queries_stay_on_the_training_side_and_both_sides_are_counted(collection) -> None:
    split = collection(queries="".join(f"{number}\tquestion {number}\n" for number in range(20)))
    sides = [Reader(split, Holdout(2, inside)).side(1) for inside in (True, False)]
    assert sides == [{"queries": 2, "answered": 2}, {"queries": 18, "answered": 1}]
