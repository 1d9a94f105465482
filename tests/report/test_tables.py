"""Tables say what the files say, cards what the tables say, and notes what is left out; what ``plan=check`` prints."""

import io
import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from support import composed, timing
from support import latency_row as row

from rankdistil.data.check.whole import Check, Row
from rankdistil.data.settings import DataSettings
from rankdistil.report.results import Result, Tied, read_first_stage, read_result, results_columns, same_test
from rankdistil.report.run import write_card
from rankdistil.report.tables import data_notes, print_check, to_table

SPEED = {
    "latency_ms_p50": 200.0,
    "latency_ms_min": 100.0,
    "latency_ms_max": 240.0,
    "passages_per_second": 500.0,
    "parameters": 22_000_000,
}
FAST = {
    "latency_ms_p50": 50.0,
    "latency_ms_min": 25.0,
    "latency_ms_max": 60.0,
    "passages_per_second": 2000.0,
    "parameters": 3_000_000,
}


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
    times = timing(
        *(row(name, ms, dtype=dtype) for dtype in ("float32", "int8") for name, ms in (("teacher", 9.0), ("ranker", 3.0)))
    )
    timed = {"teacher": "teacher toy", "ranker": "student 2l"}
    write_card(tmp_path, composed("+experiment=smoke"), ROWS, timed, run, times, ["student 2l: WORSE.", "worse"])
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("---\nlanguage: en\n")
    assert (
        "Test: d/test, 2 queries, the first stage's candidates re-ranked.\n\nstudent 2l: WORSE.\n\nworse\n\n| ranker |" in text
    )
    assert "| student 2l | 0.5000 | 50 | 25..60 | 2000 | 3.00 M | 4.00x |" in text
    assert "| student 2l, int8 | 3.0 | 3.00x |" in text
    assert "- ms / query: median, fastest and slowest of 4 queries x 3 rounds, 100 passages each" in text
    assert "3,000,000 parameters" in text
    assert 'CrossEncoder("path/to/this/folder")' in text


SETTINGS = DataSettings(2, 3, 8, "docpairs", 10, 1, 10, 2, 10)


@pytest.fixture
def check() -> Check:
    check = Check(SETTINGS)
    check.rows.append(Row(["train", "test"], "corpus.tsv", 1500, 99, "0123456789abcdef", "5 passages"))
    check.notes.append("1 of 2.")
    check.listings.of(Path("corpus.tsv")).end(1500)
    return check


def printed_check(check: Check, on_bad: str = "stop") -> list[str]:
    out = StringIO()
    try:
        print_check(check, on_bad, Console(file=out, width=120))
    except ValueError as error:
        out.write(f"error: {error}\n")
    return out.getvalue().splitlines()


def test_the_table_names_file_lines_bytes_digest_and_content(check: Check) -> None:
    (row,) = (line for line in printed_check(check) if "corpus.tsv" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        "train, test", "corpus.tsv", "1500", "99", "0123456789abcdef", "5 passages",
    ]  # fmt: skip


def test_notes_stand_below_the_table_and_do_no_harm(check: Check) -> None:
    assert printed_check(check)[-2:] == ["note: 1 of 2.", "check: no problem found."]


def test_a_leak_is_never_called_no_problem(check: Check) -> None:
    check.leaks.append("7 of 10 test queries.")
    assert printed_check(check)[-2:] == [
        "leak: 7 of 10 test queries.",
        "check: no problem found that stops a run, but 1 leaks between splits, listed above.",
    ]


def test_bad_lines_that_may_be_left_out_are_listed_and_do_no_harm(check: Check) -> None:
    check.listings.of("corpus.tsv").add(3, "no good.")
    assert printed_check(check, "skip")[-2:] == [
        "corpus.tsv:3: no good.",
        "check: 1 bad lines would be left out (data.on_bad=skip), no other problem found.",
    ]


def test_what_would_stop_a_run_fails_with_its_number(check: Check) -> None:
    check.listings.of("corpus.tsv").add(3, "no good.")
    check.listings.of("corpus.tsv").refuse(4, "byte 1 is zero.")
    check.problems.append("data.holdout=3 leaves no query.")
    assert printed_check(check)[-4:] == [
        "corpus.tsv:3: no good.",
        "corpus.tsv:4: byte 1 is zero.",
        "data.holdout=3 leaves no query.",
        "error: check: a run would stop: 3 problems, listed above. Nothing was written.",
    ]


def test_whole_data_need_no_word() -> None:
    account = {
        "bad_lines": {},
        "training_queries": {"left_out": 0, "groups": 3},
        "valid_queries": {"judged": 3, "with_candidates": 3},
        "test_queries": {"judged": 3, "with_candidates": 3},
    }
    assert data_notes(account) == []


def test_each_file_each_sampling_and_each_split_gets_one_line() -> None:
    account = {
        "bad_lines": {
            "a/triples.tsv": {"lines": 2001, "bad": 3, "first": "a/triples.tsv:7: no good."},
            "a/corpus.tsv": {"lines": None, "bad": 1, "first": "a/corpus.tsv:1: no good."},
        },
        "training_queries": {"left_out": 2, "groups": 8},
        "test_queries": {"judged": 43, "with_candidates": 41},
    }
    assert data_notes(account) == [
        "a/triples.tsv: 3 of 2001 lines are bad and left out (data.on_bad=skip). The first: a/triples.tsv:7: no good.",
        "a/corpus.tsv: 1 of the lines are bad and left out (data.on_bad=skip). The first: a/corpus.tsv:1: no good.",
        "training: 2 of 10 queries are left out: they have no relevant passage, or too few candidates that aren't relevant.",
        "test: 41 of 43 judged queries have candidates; the others count as 0.",
    ]


def test_what_the_margin_leaves_out_is_told_apart_from_what_has_nothing_to_train_on() -> None:
    sampled = {
        "bad_lines": {},
        "training_queries": {"left_out": 5, "groups": 15},
        "negatives_margin": {"what": "negatives", "of": 180, "left_out": 33, "queries": 3},
    }
    assert data_notes(sampled) == [
        "training: 2 of 20 queries are left out: they have no relevant passage, or too few candidates that aren't relevant.",
        "training: data.negatives_margin leaves out 33 of 180 negatives, and 3 of 20 queries that are left with too few.",
    ]
    listed = {"training_queries": {"left_out": 0, "groups": 9}, "bad_lines": {}}
    for left_out, told in ((0, []), (4, ["training: data.negatives_margin leaves out 4 of 13 triples."])):
        listed["negatives_margin"] = {"what": "triples", "of": 13, "left_out": left_out, "queries": 0}
        assert data_notes(listed) == told


def test_a_collection_of_texts_alone_has_only_files() -> None:
    assert data_notes({"bad_lines": {}}) == []


def test_groups_that_do_not_fit_into_a_batch_of_tokens_are_told() -> None:
    larger = {"what": "groups", "larger": 3, "of": 64, "largest": 1240, "limit": 1000}
    assert data_notes({"bad_lines": {}, "max_tokens": larger}) == [
        "training: 3 of the first 64 groups take more tokens than data.max_tokens=1000, the largest 1240. Each is a batch by "
        "itself."
    ]


def test_both_sides_of_a_holdout_say_how_many_queries_they_have() -> None:
    sides = {"train": {"queries": 900, "answered": 850}, "valid": {"queries": 100, "answered": 100}}
    assert data_notes({"bad_lines": {}, "holdout": {"sides": sides, "level": 2}}) == [
        "data.holdout: train has 900 queries, 850 of them with a passage of grade 2 or more.",
        "data.holdout: valid has 100 queries, 100 of them with a passage of grade 2 or more.",
    ]


def test_negatives_with_the_text_of_an_answer_are_told() -> None:
    told = {"bad_lines": {}, "training_queries": {"left_out": 0, "groups": 9}, "same_text": 4}
    assert data_notes(told) == ["training: 4 negatives are left out: they have the text of a passage that answers their query."]
