"""Paired randomisation test and Holm's adjustment, agreement of two orders: by enumeration, by hand and by SciPy."""

import itertools
import random

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize
from scipy.stats import kendalltau, permutation_test

from rankdistil.metrics.comparing import (
    bootstrap_interval,
    describe_test,
    detectable,
    holm,
    kendall_tau,
    over_seeds,
    overlap,
    randomisation_test,
    shown_p,
    unit_sums,
)


def _values(numbers):
    return {f"q{index}": float(value) for index, value in enumerate(numbers)}


@pytest.mark.parametrize("samples", [7, 8])
def test_equal_rankers_differ_by_nothing_in_any_sample(samples):
    values = _values([0.1, 0.5, 1.0])
    assert randomisation_test(values, dict(values), samples) == (0.0, 1.0, 3, 3)


def test_the_difference_is_the_mean_of_a_minus_b():
    result = randomisation_test(_values([1.0, 0.5, 0.0]), _values([0.0, 0.0, 0.25]))
    assert result.difference == pytest.approx((1 + 0.5 - 0.25) / 3)
    assert result.queries == 3


def test_five_gains_of_one_are_as_extreme_as_two_of_thirty_two_sign_patterns():
    assert randomisation_test(_values([1] * 5), _values([0] * 5)).p_value == 2 / 32


def test_p_values_are_those_of_scipy_over_all_sign_patterns():
    gaps = np.random.default_rng(0).normal(0.3, 1, size=12)
    difference = {"statistic": lambda a, b: (a - b).mean(), "permutation_type": "samples", "n_resamples": 2**12}
    exact = permutation_test((gaps, np.zeros(12)), **difference)
    result = randomisation_test(_values(gaps), _values(np.zeros(12)))
    assert result.p_value == pytest.approx(exact.pvalue, abs=1e-12)
    assert 0.05 < result.p_value < 0.95  # or the comparison would say little


def test_exchanging_the_rankers_turns_the_sign_only():
    a, b = _values([0.2, 0.9, 0.4, 1.0]), _values([0.1, 1.0, 0.0, 0.5])
    forth, back = randomisation_test(a, b), randomisation_test(b, a)
    assert (forth.difference, forth.p_value) == (-back.difference, back.p_value)


def test_the_order_of_queries_never_matters():
    a, b = _values([0.2, 0.9, 0.4, 1.0]), _values([0.1, 1.0, 0.0, 0.5])
    assert randomisation_test(dict(reversed(a.items())), b) == randomisation_test(a, b)


def test_drawn_signs_come_close_to_all_of_them():
    gaps = _values(np.random.default_rng(1).normal(0.1, 1, size=17))  # one more than are counted one by one
    every = np.array(list(itertools.product((1, -1), repeat=17))) @ np.array(list(gaps.values()))
    exact = (np.abs(every) >= abs(sum(gaps.values())) - 1e-9).mean()
    drawn = randomisation_test(gaps, dict.fromkeys(gaps, 0.0)).p_value
    assert drawn == pytest.approx(exact, abs=0.004)  # more than three standard errors of 100,000 samples
    assert 0.05 < exact < 0.95


@pytest.mark.parametrize("samples", [9, 999, 1000, 150_000])
def test_the_smallest_p_value_is_one_over_samples_plus_one(samples):
    assert randomisation_test(_values([1] * 60), _values([0] * 60), samples).p_value == 1 / (samples + 1)


def test_the_seed_decides_the_p_value():
    a, b = _values([0.2, 0.9, 0.4, 1.0, 0.3, 0.8, 0.1, 0.7, 0.2]), _values([0.1, 1.0, 0.0, 0.5, 0.2, 0.4, 0.3, 0.5, 0.4])
    p_values = [randomisation_test(a, b, samples=501, seed=seed).p_value for seed in (0, 0, 1, 2, 3)]
    assert p_values[0] == p_values[1]
    assert len(set(p_values)) > 1


def test_drawn_signs_are_counted_as_one_by_one_also_where_they_are_too_many_to_be_kept(monkeypatch):
    gaps = np.random.default_rng(2).normal(0.05, 1, size=21)
    bits = np.random.default_rng(5).integers(0, 256, (5000, 3), np.uint8)
    signs = 1.0 - 2 * np.unpackbits(bits, axis=1, count=21)
    expected = (np.sum(np.abs(signs @ gaps) >= abs(gaps.sum()) - 1e-9) + 1) / 5001
    values = {f"q{at:02}": gap for at, gap in enumerate(gaps)}
    assert randomisation_test(values, dict.fromkeys(values, 0.0), 5000, seed=5).p_value == expected
    kept = bootstrap_interval([(gaps, np.ones(21))], seed=5)
    monkeypatch.setattr("rankdistil.metrics.comparing.KEPT_BYTES", 0)
    assert randomisation_test(values, dict.fromkeys(values, 1e-13), 5000, seed=5).p_value == expected  # no kept answer
    assert bootstrap_interval([(gaps, np.ones(21))], seed=5) == kept


CLUSTERS = {"q0": "a", "q1": "a", "q2": "b", "q3": "c"}


def test_the_queries_of_a_cluster_change_their_sign_together():
    result = randomisation_test(_values([0.4, 0.4, 0.3, 0.1]), _values([0.0] * 4), clusters=CLUSTERS)
    assert result.difference == pytest.approx(0.3)
    every = [abs(a * 0.8 + b * 0.3 + c * 0.1) for a, b, c in itertools.product((1, -1), repeat=3)]
    assert result.p_value == sum(value >= 1.2 - 1e-9 for value in every) / 8 == 2 / 8
    assert (result.queries, result.units) == (4, 3)


def test_gains_that_all_queries_of_one_cluster_share_are_one_gain():
    """By query this would be a find: two of 2 ** 8 assignments are as extreme."""
    ten, none = _values([1.0] * 8), _values([0.0] * 8)
    assert randomisation_test(ten, none).p_value == 2 / 256
    assert randomisation_test(ten, none, clusters=dict.fromkeys(ten, "bees")).p_value == 1.0


def test_clusters_of_one_query_each_change_nothing_but_the_order():
    a, b = _values([0.2, 0.9, 0.4, 1.0]), _values([0.1, 1.0, 0.0, 0.5])
    alone = randomisation_test(a, b, clusters={query: query[::-1] for query in a})
    assert alone == pytest.approx(randomisation_test(a, b))


def test_a_cluster_that_is_missing_is_named():
    with pytest.raises(ValueError) as caught:
        randomisation_test(_values([1.0] * 5), _values([0.0] * 5), clusters=CLUSTERS)
    assert str(caught.value) == "1 queries have no cluster, for example q4. Name one for each, or give no clusters."


def test_five_units_are_too_few_to_find_anything_and_six_can():
    found = [randomisation_test(_values([1] * count), _values([0] * count)) for count in (5, 6)]
    assert [(test.can_find, test.found) for test in found] == [(False, False), (True, True)]


@pytest.mark.parametrize(
    ("queries", "clusters", "words"),
    [
        (4, CLUSTERS, "paired randomisation test by topic (3 topics), exact, two-sided"),
        (16, None, "paired randomisation test over 16 queries, exact, two-sided"),
        (17, None, "paired randomisation test over 17 queries, 100000 samples, two-sided"),
    ],
)
def test_a_legend_says_what_the_sample_is(queries, clusters, words):
    assert describe_test(queries, clusters) == words


def test_p_values_have_three_digits():
    assert [shown_p(value) for value in (1.0, 0.04567, 0.001, 0.00099)] == ["p 1.000", "p 0.046", "p 0.001", "p <0.001"]


def test_different_queries_are_refused_and_counted():
    with pytest.raises(ValueError, match="same queries on both sides; 2 of them differ"):
        randomisation_test({"q1": 1.0, "q2": 1.0}, {"q1": 1.0, "q3": 1.0})


def test_no_query_at_all_is_refused():
    with pytest.raises(ValueError, match="a paired test needs the same queries"):
        randomisation_test({}, {})


def test_holm_multiplies_the_smallest_p_value_by_all_tests_and_the_next_by_one_less():
    assert holm({"c": 0.04, "a": 0.001, "b": 0.01}) == pytest.approx({"a": 0.003, "b": 0.02, "c": 0.04})


def test_a_larger_p_value_is_never_adjusted_below_a_smaller_one():
    assert holm({"a": 0.01, "b": 0.02, "c": 0.021}) == pytest.approx({"a": 0.03, "b": 0.04, "c": 0.04})


def test_adjusted_p_values_end_at_one():
    assert holm({"a": 0.6, "b": 0.5}) == {"a": 1.0, "b": 1.0}


def test_adjusted_p_values_come_back_in_the_order_given():
    assert list(holm({"c": 0.04, "a": 0.001, "b": 0.01})) == ["c", "a", "b"]


def test_one_test_alone_and_none_at_all_need_no_adjustment():
    assert holm({"a": 0.03}) == {"a": 0.03}
    assert holm({}) == {}


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_what_is_no_p_value_is_named(value):
    with pytest.raises(ValueError) as caught:
        holm({"good": 0.5, "bad": value})
    assert str(caught.value) == f"bad: {value} is no p value; it must lie between 0 and 1."


BOTH = pytest.mark.parametrize("agreement", [kendall_tau, overlap])


def _shuffled(queries: int, passages: int, seed: int) -> dict[str, list[str]]:
    source = random.Random(seed)
    return {f"q{query}": source.sample([f"p{number}" for number in range(passages)], passages) for query in range(queries)}


def test_tau_is_one_for_equal_orders_and_minus_one_for_reversed_ones() -> None:
    order = _shuffled(3, 20, seed=0)
    assert kendall_tau(order, order) == 1
    assert kendall_tau(order, {query: row[::-1] for query, row in order.items()}) == -1


def test_one_exchange_of_neighbours_among_three_turns_one_pair_of_three() -> None:
    assert kendall_tau({"q": ["a", "b", "c"]}, {"q": ["b", "a", "c"]}) == pytest.approx((2 - 1) / 3)


@pytest.mark.parametrize("passages", [2, 7, 1000])
def test_tau_is_that_of_scipy(passages: int) -> None:
    (a,), (b,) = (list(_shuffled(1, passages, seed).values()) for seed in (1, 2))
    expected = kendalltau(range(passages), [b.index(passage) for passage in a]).statistic
    assert kendall_tau({"q": a}, {"q": b}) == pytest.approx(expected)


def test_tau_is_the_mean_over_queries_with_a_pair() -> None:
    a = {"equal": ["a", "b"], "reversed": ["a", "b"], "equal too": ["a", "b"], "one": ["a"], "none": []}
    assert kendall_tau(a, a | {"reversed": ["b", "a"]}) == pytest.approx(1 / 3)
    assert kendall_tau({"one": ["a"], "none": []}, {"one": ["a"], "none": []}) is None


def test_overlap_is_the_share_of_the_first_ten_in_common_whatever_their_order() -> None:
    a = [f"p{number}" for number in range(20)]
    b = a[6::-1] + a[10:13] + a[7:10] + a[13:]  # its first ten hold seven of a's
    assert overlap({"q": a}, {"q": b}) == pytest.approx(0.7)
    assert overlap({"q": a}, {"q": b}, depth=7) == 1


def test_fewer_candidates_than_the_depth_are_all_in_common_and_none_count_nothing() -> None:
    a = {"few": ["a", "b"], "none": []}
    assert overlap(a, {"few": ["b", "a"], "none": []}) == 1
    assert overlap({"none": []}, {"none": []}) is None


@BOTH
def test_agreement_is_the_same_both_ways(agreement: object) -> None:
    a, b = _shuffled(4, 30, seed=3), _shuffled(4, 30, seed=4)
    assert agreement(a, b) == pytest.approx(agreement(b, a))
    assert agreement(a, b) < 0.9


@BOTH
def test_other_queries_are_refused_and_counted(agreement: object) -> None:
    with pytest.raises(ValueError) as caught:
        agreement({"q1": ["a"], "q2": ["a"]}, {"q1": ["a"]})
    assert str(caught.value) == "agreement needs the same queries on both sides; 1 of them differ."


@BOTH
def test_other_candidates_are_refused_with_the_query(agreement: object) -> None:
    with pytest.raises(ValueError) as caught:
        agreement({"q1": ["a"], "q2": ["a", "b"]}, {"q1": ["a"], "q2": ["a", "c"]})
    assert str(caught.value) == (
        "query q2: agreement needs the same candidates on both sides; of 2 and 2, 2 are on one side only. "
        "Rank the same candidates with both."
    )


@BOTH
def test_a_passage_ranked_twice_is_refused(agreement: object) -> None:
    with pytest.raises(ValueError) as caught:
        agreement({"q": ["a", "b"]}, {"q": ["a", "b", "a"]})
    assert str(caught.value) == "query q: a passage is ranked twice. List each candidate once."


GAPS = np.random.default_rng(5).gamma(1.0, 0.2, 30) - 0.15  # skewed, as gains of a few queries are


def test_an_interval_over_queries_is_that_of_scipy() -> None:
    expected = stats.bootstrap((GAPS,), np.mean, method="BCa", n_resamples=50_000, rng=1).confidence_interval
    found = bootstrap_interval([(GAPS, np.ones(30))], times=50_000)
    assert found == pytest.approx(tuple(expected), abs=0.001)
    plain = stats.bootstrap((GAPS,), np.mean, method="percentile", n_resamples=50_000, rng=1).confidence_interval
    assert expected.high - plain.high > 0.002  # or the correction would not be tested


def test_an_interval_over_topics_draws_topics_with_all_their_queries_as_scipy_does() -> None:
    random = np.random.default_rng(6)
    counts = random.integers(1, 6, 25).astype(float)
    sums = counts * random.normal(0.3, 0.5, 25)
    drawn = {"statistic": lambda sums, counts: sums.sum() / counts.sum(), "paired": True, "vectorized": False}
    expected = stats.bootstrap((sums, counts), **drawn, method="BCa", n_resamples=9999, rng=2).confidence_interval
    assert bootstrap_interval([(sums, counts)]) == pytest.approx(tuple(expected), abs=0.02)


def test_an_interval_of_a_mean_of_means_draws_each_sample_by_itself_as_scipy_does() -> None:
    """Of samples of unequal size, so that a mean over all values would be another number with another interval."""
    others = np.random.default_rng(7).gamma(0.5, 0.4, 12)
    drawn = {"statistic": lambda one, other: (one.mean() + other.mean()) / 2, "vectorized": False}
    expected = stats.bootstrap((GAPS, others), **drawn, method="BCa", n_resamples=50_000, rng=3).confidence_interval
    plain = stats.bootstrap((GAPS, others), **drawn, method="percentile", n_resamples=50_000, rng=3).confidence_interval
    found = bootstrap_interval([(GAPS, np.ones(30)), (others, np.ones(12))], times=50_000)
    assert found == pytest.approx(tuple(expected), abs=0.002)
    assert expected.high - plain.high > 0.004  # or the correction would not be tested


def test_equal_samples_of_two_collections_are_not_drawn_alike() -> None:
    """Drawn alike they would vary as one of them does, by the root of two more than their mean."""
    one = bootstrap_interval([(GAPS, np.ones(30))])
    both = bootstrap_interval([(GAPS, np.ones(30))] * 2)
    assert (both[1] - both[0]) / (one[1] - one[0]) == pytest.approx(0.5**0.5, abs=0.03)


def test_equal_differences_have_an_interval_without_length_and_one_unit_has_none() -> None:
    assert bootstrap_interval([(np.full(9, 0.25), np.ones(9))]) == (0.25, 0.25)
    assert bootstrap_interval([(np.array([0.5]), np.array([3.0]))]) is None
    assert bootstrap_interval([(GAPS, np.ones(30)), (np.array([0.5]), np.array([3.0]))]) is None


def test_units_are_queries_or_clusters_with_all_of_theirs() -> None:
    values = _values([0.4, 0.1, 0.3, 0.2])
    assert [part.tolist() for part in unit_sums(values)] == [[0.4, 0.1, 0.3, 0.2], [1, 1, 1, 1]]
    assert [part.tolist() for part in unit_sums(values, CLUSTERS)] == [[0.5, 0.3, 0.2], [2, 1, 1]]


@pytest.mark.parametrize("units", [6, 10, 43, 500])
def test_the_detectable_difference_is_found_with_the_power_that_scipy_computes(units: int) -> None:
    gaps = np.random.default_rng(units).normal(0, 1, units)
    found = detectable(gaps, np.ones(units))
    shift, edge = found / (gaps.std(ddof=1) / units**0.5), stats.t.ppf(0.975, units - 1)
    power = stats.nct.sf(edge, units - 1, shift) + stats.nct.cdf(-edge, units - 1, shift)
    assert power == pytest.approx(0.8, abs=0.02)


def test_the_randomisation_test_finds_the_detectable_difference_four_times_in_five() -> None:
    random = np.random.default_rng(9)
    smallest = detectable(np.array([-1.0, 1.0] * 6) * (11 / 12) ** 0.5, np.ones(12))  # of a standard deviation of 1
    trials = [_values(random.normal(smallest, 1, 12)) for _ in range(600)]
    found = [randomisation_test(trial, dict.fromkeys(trial, 0.0)).found for trial in trials]
    assert np.mean(found) == pytest.approx(0.8, abs=0.05)  # three standard errors of 600 trials


def test_units_that_can_show_nothing_have_no_detectable_difference_and_equal_ones_show_any() -> None:
    assert detectable(np.arange(5.0), np.ones(5)) is None
    assert detectable(np.full(6, 0.1), np.ones(6)) == pytest.approx(0)


def _crossed(seeds: int, queries: int, spread: float) -> np.ndarray:
    random = np.random.default_rng(3)
    return 0.1 + random.normal(0, spread, (seeds, 1)) + random.normal(0, 0.2, queries) + random.normal(0, 0.1, (seeds, queries))


def test_the_test_over_seeds_has_the_variance_that_restricted_likelihood_finds() -> None:
    """The crossed model fitted by SciPy: y = mean + query + seed + rest, the mean's standard error by least squares."""
    own = _crossed(4, 15, 0.15) + 0.1
    rows, columns = np.indices(own.shape).reshape(2, -1)
    same = [np.equal.outer(each, each).astype(float) for each in (columns, rows)] + [np.eye(own.size)]
    ones, y = np.ones(own.size), own.ravel()

    def negative(logs: np.ndarray) -> float:
        inverse = np.linalg.inv(sum(np.exp(log) * part for log, part in zip(logs, same, strict=True)))
        weight = ones @ inverse @ ones
        rest = y - (ones @ inverse @ y) / weight
        return (-np.linalg.slogdet(inverse)[1] + np.log(weight) + rest @ inverse @ rest) / 2

    fitted = minimize(negative, np.log([0.04, 0.02, 0.01]), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9})
    query, seed, rest = np.exp(fitted.x)
    error = (query / 15 + seed / 4 + rest / 60) ** 0.5
    seeds, nothing = [_values(row) for row in own], [_values(np.zeros(15))]
    tested = over_seeds(seeds, nothing)
    parts = [(own.mean(0).var(ddof=1) / 15, 14), (own.mean(1).var(ddof=1) / 4, 3), (-rest / 60, 42)]
    freedom = error**4 / sum(part**2 / of for part, of in parts)
    assert tested == pytest.approx(2 * stats.t.sf(abs(own.mean()) / error, freedom), rel=0.01)
    assert randomisation_test(_values(own.mean(0)), nothing[0]).p_value < tested / 4  # which takes these seeds for all


def test_seeds_that_all_give_the_same_leave_the_t_test_over_queries() -> None:
    gaps = _crossed(1, 12, 0.0)[0]
    found = over_seeds([_values(gaps)] * 3, [_values(np.zeros(12))])
    assert found == pytest.approx(stats.ttest_1samp(gaps, 0).pvalue, abs=1e-6)
    assert over_seeds([_values(np.zeros(12))] * 2, [_values(np.zeros(12))]) == 1.0


def test_both_sides_seeds_count_and_one_seed_each_or_one_topic_tells_nothing() -> None:
    a, b = _crossed(3, 10, 0.1), _crossed(4, 10, 0.3)[::-1] + 0.3
    sides = [[_values(row) for row in side] for side in (a, b)]
    assert over_seeds(*sides) == pytest.approx(over_seeds(*sides[::-1]))
    assert over_seeds(*sides) > over_seeds(sides[0], [_values(b.mean(0))])
    assert over_seeds(sides[0][:1], sides[1][:1]) is None
    assert over_seeds(*sides, dict.fromkeys(sides[0][0], "one")) is None
