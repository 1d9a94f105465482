"""Gains by first stage as one family, and means over collections with their test."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from rankdistil.data.batches.datamodule import RerankingTask
from rankdistil.data.collections.splits import Leak
from rankdistil.data.records import Candidate
from rankdistil.metrics.comparing import bootstrap_interval, holm, randomisation_test
from rankdistil.report.comparison import Row
from rankdistil.report.results import Result
from rankdistil.report.several import (
    Collected,
    Staged,
    adjusted,
    collections_section,
    coverage_notes,
    first_stages_section,
    mean_interval,
    mean_test,
    over_collections,
    write_collections,
)
from rankdistil.report.verdict import Difference


def result(name: str, values: list[float], topics: list[str] | None = None, leak: Leak | None = None) -> Result:
    per_query = {f"q{at}": {"nDCG@10": value} for at, value in enumerate(values)}
    of = None if topics is None else {f"q{at}": topic for at, topic in enumerate(topics)}
    return Result(name, {"nDCG@10": fmean(values)}, per_query, {}, of, leak=leak)


def row(name: str, value: float) -> Row:
    return Row(name, 1, {"nDCG@10": value}, {}, None, None, None, None)


def stage(name: str, alone: float, **gains: float) -> Staged:
    tests = {key: Difference(gain, p, p) for (key, gain), p in zip(gains.items(), (0.01, 0.04), strict=False)}
    rows = [row(name, alone), *(row(key, alone + gain) for key, gain in gains.items())]
    return Staged(name, {"nDCG@10": alone}, rows, tests)


STAGES = [stage("BM25", 0.5, a=0.1, b=0.02), stage("dense.run", 0.6, a=0.01)]


def test_gains_on_all_first_stages_are_one_family() -> None:
    found = adjusted(STAGES)
    expected = holm({("BM25", "a"): 0.01, ("BM25", "b"): 0.04, ("dense.run", "a"): 0.01})
    assert {(one.name, key): gain.adjusted for one in found for key, gain in one.gains.items()} == expected


def test_the_table_has_the_first_stage_the_ranker_on_it_and_the_gain_and_a_gap_where_a_ranker_has_none() -> None:
    (section,) = first_stages_section(adjusted(STAGES))
    assert [(column.header, column.cells) for column in section.columns] == [
        ("ranker", ["first stage alone", "a", "b"]),
        ("BM25", ["0.5000", "0.6000", "0.5200"]),
        ("gain", ["-", "+0.1000 (p 0.030)", "+0.0200 (p 0.040)"]),
        ("dense.run", ["0.6000", "0.6100", "-"]),
        ("gain", ["-", "+0.0100 (p 0.030)", "-"]),
    ]
    assert "Holm-adjusted over 3 gains" in section.notes[1]
    assert first_stages_section(STAGES[:1]) == []


OWN = {"x": [0.9, 0.8, 0.3, 0.6], "y": [0.5, 0.1]}
BASE = {"x": [0.1, 0.5, 0.5, 0.2], "y": [0.25, 0.2]}


def test_a_mean_weighs_collections_alike_and_its_p_value_counts_all_signs_of_their_queries() -> None:
    found = mean_test(*({name: result(name, values) for name, values in side.items()} for side in (OWN, BASE)))
    gaps = {name: [a - b for a, b in zip(OWN[name], BASE[name], strict=True)] for name in OWN}
    assert found.difference == pytest.approx(fmean(fmean(of) for of in gaps.values()))
    shares = [gap / 4 / 2 for gap in gaps["x"]] + [gap / 2 / 2 for gap in gaps["y"]]
    every = [
        abs(sum(sign * gap for sign, gap in zip(signs, shares, strict=True))) for signs in itertools.product((1, -1), repeat=6)
    ]
    assert found.p_value == sum(value >= abs(sum(shares)) - 1e-12 for value in every) / 64
    assert (found.queries, found.units) == (6, 6)


def test_of_one_collection_the_test_is_that_of_its_own_report() -> None:
    own, base = result("a", OWN["x"]), result("b", BASE["x"])
    assert mean_test({"x": own}, {"x": base}) == pytest.approx(randomisation_test(own.values(), base.values()))
    gaps = np.array(OWN["x"]) - np.array(BASE["x"])
    assert mean_interval({"x": own}, {"x": base}, seed=4) == bootstrap_interval([(gaps, np.ones(4))], seed=4)


def test_an_interval_of_a_mean_draws_topics_within_their_collection() -> None:
    topics = ["bees", "bees", "tides", "tides"]
    sides = [{name: result("r", values, topics[: len(values)]) for name, values in side.items()} for side in (OWN, BASE)]
    assert mean_interval(*sides) is None  # of y there is one topic
    own, base = ({name: side[name] for name in ("x",)} | {"z": side["x"]} for side in sides)
    sums = np.array([0.8 + 0.3, -0.2 + 0.4]), np.array([2.0, 2.0])
    assert mean_interval(own, base) == pytest.approx(bootstrap_interval([sums, sums]))


def test_questions_of_one_topic_share_a_sign_within_their_collection_only() -> None:
    topics = ["bees", "bees", "tides", "tides"]
    sides = [{name: result("r", values, topics[: len(values)]) for name, values in side.items()} for side in (OWN, BASE)]
    assert mean_test(*sides).units == 3  # two topics of one collection and one of the other, though it has the same name


def collected(first: str, **rows: list[float]) -> Collected:
    results = {name: result(name, values) for name, values in {first: [0.5, 0.5], **rows}.items()}
    return Collected(
        f"1-{first}", "toy, 2 queries", first, [row(name, one.measures["nDCG@10"]) for name, one in results.items()], results
    )


def test_first_stages_share_a_row_and_a_row_that_one_collection_lacks_has_no_mean() -> None:
    found = {"x": collected("BM25", a=[1.0, 0.5], b=[0.0, 0.5]), "y": collected("x.run", a=[0.5, 0.5])}
    rows = over_collections(found)
    assert [(one.name, one.mean) for one in rows] == [("first stage", 0.5), ("a", 0.625), ("b", None)]
    assert (rows[0].gain, rows[2].gain) == (None, None)
    assert rows[1].gain.difference == pytest.approx(0.125)
    section = collections_section(rows, found, {"z": "it burnt"})
    assert [column.header for column in section.columns] == ["ranker", "mean", "vs first stage", "95 % interval", "x", "y"]
    assert [column.cells[2] for column in section.columns] == ["b", "-", "-", "-", "0.2500", "-"]
    assert section.notes[-1] == "FAILED, and not in the mean: z: it burnt"
    assert [one.name for one in over_collections({"x": found["x"]})] == ["BM25", "a", "b"]


def test_a_collection_whose_test_was_trained_on_is_marked_in_its_column_and_in_the_name() -> None:
    one = collected("BM25", a=[1.0, 0.5])
    leaked = one._replace(results=one.results | {"a": result("a", [1.0, 0.5], leak=Leak(1, 2, ["q0"], 0))})
    section = collections_section(over_collections({"x": one, "y": leaked}), {"x": one, "y": leaked}, {})
    assert [column.cells[1] for column in section.columns if column.header in ("ranker", "x", "y")] == [
        "a (!)", "0.7500", "0.7500 (!)",
    ]  # fmt: skip
    assert section.notes[-1].startswith("(!): trained on test queries")


def test_the_files_hold_the_table_and_lead_to_each_collection_s_report(tmp_path: Path) -> None:
    found = {"x": collected("BM25", a=[1.0, 0.5])}
    rows, failed = over_collections(found), {"z": "it burnt"}
    section = collections_section(rows, found, failed)
    write_collections(tmp_path, section, rows, found, failed, {"commit": "abc", "device": "cpu", "threads": 2})
    content = json.loads((tmp_path / "collections.json").read_text())
    assert content["collections"] == [
        {"name": "x", "folder": "1-BM25", "title": "toy, 2 queries", "first_stage": "BM25", "queries": 2}
    ]
    assert content["failed"] == failed
    assert (content["rows"][1]["values"], content["rows"][1]["gain"]["p_value"]) == ({"x": 0.75}, 1.0)
    text = (tmp_path / "collections.md").read_text()
    assert text.startswith("# nDCG@10 on 1 collections\n\nWritten ")
    assert "\n| a | 0.7500 | +0.2500 (p 1.000) | +0.0000 .. +0.5000 | 0.7500 |\n" in text
    assert text.endswith("- [x](1-BM25/report.md): toy, 2 queries, BM25\n")


def test_a_first_stage_without_candidates_for_some_queries_is_told() -> None:
    full = RerankingTask("t", {"1": [Candidate("a", 1.0)], "2": [Candidate("b", 1.0)]}, {"1": {"a": 1}, "2": {"b": 1}}, "BM25")
    half = replace(full, candidates={"1": [Candidate("a", 1.0)], "2": []}, first_stage="dense")
    assert coverage_notes([full, half]) == ["dense: 1 of 2 judged queries have candidates; the others count as 0."]
