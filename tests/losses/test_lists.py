"""Losses over lists: softmax, likelihood of an order, ranks."""

import math

import pytest
import torch
from torch.testing import assert_close

from rankdistil.losses.lists import ADRMSELoss, ListMLELoss, ListNetLoss, adr_mse, list_mle, list_net
from rankdistil.losses.logits import group_divergence
from rankdistil.losses.pairs import ranknet
from rankdistil.models.bert import Trace

GROUPS = torch.tensor([0, 0, 0, 1, 1])
ONE = GROUPS[:3]


def test_list_net_is_the_divergence_and_the_teacher_s_entropy_at_any_temperature():
    student, teacher = torch.randn(5), torch.randn(5)
    shares = [(teacher[group == GROUPS] / 2).softmax(0) for group in (0, 1)]
    entropy = -sum((p * p.log()).sum() for p in shares) / 2
    assert_close(list_net(student, teacher, GROUPS, 2.0), group_divergence(student, teacher, GROUPS, 2.0) + entropy)


def test_the_likelihood_of_an_order_is_a_product_of_draws():
    student, teacher = torch.tensor([0.3, -1.0, 2.0]), torch.tensor([5.0, 1.0, 2.0])  # first, last, second
    draws = [float(torch.tensor(left).softmax(0)[0]) for left in ([0.3, 2.0, -1.0], [2.0, -1.0], [-1.0])]
    assert float(list_mle(student, teacher, ONE)) == pytest.approx(-math.log(math.prod(draws)))


def test_of_two_passages_the_likelihood_is_ranknet_s_loss():
    student, teacher = torch.randn(2), torch.tensor([1.0, 2.0])
    assert_close(list_mle(student, teacher, GROUPS[3:] - 1), ranknet(student, teacher, GROUPS[3:]))


def test_passages_that_the_teacher_scores_alike_are_drawn_among_all_of_them():
    student = torch.tensor([1.0, 0.0, 0.0])
    loss = list_mle(student, torch.tensor([1.0, 0.0, 0.0]), ONE)  # one positive, then two negatives, each of two
    assert float(loss) == pytest.approx(-float(student.log_softmax(0)[0]) + 2 * math.log(2))


@pytest.mark.parametrize("number", [3, 200])
def test_positions_are_weighted_by_powers_of_two_that_add_up_to_one_however_long_the_list(number):
    student, teacher = torch.randn(number), -torch.arange(number).float()
    draws = [float(student[at:].logsumexp(0) - student[at]) for at in range(number)]
    weights = [2 ** (number - rank) - 1 for rank in range(1, number + 1)]
    expected = sum(weight * draw for weight, draw in zip(weights, draws, strict=True)) / sum(weights)
    assert float(list_mle(student, teacher, student.long() * 0, True)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("discount", "weights"), [("log2", (1, 1 / math.log2(3))), ("reciprocal", (1, 1 / 2)), ("none", (1, 1))]
)
def test_ranks_are_compared_with_the_student_s_smooth_ones_and_discounted(discount, weights):
    loss = adr_mse(torch.tensor([0.0, 1.0]), torch.tensor([3.0, 2.0]), GROUPS[:2], 2.0, discount)
    above = 1 / (1 + math.exp(-2.0))  # how far the second stands above the first
    expected = (weights[0] * above**2 + weights[1] * (2 - (1 + 1 - above)) ** 2) / 2
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_scores_far_apart_in_the_teacher_s_order_cost_next_to_nothing_and_equal_ones_share_a_rank():
    assert adr_mse(torch.tensor([50.0, -50.0, 0.0]), torch.tensor([2.0, 0.0, 1.0]), ONE) < 1e-12
    assert adr_mse(torch.tensor([50.0, 0.0, 0.0]), torch.tensor([2.0, 0.0, 0.0]), ONE) < 1e-12


def test_modules_pass_their_settings_on(batch_of):
    batch, student, teacher = batch_of()._replace(groups=GROUPS), Trace(torch.randn(5)), Trace(torch.randn(5))
    scores = student.logits, teacher.logits, GROUPS
    assert ListNetLoss(3.0)(student, teacher, batch) == list_net(*scores, 3.0)
    assert ListMLELoss(True)(student, teacher, batch) == list_mle(*scores, True) != ListMLELoss()(student, teacher, batch)
    assert ADRMSELoss(2.0, "none")(student, teacher, batch) == adr_mse(*scores, 2.0, "none")


@pytest.mark.parametrize(
    ("loss", "settings", "message"),
    [
        (ListNetLoss, {"temperature": 0.0}, "temperature is 0.0; expected a number greater than 0."),
        (ADRMSELoss, {"sharpness": math.nan}, "sharpness is nan; expected a number greater than 0."),
        (ADRMSELoss, {"discount": "log"}, "discount is 'log'; expected one of log2, reciprocal, none."),
    ],
)
def test_what_a_loss_does_not_know_is_refused(loss, settings, message):
    with pytest.raises(ValueError) as caught:
        loss(**settings)
    assert str(caught.value) == message
