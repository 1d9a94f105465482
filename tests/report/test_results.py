"""One speed of each ranker for the tables, chosen among all that were timed; the rest in a table of their own."""

import pytest
from support import latency_row as row
from support import timing

from rankdistil.report.results import (
    beside_teacher,
    measured_row,
    milliseconds,
    reference,
    speed,
    speed_columns,
    time_columns,
    timing_notes,
)
from rankdistil.report.tables import to_markdown

BOTH = timing(
    row("ranker", 2.0, "bfloat16"), row("teacher", 20.0, "bfloat16"), row("ranker", 4.0), row("teacher", 80.0),
    row("ranker", 30.0, "bfloat16", 1000), row("teacher", 300.0, "bfloat16", 1000),
    row("ranker", 50.0, "float32", 1000), row("teacher", 900.0, "float32", 1000),
    row("ranker", 1.0, "bfloat16", None), row("teacher", 8.0, "bfloat16", None),
    row("ranker", 2.0, "float32", None), row("teacher", 40.0, "float32", None),
)  # fmt: skip
NAMES = {"teacher": "teacher toy", "ranker": "student 2l"}


def test_the_one_speed_is_float32_of_the_first_size_with_the_throughput_of_many_queries() -> None:
    assert speed(BOTH, "teacher") == {
        "latency_ms_p50": 80.0, "latency_ms_min": 40.0, "latency_ms_max": 96.0, "passages_per_second": 25.0,
        "parameters": 22_000_000,
    }  # fmt: skip
    assert measured_row(BOTH)["passages"] == 100


def test_without_float32_it_is_the_first_dtype_and_without_throughput_the_rate_of_single_queries() -> None:
    timed = timing(row("ranker", 5.0, "int8"), row("ranker", 4.0, "bfloat16"))
    assert reference(timed) == ("torch", "int8")
    assert speed(timed, "ranker")["passages_per_second"] == 200.0


def test_a_dtype_in_which_only_some_were_timed_compares_nothing() -> None:
    timed = timing(row("ranker", 5.0), row("ranker", 4.0, "bfloat16"), row("teacher", 9.0, "bfloat16"))
    assert reference(timed) == ("torch", "bfloat16")
    assert speed(timing(row("ranker", 5.0)), "teacher") == {}


def test_the_speed_is_of_all_processes_and_not_of_one() -> None:
    timed = timing(row("ranker", 7.0, rank=0), row("ranker", 5.0), row("ranker", 3.0, rank=1))
    assert speed(timed, "ranker")["latency_ms_p50"] == 5.0


def test_times_of_other_sizes_are_in_proportion_to_what_was_timed_and_between_two_sizes_on_a_line() -> None:
    assert milliseconds(BOTH, "ranker", [1, 50, 100, 550, 1000, 2000]) == pytest.approx([0.04, 2.0, 4.0, 27.0, 50.0, 100.0])
    assert milliseconds(BOTH, "BM25", [1]) is milliseconds(None, "ranker", [1]) is None
    assert milliseconds(timing(*BOTH["rows"], busy=True, others=0.5), "ranker", [1]) is None


def test_ratios_are_to_the_teacher_in_the_same_dtype_at_the_same_size() -> None:
    assert to_markdown(speed_columns(BOTH, NAMES, "teacher")).splitlines() == [
        "| ranker | ms / 1x100 | speed-up | ms / 1x1000 | speed-up | passages/s | speed-up |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| teacher toy, bfloat16 | 20.0 | 1.00x | 300.0 | 1.00x | 125 | 1.00x |",
        "| student 2l, bfloat16 | 2.0 | 10.00x | 30.0 | 10.00x | 1000 | 8.00x |",
        "| teacher toy, float32 | 80.0 | 1.00x | 900.0 | 1.00x | 25 | 1.00x |",
        "| student 2l, float32 | 4.0 | 20.00x | 50.0 | 18.00x | 500 | 20.00x |",
    ]


def test_what_the_teacher_was_not_timed_in_has_no_ratio() -> None:
    timed = timing(
        row("ranker", 4.0), row("teacher", 8.0), row("ranker", 2.0, backend="onnx"),
        row("ranker", 4.0, candidates=None),
    )  # fmt: skip
    assert to_markdown(speed_columns(timed, NAMES, "teacher")).splitlines()[2:] == [
        "| teacher toy, float32 | 8.0 | 1.00x | - | - |",
        "| student 2l, float32 | 4.0 | 2.00x | 250 | - |",
        "| student 2l, onnx float32 | 2.0 | - | - | - |",
    ]


def test_one_dtype_and_size_needs_no_second_table() -> None:
    assert speed_columns(timing(row("ranker", 4.0), row("teacher", 8.0)), NAMES, "teacher") == []


def test_the_notes_say_how_it_was_measured_and_what_was_left_out_and_why() -> None:
    no = {"backend": "onnx", "reason": "no export."}
    left_out = [no | {"ranker": name, "dtype": dtype} for dtype in ("float32", "int8") for name in ("ranker", "teacher")]
    left_out.append({"ranker": "teacher", "backend": "torch", "dtype": "int8", "reason": "dtype=int8 runs on CPUs only."})
    timed = timing(row("ranker", 4.0), row("ranker", 2.0, candidates=None), processes=2, left_out=left_out)
    assert timing_notes(timed) == [
        "ms / query: median, fastest and slowest of 4 queries x 3 rounds, 100 passages each, 80 tokens a pair, strings to "
        "scores, float32, cpu, 2 threads in each of 2 processes; others used 2% of its 2 cores meanwhile",
        "passages/s: 400 pairs of several queries in one call, median, summed over processes",
        "not timed: ranker, teacher in onnx float32, onnx int8: no export.",
        "not timed: teacher in int8: dtype=int8 runs on CPUs only.",
    ]


def test_where_documents_are_read_in_windows_the_notes_say_from_how_many_tokens_to_how_many() -> None:
    timed = timing(row("cut", 4.0), row("MaxP", 9.0) | {"tokens_per_pair": 310.4}, row("MaxP", 9.0, candidates=None))
    assert ", 100 passages each, 80 to 310 tokens a pair, strings to scores, float32, cpu, " in timing_notes(timed)[0]


def test_what_others_used_may_be_unknown_and_makes_no_machine_busy() -> None:
    unknown = timing(row("ranker", 4.0), others=None, busy=None)
    assert timing_notes(unknown)[0].endswith("2 threads; others used an unknown share of its 2 cores meanwhile")
    assert speed(unknown, "ranker")["latency_ms_p50"] == 4.0


def test_a_busy_machine_has_a_size_and_no_times_nor_ratios() -> None:
    busy = BOTH | {"setup": BOTH["setup"] | {"busy": True, "others": 0.5}}
    assert speed(busy, "teacher") == {"parameters": 22_000_000}
    assert speed_columns(busy, NAMES, "teacher") == []
    assert len(timing_notes(busy)) == 1


def test_percentiles_have_a_column_where_a_row_has_them_and_a_note() -> None:
    many = timing(row("ranker", 4.0) | {"latency_ms_p95": 6.0}, row("ranker", 3.0, "int8"))
    assert [column.header for column in speed_columns(many, NAMES, None)] == ["ranker", "ms / 1x100", "p95"]
    assert speed_columns(many, NAMES, None)[2].cells == ["6.0", "-"]
    assert timing_notes(many)[0].startswith("ms / query: median, fastest and slowest and 95th percentile of 4 queries")
    assert [column.header for column in time_columns([speed(many, "ranker"), {}], None)][1:3] == ["min..max", "p95"]


def test_times_of_runs_that_were_timed_apart_compare_as_shares_of_the_teacher_beside_each() -> None:
    quiet, loaded = timing(row("teacher", 90.0), row("ranker", 30.0)), timing(row("teacher", 900.0), row("ranker", 300.0))
    assert beside_teacher(quiet)["latency_ms_p50"] == beside_teacher(loaded)["latency_ms_p50"] == pytest.approx(1 / 3)
    assert beside_teacher(quiet, "ranker")["latency_ms_p50"] == 1
    assert beside_teacher(timing(row("ranker", 30.0))) == {}


def test_where_nothing_was_timed_no_time_is_shown() -> None:
    assert (speed(None, "ranker"), speed_columns(None, {"ranker": "x"}, None), time_columns([{}, {}], None)) == ({}, [], [])
    assert timing_notes(None) == [
        "no inference time: callbacks.inference_time is null. Measure it later: python evaluate.py models=<run>"
    ]
