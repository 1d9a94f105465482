"""Groups laid out side by side: unequal sizes, any order, ties."""

import pytest
import torch
from torch.testing import assert_close

from rankdistil.losses.groups import Members, differences, full, group_log_softmax, lay_out, mean_ranks

GROUPS = torch.tensor([2, 0, 2, 2, 5])


def test_each_group_is_a_row_in_the_batch_s_order_and_shorter_ones_are_filled_with_zeros():
    laid = lay_out(GROUPS)
    assert laid.real.tolist() == [[True, False, False], [True, True, True], [True, False, False]]
    assert laid.of(torch.tensor([1.0, 2, 3, 4, 5])).tolist() == [[2, 0, 0], [1, 3, 4], [5, 0, 0]]


@pytest.mark.parametrize("groups", [[2, 0, 2, 2, 1], [0, 0, 1, 1], [0], [1, 1, 0, 0, 0, 2]])
def test_groups_whose_number_and_largest_are_known_are_laid_out_as_those_that_are_asked_for(groups):
    numbers = torch.tensor(groups)
    asked, known = lay_out(numbers), lay_out(Members(numbers, max(groups) + 1, max(map(groups.count, groups))))
    assert all(map(torch.equal, asked, known))
    values = torch.randn(len(groups))
    assert torch.equal(asked.back(asked.of(values)), values)
    assert torch.equal(group_log_softmax(values, numbers), group_log_softmax(values, Members(numbers, max(groups) + 1, 9)))


def test_pairs_are_those_of_passages_that_there_are():
    laid = lay_out(torch.tensor([0, 0, 1]))
    assert laid.pairs.tolist() == [[[True, True], [True, True]], [[True, False], [False, False]]]


def test_the_mean_is_first_over_what_counts_in_a_group_then_over_groups_and_nothing_counts_as_zero():
    laid = lay_out(torch.tensor([0, 0, 0, 1, 2, 2]))
    costs = torch.tensor([[1.0, 3, 100], [8, 100, 100], [5, 5, 100]])
    counted = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
    assert_close(laid.mean(costs, counted), torch.tensor((2 + 8 + 0) / 3))


def test_a_difference_is_the_first_of_a_pair_less_the_second():
    assert differences(torch.tensor([[5.0, 2.0]])).tolist() == [[[0, 3], [-3, 0]]]


def test_equal_values_share_the_mean_of_their_ranks_and_what_is_not_there_has_none():
    real = torch.tensor([[True, True, True, True, False]])
    assert mean_ranks(torch.tensor([[3.0, 7, 3, -1, 9]]), real)[0, :4].tolist() == [2.5, 1, 2.5, 4]


def test_half_precision_becomes_float32_and_double_stays():
    assert [full(torch.zeros(1, dtype=kind)).dtype for kind in (torch.bfloat16, torch.float32, torch.float64)] == [
        torch.float32, torch.float32, torch.float64,
    ]  # fmt: skip
