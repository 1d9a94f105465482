"""Label losses: cross-entropy within a triple, binary cross-entropy of a pair, and gBCE."""

import math

import pytest
import torch
from sklearn.metrics import log_loss
from torch.testing import assert_close

from rankdistil.losses.labels import (
    GBCELoss,
    LabelLoss,
    generalised_binary_cross_entropy,
    label_binary_cross_entropy,
    label_cross_entropy,
)
from rankdistil.models.bert import Trace


def test_a_positive_and_a_negative_cost_softplus_of_their_margin():
    loss = label_cross_entropy(torch.tensor([2.0, 0.5]), torch.tensor([1.0, 0.0]), torch.tensor([0, 0]))
    assert_close(loss, torch.tensor(math.log(1 + math.exp(-1.5))))


def test_equal_logits_cost_the_log_of_the_group_size():
    groups = torch.zeros(5, dtype=torch.int64)
    loss = label_cross_entropy(torch.full((5,), 3.0), torch.tensor([0.0, 0, 1, 0, 0]), groups)
    assert_close(loss, torch.tensor(math.log(5)))


def test_three_passages_a_query_give_the_infonce_of_lightning_ir():
    logits = torch.tensor([2, -1, 0.5, 0.1, 0.3, -0.2])
    labels = torch.tensor([1.0, 0, 0, 1, 0, 0])
    loss = label_cross_entropy(logits, labels, torch.tensor([0, 0, 0, 1, 1, 1]))
    assert_close(loss, torch.tensor(0.6636254))  # of lightning-ir 0.0.6


def test_the_order_of_pairs_never_matters():
    logits, labels = torch.randn(7), torch.tensor([1.0, 0, 0, 1, 0, 1, 0])
    groups, order = torch.tensor([0, 0, 0, 1, 1, 2, 2]), torch.tensor([6, 2, 4, 0, 5, 1, 3])
    shuffled = label_cross_entropy(logits[order], labels[order], groups[order])
    assert_close(shuffled, label_cross_entropy(logits, labels, groups))


def test_a_constant_added_to_one_group_changes_nothing():
    logits, labels, groups = torch.randn(4), torch.tensor([1.0, 0, 1, 0]), torch.tensor([0, 0, 1, 1])
    moved = label_cross_entropy(logits + torch.tensor([5.0, 5.0, 0.0, 0.0]), labels, groups)
    assert_close(moved, label_cross_entropy(logits, labels, groups))


def test_every_positive_of_a_group_counts_and_a_group_without_one_does_not():
    logits, groups = torch.zeros(5), torch.tensor([0, 0, 0, 1, 1])
    loss = label_cross_entropy(logits + torch.tensor([1.0, 0, 0, 9, 0]), torch.tensor([1.0, 1, 0, 0, 0]), groups)
    share = math.e / (math.e + 2), 1 / (math.e + 2)
    assert_close(loss, torch.tensor(-(math.log(share[0]) + math.log(share[1])) / 2))


def test_a_batch_without_positives_costs_zero_and_gives_zero_gradient():
    logits = torch.randn(3, requires_grad=True)
    loss = label_cross_entropy(logits, torch.zeros(3), torch.tensor([0, 0, 1]))
    loss.backward()
    assert loss == 0
    assert_close(logits.grad, torch.zeros(3))


def test_gradient_of_equal_scores_is_one_half_towards_the_positive():
    logits = torch.tensor([4.0, 4.0], requires_grad=True)
    label_cross_entropy(logits, torch.tensor([1.0, 0.0]), torch.tensor([0, 0])).backward()
    assert_close(logits.grad, torch.tensor([-0.5, 0.5]))


def test_large_logits_stay_exact():
    labels, groups = torch.tensor([0.0, 1.0]), torch.tensor([0, 0])
    assert label_cross_entropy(torch.tensor([10_000.0, 0.0]), labels, groups) == 10_000
    assert label_binary_cross_entropy(torch.tensor([10_000.0, -10_000.0]), labels) == 10_000


@pytest.mark.parametrize("over", ["group", "pair"])
def test_half_precision_logits_are_compared_in_float32(batch_of, over):
    batch = batch_of(labels=[1, 0], groups=[0, 0])
    half = torch.tensor([1.0, 0.25], dtype=torch.bfloat16)
    loss = LabelLoss(over)(Trace(half), None, batch)
    assert loss.dtype == torch.float32
    assert_close(loss, LabelLoss(over)(Trace(half.float()), None, batch))


def test_pairs_judged_alone_give_the_log_loss_of_scikit_learn(batch_of):
    logits, labels = torch.tensor([0.3, -2.0, 1.5]), [1, 0, 0]
    expected = log_loss(labels, torch.sigmoid(logits.double()).numpy())
    loss = LabelLoss("pair")(Trace(logits), None, batch_of(labels=labels, groups=[0, 0, 0]))
    assert_close(loss.item(), expected, rtol=1e-6, atol=0)


def test_an_unknown_comparison_names_the_two_known():
    with pytest.raises(ValueError, match=r"^over is 'list'; expected 'group' or 'pair'\.$"):
        LabelLoss("list")


def gbce(labels, *settings):
    logits = torch.tensor([0.3, -2.0, 1.5, 0.7])
    return generalised_binary_cross_entropy(logits, torch.tensor(labels), torch.zeros(4, dtype=torch.int64), *settings), logits


@pytest.mark.parametrize("settings", [(3,), (2,), (1000, 0.0)], ids=["all drawn", "more than there are", "not calibrated"])
def test_where_all_negatives_were_drawn_or_nothing_is_calibrated_it_is_the_plain_loss_of_each_pair(settings):
    loss, logits = gbce([1.0, 0, 0, 0], *settings)
    assert_close(loss, label_binary_cross_entropy(logits, torch.tensor([1.0, 0, 0, 0])))


def test_a_positive_s_logarithm_counts_by_the_share_of_negatives_that_were_drawn():
    loss, logits = gbce([0.0, 1, 0, 0], 1000)
    share = 3 / 1000
    power = share * (0.75 * (1 - 1 / share) + 1 / share)  # as the source has it
    terms = [-power * torch.log(logits[1].sigmoid()), *(-torch.log(1 - logits[[0, 2, 3]].sigmoid()))]
    assert_close(loss, torch.stack(terms).mean())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((0,), "sampled_from is 0; expected a whole number of at least 1."),
        ((10, 1.5), "calibration is 1.5; expected a number from 0 to 1."),
    ],
)
def test_a_share_that_cannot_be_is_refused(settings, message):
    with pytest.raises(ValueError) as caught:
        GBCELoss(*settings)
    assert str(caught.value) == message


def test_the_module_passes_its_settings_on(batch_of):
    batch, logits = batch_of(labels=[1, 0, 0], groups=[0, 0, 1]), torch.randn(3)
    expected = generalised_binary_cross_entropy(logits, batch.labels, batch.groups, 20, 0.5)
    assert GBCELoss(20, 0.5)(Trace(logits), None, batch) == expected
