"""Losses over pairs of passages: which pairs count, and what one costs."""

import math

import pytest
import torch
from torch.testing import assert_close

from rankdistil.losses.logits import group_divergence
from rankdistil.losses.pairs import LambdaLoss, MarginMSELoss, RankNetLoss, lambda_loss, margin_mse, ranknet, soft_ranknet
from rankdistil.models.bert import Trace

ONE = torch.zeros(3, dtype=torch.int64)
TWO = ONE[:2]


def test_each_positive_is_compared_with_each_negative_and_none_with_its_like():
    student, labels = torch.tensor([5.0, 1.0, 0.0, 0.0]), torch.tensor([1.0, 1, 0, 0])
    loss = margin_mse(student, torch.zeros(4), torch.zeros(4, dtype=torch.int64), labels)
    assert_close(loss, torch.tensor((25 + 25 + 1 + 1) / 4))


def test_a_margin_that_the_student_has_costs_nothing_wherever_its_scores_lie():
    teacher = torch.tensor([3.0, -1.0, 0.5])
    assert margin_mse(teacher + 7, teacher, ONE) == 0


def test_passages_that_the_teacher_scores_alike_are_a_margin_of_zero_and_no_order():
    student, teacher = torch.tensor([2.0, 0.0]), torch.tensor([1.0, 1.0])
    assert margin_mse(student, teacher, TWO) == 4
    assert ranknet(student, teacher, TWO) == 0


def test_without_a_positive_or_a_negative_there_is_no_margin():
    student = torch.tensor([2.0, 0.0], requires_grad=True)
    for labels in (torch.zeros(2), torch.ones(2)):
        loss = margin_mse(student, torch.ones(2), TWO, labels)
        loss.backward()
        assert loss == 0
    assert student.grad.tolist() == [0, 0]


def test_the_margin_s_gradient_is_twice_its_gap_over_the_pairs():
    student = torch.tensor([2.0, 1.0, 0.0], requires_grad=True)
    margin_mse(student, torch.zeros(3), ONE, torch.tensor([1.0, 0, 0])).backward()
    assert student.grad.tolist() == [(2 * 1 + 2 * 2) / 2, -1, -2]


def test_only_the_teacher_s_order_counts_where_it_is_hard():
    student, teacher = torch.randn(3), torch.tensor([3.0, 1.0, 2.0])
    assert_close(ranknet(student, teacher.exp() * 9, ONE), ranknet(student, teacher, ONE))
    wanted = [math.log(1 + math.exp(float(student[j] - student[i]))) for i, j in ((0, 1), (0, 2), (2, 1))]
    assert float(ranknet(student, teacher, ONE)) == pytest.approx(sum(wanted) / 3)


def test_of_two_passages_the_soft_order_is_the_divergence_of_their_softmax_and_the_teacher_s_entropy():
    student, teacher = torch.randn(2), torch.randn(2)
    p = teacher.softmax(0)
    entropy = -(p * p.log()).sum()
    assert_close(soft_ranknet(student, teacher, TWO), group_divergence(student, teacher, TWO) + entropy)


def test_a_teacher_that_is_sure_makes_the_soft_order_hard():
    student, teacher = torch.randn(3), torch.tensor([300.0, 0.0, -300.0])
    assert_close(soft_ranknet(student, teacher, ONE), ranknet(student, teacher, ONE))


def written_out(student: list[float], relevance: list[float], mu: float) -> float:
    """NDCGLoss2++ of a list in the student's order, highest first, without equal scores."""

    def share(rank: float) -> float:
        return 1 / math.log2(1 + rank)

    ideal = sum((2**gain - 1) * share(rank) for rank, gain in enumerate(sorted(relevance, reverse=True), 1))
    costs = []
    for i, j in ((i, j) for i in range(len(student)) for j in range(len(student)) if relevance[i] > relevance[j]):
        gap = (2 ** relevance[i] - 2 ** relevance[j]) / ideal
        bound = share(abs(i - j)) - share(abs(i - j) + 1)
        weight = gap * (abs(share(i + 1) - share(j + 1)) + mu * bound)
        costs.append(weight * math.log2(1 + math.exp(student[j] - student[i])))
    return sum(costs) / len(costs)


@pytest.mark.parametrize("mu", [0.0, 10.0])
def test_a_pair_is_weighted_by_what_swapping_it_does_to_ndcg_and_by_the_tight_bound(mu):
    student, relevance = [2.0, 1.5, 0.0, -1.0], [0.0, 3.0, 1.0, 3.0]
    loss = lambda_loss(torch.tensor(student), torch.tensor(relevance), torch.zeros(4, dtype=torch.int64), mu)
    assert float(loss) == pytest.approx(written_out(student, relevance, mu), rel=1e-5)


def test_a_student_that_scores_all_passages_alike_is_told_the_order():
    student = torch.zeros(3, requires_grad=True)
    lambda_loss(student, torch.tensor([2.0, 0.0, 1.0]), ONE).backward()
    assert student.grad[0] < student.grad[2] < student.grad[1]


def test_relevance_by_ranks_does_not_depend_on_the_scale_of_the_teacher_s_scores(batch_of):
    batch = batch_of()._replace(groups=torch.tensor([0, 1, 0, 0, 1]))
    student, teacher = torch.randn(5), torch.tensor([-8.0, 2.0, -9.0, -8.0, 3.0])
    loss = LambdaLoss()(Trace(student), Trace(teacher), batch)
    assert_close(LambdaLoss()(Trace(student), Trace(teacher / 3 + 5), batch), loss)
    relevance = torch.tensor([1 / 1.5, 1 / 2, 1 / 3, 1 / 1.5, 1.0])
    assert_close(loss, lambda_loss(student, relevance, batch.groups))
    assert_close(LambdaLoss("scores")(Trace(student), Trace(relevance), batch), loss)


def test_modules_choose_their_pairs_by_judgments_or_take_all_and_the_order_hard_or_soft(batch_of):
    batch = batch_of(labels=[0, 1, 0], groups=[0, 0, 0])
    student, teacher = Trace(torch.randn(3)), Trace(torch.randn(3))
    scores = student.logits, teacher.logits, batch.groups
    assert MarginMSELoss()(student, teacher, batch) == margin_mse(*scores, batch.labels)
    assert MarginMSELoss("all")(student, teacher, batch) == margin_mse(*scores)
    assert RankNetLoss()(student, teacher, batch) == ranknet(*scores)
    assert RankNetLoss("soft")(student, teacher, batch) == soft_ranknet(*scores)


@pytest.mark.parametrize(
    ("loss", "settings", "message"),
    [
        (MarginMSELoss, {"over": "pairs"}, "over is 'pairs'; expected 'positive' or 'all'."),
        (RankNetLoss, {"order": "any"}, "order is 'any'; expected 'hard' or 'soft'."),
        (LambdaLoss, {"relevance": "labels"}, "relevance is 'labels'; expected 'ranks' or 'scores'."),
        (LambdaLoss, {"mu": -1.0}, "mu is -1.0; expected a number of at least 0."),
    ],
)
def test_what_a_loss_does_not_know_is_refused(loss, settings, message):
    with pytest.raises(ValueError) as caught:
        loss(**settings)
    assert str(caught.value) == message
