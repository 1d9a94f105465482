"""Questions that two splits share."""

from rankdistil.data.collections.leaks import Asked, overlaps, shared


def test_queries_are_compared_by_text_whatever_their_ids_and_by_id() -> None:
    found = shared({"a": 1, "b": 2, "c": 3}, {"x": 1, "b": 2, "c": 9, "d": 4})
    assert found.by_text == {"x": "a", "b": "b"}
    assert found.by_id == ["c"]


def test_empty_queries_are_no_question() -> None:
    assert shared({"a": 0}, {"b": 0, "a": 0}).by_text == {}


def test_every_two_splits_are_compared() -> None:
    leaks, notes = overlaps([Asked("train", {"a": 1}), Asked("valid", {"b": 2}), Asked("test", {"b": 2, "a": 3, "z": 1})])
    assert leaks == [
        "1 of 3 test queries have the text of a training query, for example z (a in training).",
        "1 of 3 test queries have the text of a validation query, for example b (b in validation).",
    ]
    assert notes == ["1 of 3 test queries have the id of a training query with another text, for example a."]


def test_three_examples_are_given_at_most() -> None:
    many = {str(number): number + 1 for number in range(5)}
    (leak,), _ = overlaps([Asked("train", many), Asked("test", many)])
    assert leak.startswith("5 of 5 test queries")
    assert leak.count("in training") == 3
