"""Inference time: who is called when, and how seconds become numbers."""

import pytest

from rankdistil.metrics.timing import Sample, measure, summary


def _clock(name, calls):
    """Make a ranker that writes its calls down and takes as many seconds as it was called before."""

    def ranker(query):
        calls.append((name, query))
        return Sample(0.0, float(sum(1 for who, _ in calls if who == name)))

    return ranker


def test_rankers_take_turns_on_every_query():
    calls = []
    measure({"a": _clock("a", calls), "b": _clock("b", calls)}, ["q1", "q2"], rounds=2, warmup=0)
    assert calls == [
        ("a", "q1"), ("b", "q1"), ("a", "q2"), ("b", "q2"), ("b", "q1"), ("a", "q1"), ("b", "q2"), ("a", "q2"),
    ]  # fmt: skip


def test_each_ranker_gets_one_sample_per_query_and_round():
    calls = []
    samples = measure({"a": _clock("a", calls), "b": _clock("b", calls)}, ["q1", "q2", "q3"], rounds=2, warmup=0)
    assert {name: [sample.model for sample in rows] for name, rows in samples.items()} == {
        "a": [1, 2, 3, 4, 5, 6],
        "b": [1, 2, 3, 4, 5, 6],
    }


@pytest.mark.parametrize("warmup", [0, 1, 3])
def test_warm_up_makes_the_first_calls_and_counts_none(warmup):
    calls = []
    samples = measure({"a": _clock("a", calls)}, ["q1", "q2"], rounds=1, warmup=warmup)
    assert [query for _, query in calls] == [*["q1", "q2", "q1"][:warmup], "q1", "q2"]
    assert [sample.model for sample in samples["a"]] == [warmup + 1, warmup + 2]


def test_latency_is_end_to_end_in_milliseconds_and_its_parts_are_apart():
    numbers = summary([Sample(0.001, 0.010), Sample(0.002, 0.020), Sample(0.003, 0.060)], [100, 100, 100])
    assert numbers["latency_ms_p50"] == pytest.approx(22)
    assert numbers["tokenise_ms_p50"] == pytest.approx(2)
    assert numbers["model_ms_p50"] == pytest.approx(20)


def test_the_slow_tail_is_interpolated_between_samples():
    numbers = summary([Sample(0.0, (100 + second) / 1000) for second in range(101)], [1] * 101)
    assert numbers["latency_ms_p50"] == pytest.approx(150)
    assert summary([Sample(0.0, (100 + second) / 1000) for second in range(201)], [1] * 201)["latency_ms_p95"] == 290


def test_the_median_is_over_whole_queries_and_not_the_sum_of_medians():
    numbers = summary([Sample(0.0, 0.004), Sample(0.004, 0.0), Sample(0.001, 0.001)], [1, 1, 1])
    assert numbers["latency_ms_p50"] == pytest.approx(4)
    assert numbers["tokenise_ms_p50"] + numbers["model_ms_p50"] == pytest.approx(2)


def test_the_rate_is_the_median_of_the_calls_rates_end_to_end():
    numbers = summary([Sample(0.5, 0.5), Sample(0.5, 1.5), Sample(10.0, 10.0)], [100, 100, 20])
    assert numbers["passages_per_second"] == pytest.approx(50)  # of 100, 50 and 1


def test_each_part_has_its_own_percentiles():
    numbers = summary([Sample(second / 1000, (1000 - second) / 1000) for second in range(1001)], [1] * 1001)
    found = {
        part: [numbers[f"{part}_ms_p{percentile}"] for percentile in (50, 95, 99)] for part in ("latency", "tokenise", "model")
    }
    assert found["latency"] == pytest.approx([1000, 1000, 1000])
    assert found["tokenise"] == pytest.approx([500, 950, 990])
    assert found["model"] == pytest.approx([500, 950, 990])


@pytest.mark.parametrize(("calls", "told"), [(12, {50}), (199, {50}), (200, {50, 95}), (999, {50, 95}), (1000, {50, 95, 99})])
def test_a_percentile_is_told_once_ten_calls_lie_above_it(calls: int, told: set) -> None:
    numbers = summary([Sample(0.0, 1.0)] * calls, [1] * calls)
    assert {int(key.rpartition("_p")[2]) for key in numbers if key.startswith("latency_ms_p")} == told


def test_the_fastest_and_the_slowest_call_are_told_whatever_their_number() -> None:
    numbers = summary([Sample(0.001, 0.010), Sample(0.002, 0.020), Sample(0.003, 0.060)], [1] * 3)
    assert (numbers["latency_ms_min"], numbers["latency_ms_max"]) == pytest.approx((11, 63))


def test_rounds_end_for_all_rankers_alike_once_another_is_refused() -> None:
    asked = []
    samples = measure(
        {"a": _clock("a", []), "b": _clock("b", [])}, ["q"], 9, 0, another=lambda done: asked.append(done) or done < 4
    )
    assert [len(rows) for rows in samples.values()] == [4, 4]
    assert asked == [0, 1, 2, 3, 4]


def test_processes_wait_for_each_other_before_every_counted_call():
    calls = []
    measure({"a": _clock("a", calls), "b": _clock("b", calls)}, ["q"], 1, 1, together=lambda: calls.append(("wait", "")))
    assert [who for who, _ in calls] == ["a", "b", "wait", "a", "wait", "b"]
