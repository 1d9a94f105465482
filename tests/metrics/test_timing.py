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
def test_warm_up_makes_every_call_first_and_counts_none(warmup):
    calls = []
    samples = measure({"a": _clock("a", calls)}, ["q1", "q2"], rounds=1, warmup=warmup)
    assert [query for _, query in calls] == ["q1", "q2"] * (warmup + 1)
    assert [sample.model for sample in samples["a"]] == [2 * warmup + 1, 2 * warmup + 2]


def test_latency_is_end_to_end_in_milliseconds_and_its_parts_are_apart():
    numbers = summary([Sample(0.001, 0.010), Sample(0.002, 0.020), Sample(0.003, 0.060)], [100, 100, 100])
    assert numbers["latency_ms_p50"] == pytest.approx(22)
    assert numbers["tokenise_ms_p50"] == pytest.approx(2)
    assert numbers["model_ms_p50"] == pytest.approx(20)


def test_the_slow_tail_is_interpolated_between_samples():
    numbers = summary([Sample(0.0, (100 + second) / 1000) for second in range(101)], [1] * 101)
    assert numbers["latency_ms_p95"] == pytest.approx(195)
    assert summary([Sample(0.0, 1.0), Sample(0.0, 2.0)], [1, 1])["latency_ms_p95"] == pytest.approx(1950)


def test_the_median_is_over_whole_queries_and_not_the_sum_of_medians():
    numbers = summary([Sample(0.0, 0.004), Sample(0.004, 0.0), Sample(0.001, 0.001)], [1, 1, 1])
    assert numbers["latency_ms_p50"] == pytest.approx(4)
    assert numbers["tokenise_ms_p50"] + numbers["model_ms_p50"] == pytest.approx(2)


def test_the_rate_is_the_median_of_the_calls_rates_end_to_end():
    numbers = summary([Sample(0.5, 0.5), Sample(0.5, 1.5), Sample(10.0, 10.0)], [100, 100, 20])
    assert numbers["passages_per_second"] == pytest.approx(50)  # of 100, 50 and 1


def test_each_part_has_its_own_percentiles():
    numbers = summary([Sample(second / 1000, (100 - second) / 1000) for second in range(101)], [1] * 101)
    found = {
        part: [numbers[f"{part}_ms_p{percentile}"] for percentile in (50, 95, 99)] for part in ("latency", "tokenise", "model")
    }
    assert found["latency"] == pytest.approx([100, 100, 100])
    assert found["tokenise"] == pytest.approx([50, 95, 99])
    assert found["model"] == pytest.approx([50, 95, 99])


def test_processes_wait_for_each_other_before_every_counted_call():
    calls = []
    measure({"a": _clock("a", calls), "b": _clock("b", calls)}, ["q"], 1, 1, together=lambda: calls.append(("wait", "")))
    assert [who for who, _ in calls] == ["a", "b", "wait", "a", "wait", "b"]
