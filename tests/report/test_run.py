"""The end of a run, over test files of eight queries: the table, the verdict as the last line, and the same in the card."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support import composed, timing
from support import latency_row as row

from rankdistil.report import run as report_run  # pytest would take Tested for a class of tests

RECORD = {
    "started_from": "random weights", "precision": "32-true", "learnt_from": "t", "train": "d/train", "test": "d/test",
    "losses": ["logits"],
    "origin": {"commit": "abc", "versions": {"rankdistil": "0.1.0"}},
    "shape": {"layers": 2, "width": 96, "heads": 12, "parameters": 4_000_000},
}  # fmt: skip
TIMES = timing(row("teacher", 90.0) | {"parameters": 20_000_000}, row("ranker", 30.0) | {"parameters": 4_000_000})


def write_test(folder: Path, value: float, **metrics: Any) -> Path:
    """Write the files of a test in which every query has one value; BM25's is 0.2, that of a random order 0.15."""
    folder.mkdir(parents=True)
    told = {"measures": {"nDCG@10": value}, "first_stage": {"nDCG@10": 0.2}, "first_stage_name": "BM25"} | metrics
    (folder / "metrics.json").write_text(json.dumps(told))
    (folder / "test.run").write_text("".join(f"q Q0 p{rank} {rank} {-rank} tag\n" for rank in range(1, 6)))
    lines = [
        {"query_id": f"q{number}", "topic": f"t{number}", "random_order": {"nDCG@10": 0.15}}
        | {"measures": {"nDCG@10": value}, "first_stage": {"nDCG@10": 0.2}}
        for number in range(8)
    ]
    (folder / "per_query.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder


def concluded(run: Path, times: dict[str, Any] | None, *further: report_run.Tested) -> tuple[list[str], str]:
    """Return the lines that are printed, and the card."""
    console = Console(width=140, file=io.StringIO())
    conclude(run, times, console, *further)
    return console.file.getvalue().splitlines(), (run / "export/README.md").read_text()


def conclude(run: Path, times: dict[str, Any] | None, console: Console, *further: report_run.Tested) -> dict[str, float]:
    """Return what a logger is told; without times, of a run that wasn't timed."""
    (run / "export").mkdir()
    if times is not None:
        (run / "latency.json").write_text(json.dumps(times))
    untimed = ["callbacks.inference_time=null"] if times is None else []
    tested = [report_run.Tested("d/test", run, run / "teacher", run / "start" if (run / "start").is_dir() else None), *further]
    return report_run.conclude(composed("+experiment=smoke", "data.depth=100", *untimed), run, RECORD, tested, console)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for name, value in (("run", 0.5), ("run/teacher", 0.6), ("run/start", 0.1)):
        write_test(tmp_path / name, value)
    return tmp_path / "run"


def names(lines: list[str]) -> list[str]:
    return [line.split("│")[1].strip() for line in lines if line.startswith("│")]


def test_the_table_has_the_start_beside_first_stage_teacher_and_student(run: Path) -> None:
    lines, card = concluded(run, TIMES)
    assert names(lines) == ["BM25", "teacher minilm", "start: random weights", "student 2l"]
    assert "| start: random weights | 0.1000 | - | - | - | - | - |\n| student 2l | 0.5000 | 30 |" in card


def test_the_verdict_is_the_last_line_and_stands_in_the_card(run: Path) -> None:
    lines, card = concluded(run, TIMES)
    said = (
        "student 2l: nDCG@10 0.5000, better than BM25 (+0.3000, p 0.008), better than its start (+0.4000, p 0.008), worse "
        "than teacher minilm (-0.1000, p 0.008); keeps 75% of the teacher's gain over BM25 (+0.4000, p 0.008) and 83.3% of "
        "its nDCG@10; 3.00x faster and 5.00x smaller than teacher minilm (paired randomisation test by topic (8 topics), "
        "exact, two-sided)"
    )
    assert lines[-1] == f"verdict: {said}"
    assert f"\n\n{said}\n\n| ranker |" in card


def test_alarms_come_before_the_verdict_in_both_places_and_a_start_that_cannot_rank_has_no_row(tmp_path: Path) -> None:
    run = write_test(tmp_path / "run", 0.1, tied_queries=8, queries_with_choice=8)
    write_test(run / "teacher", 0.6)
    lines, card = concluded(run, TIMES)
    cures = "Likely cures: a lower stage.lr, or another seed."
    alarm = f"student 2l: ALL SCORES OF 8 OF 8 QUERIES ARE EQUAL: THE ORDER IS BY ID. {cures}"
    assert lines[-2] == f"verdict: {alarm}"
    assert f"\n\n{alarm}\n\nstudent 2l: nDCG@10 0.1000, worse than BM25" in card
    assert names(lines) == ["BM25", "teacher minilm", "student 2l"]


def test_of_a_busy_machine_neither_tables_nor_card_nor_verdict_show_a_time(run: Path) -> None:
    busy = TIMES | {"setup": TIMES["setup"] | {"busy": True, "others": 0.43}}
    lines, card = concluded(run, busy)
    told = next(line for line in lines if line.startswith("busy, not comparable: others used 43% of its 2 cores meanwhile"))
    assert "| student 2l | 0.5000 | busy, not comparable | 4.00 M |" in card
    assert f"- {told}" in card
    assert "x faster" not in lines[-1]
    assert "5.00x smaller than teacher minilm" in lines[-1]
    assert not any("speed-up" in line for line in [*lines, card])


def test_each_further_split_has_a_table_and_a_verdict_by_its_name(run: Path) -> None:
    other = write_test(run / "tests/2-other", 0.2)
    lines, card = concluded(run, TIMES, report_run.Tested("d/other", other, run / "teacher"))
    assert [line.partition(" nDCG@10")[0] for line in lines[-2:]] == [
        "verdict on d/test: student 2l:", "verdict on d/other: student 2l:",
    ]  # fmt: skip
    assert "not told apart from BM25 (+0.0000, p 1.000)" in lines[-1]
    assert "no different" not in card


def test_without_timing_no_column_note_or_verdict_is_about_time_and_the_card_has_the_size(run: Path) -> None:
    lines, card = concluded(run, None)
    told = "no inference time: callbacks.inference_time is null. Measure it later: python evaluate.py models=<run>"
    assert told in lines
    assert f"- {told}\n" in card
    assert "4,000,000 parameters" in card
    assert "| ranker | nDCG@10 |\n" in card
    assert not any(word in text for word in ("ms / query", "faster", "latency.json") for text in [*lines, card])


def test_a_logger_is_told_the_test_of_ranker_first_stage_and_teacher_and_the_time(run: Path) -> None:
    other = write_test(run / "tests/2-other", 0.2)
    assert conclude(run, TIMES, Console(quiet=True), report_run.Tested("d/other", other, None)) == {
        "test/nDCG@10": 0.5, "test/first_stage_nDCG@10": 0.2, "test/teacher_nDCG@10": 0.6,
        "test/d/other/nDCG@10": 0.2, "test/d/other/first_stage_nDCG@10": 0.2,
        "test/latency_ms_p50": 30.0, "test/passages_per_second": 1000 / 30,
    }  # fmt: skip
