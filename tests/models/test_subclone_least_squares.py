"""Least squares: exact maps are found again, and the rest agrees with torch's own decompositions."""

import pytest
import torch
from torch.testing import assert_close

from rankdistil.models.subclone import BLOCK, affine_fit, choose_columns, shared_basis, unit_fit


@pytest.fixture(autouse=True)
def _same_numbers_every_time():
    torch.manual_seed(3)


@pytest.mark.parametrize("rows", [8, BLOCK, BLOCK + 1])
def test_an_exact_affine_map_is_found_again_however_many_blocks_the_rows_fill(rows):
    inputs, weight, bias = torch.randn(rows, 5), torch.randn(3, 5), torch.randn(3)
    fitted = affine_fit(inputs, inputs @ weight.T + bias, ridge=0.0)
    assert_close(fitted, (weight, bias), rtol=1e-4, atol=1e-4)


def test_a_noisy_map_is_that_of_torch_s_least_squares():
    inputs, targets = torch.randn(60, 4) + 2, torch.randn(60, 3)
    expected = torch.linalg.lstsq(torch.cat([inputs, torch.ones(60, 1)], 1).double(), targets.double()).solution.float()
    weight, bias = affine_fit(inputs, targets, ridge=1e-12)
    assert_close(torch.cat([weight.T, bias[None]]), expected, rtol=1e-4, atol=1e-4)


def test_a_row_of_weight_two_counts_as_two_rows_and_one_of_weight_zero_as_none():
    inputs, targets = torch.randn(20, 3), torch.randn(20, 2)
    weights = torch.ones(20)
    weights[0], weights[1] = 2, 0
    chosen = torch.tensor([0, 0, *range(2, 20)])
    assert_close(affine_fit(inputs, targets, weights), affine_fit(inputs[chosen], targets[chosen]))


def test_a_bias_takes_up_the_means_and_pays_no_ridge():
    inputs = torch.randn(50, 3)
    weight, bias = affine_fit(inputs, torch.full((50, 1), 7.0), ridge=10.0)
    assert_close(weight, torch.zeros(1, 3), rtol=0, atol=1e-5)
    assert_close(bias, torch.tensor([7.0]))


def test_the_ridge_shrinks_the_map_by_its_share_of_the_mean_variance():
    inputs = torch.tensor([[-1.0], [1.0]])  # variance 1
    assert_close(affine_fit(inputs, 3 * inputs, ridge=0.5)[0], torch.tensor([[3 / 1.5]]))


def test_inputs_that_repeat_each_other_give_a_finite_map_that_fits():
    inputs = torch.randn(40, 2)[:, [0, 1, 0]]
    targets = inputs[:, :1] * 4
    weight, bias = affine_fit(inputs, targets)
    assert weight.abs().max() < 4
    assert_close(inputs @ weight.T + bias, targets, rtol=1e-2, atol=1e-2)


def test_scale_and_shift_of_each_unit_are_found_again():
    inputs = torch.tensor([[1.0, 0.0], [2.0, 5.0], [4.0, -1.0]])
    scale, shift = unit_fit(inputs, inputs * torch.tensor([2.0, -3.0]) + torch.tensor([5.0, 1.0]))
    assert_close(scale, torch.tensor([2.0, -3.0]))
    assert_close(shift, torch.tensor([5.0, 1.0]))


def test_a_unit_that_never_changes_gets_no_scale_and_the_mean_as_its_shift():
    scale, shift = unit_fit(torch.full((3, 1), 7.0), torch.tensor([[1.0], [2.0], [6.0]]))
    assert (scale.item(), shift.item()) == (0.0, 3.0)


def test_independent_columns_are_chosen_by_variance_and_listed_in_ascending_order():
    covariance = torch.diag(torch.tensor([1.0, 4.0, 2.0, 9.0]))
    chosen = [choose_columns(covariance, count).tolist() for count in (1, 2, 3, 4)]
    assert chosen == [[3], [1, 3], [1, 2, 3], [0, 1, 2, 3]]


def test_a_column_that_stands_for_three_beats_one_of_greater_variance():
    covariance = torch.zeros(4, 4)
    covariance[:3, :3] = 1.0  # three copies: one of them explains a variance of 3
    covariance[3, 3] = 2.0
    assert choose_columns(covariance, 1).item() < 3
    assert choose_columns(covariance, 2)[1].item() == 3


def test_of_repeated_columns_one_of_each_kind_is_chosen():
    rows = torch.randn(100, 3)[:, [0, 1, 0, 2, 1, 2]] * torch.tensor([1.0, 2.0, -1.0, 1.0, 1.0, 3.0])
    chosen = choose_columns(rows.T.cov(), 3).tolist()
    assert sorted({0: "a", 2: "a", 1: "b", 4: "b", 3: "c", 5: "c"}[column] for column in chosen) == ["a", "b", "c"]


@pytest.mark.parametrize("covariance", [torch.zeros(3, 3), torch.ones(3, 3), torch.eye(3)], ids=["none", "copies", "all"])
def test_as_many_columns_as_there_are_are_all_of_them_even_if_one_would_do(covariance):
    assert choose_columns(covariance, 3).tolist() == [0, 1, 2]


def test_a_basis_of_full_rank_keeps_every_product():
    left, right = torch.randn(30, 6), torch.randn(40, 6)
    p, r = shared_basis(left, right, 6)
    assert_close((left @ p) @ (right @ r).T, left @ right.T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_a_smaller_basis_loses_what_the_truncated_svd_of_the_products_loses(rank):
    left, right = torch.randn(30, 6) * torch.arange(1, 7), torch.randn(40, 6)
    p, r = shared_basis(left, right, rank)
    assert (p.shape, r.shape) == ((6, rank), (6, rank))
    lost = ((left @ p) @ (right @ r).T - left @ right.T).square().sum()
    assert_close(lost, torch.linalg.svdvals(left @ right.T)[rank:].square().sum(), rtol=1e-3, atol=0)


def test_vectors_that_fill_only_a_part_of_their_space_lose_nothing_in_a_basis_of_that_part():
    left, right = torch.randn(30, 2) @ torch.randn(2, 6), torch.randn(40, 6)
    p, r = shared_basis(left, right, 2)
    assert_close((left @ p) @ (right @ r).T, left @ right.T, rtol=1e-3, atol=1e-3)
