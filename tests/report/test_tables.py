"""Tables say what the files say, and cards what the tables say."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard
from rich.console import Console
from support import FAST, MINILM, SPEED, composed, timing
from support import latency_row as row

from rankdistil.report.results import Result, Tied, read_first_stage, read_result, results_columns, same_test
from rankdistil.report.run import write_card
from rankdistil.report.tables import Column, Section, to_table

CHANCE = {"topic": "bees", "random_order": {"nDCG@10": 0.25}}


def result(name: str, speed: dict[str, float], *values: float) -> Result:
    rows = {f"q{number}": {"nDCG@10": value} for number, value in enumerate(values)}
    return Result(name, {"nDCG@10": sum(values) / len(values)}, rows, speed)


ROWS = [result("BM25", {}, 0.5, 0.0), result("teacher toy", SPEED, 1.0, 0.5), result("student 2l", FAST, 0.5, 0.5)]


def printed(table: object) -> str:
    console = Console(width=120, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()


def test_speed_up_is_the_teachers_latency_over_each_rankers_own() -> None:
    lines = printed(to_table(results_columns(ROWS, slowest="teacher toy"), "toy")).splitlines()
    assert [line.split("│")[-2].strip() for line in lines if "│" in line] == ["-", "1.00x", "4.00x"]


def test_a_header_of_two_lines_takes_no_more_room_than_its_longer_line() -> None:
    section = Section("toy", [Column("ranker", ["a"], text=True), *(Column("twelve\nletters a", ["1"]) for _ in range(3))])
    assert len(section.tables(8 + 3 * 11)) == 1
    assert len(section.tables(8 + 3 * 11 - 1)) == 2


def test_measures_have_four_digits_and_a_first_stage_no_speed() -> None:
    text = printed(to_table(results_columns(ROWS), "toy"))
    assert "0.7500" in text
    assert "22.00 M" in text
    (line,) = (line for line in text.splitlines() if "BM25" in line)
    assert [cell.strip() for cell in line.strip("│").split("│")] == ["BM25", "0.2500", "-", "-", "-", "-"]


def test_results_are_read_back_from_the_files_of_a_run(tmp_path: Path) -> None:
    metrics = {"measures": {"AP": 1.0}, "first_stage": {"AP": 0.5}, "first_stage_name": "x.run"}
    line = {"query_id": "1", "measures": {"AP": 1.0}, "first_stage": {"AP": 0.5}}
    (tmp_path / "latency.json").write_text(json.dumps(timing(row("ranker", 200.0))))
    for more, further in (({}, {}), ({"tied_queries": 1, "queries_with_choice": 3}, CHANCE)):
        (tmp_path / "metrics.json").write_text(json.dumps(metrics | more))
        (tmp_path / "per_query.jsonl").write_text(json.dumps(line | further) + "\n")
        known = [{"1": "bees"}, {"1": 0.25}] if further else [None, None]
        own = Result("x", {"AP": 1.0}, {"1": {"AP": 1.0}}, SPEED | {"passages_per_second": 5.0}, *known)
        assert read_result(tmp_path, "x") == own._replace(tied=Tied(1, 3) if more else None)
        assert read_first_stage(tmp_path) == Result("x.run", {"AP": 0.5}, {"1": {"AP": 0.5}}, {}, *known)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"metrics\.json is not there: the run or evaluation didn't end"):
        read_result(tmp_path, "x")


def test_a_teacher_tested_on_other_candidates_is_not_the_same_test(tmp_path: Path) -> None:
    for name, pairs in (("a", 10), ("b", 10), ("c", 20)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps({"dataset": "d", "queries": 1, "pairs": pairs}))
        (tmp_path / name / "per_query.jsonl").write_text('{"query_id": "1", "first_stage": {"AP": 0.5}}\n')
    assert same_test(tmp_path / "a", tmp_path / "b")
    assert not same_test(tmp_path / "a", tmp_path / "c")
    assert not same_test(tmp_path / "nothing", tmp_path / "a")


def test_the_model_card_holds_the_measured_numbers_and_how_to_load(tmp_path: Path) -> None:
    shape = {"layers": 2, "width": 96, "heads": 12, "parameters": 3_000_000}
    origin = {"commit": "abc", "versions": {"rankdistil": "0.1.0"}}
    run = {
        "origin": origin,
        "shape": shape,
        "learnt_from": "t",
        "train": "d/train",
        "test": "d/test",
        "losses": ["logits"],
        "precision": "32-true",
    }
    run["checkpoint"] = MINILM
    times = timing(
        *(row(name, ms, dtype=dtype) for dtype in ("float32", "int8") for name, ms in (("teacher", 9.0), ("ranker", 3.0)))
    )
    timed = {"teacher": "teacher toy", "ranker": "student 2l"}
    write_card(
        tmp_path,
        composed("+experiment=smoke"),
        ROWS,
        timed,
        run,
        times,
        ["student 2l: WORSE.", "worse"],
        np.array([-8.0, -4, 0, 4, 8]),
    )
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("---\nlanguage: en\nlicense: other\n")
    front = ModelCard(text).data
    assert (front.language, front.license, front.base_model) == ("en", "other", "sentence-transformers/all-MiniLM-L6-v2")
    (measured,) = front.eval_results
    assert (measured.task_type, measured.dataset_name, measured.metric_type) == ("text-ranking", "d/test", "ndcg@10")
    assert measured.metric_value == 0.5
    assert "starting checkpoint (sentence-transformers/all-MiniLM-L6-v2, apache-2.0 by its card) apply" in text
    assert "| scores | logits, in any range; the test's are -8 to 8, half of them -4 to 4. Thresholds don't carry over" in text
    assert (
        "Test: d/test, 2 queries, the first stage's candidates re-ranked.\n\nstudent 2l: WORSE.\n\nworse\n\n| ranker |" in text
    )
    assert "| student 2l | 0.5000 | 50 | 25..60 | 2000 | 3.00 M | 4.00x |" in text
    assert "| student 2l, int8 | 3.0 | 3.00x |" in text
    assert "- ms / query: median, fastest and slowest of 4 queries x 3 rounds, 100 passages each" in text
    assert "3,000,000 parameters" in text
    assert 'CrossEncoder("path/to/this/folder")' in text
