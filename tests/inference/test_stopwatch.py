"""Who is timed on what, beside whom; what is left out; and what several processes' samples add up to."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import MINILM, random_student

from rankdistil.data.encode import PairEncoder
from rankdistil.data.records import Pair
from rankdistil.inference import machine, stopwatch
from rankdistil.inference.export_files import write_export
from rankdistil.inference.machine import Usage
from rankdistil.inference.stopwatch import (
    Budget,
    Pace,
    Processes,
    Timed,
    TimingSettings,
    summarise,
    time_rankers,
    wanted_queries,
)
from rankdistil.metrics.timing import Sample
from rankdistil.models.bert import CrossEncoder
from rankdistil.models.checkpoints import load_tokenizer
from rankdistil.models.student import StudentSize

CPU = torch.device("cpu")
ORIGIN = {"commit": "abc", "versions": {"rankdistil": "0.1.0"}}
SETTINGS = TimingSettings(
    queries=2, candidates=(2, 3), throughput_pairs=7, rounds=2, seconds=45, warmup=1, busy_share=0.1,
    dtypes=("float32", "int8"), backends=("torch",),
)  # fmt: skip
QUERIES = [[Pair(query, str(number), f"what is {query}", "a b c") for number in range(3)] for query in ("q1", "q2", "q3")]


class Recorder:
    """Writes down what is opened and how many pairs each call has; refuses what it is told to."""

    def __init__(self, refused: set[tuple[str, str]] = frozenset()) -> None:
        self.calls: list[tuple[str, str, int]] = []
        self._refused = refused

    def __call__(self, backend: str, path: str, encoder: PairEncoder, device: torch.device, precision: str) -> Any:
        name = Path(path).name
        if (name, precision) in self._refused:
            raise ValueError(f"no {precision} here.")

        def network(first: Any, second: Any) -> np.ndarray:
            self.calls.append((name, precision, len(first.lengths)))
            return np.zeros(len(first.lengths), np.float32)

        return network


@pytest.fixture(scope="module")
def encoder() -> PairEncoder:
    return PairEncoder(load_tokenizer(MINILM), 38, 40)


@pytest.fixture
def rankers(tmp_path: Path, tiny_ranker: CrossEncoder, encoder: PairEncoder) -> dict[str, Timed]:
    tiny_ranker.config.vocab_size = len(encoder.tokenizer)
    ranker = random_student(StudentSize("tiny", 2, 24, 3, 48), tiny_ranker)
    for name in ("ranker", "teacher"):
        write_export(tmp_path / name, ranker, encoder.tokenizer, 38)
    return {name: Timed(str(tmp_path / name), encoder) for name in ("ranker", "teacher")}


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    recorder = Recorder()
    monkeypatch.setattr(stopwatch, "open_network", recorder)
    return recorder


def test_rankers_and_dtypes_take_turns_on_single_queries_of_every_size_then_on_many(recorder: Recorder, rankers: dict) -> None:
    found = time_rankers(rankers, CPU, QUERIES, SETTINGS, Processes(), ORIGIN)
    turns = [(name, dtype) for dtype in ("float32", "int8") for name in ("ranker", "teacher")]
    expected = []
    for size, calls in ((2, 2), (3, 2), (7, 1)):
        expected += [(*turn, size) for turn in turns]  # warm-up
        expected += [(*turn, size) for order in (turns, turns[1:] + turns[:1]) for turn in order * calls]  # two rounds
    assert recorder.calls == expected
    rows = found["rows"]
    assert [(row["measured"], row["candidates"], row["passages"], row["calls"]) for row in rows[::4]] == [
        ("latency", 2, 2.0, 4), ("latency", 3, 3.0, 4), ("throughput", None, 7.0, 2),
    ]  # fmt: skip
    assert [(row["ranker"], row["dtype"]) for row in rows[:4]] == turns
    assert {row["tokens_per_pair"] for row in rows} == {4 + 3 + 3}  # what is q ##1, a b c, and the special tokens


@pytest.mark.fault("F8")
def test_the_setup_says_all_that_is_needed_to_measure_again(recorder: Recorder, rankers: dict) -> None:
    setup = time_rankers(rankers, CPU, QUERIES, SETTINGS, Processes(), ORIGIN)["setup"]
    assert (setup["queries"], setup["candidates"], setup["throughput_pairs"], setup["dtypes"]) == (
        2,
        (2, 3),
        7,
        ("float32", "int8"),
    )
    assert (setup["rounds"], setup["warmup"], setup["processes"], setup["commit"], setup["left_out"]) == (2, 1, 1, "abc", [])
    assert setup["device"].startswith("cpu (")
    assert setup["threads"] == torch.get_num_threads()
    assert setup["versions"]["torch"] == torch.__version__
    assert setup["versions"]["rankdistil"] == "0.1.0"
    assert {"cores", "load", "environment", "backends"} <= setup.keys()


class Used:
    """A meter of what others used: CPU seconds of one core in ten seconds."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds

    def usage(self) -> Usage:
        return Usage("here", 4, 10.0, 5.0, None if self._seconds is None else 5.0 + self._seconds)


@pytest.mark.parametrize(("seconds", "share", "busy"), [(4.0, 0.1, False), (4.1, 0.1025, True), (None, None, None)])
def test_times_taken_beside_the_work_of_others_are_marked(
    recorder: Recorder, rankers: dict, seconds: float | None, share: float | None, busy: bool | None
) -> None:
    found = time_rankers(rankers, CPU, QUERIES, SETTINGS, Processes(), ORIGIN, lambda: Used(seconds))["setup"]
    assert (found["others"], found["busy"], found["busy_share"]) == (pytest.approx(share), busy, 0.1)


def test_a_budget_grants_three_rounds_and_then_those_that_end_in_time() -> None:
    now = [100.0]
    another = Budget(45, lambda value: [value], lambda: now[0])
    granted = []
    for done in range(7):
        now[0] = 105.0 + 8 * done  # five seconds of warm-up, then eight a round: the fifth ends at 145, the sixth after the end
        granted.append(another(done))
    assert granted == [True] * 5 + [False] * 2
    assert [Budget(0, lambda value: [value], lambda: 0.0)(done) for done in (0, 1, 2)] == [True] * 3


def test_no_process_makes_a_round_that_another_has_no_time_for() -> None:
    assert not Budget(45, lambda value: [value, False], lambda: 0.0)(3)
    assert Budget(45, lambda value: [value, True], lambda: 0.0)(3)


def test_rounds_are_told_and_are_as_many_for_every_variant(recorder: Recorder, rankers: dict) -> None:
    rows = time_rankers(rankers, CPU, QUERIES, replace(SETTINGS, rounds=9, seconds=1e-6), Processes(), ORIGIN)["rows"]
    assert {(row["rounds"], row["calls"] // row["rounds"]) for row in rows if row["measured"] == "latency"} == {(3, 2)}
    assert {(row["rounds"], row["calls"]) for row in rows if row["measured"] == "throughput"} == {(3, 3)}


def test_what_cannot_be_computed_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch, rankers: dict) -> None:
    monkeypatch.setattr(stopwatch, "open_network", Recorder({("teacher", "int8")}))
    found = time_rankers(rankers, CPU, QUERIES, SETTINGS, Processes(), ORIGIN)
    assert found["setup"]["left_out"] == [{"ranker": "teacher", "backend": "torch", "dtype": "int8", "reason": "no int8 here."}]
    assert ("teacher", "int8") not in {(row["ranker"], row["dtype"]) for row in found["rows"]}
    assert ("ranker", "int8") in {(row["ranker"], row["dtype"]) for row in found["rows"]}


def test_what_another_process_cannot_compute_is_left_out_here_too(recorder: Recorder, rankers: dict) -> None:
    """Else this process would wait for a call that the other never makes."""
    refused = {stopwatch.Variant("ranker", "torch", "float32"): "no float32 there."}
    others = iter([[{}, refused]])
    gather = lambda value: next(others, [value, value])  # noqa: E731
    found = time_rankers(rankers, CPU, QUERIES, SETTINGS, Processes(gather=gather), ORIGIN)
    assert [one["reason"] for one in found["setup"]["left_out"]] == ["no float32 there."]
    assert ("ranker", "float32") not in {call[:2] for call in recorder.calls}


@pytest.mark.fault("F8")
def test_nothing_to_time_is_an_error_that_says_why(monkeypatch: pytest.MonkeyPatch, rankers: dict) -> None:
    monkeypatch.setattr(stopwatch, "open_network", Recorder({("ranker", "float32"), ("ranker", "int8")}))
    with pytest.raises(ValueError) as caught:
        time_rankers({"ranker": rankers["ranker"]}, CPU, QUERIES, SETTINGS, Processes(), ORIGIN)
    assert str(caught.value) == "callbacks.inference_time: nothing can be timed on this machine: no float32 here."
    with pytest.raises(ValueError, match=r"^no test query has candidates: inference time can't be measured\.$"):
        time_rankers(rankers, CPU, [[]], SETTINGS, Processes(), ORIGIN)


def test_as_many_queries_are_wanted_as_the_throughput_needs() -> None:
    assert wanted_queries(SETTINGS) == (3, 3)  # 7 pairs, 3 of each query
    assert wanted_queries(TimingSettings(4, (100,), 0, 1, 45, 0, 0.1, ("float32",), ("torch",))) == (4, 100)


def test_the_calls_of_all_processes_are_pooled_and_their_rates_added_up() -> None:
    samples = [[Sample(0.0, 1.0), Sample(0.0, 1.0)], [Sample(0.0, 3.0), Sample(0.0, 3.0)]]
    together, *each = summarise(samples, [30, 30])
    assert (together["rank"], together["calls"], together["latency_ms_p50"]) == ("all", 4, 2000.0)
    assert together["passages_per_second"] == 30.0 + 10.0
    assert [(row["rank"], row["calls"], row["latency_ms_p50"]) for row in each] == [(0, 2, 1000.0), (1, 2, 3000.0)]


def test_one_process_has_one_row() -> None:
    assert [row["rank"] for row in summarise([[Sample(0.0, 1.0)]], [10])] == ["all"]


def test_a_dtype_that_the_processor_computes_is_timed_and_one_that_it_cannot_is_not(
    rankers: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the real networks, on a build of torch that has no 8-bit kernels and a processor without bfloat16."""
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(machine, "computes_bfloat16", lambda: False)
    settings = TimingSettings(1, (2,), 0, 1, 45, 0, 0.1, ("float32", "bfloat16", "int8"), ("torch",))
    found = time_rankers({"ranker": rankers["ranker"]}, CPU, QUERIES, settings, Processes(), ORIGIN)
    assert [row["dtype"] for row in found["rows"]] == ["float32"]
    assert [one["reason"].partition(" needs")[0] for one in found["setup"]["left_out"]] == ["dtype=bfloat16", "dtype=int8"]
    assert all(row["latency_ms_p50"] > 0 for row in found["rows"])


def test_while_it_times_it_says_how_long_the_rest_will_take() -> None:
    said, now = [], iter([0.0, 10.0, 20.0])  # a call takes 10 s; 4 calls a round, at least 2 rounds of at most 2
    about = {"measured": "latency", "candidates": 3}
    pace = Pace(about, 4, SETTINGS, seconds=5, ends=45, say=lambda line: said.append(line()), clock=lambda: next(now))
    call = pace.counted(lambda pairs: Sample(0.1, 0.2))
    assert [call([]), call([])] == [Sample(0.1, 0.2)] * 2
    assert said == [  # (8 - 1) * 10 s, (8 - 2) * 10 s, and 40 s for what is measured after it
        "timing single queries of 3 passages: 1 calls made, about 1:50 left",
        "timing single queries of 3 passages: 2 calls made, about 1:40 left",
    ]


def test_rounds_beyond_the_least_count_only_as_far_as_the_time_allows() -> None:
    now = iter([0.0, 4.0])
    pace = Pace({"candidates": None}, 1, replace(SETTINGS, rounds=100), 9, 9, lambda line: None, lambda: next(now))
    for _ in range(4):
        pace.counted(lambda pairs: Sample(0.1, 0.2))([])
    assert pace.left() == 5  # of 9 s; the other 96 calls would take 96


@pytest.mark.fault("F8")
def test_the_clock_on_the_wall_has_no_say_and_one_query_is_enough(
    recorder: Recorder, rankers: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall = iter(range(10**9, 0, -86_400))
    monkeypatch.setattr(time, "time", lambda: float(next(wall)))  # a day back at each look
    found = time_rankers(rankers, CPU, QUERIES[:1], SETTINGS, Processes(), ORIGIN)
    assert found["setup"]["queries"] == 1
    for row in found["rows"]:
        assert 0 < row["latency_ms_min"] <= row["latency_ms_p50"] <= row["latency_ms_max"] < 60_000
        assert row["passages_per_second"] > 0
