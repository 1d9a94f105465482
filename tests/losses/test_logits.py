"""Soft-label losses: one and two classes, groups, and the temperature."""

import math

import pytest
import torch
from torch.testing import assert_close

from rankdistil.losses.logits import LogitLoss, LogitMSELoss, group_divergence, logit_mse, soft_cross_entropy
from rankdistil.models.bert import Trace


def test_one_logit_costs_what_two_logits_that_differ_by_it_cost():
    student, teacher, shift = torch.randn(6), torch.randn(6), torch.randn(6)
    two = soft_cross_entropy(torch.stack([shift, shift + student], 1), torch.stack([-shift, teacher - shift], 1), 1.7)
    assert_close(soft_cross_entropy(student, teacher, 1.7), two)


def test_a_certain_teacher_leaves_the_cross_entropy_of_a_label():
    loss = soft_cross_entropy(torch.tensor([2.0]), torch.tensor([100.0]))
    assert_close(loss, torch.tensor(math.log(1 + math.exp(-2.0))))


@pytest.mark.parametrize("shape", [(4,), (4, 3)], ids=str)
def test_an_equal_student_costs_the_entropy_of_the_teacher_and_gets_no_gradient(shape):
    teacher = torch.randn(shape)
    student = teacher.clone().requires_grad_()
    loss = soft_cross_entropy(student, teacher)
    loss.backward()
    p = torch.stack([teacher.sigmoid(), 1 - teacher.sigmoid()], 1) if len(shape) == 1 else teacher.softmax(1)
    assert_close(loss.detach(), -(p * p.log()).sum(1).mean())
    assert_close(student.grad, torch.zeros(shape), rtol=0, atol=1e-7)


def test_temperature_divides_both_sides_and_is_not_squared_back():
    student, teacher = torch.randn(5), torch.randn(5)
    assert_close(soft_cross_entropy(student, teacher, 4.0), soft_cross_entropy(student / 4, teacher / 4))
    assert_close(soft_cross_entropy(torch.zeros(5), teacher, 4.0), torch.tensor(math.log(2)))


def test_the_loss_is_a_sum_over_classes_and_a_mean_over_pairs():
    student, teacher = torch.zeros(2, 4), torch.tensor([[100.0, 0, 0, 0], [0, 0, 0, 100.0]])
    assert_close(soft_cross_entropy(student, teacher), torch.tensor(math.log(4)))


def test_no_gradient_reaches_the_teacher():
    student, teacher = torch.zeros(2, requires_grad=True), torch.tensor([3.0, -3.0], requires_grad=True)
    soft_cross_entropy(student, teacher).backward()
    assert_close(student.grad, (torch.tensor(0.5) - torch.sigmoid(torch.tensor([3.0, -3.0]))) / 2)
    assert teacher.grad is None


def test_half_precision_logits_are_compared_in_float32():
    student, teacher = torch.tensor([0.1, 2.0], dtype=torch.bfloat16), torch.tensor([1.0, -1.0], dtype=torch.bfloat16)
    loss = soft_cross_entropy(student, teacher, 3.0)
    assert loss.dtype == torch.float32
    assert_close(loss, soft_cross_entropy(student.float(), teacher.float(), 3.0))


def test_one_logit_against_two_is_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"student \(3,\), teacher \(3, 2\)"):
        soft_cross_entropy(torch.zeros(3), torch.zeros(3, 2))


def test_the_module_uses_its_temperature(batch_of):
    student, teacher = Trace(torch.tensor([2.0])), Trace(torch.tensor([-6.0]))
    expected = soft_cross_entropy(torch.tensor([1.0]), torch.tensor([-3.0]))
    assert_close(LogitLoss(temperature=2.0)(student, teacher, batch_of()), expected)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_above_zero_names_its_key(temperature):
    with pytest.raises(ValueError, match=r"^temperature is .*; expected a number greater than 0\.$"):
        LogitLoss(temperature)


STUDENT, TEACHER = torch.tensor([2.0, -1.0, 0.5, 0.1, 0.3, -0.2]), torch.tensor([9.0, -8.0, 1.5, 3.0, -2.0, 0.0])
GROUPS = torch.tensor([0, 0, 0, 1, 1, 1])


def test_groups_are_compared_as_lightning_ir_does():
    assert float(group_divergence(STUDENT, TEACHER, GROUPS)) == pytest.approx(0.55400, abs=5e-6)  # observed with its 0.0.6


def test_only_differences_within_a_group_count_in_whatever_order_its_passages_stand():
    loss = group_divergence(STUDENT, TEACHER, GROUPS)
    moved = STUDENT + torch.tensor([5.0, -7.0])[GROUPS]
    assert_close(group_divergence(moved, TEACHER, GROUPS), loss)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    assert_close(group_divergence(STUDENT[order], TEACHER[order], GROUPS[order]), loss)


def test_groups_may_differ_in_size_and_one_alone_adds_nothing():
    alone = group_divergence(STUDENT[:3], TEACHER[:3], GROUPS[:3])
    assert_close(group_divergence(STUDENT[:4], TEACHER[:4], GROUPS[:4]), alone / 2)


def test_a_group_s_temperature_divides_both_sides_and_no_gradient_reaches_the_teacher():
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    loss = group_divergence(student, teacher, GROUPS, 4.0)
    loss.backward()
    assert_close(loss, group_divergence(student / 4, teacher / 4, GROUPS))
    assert teacher.grad is None
    own, wanted = (torch.softmax(side.detach()[:3] / 4, 0) for side in (student, teacher))
    assert_close(student.grad[:3], (own - wanted) / 4 / 2)


def test_the_module_compares_over_groups_and_refuses_other_ways(batch_of):
    batch = batch_of()._replace(groups=GROUPS)
    found = LogitLoss(over="group")(Trace(STUDENT), Trace(TEACHER), batch)
    assert_close(found, group_divergence(STUDENT, TEACHER, GROUPS))
    with pytest.raises(ValueError, match=r"^over is 'list'; expected 'pair' or 'group'\.$"):
        LogitLoss(over="list")


def test_logits_on_the_teacher_s_scale_cost_the_mean_of_their_squared_gaps(batch_of):
    student, teacher = torch.tensor([1.0, -2.0, 0.0]), torch.tensor([4.0, -2.0, 1.0])
    assert_close(LogitMSELoss()(Trace(student), Trace(teacher), batch_of()), torch.tensor((9 + 0 + 1) / 3))


def test_logits_of_one_and_two_classes_have_no_gap():
    with pytest.raises(ValueError, match=r"student \(3,\), teacher \(3, 2\)"):
        logit_mse(torch.zeros(3), torch.zeros(3, 2))
