"""Projection: how many maps, what they touch, what is refused."""

import pytest
import torch
from torch.testing import assert_close

from rankdistil.losses.weighted import Projection
from rankdistil.models.bert import Trace


def _trace(width: int, states: int = 3) -> Trace:
    return Trace(torch.randn(2), tuple(torch.randn(2, 4, width) for _ in range(states)), (torch.randn(2, 1, 4, 4),))


@pytest.mark.parametrize(
    ("kind", "student", "teacher", "weights"),
    [
        ("auto", 3, 5, 3 * 5 + 5),
        ("auto", 5, 5, 0),
        ("none", 5, 5, 0),
        ("shared", 5, 5, 5 * 5 + 5),
        ("per_layer", 3, 5, 3 * (3 * 5 + 5)),
    ],
)
def test_number_of_weights_follows_from_kind_and_widths(kind, student, teacher, weights):
    projection = Projection(kind, student, teacher, states=3)
    assert sum(parameter.numel() for parameter in projection.parameters()) == weights


def test_a_shared_map_sends_every_state_through_the_same_weights():
    projection, state = Projection("shared", 3, 5, states=3), torch.randn(2, 4, 3)
    linear = projection.maps[0]
    states = projection(Trace(torch.zeros(2), (state, 2 * state, state))).hidden_states
    assert_close(states[0], state @ linear.weight.T + linear.bias)
    assert_close(states[1], 2 * state @ linear.weight.T + linear.bias)
    assert_close(states[2], states[0])


def test_per_layer_maps_take_states_in_order():
    projection, trace = Projection("per_layer", 3, 5, states=3), _trace(3)
    projected = projection(trace).hidden_states
    for linear, before, after in zip(projection.maps, trace.hidden_states, projected, strict=True):
        assert_close(after, before @ linear.weight.T + linear.bias)


@pytest.mark.parametrize("kind", ["auto", "shared", "per_layer"])
def test_a_narrow_trace_leaves_in_the_width_of_the_teacher_with_logits_and_scores_untouched(kind):
    trace = _trace(3)
    projected = Projection(kind, 3, 5, states=3)(trace)
    assert [tuple(state.shape) for state in projected.hidden_states] == [(2, 4, 5)] * 3
    assert projected.logits is trace.logits
    assert projected.attention_scores is trace.attention_scores


def test_equal_widths_are_compared_directly_by_default():
    trace = _trace(5)
    assert Projection("auto", 5, 5, states=3)(trace) is trace


def test_no_projection_between_different_widths_names_both_and_the_fix():
    with pytest.raises(ValueError, match=r"student\.hidden_size=3, teacher 5\. Set stage\.projection=auto"):
        Projection("none", 3, 5, states=3)


def test_an_unknown_kind_lists_the_known():
    with pytest.raises(ValueError, match=r"stage\.projection is 'mlp'; expected one of auto, shared, per_layer, none"):
        Projection("mlp", 3, 5, states=3)


@pytest.mark.parametrize("kind", ["shared", "per_layer"])
def test_fitted_maps_are_those_that_made_the_teacher_s_states(kind):
    projection, rows = Projection(kind, 3, 5, states=2), [torch.randn(60, 3) for _ in range(2)]
    wanted = [torch.nn.Linear(3, 5) for _ in projection.maps]
    with torch.no_grad():
        states = [wanted[min(index, len(wanted) - 1)](row) for index, row in enumerate(rows)]
        projection.fit(rows, states)
        for mine, theirs in zip(projection.maps, wanted, strict=True):
            assert_close((mine.weight, mine.bias), (theirs.weight, theirs.bias), rtol=0, atol=1e-3)


def test_a_shared_map_is_fitted_to_all_states_at_once():
    projection, row = Projection("shared", 1, 1, states=2), torch.tensor([[-1.0], [1.0]])
    projection.fit([row, row], [row, 3 * row])
    assert_close(projection.maps[0].weight.detach(), torch.tensor([[2.0]]), rtol=1e-3, atol=0)


def test_a_fitted_map_can_still_be_learnt():
    projection = Projection("shared", 2, 3, states=1)
    projection.fit([torch.randn(9, 2)], [torch.randn(9, 3)])
    assert all(parameter.requires_grad for parameter in projection.parameters())
