"""The verdict on hand-made results: eight queries, so the smallest p value is 2 of 256 sign assignments."""

import pytest

from rankdistil.data.collections.splits import Leak
from rankdistil.data.records import Candidate, Pair
from rankdistil.report.results import Result, Tied, average
from rankdistil.report.verdict import Harmed, depth_note, find_harm, likely_cures, verdict

CURES = ("more steps (stage.steps)", "another stage.lr")
TESTED = "(paired randomisation test over 8 queries, exact, two-sided)"


def result(name: str, values: list[float], **further: object) -> Result:
    per_query = {f"q{number}": {"nDCG@10": value} for number, value in enumerate(values)}
    return Result(name, {"nDCG@10": sum(values) / len(values)}, per_query, {}, **further)


def speed(milliseconds: float, parameters: int) -> dict[str, float]:
    return {"latency_ms_p50": milliseconds, "parameters": parameters}


FIRST = result("BM25", [0.2] * 8)
TEACHER = result("teacher toy", [0.6] * 8)._replace(speed=speed(90.0, 20_000_000))
OWN = result("student 2l", [0.5] * 8)._replace(speed=speed(30.0, 4_000_000))
START = result("start: random weights", [0.1] * 8)


def test_a_sentence_holds_every_test_what_is_kept_and_what_it_costs() -> None:
    found = verdict(FIRST, OWN, TEACHER, START, CURES)
    assert found.text == (
        "student 2l: nDCG@10 0.5000, better than BM25 (+0.3000, p 0.008), better than its start (+0.4000, p 0.008), "
        "worse than teacher toy (-0.1000, p 0.008); keeps 75% of the teacher's gain over BM25 (+0.4000, p 0.008) and 83.3% "
        f"of its nDCG@10; 3.00x faster and 5.00x smaller than teacher toy {TESTED}"
    )
    assert found.alarms == []
    assert found.lines == [found.text]


def test_without_teacher_and_start_there_is_the_first_stage_alone() -> None:
    assert verdict(FIRST, OWN).text == f"student 2l: nDCG@10 0.5000, better than BM25 (+0.3000, p 0.008) {TESTED}"


def test_a_difference_that_chance_explains_is_none_whatever_its_sign() -> None:
    own = result("student 2l", [0.3] * 5 + [0.15] * 3)
    assert "not told apart from BM25 (+0.0437, p 0.219)" in verdict(FIRST, own).text


def test_the_share_of_a_gain_that_may_be_none_is_not_given() -> None:
    weak = result("teacher toy", [0.3] * 5 + [0.15] * 3)
    assert (
        "share of the teacher's gain: none can be given, as teacher toy is not told apart from BM25 (+0.0437, p 0.219); keeps "
        "205.1% of its nDCG@10"
    ) in verdict(FIRST, OWN, weak).text
    nothing = result("teacher toy", [0.0] * 8)
    assert (
        "toy is worse than BM25 (-0.2000, p 0.008); keeps no share of its nDCG@10, which is 0"
        in verdict(FIRST, OWN, nothing).text
    )


def test_a_busy_machine_gives_a_size_and_no_speed_and_a_slower_student_is_called_so() -> None:
    busy = [one._replace(speed={"parameters": one.speed["parameters"]}) for one in (OWN, TEACHER)]
    assert "; 5.00x smaller than teacher toy (paired" in verdict(FIRST, *busy).text
    slow = OWN._replace(speed=speed(180.0, 40_000_000))
    assert "; 2.00x slower and 2.00x larger than teacher toy (paired" in verdict(FIRST, slow, TEACHER).text
    assert "than teacher toy (paired" not in verdict(FIRST, OWN._replace(speed={}), TEACHER).text


def test_tests_are_by_topic_where_topics_are_known() -> None:
    own = OWN._replace(topics={query: f"topic {number % 3}" for number, query in enumerate(OWN.per_query)})
    assert verdict(FIRST, own).text == (
        "student 2l: nDCG@10 0.5000, not told apart from BM25 (+0.3000, p 0.250); 3 topics are too few for any test to find a "
        "difference (paired randomisation test by topic (3 topics), exact, two-sided)"
    )


CHANCE = {f"q{number}": 0.25 for number in range(8)}


def test_a_ranker_at_chance_is_told_in_capitals_with_two_cures() -> None:
    own = result("student 2l", [0.3] * 5 + [0.2] * 3, chance=CHANCE)
    assert verdict(FIRST, own, cures=CURES).alarms == [
        "student 2l: NO BETTER THAN A RANDOM ORDER OF THE SAME CANDIDATES (nDCG@10 0.2625 against 0.2500, p 0.727). Likely "
        "cures: more steps (stage.steps), or another stage.lr."
    ]


def test_a_ranker_above_chance_or_with_too_few_queries_to_tell_is_not_alarming() -> None:
    assert verdict(FIRST, OWN._replace(chance=CHANCE)).alarms == []
    few = result("student 2l", [0.25] * 5, chance={query: CHANCE[query] for query in list(CHANCE)[:5]})
    assert verdict(result("BM25", [0.2] * 5), few).alarms == []


def test_a_ranker_worse_than_what_it_was_given_is_told_in_capitals() -> None:
    own = result("student 2l", [0.1] * 8, chance=dict.fromkeys(CHANCE, 0.05))
    assert verdict(FIRST, own, TEACHER, cures=CURES).alarms == [
        "student 2l: WORSE THAN BM25, THE ORDER IT WAS GIVEN (-0.1000, p 0.008). Likely cures: more steps (stage.steps), or "
        "another stage.lr."
    ]


def test_the_first_cure_of_a_student_of_a_teacher_that_ranks_no_better_is_another_teacher() -> None:
    own = result("student 2l", [0.1] * 8)
    (alarm,) = verdict(FIRST, own, FIRST._replace(name="teacher toy"), cures=CURES).alarms
    assert alarm.endswith(" Likely cures: a better teacher (teacher toy isn't above BM25 itself), or more steps (stage.steps).")


def test_a_collapsed_ranker_is_told_by_its_ties_whatever_the_luck_of_its_order() -> None:
    found = verdict(FIRST, OWN._replace(tied=Tied(4, 8), chance=dict.fromkeys(CHANCE, 0.9)), cures=CURES)
    assert found.alarms == [
        "student 2l: ALL SCORES OF 4 OF 8 QUERIES ARE EQUAL: THE ORDER IS BY ID. Likely cures: a lower stage.lr, or another "
        "seed."
    ]
    few = verdict(FIRST, OWN._replace(tied=Tied(3, 8)))
    assert few.alarms == []
    assert "; all scores of 3 of 8 queries are equal: the order is by id (paired" in few.text
    assert "equal" not in verdict(FIRST, OWN._replace(tied=Tied(0, 8))).text


def test_a_teacher_that_has_collapsed_is_told_beside_its_student() -> None:
    found = verdict(FIRST, OWN, TEACHER._replace(tied=Tied(8, 8)))
    assert "; teacher toy: all scores of 8 of 8 queries are equal: the order is by id (paired" in found.text
    assert found.alarms == []
    assert "equal" not in verdict(FIRST, OWN, TEACHER._replace(tied=Tied(1, 8))).text


def test_a_ranker_that_was_trained_on_test_queries_is_told_in_capitals_first() -> None:
    leaked = OWN._replace(leak=Leak(7, 8, ["q0", "q1", "q2"], 1))
    assert verdict(FIRST, leaked).alarms == [
        "student 2l: TRAINED ON 7 OF 8 TEST QUERIES, for example q0, q1, q2. Its numbers don't tell how it ranks for other "
        "questions.",
        "student 2l: 1 of 8 test queries have the id of a training query with another text. See that they are other questions.",
    ]
    assert verdict(FIRST, OWN._replace(leak=Leak(0, 8, [], 0))).alarms == []


def test_a_ranker_that_nobody_trained_here_gets_an_alarm_without_cures() -> None:
    assert verdict(FIRST, result("x.run", [0.1] * 8)).alarms == [
        "x.run: WORSE THAN BM25, THE ORDER IT WAS GIVEN (-0.1000, p 0.008)."
    ]


@pytest.mark.parametrize(
    ("learns", "start", "second"),
    [
        ("student", "random weights", "a start that ranks already (student.init_from=subclone)"),
        ("student", "cut out of the teacher ranker", "another stage.lr"),
        ("teacher", "package:x/model", "another stage.lr"),
    ],
)
def test_a_start_that_is_already_taken_or_that_a_teacher_cannot_take_is_no_cure(learns: str, start: str, second: str) -> None:
    assert likely_cures(learns, start) == ("more steps (stage.steps)", second)


def test_a_depth_that_the_measure_looks_at_whole_is_told() -> None:
    assert depth_note(11) == []
    assert depth_note(10) == [
        "data.depth=10: nDCG@10 looks at all candidates of a query, so no ranker can bring one in or lose one. Set data.depth "
        "above 10 to see more than their order."
    ]


def test_seeds_are_averaged_query_by_query_with_the_ties_and_the_leak_of_the_worst() -> None:
    leaks = Leak(0, 2, [], 0), Leak(1, 2, ["q0"], 0)
    pair = [result("a", [0.2, 0.4], tied=Tied(0, 2), leak=leaks[0]), result("b", [0.4, 0.0], tied=Tied(2, 2), leak=leaks[1])]
    found = average(pair, "both")
    assert (found.name, found.tied, found.leak, found.speed) == ("both", Tied(2, 2), leaks[1], {})
    assert found.values() == pytest.approx({"q0": 0.3, "q1": 0.2})
    assert found.measures["nDCG@10"] == pytest.approx(0.25)


def harm(level: int = 1, teacher: dict[str, list[str]] | None = None):
    """Re-rank three queries: of one the answer is lost to an unjudged passage, of one it is found, one stays as it was."""
    order = {"q1": ["a", "b", "c"], "q2": ["b", "a", "c"], "q3": ["a", "b", "c"]}
    before = {query: [Candidate(key, 9.0 - 4 * place) for place, key in enumerate(row)] for query, row in order.items()}
    after = {"q1": ["c", "a", "b"], "q2": ["a", "b", "c"], "q3": ["a", "b", "c"]}
    qrels = {"q1": {"a": 1, "b": 0}, "q2": {"a": 1}, "q3": {"a": 0, "b": 1}}
    values = {"BM25": (1, 0.63, 0.63), "student": (0.63, 1, 0.63)}
    first, own = (
        Result(name, {}, {query: {"nDCG@10": value} for query, value in zip(qrels, row, strict=True)}, {})
        for name, row in values.items()
    )
    text = {"q1": "how do bees fly", "q2": "tides", "q3": "one two three four five six"}

    def pairs(wanted):
        named = [(query, hit.passage_id) for query, row in wanted.items() for hit in row]
        return [Pair(query, key, text[query], f"{key}: Bees fly") for query, key in named]

    return find_harm(first, own, before, after, teacher, qrels, level, pairs)


def test_a_query_that_got_worse_is_told_with_the_answer_s_fall_and_what_took_its_place() -> None:
    found = harm()
    assert found.queries == [Harmed("q1", "how do bees fly", 1, 0.63, "c: Bees fly", 3, "a: Bees fly", (1, 2))]
    assert found.suspects is None
    assert harm(level=2).queries == found.queries  # nDCG knows all grades


def test_queries_are_grouped_by_length_lead_and_words_in_common() -> None:
    assert [(group.name, group.queries, group.worse, group.better) for group in harm().groups] == [
        ("query of 1 to 4 words", 2, 1, 1),
        ("query of 5 to 8 words", 1, 0, 0),
        ("first stage's best leads by a tenth or more", 3, 1, 1),
        ("first stage's best has less than half of the query's words", 2, 0, 1),
        ("first stage's best has half or more of the query's words, not all", 1, 1, 0),
    ]
    assert harm().groups[0].change == pytest.approx(0)


def test_a_passage_that_teacher_and_ranker_put_first_and_judgments_do_not_is_suspected() -> None:
    agreeing = {"q1": ["c", "b", "a"], "q2": ["a", "b", "c"], "q3": ["a", "c", "b"]}
    assert [(one.query_id, one.passage_id, one.judged) for one in harm(teacher=agreeing).suspects] == [
        ("q1", "c", False), ("q3", "a", True),
    ]  # fmt: skip
    assert harm(teacher=agreeing | {"q1": ["a", "b", "c"], "q3": ["b", "a", "c"]}).suspects == []
    assert harm(level=2, teacher=agreeing).suspects == []  # without a relevant passage nobody knows
