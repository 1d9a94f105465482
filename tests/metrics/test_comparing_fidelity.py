"""Agreement of two orders: values by hand and by SciPy, and what is refused."""

import random

import pytest
from scipy.stats import kendalltau

from rankdistil.metrics.comparing import kendall_tau, overlap

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
