"""Gradient shares: norms that can be derived by hand."""

import pytest
import torch

from rankdistil.losses import LossValue, gradient_shares


@pytest.fixture
def x() -> torch.Tensor:
    return torch.tensor([3.0, 4.0], requires_grad=True)


def value(**parts: torch.Tensor) -> LossValue:
    return LossValue(sum(parts.values()), parts)


def test_shares_are_the_norms_of_the_gradients_over_their_sum(x):
    found = gradient_shares(value(square=x.square().sum() / 2, first=x[0], whole=x @ torch.tensor([0.0, 4.0])),
                            dict.fromkeys(("square", "first", "whole"), 1.0), [x])  # fmt: skip
    assert found == pytest.approx({"square": 5 / 10, "first": 1 / 10, "whole": 4 / 10})


def test_a_weight_scales_its_loss_s_norm(x):
    found = gradient_shares(value(a=x[0], b=x[1]), {"a": 3.0, "b": 1.0}, [x])
    assert found == pytest.approx({"a": 0.75, "b": 0.25})


def test_the_norm_is_taken_over_all_parameters_together():
    x, y = (torch.zeros(1, requires_grad=True) for _ in range(2))
    found = gradient_shares(value(both=3 * x.sum() + 4 * y.sum(), one=5 * y.sum()), {"both": 1.0, "one": 1.0}, [x, y])
    assert found == pytest.approx({"both": 0.5, "one": 0.5})


def test_shares_add_up_to_one(x):
    parts = {str(power): (x**power).sum() for power in range(1, 6)}
    found = gradient_shares(value(**parts), dict.fromkeys(parts, 0.3), [x])
    assert sum(found.values()) == pytest.approx(1.0)


def test_a_loss_that_reads_no_parameter_has_no_share(x):
    other = torch.ones(1, requires_grad=True)
    found = gradient_shares(value(a=x[0], elsewhere=other.sum()), {"a": 1.0, "elsewhere": 9.0}, [x])
    assert found == {"a": 1.0, "elsewhere": 0.0}


def test_frozen_parameters_do_not_count(x):
    frozen = torch.ones(1)
    found = gradient_shares(value(a=x[0] + frozen.sum(), b=x[1]), {"a": 1.0, "b": 1.0}, [frozen, x])
    assert found == pytest.approx({"a": 0.5, "b": 0.5})


def test_where_nothing_has_a_gradient_all_shares_are_zero(x):
    assert gradient_shares(value(a=0 * x.sum(), b=0 * x[0]), {"a": 1.0, "b": 1.0}, [x]) == {"a": 0.0, "b": 0.0}


def test_measuring_leaves_the_graph_and_the_gradients_alone(x):
    loss = value(a=x.square().sum(), b=x[0])
    gradient_shares(loss, {"a": 1.0, "b": 1.0}, [x])
    assert x.grad is None
    loss.total.backward()
    assert x.grad.tolist() == [2 * 3 + 1, 2 * 4]
