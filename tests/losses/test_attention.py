"""Attention loss: which entries count, and what is refused."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from rankdistil.losses.attention import AttentionLoss, attention_divergence, attention_mse
from rankdistil.models.bert import Trace

LOGITS = torch.zeros(1)


def test_identical_maps_cost_nothing():
    maps = torch.randn(2, 3, 4, 4)
    assert attention_mse(maps, maps, torch.ones(2, 4)) == 0


def test_a_gap_of_two_everywhere_costs_four():
    maps = torch.randn(2, 3, 4, 4)
    assert_close(attention_mse(maps + 2, maps, torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])), torch.tensor(4.0))


def test_real_token_pairs_of_a_batch_weigh_equally():
    student = torch.zeros(2, 1, 2, 2)
    student[0, 0, 0, 0] = 3  # the only real pair of a text of one token; the other text has four
    mask = torch.tensor([[1, 0], [1, 1]])
    assert_close(attention_mse(student, torch.zeros_like(student), mask), torch.tensor(9 / 5))


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_the_loss_is_a_mean_over_heads(heads):
    student = torch.zeros(1, heads, 2, 2)
    student[:, 0] = 6
    assert_close(attention_mse(student, torch.zeros_like(student), torch.ones(1, 2)), torch.tensor(36 / heads))


def test_padding_never_changes_the_loss():
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    padded = attention_mse(
        F.pad(student, (0, 5, 0, 5), value=99.0), F.pad(teacher, (0, 5, 0, 5), value=-7.0), F.pad(mask, (0, 5))
    )
    assert_close(padded, attention_mse(student, teacher, mask))


def test_counted_padding_zeroes_padded_columns_only_and_divides_by_every_entry():
    gap = torch.tensor([[[[1.0, 10.0], [2.0, 20.0]]]])  # row: who looks; column: at what; the second token is padding
    loss = attention_mse(gap, torch.zeros_like(gap), torch.tensor([[1, 0]]), count_padding=True)
    assert_close(loss, torch.tensor((1.0 + 4.0) / 4))


def test_a_batch_without_real_tokens_costs_zero_and_gives_zero_gradient():
    student = torch.randn(1, 2, 3, 3, requires_grad=True)
    loss = attention_mse(student, torch.randn(1, 2, 3, 3), torch.zeros(1, 3))
    loss.backward()
    assert loss == 0
    assert_close(student.grad, torch.zeros_like(student))


def test_gradient_reaches_real_pairs_of_the_student_and_never_the_teacher():
    student, teacher = torch.ones(1, 1, 2, 2, requires_grad=True), torch.zeros(1, 1, 2, 2, requires_grad=True)
    attention_mse(student, teacher, torch.tensor([[1, 0]])).backward()
    assert_close(student.grad, torch.tensor([[[[2.0, 0.0], [0.0, 0.0]]]]))
    assert teacher.grad is None


def test_half_precision_maps_are_compared_in_float32():
    gap = torch.full((1, 1, 2, 2), 300.0, dtype=torch.float16)  # 300 squared is beyond float16
    loss = attention_mse(gap, torch.zeros_like(gap), torch.ones(1, 2))
    assert loss.dtype == torch.float32
    assert loss == 90_000


def test_two_heads_against_three_names_the_fix():
    with pytest.raises(ValueError, match=r"Pick a student with 3 heads, or drop the loss: '~stage\.losses\.attention'"):
        attention_mse(torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 4, 4), torch.ones(1, 4))


def test_the_loss_of_a_trace_is_a_sum_over_layers(batch_of):
    zeros = torch.zeros(1, 1, 2, 2)
    student, teacher = Trace(LOGITS, (), (zeros + 1, zeros + 2)), Trace(LOGITS, (), (zeros, zeros))
    assert_close(AttentionLoss()(student, teacher, batch_of([[1, 1]])), torch.tensor(1.0 + 4.0))


def test_the_module_passes_count_padding_on(batch_of):
    student, teacher = Trace(LOGITS, (), (torch.ones(1, 1, 2, 2),)), Trace(LOGITS, (), (torch.zeros(1, 1, 2, 2),))
    assert AttentionLoss(count_padding=True)(student, teacher, batch_of([[1, 0]])) == 0.5
    assert AttentionLoss(count_padding=False)(student, teacher, batch_of([[1, 0]])) == 1.0


@pytest.mark.parametrize(("layers", "teacher_layers"), [(0, 0), (0, 2), (1, 2), (2, 1)])
def test_no_layer_or_unequal_layers_are_refused_instead_of_costing_zero(batch_of, layers, teacher_layers):
    maps = torch.zeros(1, 1, 2, 2)
    student, teacher = Trace(LOGITS, (), (maps,) * layers), Trace(LOGITS, (), (maps,) * teacher_layers)
    with pytest.raises(RuntimeError, match=f"over {layers} student and {teacher_layers} teacher layers"):
        AttentionLoss()(student, teacher, batch_of([[1, 1]]))


def test_shares_are_compared_by_their_divergence_over_real_tokens():
    student, teacher = torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, 3, 3)
    teacher[0, 0, 0, 0] = torch.tensor(3.0).log()  # looks at the two real tokens with 3/4 and 1/4, the student with halves
    loss = attention_divergence(student, teacher, torch.tensor([[1, 1, 0]]))
    row = 0.75 * torch.tensor(1.5).log() + 0.25 * torch.tensor(0.5).log()
    assert_close(loss, row / 2)  # the second real token agrees


def test_shares_ignore_what_a_softmax_ignores_and_padding():
    student, teacher, mask = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    loss = attention_divergence(student, teacher, mask)
    assert_close(attention_divergence(student + torch.randn(2, 3, 4, 1), teacher, mask), loss)
    wider = [F.pad(part, (0, 2, 0, 2), value=5.0) for part in (student, teacher)]
    assert_close(attention_divergence(*wider, F.pad(mask, (0, 2))), loss)
    assert attention_divergence(teacher + 1, teacher, mask) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"compare": "maps"}, "compare is 'maps'; expected 'scores' or 'shares'."),
        (
            {"compare": "shares", "count_padding": True},
            "count_padding is true; compare=shares has no padding to count. Set it to false.",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(settings, message):
    with pytest.raises(ValueError) as caught:
        AttentionLoss(**settings)
    assert str(caught.value) == message
