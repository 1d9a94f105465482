"""Weighted sum, projection and gradient shares: what is added, what is bridged, what is reported and refused."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from rankdistil.losses import (
    AttentionLoss,
    EmbeddingLoss,
    HiddenLoss,
    LabelLoss,
    LogitLoss,
    LossValue,
    Projection,
    WeightedSum,
    gradient_shares,
)
from rankdistil.models.bert import Trace


class Constant(nn.Module):
    needs = frozenset()

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, student, teacher, batch):
        return torch.tensor(self.value)


def test_total_is_weighted_and_parts_are_not(batch_of):
    losses = WeightedSum({"a": Constant(3.0), "b": Constant(5.0)}, {"a": 2, "b": 0.5})
    value = losses(Trace(torch.zeros(1)), None, batch_of())
    assert value.total == 2 * 3 + 0.5 * 5
    assert value.parts == {"a": 3.0, "b": 5.0}


def test_a_loss_of_weight_zero_is_neither_computed_nor_recorded_for(batch_of):
    losses = WeightedSum({"attention": AttentionLoss(), "labels": LabelLoss()}, {"attention": 0, "labels": 1})
    value = losses(Trace(torch.zeros(2)), None, batch_of(labels=[1, 0], groups=[0, 0]))
    assert list(value.parts) == ["labels"]
    assert losses.needs == frozenset()


def test_needs_are_those_of_all_losses():
    parts = {"attention": AttentionLoss(), "hidden": HiddenLoss(), "embedding": EmbeddingLoss(), "logits": LogitLoss()}
    assert WeightedSum(parts, dict.fromkeys(parts, 1.0)).needs == {"attention", "hidden", "embedding"}
    assert WeightedSum({"hidden": HiddenLoss()}, {"hidden": 1.0}).needs == {"hidden"}


def test_the_projection_bridges_the_student_and_not_the_teacher(batch_of):
    projection = Projection("shared", 2, 3, states=1)
    nn.init.zeros_(projection.maps[0].weight)
    nn.init.constant_(projection.maps[0].bias, 4.0)
    losses = WeightedSum({"embedding": EmbeddingLoss()}, {"embedding": 1.0}, projection)
    student, teacher = Trace(torch.zeros(1), (torch.randn(1, 1, 2),)), Trace(torch.zeros(1), (torch.ones(1, 1, 3),))
    assert_close(losses(student, teacher, batch_of([[1]])).total.detach(), torch.tensor((4.0 - 1.0) ** 2))


def test_weights_of_the_projection_are_learnt():
    projection = Projection("shared", 2, 3, states=1)
    losses = WeightedSum({"embedding": EmbeddingLoss()}, {"embedding": 1.0}, projection)
    assert set(losses.parameters()) == set(projection.parameters())


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
@pytest.mark.fault("A4")
def test_a_negative_or_infinite_weight_names_its_key(weight):
    with pytest.raises(ValueError, match=r"stage\.losses\.hidden\.weight is .*; expected a number of at least 0"):
        WeightedSum({"hidden": HiddenLoss()}, {"hidden": weight})


@pytest.mark.parametrize("weights", [{}, {"labels": 0.0}], ids=["no loss", "weight 0"])
def test_a_stage_that_would_learn_nothing_is_refused(weights):
    with pytest.raises(ValueError, match="no loss with a weight above 0: nothing would be learnt"):
        WeightedSum({name: LabelLoss() for name in weights}, weights)


@pytest.mark.parametrize(
    ("names", "trains"),
    [(("embedding", "hidden", "attention"), False), (("hidden", "logits"), True), (("labels",), True), (("attention",), False)],
)
def test_the_head_is_trained_by_losses_that_read_the_logits_and_by_no_other(names, trains):
    known = {
        "embedding": EmbeddingLoss,
        "hidden": HiddenLoss,
        "attention": AttentionLoss,
        "logits": LogitLoss,
        "labels": LabelLoss,
    }
    losses = {name: known[name]() for name in names}
    assert WeightedSum(losses, dict.fromkeys(names, 1.0)).trains_head is trains


def test_a_loss_of_weight_zero_trains_no_head():
    losses = WeightedSum({"hidden": HiddenLoss(), "logits": LogitLoss()}, {"hidden": 1.0, "logits": 0.0})
    assert not losses.trains_head


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


@pytest.mark.fault("A7")
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
