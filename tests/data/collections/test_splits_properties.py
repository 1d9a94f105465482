"""Held-out queries: on one side each, with their question, whatever the order of the files."""

from itertools import combinations
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from rankdistil.data.collections.splits import Holdout, normal

WORDS = st.sampled_from(["how", "Do", "bees", "fly", "FLY", "ﬂy", "?", ".", "é", "e\u0301", " "])
ASKED = st.lists(WORDS, max_size=4).map(" ".join)
QUESTIONS = st.dictionaries(st.text("abc0", min_size=1, max_size=5), ASKED, min_size=4, max_size=24)


def sides(texts: dict[str, str], qrels: dict | None, valid: int, test: int) -> list[dict[str, str]]:
    asked = Holdout(valid, True), Holdout(test, True, behind=valid), Holdout(valid + test, False)
    return [side.of(texts, qrels) for side in asked]


@given(QUESTIONS, st.data())
def test_sides_are_disjoint_whole_and_the_same_in_any_order_of_the_files(texts: dict[str, str], data: Any) -> None:
    answered = {key: {"p": data.draw(st.integers(0, 2))} for key in sorted(texts) if data.draw(st.booleans())}
    able = {normal(texts[key]) for key, row in answered.items() if row["p"] >= 1}
    assume(len(able) >= 2 and len({*map(normal, texts.values())}) > 2)
    found = sides(texts, answered, 1, 1)
    assert sum(map(len, found)) == len(texts)
    assert found[0] | found[1] | found[2] == texts
    questions = [{*map(normal, side.values())} for side in found]
    assert [len(each) for each in questions[:2]] == [1, 1]
    assert all(one.isdisjoint(other) for one, other in combinations(questions, 2))
    assert questions[0] | questions[1] <= able
    again = {key: texts[key] for key in data.draw(st.permutations(list(texts)))}
    judged = {key: answered[key] for key in data.draw(st.permutations(list(answered)))}
    assert sides(again, judged, 1, 1) == found


@given(QUESTIONS, st.text("xyz", min_size=6, max_size=6))
def test_a_query_that_is_added_moves_no_other_across_sides_but_by_taking_its_place(texts: dict[str, str], fresh: str) -> None:
    assume(len({*map(normal, texts.values())}) > 1)
    held = Holdout(1, True).of(texts, None)
    more = Holdout(1, True).of(texts | {fresh: f"nobody asks {fresh}"}, None)
    assert more in (held, {fresh: f"nobody asks {fresh}"})
