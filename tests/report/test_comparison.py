"""Rows of a comparison: seeds averaged, tests adjusted, agreement with the teacher; and the table they make."""

import io
import math
from statistics import fmean

import numpy as np
import pytest
from rich.console import Console
from support import FAST, SPEED, latency_row, timing

from rankdistil.data.collections.splits import Leak
from rankdistil.data.records import Candidate
from rankdistil.metrics.comparing import detectable, holm, over_seeds, randomisation_test
from rankdistil.metrics.fitted import Fusion, Split, fit
from rankdistil.metrics.ranking import fit_fusion, fused_values
from rankdistil.report.comparison import Member, Row, add_depths, add_fitted, compare, judge
from rankdistil.report.document import legend, markdown, tables
from rankdistil.report.results import Result, average, speed
from rankdistil.report.verdict import verdict


def member(row: str, values: list[float], order: str = "abc", own: bool = False) -> Member:
    per_query = {f"q{number}": {"nDCG@10": value} for number, value in enumerate(values)}
    result = Result(row, {"nDCG@10": sum(values) / len(values)}, per_query, {})
    return Member(row, result, {query: list(order) for query in per_query}, own)


BM25 = member("BM25", [0.5, 0.0, 0.25, 0.25])
TEACHER = member("teacher toy", [1.0, 0.5, 0.75, 0.5], "cab")
SEEDS = [member("distill 2l", [0.5, 0.5, 0.0, 0.2], "cba"), member("distill 2l", [0.7, 0.5, 0.0, 0.4], "cab")]
MEMBERS = [SEEDS[0], BM25, TEACHER, SEEDS[1]]


def rows() -> dict[str, Row]:
    timed = {"distill 2l": FAST, "teacher toy": SPEED}
    found = compare(MEMBERS, "teacher toy", "BM25")
    return {row.name: row._replace(speed=timed.get(row.name, {})) for row in found}


def test_rows_keep_the_order_in_which_they_first_appear() -> None:
    assert list(rows()) == ["distill 2l", "BM25", "teacher toy"]


def test_seeds_share_a_row_with_their_mean_and_sample_standard_deviation() -> None:
    row = rows()["distill 2l"]
    assert row.seeds == 2
    assert row.measures["nDCG@10"] == pytest.approx((0.3 + 0.4) / 2)
    assert row.spread["nDCG@10"] == pytest.approx(0.1 / 2**0.5)


def test_one_seed_has_no_spread() -> None:
    assert (rows()["BM25"].seeds, rows()["BM25"].spread) == (1, {})


def test_a_row_is_tested_by_each_querys_mean_over_seeds() -> None:
    def queries(*values: float) -> dict[str, float]:
        return {f"q{number}": value for number, value in enumerate(values)}

    test = rows()["distill 2l"].against_teacher
    expected = randomisation_test(queries(0.6, 0.5, 0.0, 0.3), queries(1.0, 0.5, 0.75, 0.5))
    assert test.difference == pytest.approx(-0.3375)
    assert (test.difference, test.p_value) == pytest.approx((expected.difference, expected.p_value))


@pytest.mark.parametrize(("against", "reference"), [("against_teacher", "teacher toy"), ("against_baseline", "BM25")])
def test_each_column_is_a_family_of_its_own_without_its_reference(against: str, reference: str) -> None:
    tests = {name: getattr(row, against) for name, row in rows().items()}
    assert tests.pop(reference) is None
    assert {name: test.adjusted for name, test in tests.items()} == holm({name: t.p_value for name, t in tests.items()})
    assert all(
        test.adjusted > test.p_value for test in tests.values() if test.p_value == min(t.p_value for t in tests.values())
    )


def test_agreement_is_with_the_teacher_and_averaged_over_seeds() -> None:
    found = rows()
    assert found["distill 2l"].tau == pytest.approx((1 / 3 + 1) / 2)  # cba and cab differ in one pair of three
    assert found["BM25"].tau == pytest.approx(-1 / 3)
    assert found["BM25"].overlap == 1
    assert (found["teacher toy"].tau, found["teacher toy"].overlap) == (None, None)


def test_a_ranker_of_candidates_of_its_own_is_tested_but_has_no_agreement() -> None:
    row = compare([*MEMBERS, member("supplied", [1.0] * 4, "xyz", own=True)], "teacher toy", "BM25")[-1]
    assert (row.tau, row.overlap) == (None, None)
    assert row.against_teacher.difference == pytest.approx(1 - 0.6875)


def test_other_candidates_than_the_teachers_are_refused_with_both_names() -> None:
    with pytest.raises(
        ValueError, match=r"^other 2l and its teacher teacher toy: query q0: agreement needs the same candidates"
    ):
        compare([*MEMBERS, member("other 2l", [1.0] * 4, "abx")], "teacher toy", "BM25")


def test_without_a_teacher_nothing_is_compared_with_one() -> None:
    found = compare(MEMBERS, None, "BM25")
    assert [(row.against_teacher, row.tau, row.overlap) for row in found] == [(None, None, None)] * 3
    assert found[0].against_baseline == rows()["distill 2l"].against_baseline


@pytest.mark.parametrize(("teacher", "baseline", "key"), [("lost", "BM25", "teacher"), (None, "lost", "baseline")])
def test_a_reference_that_is_no_row_is_answered_with_the_rows(teacher: str | None, baseline: str, key: str) -> None:
    with pytest.raises(ValueError) as caught:
        compare(MEMBERS, teacher, baseline)
    assert str(caught.value) == f"against.{key}=lost is no row of the table. Its rows are: distill 2l, BM25, teacher toy."


def test_rankers_tested_on_other_queries_are_named_with_their_counts() -> None:
    with pytest.raises(ValueError) as caught:
        compare([BM25, member("distill 3l", [0.5, 0.5])], None, "BM25")
    assert str(caught.value) == (
        "BM25 was tested on 4 queries and distill 3l on 2; 2 of them are not in both. One table needs the same queries: "
        "test all with the same data.test settings."
    )


def test_rankers_with_other_measures_and_an_unknown_measure_are_refused() -> None:
    other = BM25._replace(row="x", result=BM25.result._replace(measures={"RR(rel=2)@10": 0.1}))
    with pytest.raises(
        ValueError, match=r"^BM25 has nDCG@10 and x RR\(rel=2\)@10\. One table needs the same measures: test all"
    ):
        compare([BM25, other], None, "BM25")
    with pytest.raises(ValueError, match=r"^AP was not computed\. Computed were: nDCG@10\.$"):
        compare([BM25], None, "BM25", "AP")


def test_no_ranker_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^there is no ranker to compare\. Name run folders"):
        compare([], None, "BM25")


def test_a_difference_has_an_interval_and_a_test_over_seeds_where_there_are_several() -> None:
    found = rows()
    assert found["BM25"].against_teacher.over_seeds is None
    own = [one.result.values() for one in SEEDS]
    assert found["distill 2l"].against_teacher.over_seeds == over_seeds(own, [TEACHER.result.values()])
    low, high = found["distill 2l"].against_teacher.interval
    assert low < -0.3375 < high
    assert found["distill 2l"].against_teacher.detectable is None  # four questions can show nothing


TOPICS = {"q0": "bees", "q1": "bees", "q2": "tides", "q3": "tides"}


def test_questions_of_one_topic_count_as_one_wherever_one_ranker_knows_the_topics() -> None:
    known = BM25._replace(result=BM25.result._replace(topics=TOPICS))
    row = next(row for row in compare([known, TEACHER], None, "BM25") if row.name == "teacher toy")
    assert row.against_baseline.difference == pytest.approx((0.5 + 0.5 + 0.5 + 0.25) / 4)
    assert row.against_baseline.p_value == 2 / 4  # by query 2 / 16


def test_every_row_but_the_first_stage_s_gets_the_verdict_of_its_mean_over_seeds() -> None:
    judged = {row.name: row for row in judge(list(rows().values()), MEMBERS, "BM25", "teacher toy")}
    results = {name: average([one.result for one in MEMBERS if one.row == name], name) for name in judged}
    results = {name: one._replace(speed=rows()[name].speed) for name, one in results.items()}
    expected = verdict(results["BM25"], results["distill 2l"], results["teacher toy"])
    assert judged["distill 2l"].verdict == expected.lines
    assert judged["teacher toy"].verdict == verdict(results["BM25"], results["teacher toy"]).lines
    assert judged["BM25"].verdict == []


def test_a_row_is_compared_with_its_start_once_every_seed_s_was_tested() -> None:
    start = member("x", [0.0, 0.0, 0.0, 0.0]).result
    for tested, said in ((2, True), (1, False)):
        own = [one._replace(start=start if number < tested else None) for number, one in enumerate(SEEDS)]
        members = [BM25, *own]
        row = judge(compare(members, None, "BM25"), members, "BM25", None)[1]
        assert ("not told apart from its start (+0.3500, p 0.250)" in row.verdict[-1]) is said


QUERIES = [f"q{number}" for number in range(8)]
GRADES = {query: {"p15": 1} for query in QUERIES}
CANDIDATES = [f"p{number}" for number in range(40)]


def at_every_depth(order: list[str], timed: bool = False) -> Row:
    """Re-rank the same forty candidates of eight queries, of which the sixteenth answers."""
    named = {"first": CANDIDATES, "own 2l": order}
    members = []
    for name, row in named.items():
        place = row.index("p15")
        value = 1 / math.log2(place + 2) if place < 10 else 0.0
        members.append(member(name, [value] * 8)._replace(ranking=dict.fromkeys(QUERIES, row)))
    found = compare(members, None, "first")
    times = timing(latency_row("own 2l", 80.0, candidates=40)) if timed else None
    rows = [row._replace(speed=speed(times, row.name)) for row in found]
    return add_depths(rows, members, GRADES, times)[1]


def test_a_curve_over_depth_begins_at_the_first_stage_and_ends_at_the_ranker() -> None:
    depth = at_every_depth(["p15", *(key for key in CANDIDATES if key != "p15")], timed=True).depth
    assert [(point.candidates, point.value) for point in depth.points] == [(1, 0), (2, 0), (5, 0), (10, 0), (20, 1), (40, 1)]
    assert [point.ms for point in depth.points] == [2, 4, 10, 20, 40, 80]
    assert [point.below and point.below.difference for point in depth.points] == [1, 1, 1, 1, 0, None]
    assert {point.below.p_value for point in depth.points[:4]} == {2 / 256}
    assert {point.below.adjusted for point in depth.points[:4]} == {5 * 2 / 256}


def test_the_verdict_says_where_the_gain_ends() -> None:
    row = at_every_depth(["p15", *(key for key in CANDIDATES if key != "p15")], timed=True)
    assert (row.depth.ends, row.depth.peak) == (20, None)
    told = "no gain is found beyond 20 candidates (nDCG@10 1.0000): 40 bring +0.0000 (+0.0000 .. +0.0000), p 1.000"
    assert row.verdict == [f"own 2l: {told}; 40 ms a query, not 80"]


def test_a_ranker_that_brings_up_worse_ones_from_far_below_peaks_and_decays() -> None:
    row = at_every_depth([*CANDIDATES[25:], "p15", *(key for key in CANDIDATES[:25] if key != "p15")])
    assert (row.depth.ends, row.depth.peak) == (1, 20)
    assert row.verdict == [
        "own 2l: PEAKS at 20 candidates (nDCG@10 1.0000) and decays: 40 bring -1.0000 (-1.0000 .. -1.0000), p 0.039"
    ]


def test_a_gain_that_is_not_found_is_told_with_what_the_test_can_see() -> None:
    better = {query: ["p15", *(key for key in CANDIDATES if key != "p15")] for query in QUERIES[:2]}
    ranking = {query: better.get(query, [*CANDIDATES[1:], "p0"]) for query in QUERIES}
    members = [
        member(name, [0.0] * 8)._replace(ranking=row)
        for name, row in (("a", dict.fromkeys(QUERIES, CANDIDATES)), ("b", ranking))
    ]
    depth = add_depths(compare(members, None, "a"), members, GRADES)[1].depth
    below = depth.worth.below
    assert (depth.ends, below.difference, below.p_value) == (1, 0.25, 0.5)
    assert below.detectable == pytest.approx(detectable(np.array([1.0, 1.0, 0, 0, 0, 0, 0, 0]), np.ones(8)))
    assert depth.told().endswith(f", p 0.500, where a gain below {below.detectable:.4f} may go unseen)")


def test_a_gain_over_the_first_stage_is_the_same_test_in_the_verdict_and_at_depth_one() -> None:
    row = at_every_depth(["p15", *(key for key in CANDIDATES if key != "p15")])
    assert row.depth.at(1).below.p_value == row.against_baseline.p_value
    assert row.depth.at(1).below.difference == row.against_baseline.difference


def test_a_ranker_that_only_loses_says_so() -> None:
    first, own = CANDIDATES[15:] + CANDIDATES[:15], CANDIDATES[::-1]
    members = [
        member(name, [0.0] * 8)._replace(ranking=dict.fromkeys(QUERIES, row)) for name, row in (("a", first), ("b", own))
    ]
    found = add_depths(compare(members, None, "a"), members, GRADES)[1].depth
    assert (found.peak, found.told()) == (1, "RE-RANKING LOSES at every depth: 40 bring -1.0000 (-1.0000 .. -1.0000), p 0.039")


def test_a_ranker_that_changes_nothing_gains_at_no_depth_and_one_that_needs_all_says_so() -> None:
    assert (
        at_every_depth(CANDIDATES).depth.told()
        == "no gain is found at any depth up to 40 candidates (40 bring +0.0000 (+0.0000 .. +0.0000), p 1.000)"
    )
    last = {query: {"p39": 1} for query in QUERIES}
    first, own = (
        member(name, [0.0] * 8)._replace(ranking=dict.fromkeys(QUERIES, row))
        for name, row in (("first", CANDIDATES), ("own", CANDIDATES[::-1]))
    )
    depth = add_depths(compare([first, own], None, "first"), [first, own], last)[1].depth
    assert (depth.ends, depth.told()) == (40, "every candidate counts: fewer than 40 are found to be worse")


def test_other_candidates_and_a_single_one_have_no_depth() -> None:
    first = member("first", [0.0] * 8)._replace(ranking=dict.fromkeys(QUERIES, CANDIDATES))
    for one in (first, first._replace(ranking={key: ["p15"] for key in QUERIES})):
        own = one._replace(row="own", own_candidates=one is first)
        assert [row.depth for row in add_depths(compare([one, own], None, "first"), [one, own], GRADES)] == [None, None]


def fitted_rows() -> tuple[list[Row], Split]:
    """Fuse a ranker of two seeds, of which each orders half of the queries, with a first stage that orders the others."""
    good, bad = [Candidate(key, float(-place)) for place, key in enumerate(["p15", *CANDIDATES[:15]])], []
    bad = [Candidate(hit.passage_id, -hit.score) for hit in good]
    halves = {query: number < 4 for number, query in enumerate(QUERIES)}
    own = {query: good if half else sorted(bad, key=lambda hit: -hit.score) for query, half in halves.items()}
    first = {query: sorted(bad, key=lambda hit: -hit.score) if half else good for query, half in halves.items()}
    valid = Split(own, first, GRADES)
    members = [member("first", [0.0] * 4 + [1.0] * 4), *(member("own 2l", [1.0] * 4 + [0.0] * 4) for _ in range(2))]
    fitted = fit(valid, 0.5, fit_fusion(valid))
    members[1:] = [one._replace(scores=own, fitted=fitted) for one in members[1:]]
    return add_fitted(compare(members, None, "first"), members, valid._replace(own={})), valid


def test_a_fusion_is_measured_on_the_test_against_the_row_alone() -> None:
    rows, split = fitted_rows()
    assert (rows[0].fusion, rows[0].calibration) == (None, None)
    found = rows[1].fusion
    way = fit_fusion(split).interpolation
    assert found.weights == [way.weight] * 2
    assert found.interpolation == pytest.approx(fmean(fused_values(split, way)[0].values()))
    assert found.rrf == pytest.approx(fmean(fused_values(split, Fusion("rrf"))[0].values()))
    assert found.rrf_gain.difference == pytest.approx(found.rrf - 0.5)
    assert found.rrf_gain.adjusted == min(1.0, 2 * min(found.rrf_gain.p_value, found.interpolation_gain.p_value))


def test_a_row_of_which_one_seed_has_no_validation_has_no_fusion_and_an_unordered_first_stage_neither() -> None:
    _, split = fitted_rows()
    one = member("own 2l", [0.5] * 8)._replace(scores=split.own, fitted=fit(split, 0.5, None))
    for others, calibrated in (([], True), ([member("own 2l", [0.5] * 8)], False)):
        members = [member("first", [0.5] * 8), one, *others]
        row = add_fitted(compare(members, None, "first"), members, split)[1]
        assert (row.fusion, row.calibration is not None) == (None, calibrated)


def printed(width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO())
    for table in tables(list(rows().values()), "toy", "teacher toy", "BM25", width):
        console.print(table)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize(("width", "count"), [(160, 1), (120, 2), (70, 3)])
def test_a_narrower_page_gets_more_tables_and_no_column_is_lost_or_cut(width: int, count: int) -> None:
    lines = printed(width)
    heads = [line.split("  ") for line in lines if line.startswith("ranker")]
    found = [head.strip() for line in heads for head in line if head.strip() not in ("", "ranker")]
    speed = ["ms / query", "min..max", "passages/s", "parameters", "speed-up"]
    assert len(heads) == count
    assert found == ["seeds", "nDCG@10", "vs teacher", "vs BM25", "tau", "top-10", *speed]
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)


def test_markdown_holds_spread_adjusted_p_agreement_and_speed() -> None:
    found = list(rows().values())
    lines = markdown(found, "teacher toy", "BM25").splitlines()
    above, beside = found[0].against_teacher, found[0].against_baseline
    assert lines[2] == (
        f"| distill 2l | 2 | 0.3500 ±0.0707 | -0.3375 (p {above.adjusted:.3f}) | {beside.difference:+.4f} (p "
        f"{beside.adjusted:.3f}) | 0.667 | 1.000 | 50 | 25..60 | 2000 | 3.00 M | 4.00x |"
    )
    assert lines[1].count("---:") == 11
    assert lines[4].startswith("| teacher toy | 1 | 0.6875 | - |")


def test_a_bar_in_a_name_adds_no_column_to_markdown() -> None:
    (row,) = compare([BM25._replace(row="a|b")], None, "a|b")
    assert "| a\\|b | 1 | 0.2500 | - |\n" in markdown([row], None, "a|b")


def test_the_legend_names_test_queries_samples_family_and_timing() -> None:
    lines = legend(list(rows().values()), "teacher toy", "BM25", 4, None, timing(latency_row("teacher toy", 200.0)))
    assert lines[0] == (
        "vs teacher, vs BM25: difference in nDCG@10; p: paired randomisation test over 4 queries, exact, two-sided, "
        "Holm-adjusted over each column's 2 comparisons"
    )
    assert [line.partition(":")[0] for line in lines[1:]] == [
        "±",
        "p in a verdict",
        "tau, top-10",
        "ms / query",
        "passages/s",
        "speed-up",
    ]
    assert "4 queries x 3 rounds, 100 passages each, 80 tokens a pair, strings to scores, float32, cpu, 2 threads" in lines[4]


def test_the_legend_explains_no_column_that_is_not_there() -> None:
    line, told = legend(
        compare([BM25, TEACHER], None, "BM25"), None, "BM25", 4, {"q0": "bees", "q1": "bees", "q2": "tides", "q3": "tides"}
    )
    assert line == (
        "vs BM25: difference in nDCG@10; p: paired randomisation test by topic (2 topics), exact, two-sided, Holm-adjusted "
        "over 1 comparison"
    )
    assert told == "p in a verdict: of each test by itself, not adjusted"


def test_of_a_busy_machine_no_time_is_shown_and_one_line_says_how_to_measure_again() -> None:
    measured = timing(latency_row("teacher toy", 200.0), latency_row("distill 2l", 50.0), others=0.43, busy=True)
    found = [row._replace(speed=speed(measured, row.name)) for row in rows().values()]
    lines = markdown(found, "teacher toy", "BM25").splitlines()
    assert [line.split(" | ")[-2:] for line in lines[2:]] == [
        ["busy, not comparable", "22.00 M |"], ["-", "- |"], ["busy, not comparable", "22.00 M |"],
    ]  # fmt: skip
    assert legend(found, "teacher toy", "BM25", 4, None, measured)[4:] == [
        "busy, not comparable: others used 43% of its 2 cores meanwhile, more than 10% (callbacks.inference_time.busy_share), "
        "so no time is shown. Measure again when nothing else runs: python evaluate.py models=<run>"
    ]


def test_a_row_trained_on_test_queries_is_marked_in_every_table_and_in_the_legend() -> None:
    leaked = [one._replace(result=one.result._replace(leak=Leak(3, 4, ["q0", "q1", "q2"], 0))) for one in SEEDS]
    found = compare([BM25, *leaked], None, "BM25")
    assert [row.shown for row in found] == ["BM25", "distill 2l (!)"]
    text = markdown(found, None, "BM25")
    assert text.startswith("| ranker | trained on | seeds |")
    assert "| distill 2l (!) | 3 of 4 | 2 |" in text
    assert "| BM25 | - | 1 |" in text
    assert legend(found, None, "BM25", 4, None)[0] == ("distill 2l (!): TRAINED ON 3 of 4 test queries, for example q0, q1, q2")
    assert all("trained on" in page.columns[1].header for page in tables(found, "title", None, "BM25", width=60))


def test_without_a_leak_there_is_neither_mark_nor_column() -> None:
    assert "trained on" not in markdown(list(rows().values()), "teacher toy", "BM25")
