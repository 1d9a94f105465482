"""Dropout: how often, how much, and that it repeats itself."""

import pytest
import torch

from rankdistil.models.cpu_layers import Dropout, drop, use_dropout

TYPES = [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_units_are_dropped_with_the_probability_and_the_others_scaled_by_exactly_what_keeps_the_mean(dtype, p):
    torch.manual_seed(0)
    x = torch.full((1000, 1000), 3.0, dtype=dtype)
    dropped = drop(x, p)
    share = round(p * 2**16) / 2**16
    assert abs(share - p) <= 2**-17
    zeros = float((dropped == 0).sum()) / x.numel()
    assert abs(zeros - share) < 5 * (share * (1 - share) / x.numel()) ** 0.5  # five standard errors
    assert dropped.dtype == dtype
    assert dropped[dropped != 0].unique().tolist() == [float(torch.tensor(3 / (1 - share)).to(dtype))]


def test_neighbours_and_calls_are_dropped_independently():
    torch.manual_seed(0)
    first, second = (drop(torch.ones(1_000_000), 0.5) > 0 for _ in range(2))
    for one, other in ((first, second), (first[1:], first[:-1]), (first[4:], first[:-4])):
        assert abs(float((one & other).float().mean()) - 0.25) < 5 * (0.25 * 0.75 / 1e6) ** 0.5


@pytest.mark.parametrize("dtype", TYPES)
def test_the_gradient_is_dropped_and_scaled_alike(dtype):
    x = torch.randn(7, 11, dtype=dtype, requires_grad=True)
    dropped = drop(x, 0.25)
    dropped.backward(torch.ones_like(dropped))
    assert torch.equal(x.grad, torch.where(dropped == 0, 0, torch.tensor(4 / 3).to(dtype)))


def test_the_same_seed_drops_the_same_units_and_moves_torch_s_generator_on():
    x, found = torch.ones(1000), []
    for _ in range(2):
        torch.manual_seed(5)
        found.append((drop(x, 0.1), drop(x, 0.1)))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    assert not torch.equal(*found[0])


def test_a_layer_drops_only_while_it_is_trained_and_nothing_without_a_probability():
    x = torch.ones(1000)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(Dropout(1.0)(x), torch.zeros(1000))
    assert not torch.equal(Dropout(0.5)(x), x)


def test_every_dropout_of_a_network_is_replaced_and_no_weight_renamed():
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Sequential(torch.nn.Dropout(0.3))).eval()
    names = [*network.state_dict()]
    use_dropout(network)
    replaced = network[1][0]
    assert (type(replaced), replaced.p, replaced.training) == (Dropout, 0.3, False)
    assert [*network.state_dict()] == names
