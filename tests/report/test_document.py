"""The report on disk says what the rows say, and gives them back."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from rankdistil.metrics.fitted import Bin, Calibration, Fusion, Platt, Precision, Threshold
from rankdistil.report.comparison import Fused, Row
from rankdistil.report.document import (
    calibration_sections,
    depth_section,
    difference_section,
    fusion_section,
    harm_note,
    harm_section,
    markdown,
    write_report,
)
from rankdistil.report.tables import to_markdown
from rankdistil.report.verdict import Depth, Depths, Difference, Group, Harm, Harmed, Suspect

SPEED = {"latency_ms_p50": 1714.123456789, "latency_ms_max": 1800.0, "passages_per_second": 58.0, "parameters": 22_713_601}
ROWS = [
    Row("BM25", 1, {"nDCG@10": 0.558}, {}, Difference(-1 / 3, 1 / 10_001, 2 / 10_001), None, 0.1, 0.7, {}),
    Row("teacher toy", 2, {"nDCG@10": 0.6}, {"nDCG@10": 0.01}, None, Difference(1 / 3, 0.5, 1.0), None, None, SPEED),
]
REPORT: dict[str, Any] = {
    "rows": ROWS, "teacher": "teacher toy", "baseline": "BM25", "title": "d/test, 2 queries", "notes": ["tau: agreement"],
    "setup": {"device": "cpu", "threads": 2}, "origin": {"commit": "abc", "device": "AMD EPYC", "threads": 2},
    "sources": {"BM25": ["d/test"], "teacher toy": ["runs/teacher/toy/seed0", "runs/teacher/toy/seed1"]},
}  # fmt: skip


def test_the_numbers_hold_raw_p_values_origin_setup_and_sources(tmp_path: Path) -> None:
    write_report(tmp_path, **REPORT)
    content = json.loads((tmp_path / "report.json").read_text())
    assert list(content) == [
        "title",
        "written",
        "origin",
        "setup",
        "teacher",
        "baseline",
        "rows",
        "notes",
        "harm",
        "first_stages",
    ]
    assert content["harm"] is None
    assert list(content["rows"][0]) == [*Row._fields, "sources"]
    unknown = {"interval": None, "detectable": None, "over_seeds": None}
    tested = {"difference": -1 / 3, "p_value": 1 / 10_001, "adjusted": 2 / 10_001} | unknown
    assert content["rows"][0]["against_teacher"] == tested
    assert content["rows"][1]["sources"] == REPORT["sources"]["teacher toy"]
    assert (content["origin"], content["setup"]) == (REPORT["origin"], REPORT["setup"])


def test_the_page_holds_when_commit_machine_table_notes_and_sources(tmp_path: Path) -> None:
    write_report(tmp_path, **REPORT)
    text = (tmp_path / "report.md").read_text()
    written = r"Written \d{4}-\d\d-\d\d \d\d:\d\d:\d\d, commit abc, on AMD EPYC, 2 threads\."
    assert re.match(rf"# d/test, 2 queries\n\n{written}\n\n\| ranker", text)
    assert markdown(ROWS, "teacher toy", "BM25") + "\n- tau: agreement\n" in text
    assert text.endswith("- BM25: `d/test`\n- teacher toy: `runs/teacher/toy/seed0`, `runs/teacher/toy/seed1`\n")


def test_pictures_are_shown_once_and_none_where_nothing_was_timed(tmp_path: Path) -> None:
    write_report(tmp_path, **REPORT, pictures=[tmp_path / "frontier.png", tmp_path / "frontier.svg"])
    assert (tmp_path / "report.md").read_text().count("![frontier](frontier.png)") == 1
    write_report(tmp_path, **REPORT | {"setup": None})
    assert "![" not in (tmp_path / "report.md").read_text()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["report.json", "report.md"]


def test_a_chapter_follows_the_verdicts_and_holds_a_depth_curve_in_the_numbers(tmp_path: Path) -> None:
    points = [Depth(1, 0.5, Difference(0.1, 0.001, 0.002), 1.5), Depth(10, 0.6, None, 15.0)]
    rows = [ROWS[0], ROWS[1]._replace(depth=Depths(points, 10, None), verdict=["t: better"])]
    write_report(tmp_path, **REPORT | {"rows": rows}, sections=depth_section(rows))
    assert "- t: better\n\n## Depth\n\n| ranker | 1 | 10 | no gain found from |\n" in (tmp_path / "report.md").read_text()
    assert "| teacher toy | 0.5000 (2 ms) | 0.6000 (15 ms) | 10 |" in (tmp_path / "report.md").read_text()
    held = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert held[0]["depth"] is None
    assert [point["ms"] for point in held[1]["depth"]["points"]] == [1.5, 15.0]
    assert held[1]["depth"]["points"][0]["below"]["adjusted"] == 0.002


def test_a_decay_has_its_column_and_note_only_where_there_is_one() -> None:
    points = [Depth(1, 0.5, Difference(0.1, 0.001, 0.002), None), Depth(10, 0.6, None, None)]
    rows = [ROWS[1]._replace(name=name, depth=Depths(points, 10, peak)) for name, peak in (("a", None), ("b", 1))]
    (section,) = depth_section(rows)
    assert to_markdown(section.columns).splitlines()[0] == "| ranker | 1 | 10 | no gain found from | decays from |"
    assert [line.rpartition(" 10 | ")[2] for line in to_markdown(section.columns).splitlines()[2:]] == ["- |", "1 |"]
    assert [note.partition(":")[0] for note in section.notes[1:]] == ["no gain found from", "decays from"]
    (section,) = depth_section(rows[:1])
    assert [note.partition(":")[0] for note in section.notes[1:]] == ["no gain found from"]


def test_differences_are_told_with_interval_power_and_other_seeds_where_there_are_some(tmp_path: Path) -> None:
    one = Difference(0.02, 0.04, 0.08, (-0.001, 0.041), 0.031, 0.0001)
    rows = [ROWS[0]._replace(against_teacher=None), ROWS[1]._replace(against_baseline=one)]
    (section,) = difference_section(rows, "teacher toy", "BM25")
    assert to_markdown(section.columns).splitlines()[::2] == [
        "| difference | nDCG@10 | 95 % interval | p | Holm | detectable | p, other seeds |",
        "| teacher toy - BM25 | +0.0200 | -0.0010 .. +0.0410 | 0.040 | 0.080 | 0.0310 | <0.001 |",
    ]
    (section,) = difference_section([rows[1]._replace(against_baseline=one._replace(over_seeds=None))], None, "BM25")
    assert [column.header for column in section.columns][-1] == "detectable"
    assert difference_section(rows[:1], None, "BM25") == []


def test_fusions_and_probabilities_are_told_with_their_tests_and_bins(tmp_path: Path) -> None:
    gain = Difference(0.012, 0.02, 0.04)
    fused = Fused([0.6, 0.8], [Fusion("rrf")] * 2, 0.612, 0.605, gain, gain._replace(difference=0.005, adjusted=1.0))
    above, bins = Precision(0.9, (0.85, 0.94), 40, 0.5), [Bin(0.04, 0.05, 100), Bin(0.97, 0.9, 10)]
    held = Calibration(Platt(2.0, -1.5), 0.0123, 0.3, bins, Threshold(1.75, 0.9, above), above._replace(share=0.8), 0.9)
    lost = held._replace(threshold=None, test=None)
    rows = [ROWS[0], *(ROWS[1]._replace(name=name, fusion=fused, calibration=one) for name, one in (("a", held), ("b", lost)))]
    sections = [*fusion_section(rows), *calibration_sections({"a": held, "b": lost})]
    assert [to_markdown(section.columns).splitlines()[2] for section in sections] == [
        "| a | 0.6000 ±0.0100 | 0.6 .. 0.8 | 0.6120 | +0.0120 (p 0.040) | 0.6050 | +0.0050 (p 1.000) |",
        "| a | sigmoid(2 score -1.5) | 0.0123 | 0.3000 | 1.75 | 0.900 (0.850 .. 0.940), 40 pairs, 50% | "
        "0.800 (0.850 .. 0.940), 40 pairs, 50% |",
        "| a | 0.050 (100) | 0.900 (10) |",
    ]
    assert [column.header for column in sections[2].columns] == ["ranker", "to 0.1", "to 1.0"]
    few = "a score from which on so many of the validation's pairs, 20 at least, are relevant"
    assert sections[1].notes[-1] == f"no clean separation at 90% (precision=...): b: not {few}"
    section = calibration_sections({"b": lost})[0]
    assert [column.header for column in section.columns] == ["ranker", "probability", "ECE", "ECE of the\nplain sigmoid"]
    assert section.notes[2:] == [f"no clean separation at 90% (precision=...): no ranker has {few}"]
    write_report(tmp_path, **REPORT | {"rows": rows, "sources": {key: ["x"] for key in ("BM25", "a", "b")}}, sections=sections)
    own = json.loads((tmp_path / "report.json").read_text())["rows"][1]
    assert own["fusion"]["best"] == [{"method": "rrf", "weight": None}] * 2
    assert own["calibration"]["threshold"]["valid"]["interval"] == [0.85, 0.94]
    assert (fusion_section(ROWS), calibration_sections({})) == ([], [])


def test_of_a_probability_that_falls_as_the_score_rises_no_threshold_is_spoken_of_but_what_it_means() -> None:
    held = Calibration(Platt(-0.5, -1.0), 0.01, 0.4, [Bin(0.2, 0.2, 30)], None, None, 0.9)
    section = calibration_sections({"b": held, "c": held})[0]
    assert [column.header for column in section.columns] == ["ranker", "probability", "ECE", "ECE of the\nplain sigmoid"]
    assert section.notes[2:] == [
        "b, c: a higher score is not a sign of relevance here: the fitted probability falls as the score rises, so there is no "
        "threshold"
    ]


def test_where_it_hurts_is_a_chapter_with_texts_that_are_cut_and_whole_in_the_numbers(tmp_path: Path) -> None:
    long = "word\n" * 100
    one = Harmed("q1", "bees?", 1.0, 0.5, long, 12, "Bees fly.", (1, 3))
    found = Harm("a", [Group("half or more", 4, 1, 2, 0.05)], [one] * 12, [Suspect("q2", "tides?", "p7", "Moon.", False)])
    write_report(tmp_path, **REPORT, sections=harm_section(found), harm=found)
    text = (tmp_path / "report.md").read_text()
    assert "## Where it hurts\n\n| queries | number | worse | better | change of nDCG@10 |\n" in text
    assert "| half or more | 4 | 1 (25%) | 2 (50%) | +0.0500 |" in text
    told = (
        "- 'bees?' (q1): 1.0000 -> 0.5000; the answer went from place 1 to 3: 'Bees fly.'; first is now, from place 12: 'word"
    )
    assert text.count(told) == 10
    assert "word..." not in text.partition("## Where it hurts")[0]
    assert "for 1 queries teacher and ranker put the same passage first, and it isn't judged relevant (1 of them nobody" in text
    assert "- 'tides?' (q2), p7, not judged: 'Moon.'\n" in text
    held = json.loads((tmp_path / "report.json").read_text())["harm"]
    assert (len(held["queries"]), held["queries"][0]["raised"], held["suspects"][0]["judged"]) == (12, long, False)
    assert harm_section(None) == harm_note(None) == []
    groups = [Group("query of 1 to 4 words", 4, 4, 0, -0.5), Group("query of 5 to 8 words", 9, 8, 1, -0.1)]
    assert harm_note(found._replace(groups=[*groups, *found.groups])) == [
        "where it hurts: a answers 12 of 13 queries worse than the first stage did: see report.md"
    ]


def test_a_row_without_a_source_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        write_report(tmp_path, **REPORT | {"sources": {"BM25": ["d/test"], "teacher toy": []}})
    assert str(caught.value) == "no source is given for teacher toy. A report says where every row comes from."
    assert list(tmp_path.iterdir()) == []


def test_the_verdicts_stand_below_the_notes_and_in_the_numbers(tmp_path: Path) -> None:
    write_report(tmp_path, **REPORT | {"rows": [ROWS[0], ROWS[1]._replace(verdict=["t: WORSE.", "t: worse than BM25"])]})
    assert "\n- tau: agreement\n\n## Verdicts\n\n- t: WORSE.\n- t: worse than BM25\n" in (tmp_path / "report.md").read_text()
    rows = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert [row["verdict"] for row in rows] == [[], ["t: WORSE.", "t: worse than BM25"]]
