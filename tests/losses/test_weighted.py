"""Weighted sum: what is added, what is reported, what is left out."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from rankdistil.losses import AttentionLoss, EmbeddingLoss, HiddenLoss, LabelLoss, LogitLoss, Projection, WeightedSum
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
